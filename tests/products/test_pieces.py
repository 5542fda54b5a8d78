"""Time selection and pieces of runs."""

import itertools
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.observation import (
    TIME_REFERENCE_MJD,
    EventList,
    Gti,
    Observation,
    Pointing,
    RunRefused,
    RunSkipped,
    Site,
    Unit,
)
from cubeflow.products.pieces import DAY_S, Interval, cut_pieces, in_selected_time, interval_of, select_time, split_gti

RUN = Gti(np.array([1000.0, 2000.0]), np.array([1800.0, 2900.0]))


def mjd(time_s: float) -> float:
    return TIME_REFERENCE_MJD + time_s / DAY_S


def inside(gti: Gti, time_s: float) -> bool:
    """Plain loop."""
    return any(start <= time_s < stop for start, stop in zip(gti.start_s, gti.stop_s, strict=True))


@given(st.lists(st.tuples(st.floats(500, 3500), st.floats(10, 1500)), min_size=1, max_size=5))
def test_selected_time_is_in_the_run_and_in_an_interval(windows):
    chosen = select_time(RUN, [(mjd(start), mjd(start + length)) for start, length in windows])
    for time_s in np.arange(500.25, 3500.0, 7.0):
        wanted = inside(RUN, time_s) and any(start <= time_s < start + length for start, length in windows)
        near_edge = any(min(abs(time_s - start), abs(time_s - start - length)) < 1e-3 for start, length in windows)
        assert near_edge or inside(chosen, time_s) == wanted
    assert np.all(chosen.start_s[1:] > chosen.stop_s[:-1])


@pytest.mark.parametrize("stop", [1e7, 2.0**31, 1e308])
def test_absurd_times_are_not_cut_into_pieces(stop):
    gti = Gti(np.array([0.0]), np.array([stop]))
    with pytest.raises(RunRefused, match=r"split: good time from first to last \S+ s, expected at most 10000 pieces"):
        split_gti(gti, 60.0)
    assert len(split_gti(gti, stop)) == 1


def test_nothing_selected():
    assert select_time(RUN, [(mjd(5000), mjd(6000))]).ontime_s == 0.0


@pytest.mark.parametrize("split", ["gti", "night", 60.0, 333.0, 1e6])
def test_pieces_add_up(split):
    pieces = split_gti(RUN, split)
    assert sum(piece.ontime_s for piece in pieces) == pytest.approx(RUN.ontime_s, abs=1e-9)
    assert all(piece.ontime_s > 0 for piece in pieces)
    ends = [(piece.start_s[0], piece.stop_s[-1]) for piece in pieces]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


def test_pieces_by_interval_and_by_duration():
    assert [piece.ontime_s for piece in split_gti(RUN, "gti")] == [800.0, 900.0]
    # 1000-1500, 1500-1800, 2000-2500, 2500-2900
    assert [piece.ontime_s for piece in split_gti(RUN, 500.0)] == [500.0, 300.0, 500.0, 400.0]


def test_a_night_lasts_from_noon_to_noon():
    noon = 10 * DAY_S + DAY_S / 2
    run = Gti(np.array([noon - 100.0]), np.array([noon + 300.0]))
    assert [piece.ontime_s for piece in split_gti(run, "night")] == pytest.approx([100.0, 300.0])
    # 90 deg east the sun culminates a quarter of a day earlier: no noon in this run.
    assert len(split_gti(run, "night", Site(90.0, 0.0))) == 1


def test_no_duration():
    with pytest.raises(ValueError, match="above 0 s"):
        split_gti(RUN, 0.0)


def observation(times):
    """Run of `RUN` with events at these times."""
    times = np.array(times, float)
    events = EventList(times, times, times, times)
    return Observation(7, events, RUN, Pointing(1.0, 2.0), 0.9, None, None, None, None)


def test_each_event_is_in_one_piece():
    whole = observation([1000.0, 1500.0, 1500.1, 1900.0, 2000.0, 2500.0, 2900.0])
    pieces = cut_pieces(whole, 500.0)
    assert [piece.events.time_s.tolist() for piece in pieces] == [[1000, 1500], [1500.1], [2000, 2500], [2900]]
    assert [piece.ontime_s for piece in pieces] == [500.0, 300.0, 500.0, 400.0]
    assert sum(piece.livetime_s for piece in pieces) == pytest.approx(whole.livetime_s)


def test_selected_time_keeps_the_events_in_it():
    whole = observation([1000.0, 1900.0, 1990.0, 2000.0, 2500.0, 2950.0])
    part = in_selected_time(whole, [(mjd(1950.0), mjd(2200.0)), (mjd(2800.0), mjd(9000.0))])
    # 1990 s lies between the good time intervals, in the selected time; 2950 s is beyond the last one.
    assert part.events.time_s.tolist() == [1990.0, 2000.0]
    assert part.ontime_s == pytest.approx(300.0, abs=1e-3)
    assert in_selected_time(whole, None) is whole


def test_a_run_outside_the_selected_time_is_skipped():
    with pytest.raises(RunSkipped, match=r"no good time lies in observations\.time"):
        in_selected_time(observation([1000.0]), [(mjd(5000.0), mjd(6000.0))])


RUN_7, TIMES_S = Unit(7), st.floats(-3e9, 3e9)


@given(st.lists(TIMES_S.map(mjd), min_size=2, max_size=9, unique=True).map(sorted).map(tuple), TIMES_S)
def test_edges_hold_their_start_and_not_their_end(edges, time_s):
    """A plain loop over the edges."""
    holds = [k for k, (low, high) in enumerate(itertools.pairwise(edges)) if low <= mjd(time_s) < high]
    found = interval_of(time_s, edges, RUN_7)
    assert ([] if found is None else [found.number]) == holds
    for k, edge in enumerate(edges):
        at = interval_of((edge - TIME_REFERENCE_MJD) * DAY_S, (edges[0] - 1, *edges, edges[-1] + 1), RUN_7)
        assert at is not None
        assert at.number in (k, k + 1)  # seconds and days round differently


@given(TIMES_S, st.floats(1.0, 1e7), st.floats(0.0, 1.0))
def test_durations_are_counted_from_the_reference(time_s, duration_s, part):
    first = interval_of(time_s, duration_s, RUN_7)
    assert first is not None
    assert first.number * duration_s <= time_s + 1e-12 * abs(time_s) + 1e-6
    assert time_s < (first.number + 1) * duration_s + 1e-6 * abs(time_s) + 1e-6
    start_mjd = float(first.name.removeprefix("mjd-"))
    assert abs((start_mjd - TIME_REFERENCE_MJD) * DAY_S - first.number * duration_s) < 0.1
    later = interval_of((first.number + 2 + part) * duration_s, duration_s, RUN_7)
    assert later is not None
    assert later > first
    assert later.name != first.name


@given(TIMES_S, st.floats(-180.0, 360.0))
def test_nights_are_named_after_the_evening(time_s, lon_deg):
    """By the calendar of Python: local mean time, twelve hours back."""
    local = datetime(2001, 1, 1) + timedelta(seconds=time_s + DAY_S * lon_deg / 360.0 - DAY_S / 2)
    near_noon = min(local.timestamp() % DAY_S, -local.timestamp() % DAY_S) < 1.0
    night, month = (interval_of(time_s, by, RUN_7, lon_deg) for by in ("night", "month"))
    assert night is not None
    assert month is not None
    assert near_noon or night.name == f"night-{local:%Y-%m-%d}"
    assert month.name == f"month-{night.name[6:13]}"
    following = interval_of(time_s + DAY_S, "night", RUN_7, lon_deg)
    assert following is not None
    assert following.number == night.number + 1


def test_night_goes_from_noon_to_noon_at_the_site():
    namibia = 16.5
    noon_s = DAY_S * (0.5 - namibia / 360.0)
    names = [interval_of(noon_s + shift_s, "night", RUN_7, namibia).name for shift_s in (-1.0, 1.0)]
    assert names == ["night-2000-12-31", "night-2001-01-01"]
    assert interval_of(DAY_S * 0.5 + 1.0, "night", RUN_7).name == "night-2001-01-01"


def test_runs_and_pieces_are_intervals_by_themselves():
    assert interval_of(0.0, "run", RUN_7) == Interval(7, "run-7")
    assert interval_of(0.0, "run", Unit(7, 2)).name == "run-7-piece2"


@pytest.mark.parametrize("by", ["night", "month", 60.0, (51000.0, 52000.0)])
@pytest.mark.parametrize("time_s", [1e300, -1e300, 1e12])
def test_absurd_times_are_in_no_interval(by, time_s):
    assert interval_of(time_s, by, RUN_7) is None
