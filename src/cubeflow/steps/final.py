"""The final maps of a label: the last stack on the final geometry, with its ratios formed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry, sphere
from cubeflow.products.off_source import OffSource, describe_off_source
from cubeflow.products.on_off import make_map_alpha
from cubeflow.products.significance import (
    SignificanceMaps,
    make_disc,
    make_map_flux,
    make_map_significance_cash,
    make_map_significance_li_ma,
    mean_exposure,
    sum_alpha,
)
from cubeflow.products.spectrum import make_spectrum
from cubeflow.products.stack import Stack, mean_response, on_geometry
from cubeflow.storage.slabs import (
    Grid,
    Map,
    derive,
    dtype_of,
    in_float32,
    in_memory,
    masked_sums,
    rows_of,
    sum_of,
    sum_rows,
)

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Final:
    """Final products of a target and label.

    Parameters
    ----------
    maps : mapping of str to Cube or CubeStream
        ``counts``, ``background``, ``acceptance``, ``mask_safe`` (energy, lat, lon), ``exposure``
        (energy_true, lat, lon) on the final geometry; for rings ``counts_off``, ``acceptance_off``,
        ``alpha``; ``disc_flux`` (1, lat, lon); ``psf``, ``edisp``, ``irf_exposure`` on the IRF grid,
        the first two averaged with the exposure as weight. Responses that a run lacks are absent.
        Floating-point maps are float32.
    significance : SignificanceMaps
        In discs, summed over energy, shape (1, lat, lon).
    summary : mapping
        Plain numbers: totals, and what is found at the target.
    """

    maps: Mapping[str, Map]
    significance: SignificanceMaps
    summary: Mapping[str, Any]


def make_final(
    layers: Mapping[str, Map],
    about: Stack,
    geometries: tuple[Geometry, Geometry],
    export: Mapping[str, Any],
    keep: BoolArray,
) -> Final:
    """Final maps from the last stack.

    Parameters
    ----------
    layers : mapping of str to Cube or CubeStream
        Maps of all runs of the label. From streams come streams: of them, only images and some planes are in memory.
    about : Stack
        Totals of the same runs.
    geometries : tuple of Geometry
        Final geometry and its IRF grid.
    export : mapping
        ``significance`` with ``radius_deg``; ``ra_deg`` and ``dec_deg`` of the target; ``spectrum`` assumed
        for fluxes.
    keep : array of bool, shape (ny, nx)
        True where a pixel is not excluded: the off-source distribution is taken there.

    Returns
    -------
    Final
        Pixels outside all runs are zero in sums, False in the mask and NaN in ratios and significance.
    """
    maps = place_layers(layers, *geometries)
    if "counts_off" in maps:
        maps["alpha"] = make_alpha(maps)
    radius = export["significance"]["radius_deg"]
    significance = make_significance(maps, radius)
    if "exposure_reco" in maps and "background" in maps:
        weights = make_spectrum(export["spectrum"]).integral(maps["exposure_reco"].axes[0].edges_array)
        folded = mean_exposure(rows_of(maps["exposure_reco"]), rows_of(maps["mask_safe"]), weights)
        maps["disc_flux"] = make_map_flux(significance.excess, folded, sum_rows(maps["mask_safe"])[0], radius)
    off_source = np.where(keep, significance.significance.data, np.nan)
    disc = make_disc(radius, geometries[0].pixel_deg)
    summary = _summary(about, maps, significance, export)
    kept = {name: in_float32(cube) for name, cube in maps.items()}
    return Final(kept, significance, {**summary, "off_source": _plain(describe_off_source(off_source, disc))})


def place_layers(layers: Mapping[str, Map], geometry: Geometry, irf_geometry: Geometry) -> dict[str, Map]:
    """Layers on the final geometries, responses as averages; those of one bin are in memory."""
    maps: dict[str, Map] = {}
    for name, cube in layers.items():
        new = irf_geometry if name.startswith("irf_") else geometry
        grid = Grid(cube.unit, new, cube.axes)
        if name.startswith("irf_") and name != "irf_exposure":
            grid = replace(grid, unit=cube.unit.removesuffix("m2 s").strip())
            make = partial(_mean_placed, old=cube.geom, new=new)
            maps[name.removeprefix("irf_")] = derive(grid, "f8", make, cube, layers["irf_exposure"])
        else:
            placed = derive(grid, dtype_of(cube).str, partial(on_geometry, old=cube.geom, new=new), cube)
            maps[name] = in_memory(placed) if cube.axes[0].n_bins == 1 else placed
    return maps


def _mean_placed(weighted: Array, exposure: Array, old: Geometry, new: Geometry) -> Array:
    """Some planes of an average, on another geometry."""
    return on_geometry(mean_response(weighted, exposure), old, new)


def make_alpha(maps: Mapping[str, Map]) -> Map:
    """Ratio of background to OFF counts; one for all energies if OFF counts are summed over them."""
    off = maps["counts_off"]
    pair = [maps[name] for name in ("background", "acceptance")]
    if off.axes[0].n_bins == 1:
        pair = [Cube(sum_rows(cube), cube.unit, off.geom, off.axes) for cube in pair]
    return derive(Grid("", off.geom, off.axes), "f8", make_map_alpha, *pair, off, maps["acceptance_off"])


def make_significance(maps: Mapping[str, Map], radius_deg: float) -> SignificanceMaps:
    """Cash over a normalised acceptance, Li & Ma over rings; summed over energy. NaN without a background."""
    mask, counts = maps["mask_safe"], maps["counts"]
    if "alpha" in maps:
        return _over_rings(maps, radius_deg)
    if "background" in maps:
        n, predicted, used = masked_sums(mask, counts, maps["background"])
        return make_map_significance_cash(_image(counts, n), _image(counts, predicted), used[None], radius_deg, True)
    n, used = masked_sums(mask, counts)
    found = make_map_significance_cash(_image(counts, n), _image(counts, 0.0 * n), used[None], radius_deg, True)
    unknown = replace_values(found.significance, np.nan)
    return SignificanceMaps(found.counts, unknown, unknown, unknown)


def _over_rings(maps: Mapping[str, Map], radius_deg: float) -> SignificanceMaps:
    """Li & Ma, of the sums over energy that `make_map_significance_li_ma` forms of whole cubes."""
    counts, acceptance, off, alpha = (maps[name] for name in ("counts", "acceptance", "counts_off", "alpha"))
    n, accepted, used = masked_sums(maps["mask_safe"], counts, acceptance)
    if off.axes != counts.axes:
        n_off, ratio = in_memory(off).data[0], in_memory(alpha).data[0]
    else:
        n_off, ratio = _off_in_sum(maps)
    on, acceptance_on, off_counts, factor = (_image(counts, values) for values in (n, accepted, n_off, ratio))
    return make_map_significance_li_ma(on, acceptance_on, off_counts, factor, used[None], radius_deg, True)


def _off_in_sum(maps: Mapping[str, Map]) -> tuple[Array, Array]:
    """OFF counts summed over energy, and what turns them into background."""
    acceptance, off, alpha = (maps[name] for name in ("acceptance", "counts_off", "alpha"))
    grid = Grid("", alpha.geom, alpha.axes)
    good = derive(grid, "?", lambda on, ratio: on & (ratio > 0), maps["mask_safe"], alpha)
    predicted = derive(grid, "f8", np.multiply, alpha, off)
    scaled = derive(grid, "f8", lambda on, ratio, where: on / np.where(where, ratio, 1.0), acceptance, alpha, good)
    n_off, *rest, _ = masked_sums(good, off, predicted, acceptance, scaled)
    return n_off, sum_alpha(n_off, *rest)


def _image(like: Map, values: Array) -> Cube:
    """Image (ny, nx) as a map of one bin over all energies."""
    energy = like.axes[0]
    axis = Axis(energy.name, (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
    return Cube(values[None], "", like.geom, (axis,))


def replace_values(cube: Cube, value: float) -> Cube:
    """Cube of the same grid with one value everywhere."""
    return Cube(np.full(cube.data.shape, value), cube.unit, cube.geom, cube.axes)


def _summary(
    about: Stack, maps: Mapping[str, Map], significance: SignificanceMaps, export: Mapping[str, Any]
) -> dict[str, Any]:
    """Totals and what is found at the target."""
    geom = maps["counts"].geom
    x, y = geom.vectors_to_pixel(sphere.unit_vectors(export["ra_deg"], export["dec_deg"]))
    summary = {
        "n_runs": about.n_runs,
        "ontime_s": about.ontime_s,
        "livetime_s": about.livetime_s,
        "counts": int(sum(plane.sum() for plane in rows_of(maps["counts"]))),
        "background": sum_of(maps["background"]) if "background" in maps else None,
        "ra_deg": export["ra_deg"],
        "dec_deg": export["dec_deg"],
        "radius_deg": export["significance"]["radius_deg"],
    }
    inside = bool(np.isfinite(x) and np.isfinite(y))
    # The pixel in which an event at the target would be counted.
    ix, iy = (int(np.floor(x + 0.5)), int(np.floor(y + 0.5))) if inside else (-1, -1)
    if not (0 <= ix < geom.nx and 0 <= iy < geom.ny):
        return {**summary, "source": None}
    source = {
        name: _number(getattr(significance, name).data[0, iy, ix])
        for name in ("counts", "background", "excess", "significance")
    }
    return {**summary, "source": source}


def _plain(off_source: OffSource) -> dict[str, Any]:
    """Off-source distribution as plain numbers."""
    plain = {name: getattr(off_source, name) for name in off_source.__dataclass_fields__}
    for name, value in plain.items():
        plain[name] = value.tolist() if isinstance(value, np.ndarray) else _number(value)
    return plain


def _number(value: float) -> float | None:
    """Plain number; None for no answer."""
    return float(value) if np.isfinite(value) else None
