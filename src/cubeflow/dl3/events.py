"""EVENTS and GTI tables: event lists, good time intervals, pointing and site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.bintable import Table
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.times import number, read_time_frame
from cubeflow.dl3.units import factor
from cubeflow.observation import EventList, Gti, Pointing, RunRefused, Site

FloatArray = NDArray[np.float64]

MAX_BAD_FRACTION = 0.01
FAR_DEG = 20.0
OBS_MODES_REFUSED = ("DRIFT", "SLEW", "SCAN", "RASTER")
EQUATORIAL = ("", "ICRS", "FK5")


def read_events(table: Table, notes: Notes, duplicates: str = "refuse") -> EventList:
    """Event list of an EVENTS table.

    Parameters
    ----------
    table : Table
        With columns TIME, RA, DEC, ENERGY and optional EVENT_ID, MC_ID.
    notes : Notes
        Takes what was dropped, wrapped or assumed.
    duplicates : str
        ``refuse`` or ``drop`` events that are there twice (equal time, direction and energy).

    Returns
    -------
    EventList
        Without events whose energy, direction or time is no number; may be empty.

    Raises
    ------
    RunRefused
        If more than 1 % of the events are unusable, if rows are there twice, or a unit is of the wrong kind.
    """
    frame = read_time_frame(table.header, str(table.hdu), notes)
    events = EventList(
        energy_tev=_values(table, "ENERGY", "TeV", notes, str(table.header.get("EUNIT") or "")),
        ra_deg=_values(table, "RA", "deg", notes),
        dec_deg=_values(table, "DEC", "deg", notes),
        time_s=_values(table, "TIME", "s", notes, frame.unit) + frame.offset_s,
        mc_id=table.column("MC_ID").astype(np.int64) if "MC_ID" in table.fields else None,
    )
    usable = _usable(events, str(table.hdu), notes)
    keep = usable & ~_repeated(events, usable, duplicates, str(table.hdu), notes)
    _note_event_ids(table, keep, notes)
    return _wrap(events if np.all(keep) else events.select(keep), notes)


def _wrap(events: EventList, notes: Notes) -> EventList:
    """Bring right ascensions into 0 to 360 deg."""
    outside = (events.ra_deg < 0) | (events.ra_deg >= 360)
    if not np.any(outside):
        return events
    notes.quirk("ra-wrapped")
    notes.repair("ra_wrapped", int(np.count_nonzero(outside)))
    ra_deg = np.mod(events.ra_deg, 360.0)
    return replace(events, ra_deg=np.where(ra_deg == 360.0, 0.0, ra_deg))


def _values(table: Table, name: str, target: str, notes: Notes, default: str = "") -> FloatArray:
    """Column of shape (n_rows,) in a plain unit; a missing unit is `default`, else the plain one, and counted."""
    values = np.asarray(table.column(name), dtype=float)
    if values.ndim != 1:
        raise RunRefused(f"{table.hdu}: column {name}: shape {values.shape}, expected one number a row")
    unit = table.fields[name].unit
    if not unit and not default:
        notes.repair("unit_missing")
    scale = factor_of(unit or default or target, target, f"{table.hdu}: column {name}")
    return values if scale == 1.0 else values * scale


def factor_of(unit: str, target: str, where: str) -> float:
    """Factor to a plain unit; raises RunRefused naming the column."""
    try:
        return factor(unit, target)
    except ValueError as error:
        raise RunRefused(f"{where}: {error}") from error


def _usable(events: EventList, where: str, notes: Notes) -> NDArray[np.bool_]:
    """Events with numbers that mean something, shape (n_events,)."""
    usable = np.isfinite(events.time_s) & np.isfinite(events.energy_tev) & (events.energy_tev > 0)
    usable &= np.isfinite(events.ra_deg) & (np.abs(events.dec_deg) <= 90)
    dropped = int(np.count_nonzero(~usable))
    if dropped > MAX_BAD_FRACTION * len(usable):
        raise RunRefused(
            f"{where}: {dropped} of {len(usable)} events lack a finite time, direction or energy above 0,"
            f" expected at most {MAX_BAD_FRACTION:.0%}"
        )
    notes.repair("events_unusable", dropped)
    return usable


def _repeated(
    events: EventList, usable: NDArray[np.bool_], duplicates: str, where: str, notes: Notes
) -> NDArray[np.bool_]:
    """Events that were there before, shape (n_events,): equal in time, energy and direction."""
    repeated = np.zeros(len(events), dtype=bool)
    order = np.argsort(events.time_s, kind="stable")
    if np.any(np.diff(order) < 0):
        notes.quirk("events-not-sorted")
    same = np.diff(events.time_s[order]) == 0
    if not np.any(same):
        return repeated
    shared = order[np.append(same, False) | np.insert(same, 0, False)]
    shared = np.sort(shared[usable[shared]])
    columns = (events.time_s, events.energy_tev, events.ra_deg, events.dec_deg)
    rows = np.column_stack([column[shared] for column in columns])
    _, first = np.unique(rows, axis=0, return_index=True)
    repeated[np.delete(shared, first)] = True
    count = int(np.count_nonzero(repeated))
    if count and duplicates != "drop":
        raise RunRefused(f"{where}: {count} events are there twice (duplicates: drop would keep one of each)")
    notes.repair("events_duplicated", count)
    return repeated


def _note_event_ids(table: Table, keep: NDArray[np.bool_], notes: Notes) -> None:
    """Report EVENT_IDs that different events share."""
    if "EVENT_ID" in table.fields:
        ids = table.column("EVENT_ID")[keep]
        in_order = np.sort(ids)
        count = int(np.count_nonzero(in_order[1:] == in_order[:-1]))
        if count:
            notes.quirk("event-ids-repeated")
            notes.repair("event_ids_repeated", count)


def read_gti(table: Table, notes: Notes) -> Gti:
    """Good time intervals: sorted, overlapping ones merged and counted.

    Raises
    ------
    RunRefused
        If there is none, or one is NaN or does not end after its start.
    """
    where = str(table.hdu)
    frame = read_time_frame(table.header, where, notes)
    start, stop = (_values(table, name, "s", notes, frame.unit) + frame.offset_s for name in ("START", "STOP"))
    if not len(start):
        raise RunRefused(f"{where}: no interval, expected at least one")
    bad = ~(np.isfinite(start) & np.isfinite(stop) & (stop > start))
    if np.any(bad):
        row = int(np.argmax(bad))
        raise RunRefused(f"{where}: interval {row}: START {start[row]}, STOP {stop[row]}, expected START < STOP")
    order = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate(stop[order])
    begins = np.append(True, start[order][1:] >= reach[:-1])
    notes.repair("gti_unsorted", int(np.any(np.diff(order) < 0)))
    notes.repair("gti_merged", int(np.count_nonzero(~begins)))
    first = np.flatnonzero(begins)
    return Gti(start[order][first], reach[np.append(first[1:], len(start)) - 1])


def read_pointing(header: dict[str, Any], where: str, notes: Notes) -> Pointing:
    """Direction of the telescopes.

    Raises
    ------
    RunRefused
        If it is missing, no number, out of range, moving (OBS_MODE) or in another frame than ICRS or FK5.
    """
    mode = str(header.get("OBS_MODE") or "").strip().upper()
    if mode in OBS_MODES_REFUSED:
        raise RunRefused(f"{where}: OBS_MODE = {mode!r}, expected a pointing fixed on the sky")
    frame = str(header.get("RADESYS") or header.get("RADECSYS") or "").strip().upper()
    if frame not in EQUATORIAL:
        raise RunRefused(f"{where}: RADESYS = {frame!r}, expected ICRS or FK5")
    ra_deg, dec_deg = number(header, "RA_PNT", where), number(header, "DEC_PNT", where)
    if not -180 <= ra_deg < 540 or not -90 <= dec_deg <= 90:
        raise RunRefused(f"{where}: RA_PNT, DEC_PNT = {ra_deg}, {dec_deg}, expected 0 to 360 and -90 to 90")
    if not 0 <= ra_deg < 360:
        notes.quirk("ra-wrapped")
    return Pointing(ra_deg % 360.0, dec_deg)


def read_site(header: dict[str, Any], where: str) -> Site | None:
    """Position of the observatory; None unless longitude and latitude are numbers in range."""
    try:
        lon_deg, lat_deg = number(header, "GEOLON", where), number(header, "GEOLAT", where)
        altitude_m = number(header, "ALTITUDE", where, 0.0)
    except RunRefused:
        return None
    if abs(lat_deg) > 90 or abs(lon_deg) > 360:
        return None
    return Site(lon_deg, lat_deg, altitude_m * 1000.0 if 0 < altitude_m < 10 else altitude_m)


def read_deadc(header: dict[str, Any], where: str) -> float:
    """Dead-time correction; raises RunRefused unless it lies above 0 and not above 1."""
    deadc = number(header, "DEADC", where)
    if not 0 < deadc <= 1:
        raise RunRefused(f"{where}: DEADC = {deadc}, expected above 0 and at most 1")
    return deadc


def note_far_events(events: EventList, pointing: Pointing, notes: Notes) -> None:
    """Name it if events lie more than 20 deg from the pointing."""
    dec, dec_pointing = np.deg2rad(events.dec_deg), np.deg2rad(pointing.dec_deg)
    across = np.cos(dec) * np.cos(np.deg2rad(events.ra_deg - pointing.ra_deg))
    cosine = np.sin(dec) * np.sin(dec_pointing) + across * np.cos(dec_pointing)
    if np.any(cosine < np.cos(np.deg2rad(FAR_DEG))):
        notes.quirk("events-far-from-pointing")
