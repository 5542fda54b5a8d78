"""Time frames against astropy.time."""

import pytest
from astropy.time import Time

from cubeflow.dl3.events import read_time_frame
from cubeflow.dl3.quirks import Notes
from cubeflow.observation import TIME_REFERENCE_MJD, RunRefused

HESS = {"MJDREFI": 51910, "MJDREFF": 0.000742870370370241, "TIMESYS": "TT"}


@pytest.mark.parametrize("scale", ["tt", "utc", "tai", "tdb"])
@pytest.mark.parametrize(("days", "fraction"), [(51910, 0.0), (51544, 0.5), (57754, 0.25), (53402.0, 0.0)])
def test_epoch_on_every_scale(scale, days, fraction):
    notes = Notes()
    offset_s, _ = read_time_frame({"MJDREFI": days, "MJDREFF": fraction, "TIMESYS": scale}, "x", notes)
    epoch, reference = (
        Time(days, fraction, format="mjd", scale=scale),
        Time(TIME_REFERENCE_MJD, format="mjd", scale="tt"),
    )
    assert offset_s == pytest.approx((epoch.tt - reference).sec, abs=3e-3 if scale == "tdb" else 1e-6)
    assert list(notes.quirks) == (["tdb-as-tt"] if scale == "tdb" else [])


def test_utc_and_tt_headers_of_one_instant_agree():
    utc, _ = read_time_frame({"MJDREFI": 51910, "MJDREFF": 0.0, "TIMESYS": "UTC"}, "x", Notes())
    tt, _ = read_time_frame(HESS, "x", Notes())
    assert utc == pytest.approx(64.184, abs=1e-6)
    assert utc == pytest.approx(tt, abs=1e-6)


def test_time_zero_and_unit():
    """Both keys that move the zero are in TIMEUNIT (OGIP 93-003; FITS 4.0, 9.4.1)."""
    found = read_time_frame({**HESS, "TIMEZERO": 5.0, "TIMEUNIT": "d"}, "x", Notes())
    assert found == (pytest.approx(64.184 + 5 * 86400, abs=1e-6), "d")
    offset_s, _ = read_time_frame({**HESS, "TIMEZERO": 5.0, "TIMEOFFS": 2500.0, "TIMEUNIT": "ms"}, "x", Notes())
    assert offset_s == pytest.approx(64.184 + 2.505, abs=1e-6)


@pytest.mark.parametrize("key", ["MJDREFI", "MJDREFF", "TIMESYS"])
def test_missing_key(key):
    with pytest.raises(RunRefused, match=f"x: {key} is missing; it has no default"):
        read_time_frame({k: v for k, v in HESS.items() if k != key}, "x", Notes())


@pytest.mark.parametrize(("key", "value"), [("MJDREFI", "abc"), ("MJDREFF", True), ("TIMESYS", "LOCAL")])
def test_bad_value(key, value):
    with pytest.raises(RunRefused, match=f"x: {key} = {value!r}, expected"):
        read_time_frame({**HESS, key: value}, "x", Notes())


@pytest.mark.parametrize("days", [-1e9, 1e300])
def test_epochs_that_are_no_day(days):
    with pytest.raises(RunRefused, match=r"x: MJDREFI, MJDREFF = .*, expected a day"):
        read_time_frame({**HESS, "MJDREFI": days, "TIMESYS": "UTC"}, "x", Notes())


def test_epochs_beyond_the_leap_seconds_that_are_known():
    offset_s, _ = read_time_frame({**HESS, "MJDREFI": 70000, "MJDREFF": 0.0, "TIMESYS": "UTC"}, "x", Notes())
    assert offset_s == pytest.approx((70000 - TIME_REFERENCE_MJD) * 86400 + 69.184, abs=5)
