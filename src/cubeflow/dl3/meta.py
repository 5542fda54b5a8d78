"""What the header of a run says about it, for the run table; none of it enters a product."""

from __future__ import annotations

from typing import Any

from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.times import number, read_time_frame
from cubeflow.dl3.units import factor
from cubeflow.observation import Gti, RunRefused

ONTIME_TOLERANCE_S = 1.0
DEADC_TOLERANCE = 0.01


def run_meta(header: dict[str, Any], where: str, gti: Gti, notes: Notes) -> dict[str, Any]:
    """Values for the run table; None where the header has none.

    Parameters
    ----------
    header : dict
        Of the EVENTS table.
    where : str
        File and HDU, for messages.
    gti : Gti
        Good time intervals; ONTIME of the header is compared with them.
    notes : Notes
        Counts ``ontime_disagrees`` (by over 1 s) and ``deadc_disagrees`` (DEADC against LIVETIME over
        ONTIME, by over 1 %).

    Returns
    -------
    dict
        Plain values; times are TT seconds since the reference, angles deg.
    """
    frame = read_time_frame(header, where, Notes())
    ontime_s, livetime_s = optional(header, "ONTIME", where), optional(header, "LIVETIME", where)
    _compare(ontime_s, livetime_s, optional(header, "DEADC", where), gti, notes)
    n_tels = optional(header, "N_TELS", where)
    second = factor(frame.unit, "s")
    times = {key: optional(header, key, where) for key in ("TSTART", "TSTOP")}
    return {
        "object": text(header, "OBJECT"),
        "telescope": text(header, "TELESCOP"),
        "instrument": text(header, "INSTRUME"),
        "obs_mode": text(header, "OBS_MODE"),
        "timesys": text(header, "TIMESYS"),
        "zenith_deg": zenith_deg(header, where),
        "azimuth_deg": optional(header, "AZ_PNT", where),
        "ra_object_deg": optional(header, "RA_OBJ", where),
        "dec_object_deg": optional(header, "DEC_OBJ", where),
        "tstart_s": None if times["TSTART"] is None else times["TSTART"] * second + frame.offset_s,
        "tstop_s": None if times["TSTOP"] is None else times["TSTOP"] * second + frame.offset_s,
        "header_ontime_s": ontime_s,
        "header_livetime_s": livetime_s,
        "n_tels": None if n_tels is None else int(n_tels),
    }


def _compare(ontime_s: float | None, livetime_s: float | None, deadc: float | None, gti: Gti, notes: Notes) -> None:
    """Count disagreements between header and GTI; GTI and DEADC win."""
    if ontime_s is not None and abs(ontime_s - gti.ontime_s) > ONTIME_TOLERANCE_S:
        notes.repair("ontime_disagrees")
    if ontime_s and livetime_s and deadc and abs(livetime_s / ontime_s / deadc - 1) > DEADC_TOLERANCE:
        notes.repair("deadc_disagrees")


def optional(header: dict[str, Any], key: str, where: str) -> float | None:
    """Number of a header; None if it is missing or none."""
    try:
        return number(header, key, where)
    except RunRefused:
        return None


def text(header: dict[str, Any], key: str) -> str:
    """Text of a header; empty if it is missing."""
    value = header.get(key)
    return "" if value is None else str(value).strip()


def zenith_deg(header: dict[str, Any], where: str) -> float | None:
    """Zenith angle from ALT_PNT; None where it is missing or a placeholder (0, exactly 90, out of range)."""
    altitude = optional(header, "ALT_PNT", where)
    return 90.0 - altitude if altitude is not None and 0 < altitude < 90 else None
