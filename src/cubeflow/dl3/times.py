"""Time frames of GADF headers: seconds since a reference, turned into TT seconds since `TIME_REFERENCE_MJD`.

Times in a file are taken as SI seconds elapsed since its reference epoch, which is given on the
scale TIMESYS (as the FITS standard and gammapy do): a UTC header shifts the epoch, never the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from cubeflow.dl3.cards import Header
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.units import UnitError, factor
from cubeflow.observation import TIME_REFERENCE_MJD, RunRefused

DAY_S = 86400.0
TT_MINUS_TAI_S = 32.184
SCALES = ("TT", "TDT", "ET", "TDB", "TAI", "IAT", "GPS", "UTC")
FRAME_KEYS = ("MJDREFI", "MJDREFF", "TIMESYS")


@dataclass(frozen=True)
class TimeFrame:
    """Seconds to add to the times of a file, and the unit of its header times (`unit`, a FITS string)."""

    offset_s: float
    unit: str


def read_time_frame(header: Header, where: str, notes: Notes) -> TimeFrame:
    """Time frame of an EVENTS or GTI header.

    Parameters
    ----------
    header : dict
        Must hold MJDREFI, MJDREFF and TIMESYS, which have no default; TIMEUNIT (s), TIMEZERO (0) do.
    where : str
        File and HDU, for messages.
    notes : Notes
        Takes the quirks met.

    Raises
    ------
    RunRefused
        If one of the keys is missing, no number, or the scale or unit is unknown.
    """
    for key in FRAME_KEYS:
        if header.get(key) is None:
            raise RunRefused(f"{where}: {key} is missing; it has no default")
    scale = str(header["TIMESYS"]).strip().upper()
    if scale not in SCALES:
        raise RunRefused(f"{where}: TIMESYS = {header['TIMESYS']!r}, expected one of {', '.join(SCALES)}")
    if scale == "TDB":
        notes.quirk("tdb-as-tt")
    days, fraction = number(header, "MJDREFI", where), number(header, "MJDREFF", where)
    zero_s = number(header, "TIMEZERO", where, 0.0)
    offset_s = (days - TIME_REFERENCE_MJD) * DAY_S + fraction * DAY_S
    unit = str(header.get("TIMEUNIT") or "s").strip()
    try:
        factor(unit, "s")
    except UnitError as error:
        raise RunRefused(f"{where}: TIMEUNIT: {error}") from error
    return TimeFrame(offset_s + tt_minus(scale, days, fraction) + zero_s, unit)


def tt_minus(scale: str, mjd: float, fraction: float) -> float:
    """TT minus `scale` in s at an epoch on that scale; UTC asks the leap-second table of ERFA."""
    if scale in ("TAI", "IAT"):
        return TT_MINUS_TAI_S
    if scale == "GPS":
        return TT_MINUS_TAI_S + 19.0
    if scale != "UTC":
        return 0.0
    erfa = import_module("erfa")  # comes with astropy; untyped
    tai1, tai2 = erfa.utctai(2400000.5 + mjd, fraction)
    return float(((tai1 - 2400000.5 - mjd) + (tai2 - fraction)) * DAY_S) + TT_MINUS_TAI_S


def number(header: Header, key: str, where: str, default: float | None = None) -> float:
    """Header value as a finite number; raises RunRefused if it is none."""
    value = header.get(key, default)
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise RunRefused(f"{where}: {key} = {header.get(key)!r}, expected a number")
    return float(value)


def _from_text(text: str) -> float | None:
    """Number that a header holds as a string; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None
