"""Good time intervals: selection by time, runs in pieces, and intervals that hold whole runs or pieces."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal, NamedTuple

import numpy as np

from cubeflow.observation import DAY_S, TIME_REFERENCE_MJD, Gti, Observation, RunRefused, RunSkipped, Site, Unit

MAX_PIECES = 10_000
Split = Literal["gti", "night"] | float
By = Literal["night", "month", "run"] | float | tuple[float, ...]
MJD_0 = date(1858, 11, 17)
CALENDAR_MJD = 600_000  # to here calendars go, either way


class Interval(NamedTuple):
    """Part of the time whose runs and pieces are stacked; intervals of one kind sort by time."""

    number: int
    name: str


def select_time(gti: Gti, intervals_mjd: Sequence[tuple[float, float]]) -> Gti:
    """Part of the good time intervals that lies in any of the selected ones, (start, stop) in MJD (TT).

    Those may overlap; the part is sorted and disjoint, and without intervals if nothing is selected.
    """
    wanted = (np.array(intervals_mjd, dtype=float).reshape(-1, 2) - TIME_REFERENCE_MJD) * DAY_S
    start = np.maximum(gti.start_s[:, None], wanted[None, :, 0]).ravel()
    stop = np.minimum(gti.stop_s[:, None], wanted[None, :, 1]).ravel()
    return Gti.merged(start[stop > start], stop[stop > start], touching=True)


def split_gti(gti: Gti, split: Split, site: Site | None = None) -> list[Gti]:
    """Cut the good time intervals of a run, not empty, into pieces: all of it, in order of time, each with some time.

    They are every interval by itself (``gti``); what lies between local mean noons (``night``; UTC noons where the site
    is not known); or pieces of a duration in s, counted from the start of the first interval.
    ValueError if the duration is not above zero, RunRefused if there would be more than `MAX_PIECES`: the times are
    absurd, or the duration is.
    """
    if split == "gti":
        return [Gti(gti.start_s[k : k + 1], gti.stop_s[k : k + 1]) for k in range(len(gti.start_s))]
    if split == "night":
        period_s, phase_s = DAY_S, DAY_S * (0.5 - (0.0 if site is None else site.lon_deg) / 360.0)
    else:
        period_s, phase_s = float(split), float(gti.start_s[0])
    if not period_s > 0:
        raise ValueError(f"split: expected a duration above 0 s, got {split}")
    first = int(np.floor((gti.start_s[0] - phase_s) / period_s))
    last = int(np.ceil((gti.stop_s[-1] - phase_s) / period_s))
    if last - first > MAX_PIECES:
        span_s = gti.stop_s[-1] - gti.start_s[0]
        found = f"good time from first to last {span_s:g} s"
        raise RunRefused(f"split: {found}, expected at most {MAX_PIECES} pieces of it")
    pieces = []
    for lower, upper in itertools.pairwise(phase_s + period_s * np.arange(first, last + 1)):
        start, stop = np.maximum(gti.start_s, lower), np.minimum(gti.stop_s, upper)
        if np.any(stop > start):
            pieces.append(Gti(start[stop > start], stop[stop > start]))
    return pieces


def interval_of(time_s: float, by: By, unit: Unit, lon_deg: float | None = None) -> Interval | None:
    """Interval to which a time belongs, TT s since the time reference; it holds its start and not its end.

    Intervals are nights, from one local mean noon to the next (UTC noon where the longitude of the site, east, is not
    known), named after the evening; the nights of a calendar month; the run or piece itself; a duration in s, counted
    from the time reference whatever the runs are; or between edges, MJD (TT). None before the first edge, from the last
    one on, and for a time that is in no calendar.
    """
    if by == "run":
        return Interval(unit.obs_id, f"run-{unit.name}")
    mjd = TIME_REFERENCE_MJD + time_s / DAY_S
    if not abs(mjd) < CALENDAR_MJD:
        return None
    if by in ("night", "month"):
        night = int(np.floor(mjd - 0.5 + (lon_deg or 0.0) / 360.0))
        evening = MJD_0 + timedelta(days=night)
        is_night = by == "night"
        number = night if is_night else 12 * evening.year + evening.month
        return Interval(number, f"{by}-{evening.isoformat()[: None if is_night else 7]}")
    if isinstance(by, tuple):
        number = bisect_right(by, mjd) - 1
        return Interval(number, _name_of(by[number])) if 0 <= number < len(by) - 1 else None
    number = int(np.floor(time_s / float(by)))
    return Interval(number, _name_of(TIME_REFERENCE_MJD + number * float(by) / DAY_S))


def _name_of(start_mjd: float) -> str:
    """Name of the interval that begins at a time; of two that are 1 s apart it is not the same."""
    return f"mjd-{start_mjd:.6f}".rstrip("0").rstrip(".")


def in_selected_time(observation: Observation, time_mjd: Sequence[tuple[float, float]] | None) -> Observation:
    """Events and good time of the intervals selected, MJD (TT), or all for None; RunSkipped if no time is left."""
    if time_mjd is None:
        return observation
    selected = select_time(observation.gti, time_mjd)
    if not selected.start_s.size:
        raise RunSkipped("no good time lies in observations.time")
    # Events between the good time intervals stay only where the time is selected, too.
    span = Gti(observation.gti.start_s[:1], observation.gti.stop_s[-1:])
    kept = observation.events.select(select_time(span, time_mjd).contains(observation.events.time_s))
    return replace(observation, gti=selected, events=kept)


def cut_pieces(observation: Observation, split_s: Split) -> list[Observation]:
    """Cut a run as `split_gti` does, in order of time; events outside all good time intervals are in no piece."""
    pieces = split_gti(observation.gti, split_s, observation.site)
    contained = [gti.contains(observation.events.time_s) for gti in pieces]
    for index in range(1, len(pieces)):  # an event on a border belongs to the earlier piece
        contained[index] &= ~contained[index - 1]
    events = [observation.events.select(inside) for inside in contained]
    return [replace(observation, gti=gti, events=part) for gti, part in zip(pieces, events, strict=True)]
