"""The background of one reduced run, by one of several methods, and what the run gives to the stack with it.

A new method is one new module with its options, a name in `BackgroundOptions` and a line in `make_background`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import BoolArray, Cube, Maps, Place, sphere
from cubeflow.products import ring_background
from cubeflow.products.exclusion import usable_bins
from cubeflow.products.fov_background import FovOptions, NormTable, make_map_fov_background
from cubeflow.products.profiles import Profiles, make_profiles
from cubeflow.products.reduced import Cell, Reduced
from cubeflow.products.ring_background import AdaptiveRingOptions, RingOptions
from cubeflow.products.significance import find_at_target
from cubeflow.products.sky_model import Modelled, make_model_counts
from cubeflow.products.stack import RunPart, safe_fraction

TOLD_SHARE = 0.02  # of usable pixels with too small a ring: above it a note says so
NORM_VALUES = ("norm", "norm_err", "tilt", "tilt_err", "pivot_tev")
NORM_COLUMNS = ("energy_min_tev", "energy_max_tev", *NORM_VALUES, "counts", "acceptance", "flags")


@dataclass(frozen=True)
class NoBackground:
    """Counts and exposure only, as for point-like data, which have no background response."""

    method: Literal["none"] = field(default="none", kw_only=True)
    """No background."""
    on_failure: Literal["drop"] = "drop"
    """There is nothing that could fail."""


BackgroundOptions = FovOptions | RingOptions | AdaptiveRingOptions | NoBackground


@dataclass(frozen=True, eq=False)
class Background:
    """Background of one run and label, as it is kept."""

    maps: Maps
    """``background`` (energy, lat, lon); for rings also ``counts_off`` and ``acceptance_off`` (one bin over all
    energies, or one per energy). Empty without a background."""
    usable: BoolArray
    """Usable bins (safe, with acceptance) that have a background, shape (energy, lat, lon); all safe ones if none is
    wanted."""
    row: Mapping[str, Cell]
    """What the run table says of it: norms, their errors, counts used, what is found at the target."""
    failed: str | None = None
    """Why the run is left out of this label; None if it is not."""
    profiles: Profiles | None = None
    """Counts and background about the pointing, where background may be taken."""


def make_background(
    reduced: Reduced,
    options: BackgroundOptions,
    exclusion: BoolArray,
    target_deg: Place,
    radius_deg: float,
    sources: Sequence[Modelled] = (),
) -> Background:
    """Background of a run, and what is found in the disc of `radius_deg` about the target, an ICRS position.

    `exclusion`, shape (ny, nx) or (energy, ny, nx), is True where counts must not be used for the background. A run
    whose background cannot be had is left out, or with ``on_failure: keep`` keeps the energies that have one.
    `sources` are those of the file that `FovOptions.sky_model` names.
    """
    if isinstance(options, NoBackground):
        return Background({}, reduced.maps["mask_safe"].data, {})
    if "acceptance" not in reduced.maps:
        return _left_out("no background response, as for point-like data: counts and exposure only (method: none)")
    if isinstance(options, FovOptions):
        made = _fov(reduced, options, exclusion, sources)
    else:
        made = _ring(reduced, options, exclusion)
    if made.failed:
        return made
    counts, pointing = reduced.maps["counts"], reduced.pointing
    found = find_at_target({"counts": counts, **made.maps}, made.usable, target_deg, radius_deg)
    offset_deg = float(sphere.angular_distance_deg((pointing.ra_deg, pointing.dec_deg), target_deg))
    row = {**made.row, **found, "offset_deg": offset_deg}
    profiles = make_profiles(counts, made.maps["background"], made.usable & ~exclusion, pointing)
    return replace(made, row=row, profiles=profiles)


def run_part(reduced: Reduced, background: Background) -> RunPart:
    """Contribution of one run to the stack of a label: its maps where they are usable, its responses weighted.

    Maps with a reconstructed-energy axis are kept where bins are `Background.usable`, those with a single bin over all
    energies (OFF counts of a ring) and ``exposure`` (true energy) where one is at any; NaN elsewhere does not count.
    ``psf`` and ``edisp``, in layers ``irf_...``, are weighted by ``irf_exposure``, and ``edisp`` by the safe fraction
    at each reconstructed energy: a run must not predict counts where its own are masked. Without a background what not
    every run has, acceptance and PSF, is left out of all.
    """
    maps, mask = {**reduced.maps, **background.maps}, background.usable
    counts, exposure, image = maps["counts"], maps["irf_exposure"], np.any(mask, axis=0)
    layers = {"mask_safe": Cube(mask, "", counts.geom, counts.axes), "irf_exposure": exposure}
    factors: dict[str, NDArray[Any]] = {"mask_safe": mask}
    left_out = [*layers] if background.maps else [*layers, "acceptance", "psf"]
    for name, cube in ((name, cube) for name, cube in maps.items() if name not in left_out):
        if name in ("psf", "edisp"):
            weight = exposure.data[:, None].astype(np.float64)  # (energy_true, rad or energy, lat, lon)
            if name == "edisp":
                weight = weight * safe_fraction(mask, counts.geom, cube.geom)
            layers[f"irf_{name}"] = replace(cube, unit=f"{cube.unit} m2 s".strip())
            factors[f"irf_{name}"] = weight
        else:
            layers[name], factors[name] = cube, mask if cube.axes == counts.axes else image
    ontime_s = float(np.sum(reduced.gti_s[:, 1] - reduced.gti_s[:, 0]))
    livetime_s = cast("float", reduced.row["livetime_s"])
    return RunPart(layers, factors, reduced.gti_s, ontime_s, livetime_s, background.profiles)


def _left_out(reason: str, row: Mapping[str, Cell] | None = None) -> Background:
    """Background of a run that is left out."""
    return Background({}, np.zeros((1, 1, 1), bool), row or {}, reason)


def _fov(reduced: Reduced, options: FovOptions, exclusion: BoolArray, sources: Sequence[Modelled]) -> Background:
    """Acceptance normalised to the counts outside the exclusion mask."""
    counts, acceptance, safe = (reduced.maps[name] for name in ("counts", "acceptance", "mask_safe"))
    try:
        model = make_model_counts(reduced.maps, sources if isinstance(options.sky_model, Path) else options.sky_model)
    except ValueError as error:
        return _left_out(str(error))
    made = make_map_fov_background(acceptance, counts, exclusion, options, safe.data, model)
    row, failed = norm_row(made.norms), made.norms.failed
    if failed and (options.on_failure != "keep" or not made.mask.any()):
        return _left_out(f"background not normalised: {failed}", row)
    made.background.data[~made.mask] = 0.0
    return Background({"background": made.background}, made.mask, {**row, "note": failed or ""})


def _ring(reduced: Reduced, options: RingOptions | AdaptiveRingOptions, exclusion: BoolArray) -> Background:
    """Counts in a ring about each pixel: zero and not usable where there is no OFF acceptance."""
    counts, kept, safe = reduced.maps["counts"], reduced.maps["acceptance"], reduced.maps["mask_safe"].data
    acceptance = Cube(kept.data.astype(np.float64), kept.unit, kept.geom, kept.axes)
    if isinstance(options, RingOptions):
        made = ring_background.make_map_ring_background(acceptance, counts, exclusion, options, safe)
    else:
        made = ring_background.make_map_adaptive_ring_background(acceptance, counts, exclusion, options, safe)
    usable = usable_bins(kept.data, safe)
    if not made.mask.any():
        if not usable.any():
            return _left_out("no acceptance in safe pixels: are the energies those of the background response?")
        return _left_out("no pixel has any OFF acceptance: is the ring too large?")
    background = np.where(made.mask, made.background.data, 0.0).astype(np.float32)
    maps = {"background": Cube(background, "", counts.geom, counts.axes), "counts_off": made.counts_off}
    maps["acceptance_off"] = made.acceptance_off.to_float32()
    row: dict[str, Cell] = {"pixels_without_off": int(np.count_nonzero(usable.any(axis=0) & ~made.mask.any(axis=0)))}
    if isinstance(options, AdaptiveRingOptions):
        n_small, n_usable = (np.count_nonzero(mask.any(axis=0)) for mask in (usable & made.too_small, usable))
        share = float(n_small / n_usable)
        told = f"no ring reaches threshold {options.threshold:g} in {share:.0%} of the pixels; the largest is used"
        row |= {"ring_too_small": share, "note": told if share > TOLD_SHARE else ""}
    return Background(maps, made.mask, row)


def norm_row(norms: NormTable) -> dict[str, Cell]:
    """Columns of the run table about norms, one list entry per energy group.

    None where there is no number; a norm without a single count is none, whatever the formula gives.
    """
    row: dict[str, Cell] = {}
    for name in NORM_COLUMNS:
        values = getattr(norms, name)
        known = np.isfinite(values) & ((norms.counts > 0) | (name not in NORM_VALUES))
        row[name] = [value if good else None for value, good in zip(values.tolist(), known, strict=True)]
    return row
