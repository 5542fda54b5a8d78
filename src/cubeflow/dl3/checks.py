"""Checks on arrays: each returns nothing and raises, or returns a number; none of them reads a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.observation import RunRefused

FloatArray = NDArray[np.float64]


def require_finite(values: FloatArray, where: str) -> None:
    """Refuse NaN and infinity anywhere in `values`; `where` names file, HDU and column."""
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise RunRefused(f"{where}: {bad} of {values.size} values are NaN or infinite, expected none")


def require_increasing(values: FloatArray, where: str) -> None:
    """Refuse values of shape (n,) that do not grow strictly."""
    if values.size == 0:
        raise RunRefused(f"{where}: empty axis")
    steps = np.diff(values)
    if np.any(steps <= 0):
        index = int(np.argmax(steps <= 0))
        raise RunRefused(f"{where}: {values[index]:g} is followed by {values[index + 1]:g}, expected growing values")


def require_positive(values: FloatArray, where: str) -> None:
    """Refuse values of shape (n,) that are not above zero."""
    if np.any(values <= 0):
        raise RunRefused(f"{where}: lowest value {values.min():g}, expected above 0")


def contiguous_edges(lo: FloatArray, hi: FloatArray, where: str) -> FloatArray:
    """Edges of shape (n + 1,) from bins that follow each other without gap or overlap.

    Neighbours may differ by a thousandth of the bin, as single precision and rounding make them.
    """
    if np.any(hi <= lo):
        index = int(np.argmax(hi <= lo))
        raise RunRefused(f"{where}: bin {index} from {lo[index]:g} to {hi[index]:g}, expected LO < HI")
    gaps = np.abs(lo[1:] - hi[:-1]) > 1e-3 * np.minimum(hi - lo, np.inf)[1:]
    if np.any(gaps):
        index = int(np.argmax(gaps))
        raise RunRefused(f"{where}: bin {index} ends at {hi[index]:g}, the next begins at {lo[index + 1]:g}")
    return np.append(lo, hi[-1])


def clip_negative(values: FloatArray) -> tuple[FloatArray, int]:
    """Values with the negative ones set to zero, and how many there were."""
    count = int(np.count_nonzero(values < 0))
    return (np.maximum(values, 0.0), count) if count else (values, 0)


def sum_over_migra(density: FloatArray, migra_edges: FloatArray) -> FloatArray:
    """Integral over migra, shape (n_energy, n_offset), of a density of shape (n_energy, n_migra, n_offset)."""
    return np.einsum("emo,m->eo", density, np.diff(migra_edges))


def containment(density_sr: FloatArray, rad_lo_deg: FloatArray, rad_hi_deg: FloatArray) -> FloatArray:
    """Integral over the circle, shape (n_energy, n_offset), of a PSF of shape (n_energy, n_offset, n_rad) in sr-1."""
    ring_sr = 2.0 * np.pi * (np.cos(np.deg2rad(rad_lo_deg)) - np.cos(np.deg2rad(rad_hi_deg)))
    return density_sr @ ring_sr
