"""EVENTS and GTI tables: event lists, good time intervals, pointing and site, and what the header says of the run.

Times in a file are taken as SI seconds elapsed since its reference epoch, which is given on the scale TIMESYS (as the
FITS standard and gammapy do): a UTC header shifts the epoch, never the rate. They become TT seconds since
`TIME_REFERENCE_MJD`.
"""

import re
import warnings
from dataclasses import replace

import erfa
import numpy as np

from cubeflow.dl3.entries import text, whole_number
from cubeflow.dl3.hdus import Header, Table, UnitError, factor
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.tables import Conditions, in_unit, number, select_rows
from cubeflow.errors import MistakeError
from cubeflow.maps.arrays import BoolArray, FloatArray, IntArray
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.observation import DAY_S, TIME_REFERENCE_MJD, EventList, Gti, Pointing, RunRefused, Site

MAX_BAD_FRACTION = 0.01
FAR_DEG = 20.0
OBS_MODES_REFUSED = ("DRIFT", "SLEW", "SCAN", "RASTER")
EQUATORIAL = ("", "ICRS", "FK5")
TT_MINUS_TAI_S = 32.184
# TT minus each scale in s; that of UTC grows with its leap seconds.
SCALES = dict.fromkeys(("TT", "TDT", "ET", "TDB"), 0.0) | dict.fromkeys(("TAI", "IAT"), TT_MINUS_TAI_S)
SCALES |= {"GPS": TT_MINUS_TAI_S + 19.0, "UTC": np.nan}
WORDS = {"object": "OBJECT", "telescope": "TELESCOP", "instrument": "INSTRUME", "obs_mode": "OBS_MODE"}
WORDS |= {"timesys": "TIMESYS"}
NUMBERS = {"azimuth_deg": "AZ_PNT", "ra_object_deg": "RA_OBJ", "dec_object_deg": "DEC_OBJ"}
ONTIME_TOLERANCE_S = 1.0
DEADC_TOLERANCE = 0.01
TIME_STEP_MAX_S = 0.1  # single precision has steps of 8 s ten years after its zero
EQUINOXES = ("", "2000", "2000.0")
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:E[-+]?\d+)?)"
CIRCLE = re.compile(rf"CIRCLE\({_NUMBER},{_NUMBER},{_NUMBER}\)")


def read_events(table: Table, notes: Notes, duplicates: str = "refuse", where: Conditions | None = None) -> EventList:
    """Event list of an EVENTS table, without events whose energy, direction or time is no number; may be empty.

    It has columns TIME, RA, DEC, ENERGY and optional EVENT_ID, MC_ID. `duplicates` is to ``refuse`` or ``drop`` events
    that are there twice (equal time, direction and energy), `where` conditions on the columns of those to keep.
    Raises RunRefused if more than 1 % of the events are unusable, if rows are there twice, a unit is of the wrong kind,
    a condition does not fit the columns, or there is none and not all events are gamma-like (IS_GAMMA).
    """
    events = EventList(
        energy_tev=_values(table, "ENERGY", "TeV", notes, text(table.header, "EUNIT")),
        ra_deg=_values(table, "RA", "deg", notes),
        dec_deg=_values(table, "DEC", "deg", notes),
        time_s=_times(table, "TIME", notes),
        mc_id=_whole_numbers(table, "MC_ID") if "MC_ID" in table.columns else None,
    )
    usable = np.isfinite(events.time_s) & np.isfinite(events.energy_tev) & (events.energy_tev > 0)
    usable &= np.isfinite(events.ra_deg) & (np.abs(events.dec_deg) <= 90)
    dropped = int(np.count_nonzero(~usable))
    if dropped > MAX_BAD_FRACTION * len(usable):
        found = f"{dropped} of {len(usable)} events lack a finite time, direction or energy above 0"
        raise RunRefused(f"{table.hdu}: {found}, expected at most {MAX_BAD_FRACTION:.0%}")
    notes.repair("events_unusable", dropped)
    keep = usable & ~_repeated(events, usable, duplicates, str(table.hdu), notes)
    selected = _selected(table, where)
    notes.repair("events_not_selected", int(np.count_nonzero(keep & ~selected)))
    keep &= selected
    if "EVENT_ID" in table.columns:
        ids = table.one_per_row("EVENT_ID")[keep]
        ids.sort()
        notes.repair("event_ids_repeated", int(np.count_nonzero(ids[1:] == ids[:-1])), "event-ids-repeated")
    events = events if np.all(keep) else events.select(keep)
    outside = (events.ra_deg < 0) | (events.ra_deg >= 360)
    if not np.any(outside):
        return events
    notes.repair("ra_wrapped", int(np.count_nonzero(outside)), "ra-wrapped")
    ra_deg = np.mod(events.ra_deg, 360.0)
    return replace(events, ra_deg=np.where(ra_deg == 360.0, 0.0, ra_deg))


def _selected(table: Table, where: Conditions | None) -> BoolArray:
    """Events for which conditions hold, shape (n_rows,); None for all, which then must be gamma-like."""
    if where is not None:
        try:
            return select_rows(table, where)
        except MistakeError as error:
            raise RunRefused(f"{table.hdu}: {error}") from error
    others = int(np.count_nonzero(~table.column("IS_GAMMA").astype(bool))) if "IS_GAMMA" in table.columns else 0
    if others:
        found = f"IS_GAMMA is not true of {others} of {len(table.rows)} events"
        raise RunRefused(f"{table.hdu}: {found}; expected a selection, such as events: {{where: IS_GAMMA}}")
    return np.ones(len(table.rows), bool)


def _values(table: Table, name: str, target: str, notes: Notes, default: str = "") -> FloatArray:
    """Column of shape (n_rows,) in a plain unit; a missing unit is `default`, else the plain one, and counted."""
    return in_unit(table, name, table.one_per_row(name).astype(float, copy=False), target, notes, default)


def _times(table: Table, name: str, notes: Notes) -> FloatArray:
    """Times, shape (n_rows,), TT s since the reference; RunRefused for numbers that are too short to hold them."""
    offset_s, unit = read_time_frame(table.header, str(table.hdu), notes)
    written = _values(table, name, "s", notes, unit)
    if table.numbers(name).dtype == np.float32:
        step_s = float(np.spacing(np.max(np.abs(written), initial=0.0, where=np.isfinite(written)).astype(np.float32)))
        if step_s > TIME_STEP_MAX_S:
            found = f"single precision, in steps of {step_s:g} s; expected double precision"
            raise RunRefused(f"{table.hdu}: column {name}: {found}")
    return written + offset_s


def _whole_numbers(table: Table, name: str) -> IntArray:
    """Column of shape (n_rows,); RunRefused for a value that is no whole number, such as a masked one."""
    values = table.one_per_row(name)
    odd = ~((np.abs(values) < 2.0**62) & (np.mod(values, 1) == 0))
    if np.any(odd):
        raise RunRefused(f"{table.hdu}: column {name}: {values[odd][0]}, expected whole numbers")
    return values.astype(np.int64)


def _repeated(events: EventList, usable: BoolArray, duplicates: str, where: str, notes: Notes) -> BoolArray:
    """Events that were there before, shape (n_events,): equal in time, energy and direction."""
    repeated = np.zeros(len(events), dtype=bool)
    if np.all(np.diff(events.time_s) > 0):
        return repeated
    order = np.argsort(events.time_s, kind="stable")
    if np.any(np.diff(order) < 0):
        notes.quirk("events-not-sorted")
    same = np.diff(events.time_s[order]) == 0
    if not np.any(same):
        return repeated
    shared = order[np.append(same, False) | np.insert(same, 0, False)]
    shared = np.sort(shared[usable[shared]])
    columns = events.time_s, events.energy_tev, events.ra_deg, events.dec_deg
    _, first = np.unique(np.column_stack([column[shared] for column in columns]), axis=0, return_index=True)
    repeated[np.delete(shared, first)] = True
    count = int(np.count_nonzero(repeated))
    if count and duplicates != "drop":
        raise RunRefused(f"{where}: {count} events are there twice (duplicates: drop would keep one of each)")
    notes.repair("events_duplicated", count)
    return repeated


def read_gti(table: Table, notes: Notes) -> Gti:
    """Good time intervals, sorted, overlapping ones merged and counted; RunRefused if there is none or one is bad."""
    where = str(table.hdu)
    start, stop = (_times(table, name, notes) for name in ("START", "STOP"))
    if not len(start):
        raise RunRefused(f"{where}: no interval, expected at least one")
    bad = ~(np.isfinite(start) & np.isfinite(stop) & (stop > start))
    if np.any(bad):
        row = int(np.argmax(bad))
        raise RunRefused(f"{where}: interval {row}: START {start[row]}, STOP {stop[row]}, expected START < STOP")
    gti = Gti.merged(start, stop, touching=False)
    notes.repair("gti_unsorted", int(np.any(np.diff(start) < 0)))
    notes.repair("gti_merged", len(start) - len(gti.start_s))
    return gti


def read_pointing(header: Header, where: str, notes: Notes) -> Pointing:
    """Direction of the telescopes; RunRefused unless it is fixed (OBS_MODE), in range, and in ICRS or FK5."""
    mode = text(header, "OBS_MODE").upper()
    if mode in OBS_MODES_REFUSED:
        raise RunRefused(f"{where}: OBS_MODE = {mode!r}, expected a pointing fixed on the sky")
    frame = str(header.get("RADESYS") or header.get("RADECSYS") or "").strip().upper()
    if frame not in EQUATORIAL:
        raise RunRefused(f"{where}: RADESYS = {frame!r}, expected ICRS or FK5")
    if frame != "ICRS" and text(header, "EQUINOX").upper().strip("J") not in EQUINOXES:
        raise RunRefused(f"{where}: EQUINOX = {header['EQUINOX']!r}, expected 2000")
    ra_deg, dec_deg = number(header, "RA_PNT", where), number(header, "DEC_PNT", where)
    if not -180 <= ra_deg < 540 or not -90 <= dec_deg <= 90:
        raise RunRefused(f"{where}: RA_PNT, DEC_PNT = {ra_deg}, {dec_deg}, expected 0 to 360 and -90 to 90")
    if not 0 <= ra_deg < 360:
        notes.quirk("ra-wrapped")
    return Pointing(ra_deg % 360.0, dec_deg)


def read_site(header: Header, where: str) -> Site | None:
    """Position of the observatory; None unless longitude and latitude are numbers in range."""
    lon_deg, lat_deg = optional(header, "GEOLON", where), optional(header, "GEOLAT", where)
    if lon_deg is None or lat_deg is None or abs(lat_deg) > 90 or abs(lon_deg) > 360:
        return None
    return Site(lon_deg, lat_deg)


def note_odd_events(events: EventList, gti: Gti, pointing: Pointing, where: str, notes: Notes) -> None:
    """Count events outside the good time intervals, refuse a run of only such, and name it if any are far away."""
    outside = len(events) - int(np.count_nonzero(gti.contains(events.time_s)))
    if outside == len(events) > 0:
        raise RunRefused(f"{where}: none of the {outside} events lies in a good time interval")
    notes.repair("events_outside_gti", outside)
    centre = pointing.ra_deg, pointing.dec_deg
    if any(np.any(angular_distance_deg((part.ra_deg, part.dec_deg), centre) > FAR_DEG) for part in events.blocks()):
        notes.quirk("events-far-from-pointing")


def read_time_frame(header: Header, where: str, notes: Notes) -> tuple[float, str]:
    """Seconds to add to the times of an EVENTS or GTI table, and their unit where the columns have none.

    MJDREFI, MJDREFF and TIMESYS have no default, TIMEUNIT (s), and TIMEZERO and TIMEOFFS (0, in TIMEUNIT) do. Raises
    RunRefused if one of the keys is missing, no number, or the scale or unit is unknown.
    """
    for key in ("MJDREFI", "MJDREFF", "TIMESYS"):
        if header.get(key) is None:
            raise RunRefused(f"{where}: {key} is missing; it has no default")
    scale = text(header, "TIMESYS").upper()
    if scale not in SCALES:
        raise RunRefused(f"{where}: TIMESYS = {header['TIMESYS']!r}, expected one of {', '.join(SCALES)}")
    if scale == "TDB":
        notes.quirk("tdb-as-tt")
    days, fraction = number(header, "MJDREFI", where), number(header, "MJDREFF", where)
    offset_s = (days - TIME_REFERENCE_MJD) * DAY_S + fraction * DAY_S
    unit = text(header, "TIMEUNIT") or "s"
    try:
        zero_s = sum(number(header, key, where, 0.0) for key in ("TIMEZERO", "TIMEOFFS")) * factor(unit, "s")
    except UnitError as error:
        raise RunRefused(f"{where}: TIMEUNIT: {error}") from error
    ahead_s = SCALES[scale]
    if scale == "UTC":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", erfa.ErfaWarning)  # years for which no leap second is announced yet
                tai1, tai2 = erfa.utctai(erfa.DJM0 + days, fraction)
        except erfa.ErfaError as error:
            raise RunRefused(f"{where}: MJDREFI, MJDREFF = {days:g}, {fraction:g}, expected a day") from error
        ahead_s = float(((tai1 - erfa.DJM0 - days) + (tai2 - fraction)) * DAY_S) + TT_MINUS_TAI_S
    return offset_s + ahead_s + zero_s, unit


def run_meta(header: Header, where: str, gti: Gti, pointing: Pointing, notes: Notes) -> Header:
    """Values of an EVENTS header for the run table; None where it has none. Times are those of GTI, and not here.

    ONTIME is compared with the good time intervals, DEADC with LIVETIME over ONTIME, and what disagrees is counted.
    """
    ontime_s, livetime_s = optional(header, "ONTIME", where), optional(header, "LIVETIME", where)
    deadc = optional(header, "DEADC", where)
    if ontime_s is not None and abs(ontime_s - gti.ontime_s) > ONTIME_TOLERANCE_S:
        notes.repair("ontime_disagrees")  # GTI and DEADC win
    if ontime_s and livetime_s and deadc and abs(livetime_s / ontime_s / deadc - 1) > DEADC_TOLERANCE:
        notes.repair("deadc_disagrees")
    altitude = optional(header, "ALT_PNT", where)
    return {
        "events_offset_max_deg": read_reach(header, pointing, notes),
        **{name: text(header, key) for name, key in WORDS.items()},
        # 0 and exactly 90 are placeholders
        "zenith_deg": None if altitude is None or not 0 < altitude < 90 else 90.0 - altitude,
        **{name: optional(header, key, where) for name, key in NUMBERS.items()},
        "header_ontime_s": ontime_s,
        "header_livetime_s": livetime_s,
        "n_tels": whole_number(header.get("N_TELS")),
    }


def read_reach(header: Header, pointing: Pointing, notes: Notes) -> float | None:
    """Offset in deg, to a thousandth, up to which all events were kept; None if the header tells of no region.

    Programs of ctools keep events in a circle, and write it as DSVALn of DSTYPn = POS(RA,DEC).
    """
    reach = None
    for key in header:
        if key.startswith("DSTYP") and text(header, key).upper() == "POS(RA,DEC)":
            circle = CIRCLE.fullmatch(text(header, f"DSVAL{key[5:]}").upper().replace(" ", ""))
            if circle is None:
                notes.repair("region_not_read")
                continue
            ra_deg, dec_deg, radius_deg = map(float, circle.groups())
            apart_deg = angular_distance_deg((ra_deg, dec_deg), (pointing.ra_deg, pointing.dec_deg))
            reach = round(max(0.0, radius_deg - float(apart_deg)), 3)
    return reach


def optional(header: Header, key: str, where: str) -> float | None:
    """Number of a header; None if it is missing or none."""
    try:
        return number(header, key, where)
    except RunRefused:
        return None
