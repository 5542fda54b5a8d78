"""EVENTS and GTI: what is dropped, wrapped, merged or refused."""

import numpy as np
import pytest

from cubeflow.dl3.reader import ReadOptions
from cubeflow.observation import RunRefused


def edit_column(name, column, function):
    def edit(run):
        values, unit = run[name].columns[column]
        run[name].columns[column] = (function(values.copy()), unit)

    return edit


def with_unit(column, unit, scale=1.0):
    def edit(run):
        run["events"].columns[column] = (run["events"].columns[column][0] * np.float32(scale), unit)

    return edit


def intervals(start, stop):
    def edit(run):
        run["gti"].columns = {"START": (np.array(start, dtype=float), "s"), "STOP": (np.array(stop, dtype=float), "s")}

    return edit


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("ENERGY", value) for value in (np.nan, np.inf, 0.0, -1.0)),
        *(("RA", np.nan), ("DEC", 95.0), ("DEC", np.nan), ("TIME", np.nan)),
    ],
)
def test_unusable_events_are_dropped_and_counted(stores, tmp_path, column, value):
    from cubeflow.dl3.index import open_store
    from cubeflow.dl3.reader import read_observation

    def edit(run):
        run["events"] = stores.make_run(7, n_events=200)["events"]
        run["events"].columns[column][0][5] = value

    obs = read_observation(open_store(stores.write_run(tmp_path, 7, edit)).runs[0])
    assert len(obs.events) == 199
    assert obs.repairs["events_unusable"] == 1
    assert obs.meta["event_count"] == 200
    assert np.all(np.isfinite(obs.events.energy_tev))


def test_over_one_percent_unusable(read):
    def two_bad(values):
        values[:2] = np.nan
        return values

    with pytest.raises(RunRefused, match=r"\[EVENTS\]: 2 of 40 events lack a finite time"):
        read(edit_column("events", "ENERGY", two_bad))


def test_no_events(read, stores):
    def edit(run):
        run["events"] = stores.make_run(7, n_events=0)["events"]

    obs = read(edit)
    assert (len(obs.events), obs.repairs, obs.ontime_s) == (0, {}, 100.0)


@pytest.mark.parametrize("shift", [360.0, -360.0])
def test_right_ascension_is_wrapped(read, shift):
    plain, shifted = read(), read(edit_column("events", "RA", lambda ra: ra.astype("f8") + shift))
    np.testing.assert_allclose(shifted.events.ra_deg, plain.events.ra_deg, atol=1e-10)
    assert shifted.repairs == {"ra_wrapped": 40}
    assert shifted.quirks == ("ra-wrapped",)


def test_right_ascension_just_below_zero_stays_below_360(read):
    obs = read(edit_column("events", "RA", lambda ra: np.full(len(ra), -1e-20)))
    assert np.all((obs.events.ra_deg >= 0) & (obs.events.ra_deg < 360))


@pytest.mark.parametrize(("unit", "scale"), [("GeV", 1e3), ("MeV", 1e6), ("erg", 1.602176634)])
def test_energy_units_give_the_same_energies(read, unit, scale):
    np.testing.assert_allclose(
        read(with_unit("ENERGY", unit, scale)).events.energy_tev, read().events.energy_tev, rtol=3e-7
    )


def test_energy_without_unit_and_with_a_wrong_one(read):
    obs = read(with_unit("ENERGY", ""))
    np.testing.assert_array_equal(obs.events.energy_tev, read().events.energy_tev)
    assert obs.repairs == {"unit_missing": 1}
    with pytest.raises(RunRefused, match=r"column ENERGY: unit 'deg', expected one like 'TeV'"):
        read(with_unit("ENERGY", "deg"))


def duplicate(run):
    for name, (values, unit) in run["events"].columns.items():
        run["events"].columns[name] = (np.concatenate([values, values[[3, 8]]]), unit)


def test_duplicated_rows_are_refused_or_dropped(read):
    with pytest.raises(RunRefused, match="2 events are there twice"):
        read(duplicate)
    obs = read(duplicate, options=ReadOptions(duplicates="drop"))
    np.testing.assert_array_equal(obs.events.time_s, read().events.time_s)
    assert obs.repairs == {"events_duplicated": 2}


def test_events_of_one_time_are_no_duplicates(read):
    obs = read(edit_column("events", "TIME", lambda time: np.full(len(time), 1050.0)))
    assert (len(obs.events), obs.repairs) == (40, {})


def test_repeated_event_ids_are_reported_only(read):
    obs = read(edit_column("events", "EVENT_ID", lambda ids: ids // 2))
    assert len(obs.events) == 40
    assert obs.quirks == ("event-ids-repeated",)
    assert obs.repairs == {"event_ids_repeated": 19}


def test_unsorted_and_far_events_are_named(read):
    def swap(values):
        values[[0, 1]] = values[[1, 0]]
        return values

    assert read(edit_column("events", "TIME", swap)).quirks == ("events-not-sorted",)

    def far(dec):
        dec[3] = -60
        return dec

    assert read(edit_column("events", "DEC", far)).quirks == ("events-far-from-pointing",)


def test_component_identifiers(read):
    def edit(run):
        run["events"].columns["MC_ID"] = (np.arange(40, dtype="i4"), "")

    np.testing.assert_array_equal(read(edit).events.mc_id, np.arange(40))


def test_intervals_are_sorted_and_merged(read, stores):
    obs = read(intervals([1060, 1000, 1010, 1030, 1015], [1100, 1020, 1025, 1050, 1018]))
    offset = stores.TT_OFFSET_S
    np.testing.assert_allclose(obs.gti.start_s, np.array([1000, 1030, 1060]) + offset, atol=1e-6)
    np.testing.assert_allclose(obs.gti.stop_s, np.array([1025, 1050, 1100]) + offset, atol=1e-6)
    assert obs.ontime_s == pytest.approx(85, abs=1e-6)
    assert (obs.repairs["gti_merged"], obs.repairs["gti_unsorted"]) == (2, 1)


def test_touching_intervals_are_no_repair(read):
    obs = read(intervals([1000, 1050], [1050, 1100]))
    assert (obs.repairs, obs.ontime_s) == ({}, pytest.approx(100))


@pytest.mark.parametrize(
    ("start", "stop", "match"),
    [
        ([1000, 1050], [1050, 1050], "interval 1: START .*, STOP .*, expected START < STOP"),
        ([1000], [np.nan], "interval 0"),
        ([1100], [1000], "interval 0"),
        ([], [], "no interval, expected at least one"),
    ],
)
def test_bad_intervals(read, start, stop, match):
    with pytest.raises(RunRefused, match=match):
        read(intervals(start, stop))


def test_intervals_without_unit(read):
    def edit(run):
        run["gti"].columns = {name: (values, "") for name, (values, _) in run["gti"].columns.items()}

    obs = read(edit, gti={"HDUCLAS1": "GTI"})
    assert (obs.quirks, obs.ontime_s, obs.repairs) == (("gti-without-unit",), 100.0, {})


def test_different_time_frames_are_converted(read):
    """The same intervals, written since 2000-01-01T12:00 TT and since a UTC reference."""
    plain = read()
    seconds = (51910.000742870370370241 - 51544.5) * 86400.0
    shifted = read(
        intervals([1000 + seconds], [1100 + seconds]), gti={"MJDREFI": 51544, "MJDREFF": 0.5, "HDUCLAS1": "GTI"}
    )
    utc = read(gti={"MJDREFF": 0.0, "TIMESYS": "UTC"})
    for obs in (shifted, utc):
        np.testing.assert_allclose(obs.gti.start_s, plain.gti.start_s, rtol=0, atol=2e-6)
        assert obs.repairs == {}


def region(value, kind="POS(RA,DEC)"):
    return {
        "DSTYP1": "TIME",
        "DSVAL1": "TABLE",
        "DSTYP2": "ENERGY",
        "DSVAL2": "0.03:160",
        "DSTYP3": kind,
        "DSVAL3": value,
    }


@pytest.mark.parametrize(
    ("value", "reach"),
    [
        ("CIRCLE(83.6,22.5,5)", 5.0),
        ("circle(83.6000001, 22.5, 2.5E0)", 2.5),
        ("CIRCLE(83.6,21.3,5.)", 3.8),
        ("CIRCLE(83.6,-22.5,5)", 0.0),
    ],
)
def test_events_reach_to_the_rim_of_their_region(read, value, reach):
    obs = read(events=region(value))
    assert obs.meta["events_offset_max_deg"] == pytest.approx(reach, abs=1e-3)
    assert obs.repairs == {}


@pytest.mark.parametrize("value", ["BOX(83.6,22.5,5,5,0)", "CIRCLE(83.6,22.5)", "CIRCLE(1.2.3,22.5,5)", ""])
def test_another_region_is_counted(read, value):
    obs = read(events=region(value))
    assert obs.meta["events_offset_max_deg"] is None
    assert obs.repairs == {"region_not_read": 1}
    assert read().meta["events_offset_max_deg"] is None
