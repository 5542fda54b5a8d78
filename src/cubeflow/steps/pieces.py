"""Good time intervals: selection by time, and runs in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cubeflow.observation import TIME_REFERENCE_MJD, Gti, Site

DAY_S = 86400.0
FloatArray = NDArray[np.float64]


def select_time(gti: Gti, intervals_mjd: Sequence[tuple[float, float]]) -> Gti:
    """Part of the good time intervals that lies in any of the selected intervals.

    Parameters
    ----------
    gti : Gti
        Good time intervals.
    intervals_mjd : sequence of (float, float)
        Start and stop, MJD (TT); they may overlap.

    Returns
    -------
    Gti
        Sorted and disjoint; without intervals if nothing is selected.
    """
    wanted = (np.array(intervals_mjd, dtype=float).reshape(-1, 2) - TIME_REFERENCE_MJD) * DAY_S
    start = np.maximum(gti.start_s[:, None], wanted[None, :, 0]).ravel()
    stop = np.minimum(gti.stop_s[:, None], wanted[None, :, 1]).ravel()
    return _joined(start[stop > start], stop[stop > start])


def split_gti(gti: Gti, split: str | float | None, site: Site | None = None) -> list[Gti]:
    """Cut the good time intervals of a run into pieces.

    Parameters
    ----------
    gti : Gti
        Good time intervals, not empty.
    split : None, "gti", "night" or float
        Not at all; every interval by itself; at the local mean noon (UTC noon where the site is not
        known); or pieces of this duration in s, counted from the start of the first interval.
    site : Site or None
        Where the telescopes stand, for ``night``.

    Returns
    -------
    list of Gti
        In order of time, each with some time in it; their ontimes add up to that of `gti`.

    Raises
    ------
    ValueError
        If the duration is not above zero.
    """
    if split is None:
        return [gti]
    if split == "gti":
        return [Gti(gti.start_s[k : k + 1], gti.stop_s[k : k + 1]) for k in range(len(gti.start_s))]
    if split == "night":
        longitude_deg = 0.0 if site is None else site.lon_deg
        return _cut(gti, DAY_S, DAY_S * (0.5 - longitude_deg / 360.0))
    if not float(split) > 0:
        raise ValueError(f"split: expected a duration above 0 s, got {split}")
    return _cut(gti, float(split), float(gti.start_s[0]))


def _cut(gti: Gti, period_s: float, phase_s: float) -> list[Gti]:
    """Cut at every `phase_s` + whole number x `period_s`."""
    first = int(np.floor((gti.start_s[0] - phase_s) / period_s))
    last = int(np.ceil((gti.stop_s[-1] - phase_s) / period_s))
    borders = phase_s + period_s * np.arange(first, last + 1)
    pieces = []
    for lower, upper in itertools.pairwise(borders):
        start, stop = np.maximum(gti.start_s, lower), np.minimum(gti.stop_s, upper)
        if np.any(stop > start):
            pieces.append(Gti(start[stop > start], stop[stop > start]))
    return pieces


def _joined(start_s: FloatArray, stop_s: FloatArray) -> Gti:
    """Sorted intervals, those that overlap or touch made one."""
    if not start_s.size:
        return Gti(start_s, stop_s)
    order = np.argsort(start_s, kind="stable")
    start_s, stop_s = start_s[order], np.maximum.accumulate(stop_s[order])
    new = np.concatenate([[True], start_s[1:] > stop_s[:-1]])
    return Gti(start_s[new], stop_s[np.concatenate([np.flatnonzero(new)[1:] - 1, [len(stop_s) - 1]])])
