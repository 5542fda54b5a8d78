"""Columns of the run table: what each is, and in which order they stand."""

from __future__ import annotations

from collections.abc import Sequence

STATUS = "ok, dropped (no background), skipped (no overlap with the map) or refused"
UNITS = {"_deg": "deg", "_s": "s", "_tev": "TeV", "_m": "m"}  # endings of names, which become units

# Of a run, in the order of the table; headers follow.
FIRST = {
    "obs_id": "run",
    "piece": "which of the pieces that the run is split into",
    "status": STATUS,
    "reason": "why a run is not ok",
    "object": "object named in the file",
    "ra_pnt": "right ascension of the pointing, ICRS",
    "dec_pnt": "declination of the pointing, ICRS",
    "offset": "separation of the pointing from the target",
    "ontime": "sum of the good time intervals",
    "livetime": "ontime times DEADC",
    "n_events": "events read",
    "n_events_gti": "events inside the good time intervals",
    "counts": "counts in the map",
    "counts_safe": "counts in safe bins of the map",
    "energy_threshold": "lower edge of the first safe bin of reconstructed energy",
    "quirks": "deviations of the files from the format",
    "repairs": "what was repaired or dropped, with how often",
}
HEADERS = {
    "azimuth": "azimuth of the pointing",
    "deadc": "livetime over ontime",
    "dec_object": "declination of the object named in the file",
    "event_count": "rows of the event list",
    "header_livetime": "LIVETIME of the header",
    "header_ontime": "ONTIME of the header",
    "hi_thres": "upper energy threshold, HI_THRES of the effective area",
    "instrument": "instrument named in the file",
    "lo_thres": "lower energy threshold, LO_THRES of the effective area",
    "n_tels": "number of telescopes",
    "obs_mode": "mode of observation",
    "ra_object": "right ascension of the object named in the file",
    "telescope": "telescope named in the file",
    "timesys": "time system of the header",
    "tstart": "start, TT since the reference time of the header",
    "tstop": "end, TT since the reference time of the header",
    "zenith": "zenith angle of the pointing",
}
# Of a background, after its label; those of an energy group end with its number.
OF_LABEL = {
    "status": STATUS,
    "on": "counts in the disc about the target (significance.radius)",
    "off": "OFF counts of the ring about the target",
    "alpha": "background in the disc over OFF counts",
    "background": "background in the disc about the target",
    "excess": "ON counts less background in the disc about the target",
    "significance": "of the excess at the target, in sigma",
    "pixels_without_off": "safe pixels without OFF acceptance",
    "norm": "norm of the acceptance",
    "norm_err": "error of the norm",
    "tilt": "power-law tilt of the acceptance",
    "tilt_err": "error of the tilt",
    "counts": "counts from which the norm was found",
    "acceptance": "acceptance from which the norm was found",
    "energy_min": "lower edge of the energy group",
    "energy_max": "upper edge of the energy group",
    "flags": "sum of 1 merged, 2 no acceptance, 4 too few counts, 8 outside the limits, 16 no tilt",
    "note": "what is wrong with the norm of a run that is kept all the same",
}
_COMMON = FIRST | HEADERS


def column_of(name: str) -> tuple[str, str | None]:
    """Name and unit of a column, from a name with the unit at its end (or before the number of a group)."""
    stem, dot, group = name.rpartition("_") if name.rpartition("_")[2].isdigit() else (name, "", "")
    for ending, unit in UNITS.items():
        if stem.endswith(ending):
            return f"{stem.removesuffix(ending)}{dot}{group}", unit
    return name, None


def label_of(column: str, labels: Sequence[str]) -> str | None:
    """Label to which a column belongs; None for a column of the run."""
    if column in _COMMON:
        return None
    return max((label for label in labels if column.startswith(f"{label}_")), key=len, default=None)


def describe_column(column: str, label: str | None) -> str:
    """What a column of a run (`label` None) or of a label holds; empty if that is not known."""
    if label is None:
        return _COMMON.get(column, "")
    name = column.removeprefix(f"{label}_")
    stem, _, group = name.rpartition("_")
    return OF_LABEL.get(stem if group.isdigit() else name, "")


def order_of(column: str, label: str | None, labels: Sequence[str]) -> tuple[int, int, str]:
    """Place of a column: first those of the run that everyone looks for, then headers, then label by label."""
    if label is not None:
        return 1 + labels.index(label), 0, column
    return 0, list(FIRST).index(column) if column in FIRST else len(FIRST), column
