"""How many pixels the runs of a target fill: what jobs hold in memory, from the pointings alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.index import RunEntry
from cubeflow.maps import geometry_from_plain, sphere
from cubeflow.plan.model import BatchPlan, TargetSpec

FloatArray = NDArray[np.float64]
CORNERS = 16  # points on the circle about a pointing


@dataclass(frozen=True)
class Pixels:
    """Numbers of pixels of one grid.

    Parameters
    ----------
    run : int
        Of the largest cutout of a run.
    batch, stack : int
        Of the smallest boxes that hold the cutouts of a batch, and of all runs.
    total : int
        Of the final map.
    """

    run: int
    batch: int
    stack: int
    total: int


@dataclass(frozen=True)
class Coverage:
    """What the runs of a target fill.

    Parameters
    ----------
    sky, irf : Pixels
        Pixels of the maps, and of the grid of the responses.
    runs : int
        Number of runs.
    """

    sky: Pixels
    irf: Pixels
    runs: int = 0


def coverage(
    spec: TargetSpec, batches: Sequence[BatchPlan] = (), entries: Mapping[int, RunEntry] | None = None
) -> Coverage:
    """Pixels of a target.

    Parameters
    ----------
    spec : TargetSpec
        Geometry and largest offset.
    batches : sequence of BatchPlan
        Its runs.
    entries : mapping of int to RunEntry
        Of each run; where the observation index lacks a pointing, or without runs, the whole map is taken as covered.
    """
    pointings = [_pointings(batch, entries or {}) for batch in batches]
    known = all(found is not None for found in pointings)
    chosen = [found for found in pointings if found is not None and len(found)] if known else []
    grids = (spec.reduce["geometry"], 0.0), (spec.reduce["irf_geometry"], math.sqrt(0.5))
    sky, irf = (_pixels(plain, spec.reduce, margin, chosen) for plain, margin in grids)
    return Coverage(sky, irf, sum(len(batch.runs) for batch in batches))


def _pointings(batch: BatchPlan, entries: Mapping[int, RunEntry]) -> FloatArray | None:
    """Right ascension and declination of each run, shape (n, 2); None if one is not known."""
    try:
        infos = [entries[run.obs_id].obs_info for run in batch.runs]
        found = np.array([[info["RA_PNT"], info["DEC_PNT"]] for info in infos], float)
    except (KeyError, TypeError, ValueError):
        return None
    return found if np.all(np.isfinite(found)) else None


def _pixels(plain: Mapping[str, Any], reduce: Mapping[str, Any], margin: float, batches: list[FloatArray]) -> Pixels:
    """Pixels of one grid, on which a cutout reaches `margin` pixels farther than the largest offset."""
    nx, ny, pixel_deg, trim = plain["nx"], plain["ny"], plain["pixel_deg"], reduce["trim"]
    radius_deg = reduce["offset_max_deg"] + margin * pixel_deg
    side = 2 * radius_deg / pixel_deg + 3
    run = int(min(side, nx) * min(side, ny) if trim else side * side)
    if not batches:
        whole = nx * ny if trim else max(nx * ny, run)
        return Pixels(run, whole, whole, nx * ny)
    box = _boxes(plain, np.concatenate(batches), radius_deg, trim)
    ends = np.cumsum([len(batch) for batch in batches])
    unions = [_union(part) for part in np.split(box, ends[:-1])]
    return Pixels(int(_area(box).max()), max(int(_area(each)) for each in unions), int(_area(_union(box))), nx * ny)


def _boxes(plain: Mapping[str, Any], pointings_deg: FloatArray, radius_deg: float, trim: bool) -> FloatArray:
    """Box (x0, y0, x1, y1) of the pixels about each pointing, shape (n, 4); NaN where it misses the map."""
    x, y = geometry_from_plain(dict(plain)).vectors_to_pixel(_circles(pointings_deg, min(radius_deg, 90.0)))
    lower = np.stack([np.floor(x.min(axis=1)), np.floor(y.min(axis=1))], axis=1)
    upper = np.stack([np.ceil(x.max(axis=1)), np.ceil(y.max(axis=1))], axis=1) + 1
    size = np.array([plain["nx"], plain["ny"]])
    inside = np.clip(lower, 0, size), np.clip(upper, 0, size)
    misses = ~np.all(inside[0] < inside[1], axis=1)
    box = np.concatenate(inside if trim else (lower, upper), axis=1)
    box[misses] = np.nan
    return box


def _circles(pointings_deg: FloatArray, radius_deg: float) -> FloatArray:
    """Points on the circle about each pointing, shape (n, CORNERS, 3)."""
    angle, away = np.linspace(0.0, 2 * np.pi, CORNERS, endpoint=False), np.deg2rad(radius_deg)
    ring = np.stack([np.full(CORNERS, np.cos(away)), np.sin(away) * np.cos(angle), np.sin(away) * np.sin(angle)])
    bases = np.array([sphere.local_basis(*pointing) for pointing in pointings_deg])
    return np.einsum("kc,nkv->ncv", ring, bases)


def _union(boxes: FloatArray) -> FloatArray:
    """Smallest box that holds some boxes; NaN if none is known."""
    good = boxes[~np.isnan(boxes[:, 0])]
    return np.concatenate([good[:, :2].min(axis=0), good[:, 2:].max(axis=0)]) if len(good) else np.full(4, np.nan)


def _area(box: FloatArray) -> FloatArray:
    """Pixels of boxes of shape (..., 4); 0 for NaN."""
    return np.nan_to_num((box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]))
