"""The step ``background``: the normalised background of one reduced run, by one of several methods.

A new method is one new module in ``products`` and one line in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube, sphere
from cubeflow.observation import Pointing
from cubeflow.products.adaptive_ring import AdaptiveRingOptions, make_map_adaptive_ring_background
from cubeflow.products.fov_background import FovOptions, make_map_fov_background
from cubeflow.products.norm_table import NormTable
from cubeflow.products.profiles import make_profiles, profiles_to_plain
from cubeflow.products.ring_background import RingBackground, make_map_ring_background
from cubeflow.steps.at_target import find_at_target
from cubeflow.steps.reduce import Reduced
from cubeflow.steps.sky_model import make_model_counts

BoolArray = NDArray[np.bool_]
Plain = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Background:
    """Background of one run and label, as it is kept.

    Parameters
    ----------
    maps : mapping of str to Cube
        ``background`` (energy, lat, lon); for rings also ``counts_off`` and ``acceptance_off``
        (one bin over all energies, or one per energy). Empty if the run is left out.
    usable : array of bool, shape (energy, lat, lon) or one that broadcasts to it
        Where there is a background.
    row : mapping
        Plain numbers for the run table: norms, their errors, counts used; and ``profiles``, for the report.
    failed : str or None
        Why the run is left out of this label; None if it is not.
    """

    maps: Mapping[str, Cube]
    usable: BoolArray
    row: Mapping[str, Any]
    failed: str | None = None


def make_background(reduced: Reduced, plain: Plain, exclusion: BoolArray) -> Background:
    """Background of a run by the method that the configuration names.

    Parameters
    ----------
    reduced : Reduced
        Maps of the run.
    plain : mapping
        Configuration of the label; ``method`` chooses, ``on_failure`` is the policy for a run
        whose background cannot be had: ``drop`` or ``error`` leave it out, ``keep`` keeps the
        energies that have one. ``none`` makes no background.
    exclusion : array of bool, shape (ny, nx) or (energy, ny, nx)
        True where counts may be used for the background.
    """
    if plain["method"] == "none":
        return Background({}, np.ones((1, 1, 1), bool), {})
    if "acceptance" not in reduced.maps:
        nowhere = np.zeros((1, 1, 1), bool)
        reason = "no background response, as for point-like data: counts and exposure only (method: none)"
        return Background({}, nowhere, {}, reason)
    made = METHODS[plain["method"]](reduced, plain, exclusion)
    if made.failed:
        return made
    used = reduced.maps["mask_safe"].data & made.usable
    found = find_at_target(reduced.maps["counts"], made.maps, used, plain["source"])
    found["offset_deg"] = _offset_deg(reduced, plain["source"])
    return replace(made, row={**made.row, **found, "profiles": _profiles(reduced, made, exclusion)})


def _offset_deg(reduced: Reduced, source: Mapping[str, float]) -> float:
    """Separation of the pointing from the target."""
    pointing = sphere.unit_vectors(reduced.row["ra_pnt_deg"], reduced.row["dec_pnt_deg"])
    return float(sphere.separation_deg(pointing, sphere.unit_vectors(source["ra_deg"], source["dec_deg"])))


def _profiles(reduced: Reduced, made: Background, exclusion: BoolArray) -> dict[str, Any]:
    """Counts and background about the pointing, where background may be taken; for the report."""
    allowed = reduced.maps["mask_safe"].data & made.usable & exclusion
    pointing = Pointing(reduced.row["ra_pnt_deg"], reduced.row["dec_pnt_deg"])
    return profiles_to_plain(make_profiles(reduced.maps["counts"], made.maps["background"], allowed, pointing))


def _fov(reduced: Reduced, plain: Plain, exclusion: BoolArray) -> Background:
    """Acceptance normalised to the counts outside the exclusion mask."""
    counts, acceptance, safe = (reduced.maps[name] for name in ("counts", "acceptance", "mask_safe"))
    groups = plain["energy_groups"]
    options = FovOptions(
        fit=plain["fit"],
        energy_groups=groups if isinstance(groups, int) else tuple(tuple(group) for group in groups),
        min_counts=plain["min_counts"],
        norm_min=plain["norm_min"],
        norm_max=plain["norm_max"],
        reference_tev=plain["reference_tev"],
    )
    try:
        model = make_model_counts(reduced.maps, plain["sky_model"])
    except ValueError as error:
        return Background({}, np.zeros((1, 1, 1), bool), {}, str(error))
    made = make_map_fov_background(counts, acceptance, safe.data & exclusion, options, model)
    row = norm_row(made.norms)
    failed = made.norms.failed
    if failed and (plain["on_failure"] != "keep" or not made.usable.any()):
        return Background({}, np.zeros((1, 1, 1), bool), row, f"background not normalised: {failed}")
    made.background.data[~made.usable] = 0.0
    return Background({"background": made.background}, made.usable[:, None, None], {**row, "note": failed or ""})


def _ring(reduced: Reduced, plain: Plain, exclusion: BoolArray) -> Background:
    """Counts in a ring about each pixel."""
    counts, acceptance, safe = _inputs(reduced)
    made = make_map_ring_background(
        counts, acceptance, safe & exclusion, plain["r_in_deg"], plain["width_deg"], plain["per_energy"], safe
    )
    return _from_ring(made, acceptance, safe)


def _adaptive_ring(reduced: Reduced, plain: Plain, exclusion: BoolArray) -> Background:
    """Counts in a ring that grows until it is far larger than the source region."""
    counts, acceptance, safe = _inputs(reduced)
    options = AdaptiveRingOptions(
        method=plain["mode"],
        r_in_deg=plain["r_in_deg"],
        width_deg=plain["width_deg"],
        r_out_max_deg=plain["r_out_max_deg"],
        step_deg=plain["step_deg"],
        alpha_max=plain["threshold"],
        theta_deg=plain["theta_deg"],
    )
    made = make_map_adaptive_ring_background(counts, acceptance, safe & exclusion, options, plain["per_energy"], safe)
    return _from_ring(made, acceptance, safe)


METHODS: Mapping[str, Callable[[Reduced, Plain, BoolArray], Background]] = {
    "fov": _fov,
    "ring": _ring,
    "adaptive-ring": _adaptive_ring,
}


def _inputs(reduced: Reduced) -> tuple[Cube, Cube, BoolArray]:
    """Counts, acceptance in double precision, and the safe mask."""
    kept = reduced.maps["acceptance"]
    acceptance = Cube(kept.data.astype(np.float64), kept.unit, kept.geom, kept.axes)
    return reduced.maps["counts"], acceptance, reduced.maps["mask_safe"].data


def _from_ring(made: RingBackground, acceptance: Cube, safe: BoolArray) -> Background:
    """Ring products as they are kept: zero and not usable where there is no OFF acceptance."""
    usable = made.mask
    if not usable.any():
        return Background({}, np.zeros((1, 1, 1), bool), {}, _why_no_ring(acceptance, safe))
    background = np.where(usable, made.background.data, 0.0)
    maps = {
        "background": with_values(made.background, background),
        "counts_off": made.counts_off,
        "acceptance_off": made.acceptance_off.to_float32(),
    }
    row = {"pixels_without_off": int(np.count_nonzero(safe.any(axis=0) & ~usable.any(axis=0)))}
    return Background(maps, usable, row)


def _why_no_ring(acceptance: Cube, safe: BoolArray) -> str:
    """Why no pixel has a ring."""
    if not np.any(acceptance.data > 0, where=safe):
        return "no acceptance in safe pixels: are the energies those of the background response?"
    return "no pixel has any OFF acceptance: is the ring too large?"


def with_values(cube: Cube, data: NDArray[np.float64]) -> Cube:
    """Cube with other values, in the type in which they are kept."""
    return Cube(data.astype(np.float32), cube.unit, cube.geom, cube.axes)


def norm_row(norms: NormTable) -> dict[str, Any]:
    """Columns of the run table about norms, one list entry per energy group.

    None where there is no number; a norm without a single count is none, whatever the formula gives.
    """
    names = (
        "energy_min_tev",
        "energy_max_tev",
        "norm",
        "norm_err",
        "tilt",
        "tilt_err",
        "counts",
        "acceptance",
        "flags",
    )
    row = {name: _finite(getattr(norms, name)) for name in names}
    for name in ("norm", "norm_err", "tilt", "tilt_err"):
        row[name] = [value if count else None for value, count in zip(row[name], row["counts"], strict=True)]
    return row


def _finite(values: NDArray[Any]) -> list[Any]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
