"""Faults 9, 10 and 13 to 23: event lists, good time intervals and what headers say of a run."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

pytestmark = pytest.mark.faults
GOOD, BAD = 100001, 100002
N_EVENTS = 1349


def rows_of(hdus, name, keep):
    """Replace a table by some of its rows."""
    hdus[name] = fits.BinTableHDU(hdus[name].data[keep], header=hdus[name].header, name=name)


def test_fault_09_empty_event_list(bench):
    bench.edit(lambda hdus: rows_of(hdus, "EVENTS", slice(0)))
    outcome = bench.run()
    row = outcome.rows[BAD]
    assert outcome.status == 0
    assert (row["status"], row["counts"], row["n_events"], row["fov_norm_0"]) == ("dropped", "0", "0", "")
    assert "not normalised" in row["reason"]
    assert not bench.data()["counts"].any()
    assert bench.data()["exposure"].any()
    assert outcome.rows[GOOD]["status"] == "ok"


def with_copies(hdus):
    """Three rows that are there twice."""
    rows_of(hdus, "EVENTS", np.sort(np.append(np.arange(len(hdus["EVENTS"].data)), [5, 90, 91])))


def test_fault_10_duplicated_rows(bench, rejects):
    bench.edit(with_copies)
    rejects("3 events are there twice", "duplicates: drop")


def test_fault_10_duplicated_rows_dropped(bench, undisturbed):
    bench.edit(with_copies)
    bench.set("observations.duplicates", "drop")
    outcome = bench.run()
    assert outcome.status == 0
    assert "events_duplicated=3" in outcome.rows[BAD]["repairs"]
    np.testing.assert_array_equal(bench.data()["counts"], undisturbed.data()["counts"])


def test_fault_10_repeated_event_ids_are_reported(bench, accepts):
    bench.values("EVENTS", "EVENT_ID", lambda values: values.__setitem__(slice(0, 4), 7))
    accepts(quirks=["event-ids-repeated"], event_ids_repeated=4)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("ENERGY", np.nan),
        ("ENERGY", np.inf),
        ("ENERGY", 0.0),
        ("ENERGY", -1.0),
        ("RA", np.nan),
        ("RA", -np.inf),
        ("DEC", np.nan),
        ("DEC", 90.5),
        ("TIME", np.nan),
        ("TIME", np.inf),
    ],
)
def test_fault_13_events_without_numbers(bench, accepts, column, value):
    """One percent is dropped and counted, as if the rows were not there."""
    broken = slice(100, 100 + N_EVENTS // 100)
    bench.values("EVENTS", column, lambda values: values.__setitem__(broken, value))
    row = accepts(same=False, events_unusable=13)
    assert row["n_events"] == str(N_EVENTS - 13)
    counts = bench.data()["counts"]
    shutil.rmtree(bench.results)
    bench.edit(lambda hdus: rows_of(hdus, "EVENTS", np.delete(np.arange(N_EVENTS), broken)))
    accepts(same=False)
    np.testing.assert_array_equal(bench.data()["counts"], counts)


@pytest.mark.parametrize("column", ["ENERGY", "RA", "DEC", "TIME"])
def test_fault_13_too_many_events_without_numbers(bench, rejects, column):
    bench.values("EVENTS", column, lambda values: values.__setitem__(slice(0, 14), np.nan))
    rejects("EVENTS", "14 of 1349 events", "at most 1%")


@pytest.mark.parametrize("turns", [-360, 360])
def test_fault_14_right_ascension_is_wrapped(bench, accepts, turns):
    def change(hdus):
        hdus["EVENTS"].data["RA"] += turns

    bench.edit(change)
    accepts(quirks=["ra-wrapped"], ra_wrapped=N_EVENTS)


@pytest.mark.parametrize(("unit", "per_tev"), [("GeV", 1e3), ("MeV", 1e6)])
def test_fault_15_energy_in_another_unit(bench, accepts, unit, per_tev):
    def change(hdus):
        hdus["EVENTS"].data["ENERGY"] *= per_tev
        hdus["EVENTS"].columns["ENERGY"].unit = unit

    bench.edit(change)
    accepts()


def test_fault_15_energy_without_unit(bench, accepts):
    bench.header("EVENTS", TUNIT5=None)
    accepts(unit_missing=1)


def test_fault_15_energy_in_metres(bench, rejects):
    bench.header("EVENTS", TUNIT5="m")
    rejects("column ENERGY", "'m'", "TeV")


def test_fault_16_events_outside_the_good_time(bench, accepts):
    bench.values("GTI", "STOP", lambda stop: stop.__setitem__(1, stop[1] - 100.0))
    with fits.open(bench.file()) as hdus:
        time, gti = hdus["EVENTS"].data["TIME"], hdus["GTI"].data
        inside = sum(any(start <= t <= stop for start, stop in gti) for t in time)
    row = accepts(same=False, events_outside_gti=N_EVENTS - inside, ontime_disagrees=1)
    assert 0 < inside < N_EVENTS
    assert (row["n_events"], row["n_events_gti"]) == (str(N_EVENTS), str(inside))


def intervals(hdus, start, stop):
    """Replace the good time intervals."""
    columns = [fits.Column(name, "D", unit="s", array=values) for name, values in (("START", start), ("STOP", stop))]
    header = hdus["GTI"].header
    hdus["GTI"] = fits.BinTableHDU.from_columns(columns, name="GTI")
    for key in ("MJDREFI", "MJDREFF", "TIMESYS", "TIMEUNIT"):
        hdus["GTI"].header[key] = header[key]


def test_fault_17_intervals_that_overlap_and_are_not_sorted(bench, accepts):
    def change(hdus):
        (first, second), (third, last) = (tuple(row) for row in hdus["GTI"].data)
        intervals(hdus, [third + 50, first, third, third], [last, second, third + 100, third + 1])

    bench.edit(change)
    accepts(gti_merged=2, gti_unsorted=1)


@pytest.mark.parametrize(
    ("start", "stop", "words"),
    [
        ([1.2e8], [1.2e8], "expected START < STOP"),
        ([1.2e8 + 5], [1.2e8], "expected START < STOP"),
        ([np.nan], [1.3e8], "expected START < STOP"),
        ([1.2e8], [np.nan], "expected START < STOP"),
        ([1.2e8], [np.inf], "expected START < STOP"),
        ([], [], "no interval"),
    ],
)
def test_fault_18_broken_intervals(bench, rejects, start, stop, words):
    bench.edit(lambda hdus: intervals(hdus, start, stop))
    rejects("GTI", words)


@pytest.mark.parametrize(
    ("header", "shift_s"),
    [
        ({"MJDREFI": 51911}, 86400.0),
        ({"MJDREFI": 51909, "MJDREFF": 1.00074287037037}, 0.0),
        ({"TIMESYS": "UTC"}, 64.184),
    ],
)
def test_fault_19_intervals_in_another_frame(bench, accepts, undisturbed, header, shift_s):
    """TT - UTC at the reference (January 2001) is 64.184 s."""

    def change(hdus):
        hdus["GTI"].data["START"] -= shift_s
        hdus["GTI"].data["STOP"] -= shift_s
        hdus["GTI"].header.update(header)

    bench.edit(change)
    row = accepts(same=False)
    np.testing.assert_array_equal(bench.data()["counts"], undisturbed.data()["counts"])
    np.testing.assert_allclose(bench.data()["gti_s"], undisturbed.data()["gti_s"], rtol=0, atol=1e-4)
    assert float(row["livetime"]) == pytest.approx(float(undisturbed.rows()[BAD]["livetime"]), abs=1e-4)


@pytest.mark.parametrize("hdu", ["EVENTS", "GTI"])
@pytest.mark.parametrize("key", ["MJDREFI", "MJDREFF", "TIMESYS"])
def test_fault_20_time_frame_missing(bench, rejects, hdu, key):
    bench.header(hdu, **{key: None})
    rejects(hdu, f"{key} is missing")


@pytest.mark.parametrize("unit", [-1, "m", "parsec"])
def test_fault_20_time_unit_that_is_none(bench, rejects, unit):
    bench.header("EVENTS", TIMEUNIT=unit)
    rejects("EVENTS", "TIMEUNIT", str(unit))


@pytest.mark.parametrize("value", [None, 0.0, -0.1, 1.01, "high", True])
def test_fault_21_dead_time(bench, rejects, value):
    bench.header("EVENTS", DEADC=value)
    rejects("DEADC")


def test_fault_21_dead_time_against_livetime_is_reported(bench, accepts):
    bench.header("EVENTS", LIVETIME=480.0)
    accepts(deadc_disagrees=1)


def test_fault_22_ontime_against_intervals_is_reported(bench, accepts):
    """The intervals win: maps and run table are those of the right header."""
    bench.header("EVENTS", ONTIME=5400.0, LIVETIME=5400.0 * 0.94)
    assert float(accepts(ontime_disagrees=1)["ontime"]) == pytest.approx(540.0)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"RA_PNT": None}, "RA_PNT"),
        ({"DEC_PNT": None}, "DEC_PNT"),
        ({"RA_PNT": "nan"}, "RA_PNT"),
        ({"DEC_PNT": "INF"}, "DEC_PNT"),
        ({"DEC_PNT": 90.5}, "DEC_PNT"),
        ({"RA_PNT": 540.0}, "RA_PNT"),
        ({"OBS_MODE": "DRIFT"}, "OBS_MODE"),
        ({"OBS_ID": GOOD}, "OBS_ID"),
        ({"OBS_ID": "x"}, "OBS_ID"),
    ],
)
def test_fault_23_pointing_and_identity(bench, rejects, header, words):
    bench.header("EVENTS", **header)
    rejects("EVENTS", words)


@pytest.mark.parametrize(("hdu", "columns"), [("EVENTS", ["TIME"]), ("GTI", ["START"]), ("GTI", ["STOP"])])
def test_times_in_single_precision(bench, rejects, hdu, columns):
    """In steps of 8 s ten years after the zero: events left the good time, and a livetime grew by 0.7 %."""
    bench.edit(lambda hdus: in_single_precision(hdus, hdu, columns, 0.0))
    rejects(f"file[{hdu}]: column {columns[0]}: single precision, in steps of 8 s; expected double precision")


def test_times_in_single_precision_from_a_near_zero(bench, accepts):
    """Seconds of the run itself have steps of a twentieth of a millisecond."""
    with fits.open(bench.file()) as hdus:
        zero_s = float(np.floor(hdus["GTI"].data["START"][0]))

    def shift(hdus):
        for hdu, columns in (("EVENTS", ["TIME"]), ("GTI", ["START", "STOP"])):
            in_single_precision(hdus, hdu, columns, zero_s)
            hdus[hdu].header["TIMEZERO"] = zero_s

    bench.edit(shift)
    assert float(accepts()["livetime"]) == pytest.approx(507.6, abs=1e-3)


def in_single_precision(hdus, hdu, names, zero_s):
    old = hdus[hdu]
    columns = [
        fits.Column(c.name, "E", unit=c.unit, array=old.data[c.name] - zero_s)
        if c.name in names
        else fits.Column(c.name, c.format, unit=c.unit, array=old.data[c.name])
        for c in old.columns
    ]
    header = old.header.copy()
    for number, column in enumerate(old.columns, start=1):
        if column.name in names:
            del header[f"TFORM{number}"]
    hdus[hdu] = fits.BinTableHDU.from_columns(columns, header=header, name=hdu)


@pytest.mark.parametrize("header", [{"RADESYS": "FK5"}, {"RADESYS": None}])
def test_directions_of_another_equinox(bench, rejects, header):
    """Precession of fifty years is 0.7 deg."""
    bench.header("EVENTS", EQUINOX=1950.0, **header)
    rejects("file[EVENTS]: EQUINOX = 1950.0, expected 2000")


@pytest.mark.parametrize("equinox", [2000, "J2000", "J2000.0", "", None])
def test_the_equinox_however_it_is_written(bench, accepts, equinox):
    bench.header("EVENTS", RADESYS="FK5", EQUINOX=equinox)
    accepts()


def test_a_copy_of_a_run_under_another_id_is_said(bench):
    """Its events would count twice; all that tells is that no two runs share times, pointing and number of events."""
    assert "a copy" not in bench.cubeflow("run", "-c", bench.write_config())[1]
    shutil.copy(bench.file(GOOD), bench.file(BAD))
    bench.header("EVENTS", OBS_ID=BAD)
    status, text = bench.cubeflow("run", "-c", bench.write_config())
    assert status == 0
    line = "t: run 100002: times, pointing and number of events as of run 100001; exclude one if it is a copy"
    assert line in text.splitlines()
