"""The final maps of a label: the last stack on the final geometry, with its ratios formed.

Maps go plane by plane from the stack, whose arrays may be memory maps, to scratch files, so that no large one is in
memory as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cubeflow.maps import Axis, BoolArray, Cube, Geometry, GeometryError, Maps, Place, release, scratch_zeros
from cubeflow.products import significance as discs
from cubeflow.products.profiles import band_edges_tev
from cubeflow.products.reduced import Cell
from cubeflow.products.significance import SignificanceMaps, SignificanceOptions
from cubeflow.products.spectrum import Spectrum
from cubeflow.products.stack import Stack, mean_response


@dataclass(frozen=True)
class Summary:
    """Totals of a target, what is found in the disc at it (None outside the map), and the off-source distribution."""

    n_runs: int
    ontime_s: float
    livetime_s: float
    counts: int
    background: float | None
    ra_deg: float
    dec_deg: float
    radius_deg: float
    source: Mapping[str, float | None] | None
    off_source: Mapping[str, Cell]


@dataclass(frozen=True)
class Disc:
    """What is found in a disc at the target in a band of energy."""

    radius_deg: float
    energy_tev: tuple[float, float]
    source: Mapping[str, float | None] | None  #: None outside the map


@dataclass(frozen=True, eq=False)
class Final:
    """Final products of a target and label."""

    maps: Maps
    """``counts``, ``background``, ``acceptance``, ``mask_safe`` (energy, lat, lon), ``exposure`` (energy_true, lat,
    lon) on the final geometry; for rings ``counts_off``, ``acceptance_off``, ``alpha``; ``disc_flux`` (1, lat, lon);
    ``psf``, ``edisp``, ``irf_exposure`` on the IRF grid, the first two averaged with the exposure as weight. Responses
    that a run lacks are absent. Floating-point maps are float32."""
    significance: SignificanceMaps  #: in discs of the first radius, summed over energy, (1, lat, lon)
    summary: Summary  #: totals and what is found
    further: Sequence[tuple[Disc, SignificanceMaps]]  #: in further discs and bands


def make_final(
    total: Stack,
    geometry: Geometry,
    irf_geometry: Geometry,
    significance: SignificanceOptions,
    target_deg: Place,
    spectrum: Spectrum,
    excluded: BoolArray,
    systematic: Sequence[float] = (0.0,),
) -> Final:
    """Final maps from the stack of all runs of a label.

    Pixels outside all runs are zero in sums, False in the mask and NaN in ratios and significance. `target_deg` is an
    ICRS position, `spectrum` is assumed for fluxes, and the off-source distribution leaves the pixels of the final
    geometry out that are `excluded`, shape (ny, nx). `systematic` is the relative error of the background, of all
    energies and of each of `energy_bands`. GeometryError if no run reaches the map, OSError if the disk does not take
    the maps.
    """
    geoms = {name: irf_geometry if name.startswith("irf_") else geometry for name in total.layers}
    inside = {name: _inside(cube, geoms[name]) for name, cube in total.layers.items()}
    maps: dict[str, Cube] = {}
    for name, cube in inside.items():
        if name in ("irf_psf", "irf_edisp"):
            planes = map(mean_response, cube.data, inside["irf_exposure"].data)
            unit = cube.unit.removesuffix("m2 s").strip()
            maps[name.removeprefix("irf_")] = _placed(Cube(cube.data, unit, cube.geom, cube.axes), irf_geometry, planes)
        else:
            maps[name] = _placed(cube, geoms[name])
    if "counts_off" in inside:
        inside["alpha"] = _alpha(inside)
        maps["alpha"] = _placed(inside["alpha"], geometry, fill=np.nan)
    energy = inside["counts"].axes[0]
    bands = [(energy.edges[0], energy.edges[-1]), *significance.bands_tev]
    (images, flux, disc), *others = (
        _find(total, inside, maps, target_deg, spectrum, Disc(radius, band, None), wrong)
        for band, wrong in ((band, _wrong_in(systematic, energy, band)) for band in bands)
        for radius in significance.radius_deg
    )
    if flux is not None:
        maps["disc_flux"] = flux
    elsewhere = np.where(excluded, np.nan, images.significance.data)
    off = vars(discs.describe_off_source(elsewhere, discs.make_disc(disc.radius_deg, geometry.pixel_deg))).items()
    plain = {name: x.tolist() if isinstance(x, np.ndarray) else discs.number_or_none(x) for name, x in off}
    background = float(inside["background"].data.sum()) if "background" in inside else None
    totals = total.n_runs, total.ontime_s, total.livetime_s, int(inside["counts"].data.sum()), background
    summary = Summary(*totals, *target_deg, disc.radius_deg, disc.source, plain)
    for cube in total.layers.values():
        release(cube.data)
    return Final(maps, images, summary, [(disc, images) for images, _, disc in others])


def _find(
    total: Stack, inside: Maps, responses: Maps, target_deg: Place, spectrum: Spectrum, disc: Disc, systematic: float
) -> tuple[SignificanceMaps, Cube | None, Disc]:
    """Maps in discs, that of the flux if it is known, and what is found at the target, in a band of energy."""
    energy, geometry, radius_deg = inside["counts"].axes[0], responses["counts"].geom, disc.radius_deg
    lower, upper = (energy.edge_index(edge) for edge in disc.energy_tev)
    in_band = (np.arange(energy.n_bins) >= lower) & (np.arange(energy.n_bins) < upper)
    mask, whole = inside["mask_safe"].data, total.layers["mask_safe"].data
    if not in_band.all():
        mask, whole = (values & in_band[:, None, None] for values in (mask, whole))
    found, flux = make_map_significance(inside, mask, radius_deg, systematic), None
    at_target = discs.find_at_target(total.layers, whole, target_deg, radius_deg, systematic)
    # A point-like exposure, without a PSF, holds inside a cut on direction, which the disc is not.
    if {"psf", "edisp"} <= responses.keys() and {"exposure_reco", "background"} <= inside.keys():
        exposure = inside["exposure_reco"]
        photons = spectrum.integral(energy.edges) * in_band
        folded, any_used = discs.mean_exposure(exposure.data, mask, photons), np.any(mask, axis=0)
        flux = _placed(discs.make_map_flux(found.excess, folded, any_used, radius_deg), geometry, fill=np.nan)
        seen = discs.disc_exposure(exposure, mask, photons, target_deg, radius_deg)
        at_target |= discs.find_flux(at_target, seen, systematic)
        true = spectrum.integral(responses["psf"].axes[0].edges)
        at_target["containment"] = discs.find_containment(responses, true, target_deg, radius_deg, in_band)
    images = {name: _placed(cube, geometry, fill=np.nan, dtype="f8") for name, cube in vars(found).items()}
    source = None if at_target["on"] is None else {"counts": at_target.pop("on"), **at_target}
    return SignificanceMaps(**images), flux, replace(disc, source=source)


def _wrong_in(systematic: Sequence[float], energy: Axis, band: tuple[float, float]) -> float:
    """Relative error in a band: the largest of the `energy_bands` that it touches; of all energies, of their sum."""
    bands = zip(systematic[1:], band_edges_tev(energy), strict=False)
    touched = [wrong for wrong, (lower, upper) in bands if lower < band[1] and upper > band[0]]
    return systematic[0] if band == (energy.edges[0], energy.edges[-1]) or not touched else float(np.max(touched))


def _inside(cube: Cube, geom: Geometry) -> Cube:
    """Part of a cube that lies on another geometry of its grid, as a view."""
    if (shared := geom.overlap(cube.geom)) is None:
        raise GeometryError(f"no run reaches the map: {cube.geom} and {geom}")
    rows, columns = shared[1]
    part = cube.geom.cutout(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return cube.cutout(part)


def _placed(
    cube: Cube,
    geom: Geometry,
    planes: Iterable[NDArray[Any]] | None = None,
    fill: float = 0.0,
    dtype: DTypeLike = np.float32,
) -> Cube:
    """Put a cube, or other planes on its grid, on a larger geometry; numbers with a fraction in a type of their own."""
    dtype = dtype if cube.data.dtype.kind == "f" else cube.data.dtype
    placed = scratch_zeros((*cube.data.shape[:-2], *geom.shape), dtype)
    whole = Cube(placed, cube.unit, geom, cube.axes)
    windows = whole.cutout(cube.geom).data
    for plane, window, values in zip(placed, windows, cube.data if planes is None else planes, strict=True):
        if fill != 0.0:
            plane[...] = fill
        window[...] = values
    release(placed)
    return whole


def _alpha(maps: Maps) -> Cube:
    """Ratio of background to OFF counts; one for all energies if OFF counts are summed over them."""
    off = maps["counts_off"]
    alpha = scratch_zeros(off.data.shape, "f8")
    values = [maps[name].data for name in ("background", "counts_off", "acceptance", "acceptance_off")]
    if len(off.data) == 1:
        values = [each.sum(axis=0)[None] for each in values]
    for plane, sums in zip(alpha, zip(*values, strict=True), strict=True):
        plane[...] = discs.ratio_of_sums(*sums)
    return Cube(alpha, "", off.geom, off.axes)


def make_map_significance(maps: Maps, mask: BoolArray, radius_deg: float, systematic: float) -> SignificanceMaps:
    """Cash over a normalised acceptance, Li & Ma over rings; summed over energy. NaN without a background."""
    counts = maps["counts"]
    if "alpha" in maps:
        ring = maps["acceptance"], maps["counts_off"], maps["alpha"]
        return discs.make_map_significance_li_ma(counts, *ring, mask, radius_deg)
    if "background" in maps:
        return discs.make_map_significance_cash(counts, maps["background"], mask, radius_deg, systematic)
    nothing = Cube(np.broadcast_to(0.0, counts.data.shape), "", counts.geom, counts.axes)
    found = discs.make_map_significance_cash(counts, nothing, mask, radius_deg).counts
    unknown = Cube(np.full(found.data.shape, np.nan), "", found.geom, found.axes)
    return SignificanceMaps(found, unknown, unknown, unknown)
