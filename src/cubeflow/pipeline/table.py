"""The task ``table``: every selected run of a target, also the refused, with the reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cubeflow.errors import Say, counted
from cubeflow.pipeline.certificate import certified
from cubeflow.pipeline.export import require_not_refused
from cubeflow.pipeline.stack import Row, open_made
from cubeflow.pipeline.tasks import TABLES, TableTask, Target, files_of, stack_file
from cubeflow.store.tables import MAX_FITS_COLUMNS, write_table

if TYPE_CHECKING:
    from astropy.table import Table

Cell = bool | int | float | str | None
SEVERITY = ("ok", "dropped", "skipped", "refused")
STATUS = (
    "ok (used for at least one background), dropped (no background), skipped (no overlap with the map, no selected "
    "time, beyond the zenith angles of the acceptance model, or like none of its OFF runs) or refused"
)
# Endings of names, which become units.
UNITS = {"_per_m2_s": "m-2 s-1", "_m2_s": "m2 s", "_deg": "deg", "_mjd": "d", "_s": "s", "_tev": "TeV", "_m": "m"}
TIMES = {"TIMESYS": "TT", "MJDREFI": 0, "MJDREFF": 0.0, "TIMEUNIT": "d"}  # of columns of times, as FITS says it

# Of a run, in the order of the table; headers follow.
FIRST = {
    "obs_id": "run",
    "piece": "which of the pieces that the run is split into",
    "event_type": "type of the events",
    "status": STATUS,
    "reason": "why a run is not ok",
    "object": "object named in the file",
    "ra_pnt": "right ascension of the pointing, ICRS",
    "dec_pnt": "declination of the pointing, ICRS",
    "offset": "separation of the pointing from the target",
    "tstart": "start of the first good time interval, MJD (TT)",
    "tstop": "end of the last good time interval, MJD (TT)",
    "ontime": "sum of the good time intervals",
    "livetime": "ontime times DEADC",
    "n_events": "events read",
    "n_events_gti": "events inside the good time intervals",
    "counts": "counts within the largest offset",
    "counts_own": "counts of events inside the tile itself, without its overlap: of all tiles together each event once",
    "counts_safe": "counts in safe bins",
    "counts_without_acceptance": "counts in safe bins without acceptance, which no background uses",
    "counts_cut": "counts within the energy thresholds, in bins that are not safe as part of them is not within",
    "beyond_energy_true": "largest share of the counts of a safe energy bin from outside the bins of true energy",
    "energy_threshold": "lower edge of the first safe bin of reconstructed energy",
    "is_pointlike": "whether the exposure holds inside a cut on direction only",
    "limits": "where counts or exposure end before the map does",
    "quirks": "deviations of the files from the format",
    "repairs": "what was repaired or dropped in the whole run, with how often",
}
HEADERS = {
    "azimuth": "azimuth of the pointing, of the whole run",
    "deadc": "livetime over ontime",
    "dec_object": "declination of the object named in the file",
    "event_count": "rows of the event list of the whole run",
    "events_offset_max": "offset up to which all events were kept, DSVALn of the header",
    "header_livetime": "LIVETIME of the header",
    "header_ontime": "ONTIME of the header",
    "hi_thres": "upper energy threshold, HI_THRES of the effective area",
    "instrument": "instrument named in the file",
    "lo_thres": "lower energy threshold, LO_THRES of the effective area",
    "n_tels": "number of telescopes",
    "acceptance_systematic": "relative error of the acceptance model beyond counts and norm, by band of its energies",
    "off_runs": "OFF runs that the acceptance of the run is from, where they are matched",
    "obs_mode": "mode of observation",
    "ra_object": "right ascension of the object named in the file",
    "telescope": "telescope named in the file",
    "timesys": "time system of the header",
    "zenith": "zenith angle of the pointing, of the whole run",
}
# Of a background, after its label; those of an energy group end with its number.
OF_LABEL = {
    "status": "ok, dropped (no background), skipped or refused",
    "reason": "why it is not ok",
    "on": "counts in the disc about the target (significance.radius), shared out by area on its rim",
    "off": "OFF counts of the ring about the target",
    "alpha": "background in the disc over OFF counts",
    "background": "background in the disc about the target",
    "excess": "ON counts less background in the disc about the target",
    "significance": "of the excess at the target, in sigma",
    "exposure": "mean exposure in the disc for the assumed spectrum",
    "flux": "excess over exposure: flux of a source within the disc, for the assumed spectrum",
    "flux_err": "its error upwards",
    "flux_ul": "its upper limit (95 %) where the significance is below 3",
    "pixels_without_off": "usable pixels without OFF acceptance",
    "ring_too_small": "part of the usable pixels in which no ring reaches the threshold, so that the largest is used",
    "norm": "norm of the acceptance",
    "norm_err": "error of the norm",
    "tilt": "tilt of the acceptance, which is multiplied by norm (E / pivot)^-tilt",
    "tilt_err": "error of the tilt",
    "pivot": "energy at which the norm of a tilted acceptance holds",
    "counts": "counts from which the norm was found",
    "acceptance": "acceptance from which the norm was found",
    "energy_min": "lower edge of the energy group",
    "energy_max": "upper edge of the energy group",
    "flags": "sum of 1 merged, 2 no acceptance, 4 too few counts, 8 outside the limits, 16 no tilt",
    "note": "what is to be known about the background of a run that is kept all the same",
}
_COMMON = FIRST | HEADERS
WORDS = {"status", "reason", "note", "object", "limits", "quirks", "repairs", "instrument", "telescope", "obs_mode"}
WORDS |= {"event_type", "off_runs"}  # are text, also where no cell says so
KINDS: dict[type[bool | float | str], set[type]] = {bool: {bool}, int: {int, bool}, float: {float, int, bool}}


def write_run_table(results: Path, target: Target, task: TableTask, say: Say) -> None:
    """Write ``runs.ecsv``, ``runs.csv`` and ``runs.fits`` of a target, from the last stack of each label.

    RunsLeftOut if every run is refused before it is read, and `Target.on_refused` is ``fail``.
    """
    rows: dict[tuple[int, int], dict[str, Cell]] = {}
    stacks: list[Path] = []
    for label, root in task.roots.items():
        stacks.append(results / stack_file(task.target, label, root))
        with open_made(stacks[-1], "stack", root) as opened:
            for row in opened.artifact.attributes["rows"]:
                place = row["obs_id"], -1 if row["piece"] is None else row["piece"]
                _merge(rows.setdefault(place, {}), row, label)
    for refusal in task.refused:
        about: Row = {"obs_id": refusal.obs_id, "piece": None, "status": "refused", "reason": refusal.reason}
        for label in target.backgrounds:
            _merge(rows.setdefault((refusal.obs_id, -1), {}), about, label)
    same: dict[str, Cell] = {} if target.event_type is None else {"event_type": target.event_type}
    table = make_table([rows[place] | same for place in sorted(rows)], list(target.backgrounds), task.key)
    folder = results / task.target
    paths = [folder / name for name in TABLES]
    with certified(results / files_of(task)[-1], task.key, paths, task.recipe(target).record, stacks):
        write_table(folder / "runs", table)
        if not task.roots:  # there is no export that could fail: the table stays, and is not certified
            require_not_refused(target, [], task.refused, {})
    if len(table.colnames) > MAX_FITS_COLUMNS:
        say(f"{paths[2]}: the first {MAX_FITS_COLUMNS} of {len(table.colnames)} columns, FITS allows no more")
    n_ok = len({obs_id for (obs_id, _), row in rows.items() if row["status"] == "ok"})
    say(f"{paths[0]}: {counted(len({obs_id for obs_id, _ in rows}), 'run')}, {n_ok} of them ok")


def make_table(rows: Sequence[dict[str, Cell]], labels: Sequence[str], key: str) -> "Table":
    """Rows as a table with units and descriptions, columns of the run first, then label by label.

    Cells that a row does not have are masked. A column holds truth values, whole numbers, numbers or text.
    """
    from astropy.table import MaskedColumn, Table

    table = Table(meta={"labels": list(labels), "key": key, **TIMES})
    columns = {name: _split_unit(name) for row in rows for name in row}
    places = {name: _place(column, labels) for name, (column, _) in columns.items()}
    for name, (_, own, about) in sorted(places.items(), key=lambda item: item[1]):
        column, unit = columns[name]
        cells = [row.get(name) for row in rows]
        found = {type(cell) for cell in cells} - {type(None)}
        text_or_number = str if found or own in WORDS else float
        kind = next((kind for kind, allowed in KINDS.items() if found and found <= allowed), text_or_number)
        data = [kind() if cell is None else kind(cell) for cell in cells]
        mask = [cell is None for cell in cells]
        table[column] = MaskedColumn(data, mask=mask if any(mask) else False, unit=unit, description=about)
    return table


def _merge(merged: dict[str, Cell], row: Row, label: str) -> None:
    """Add the row of one label to the row of its run; the best status of its labels is the run's."""
    merged["obs_id"] = row["obs_id"]
    if row["piece"] is not None:
        merged["piece"] = row["piece"]
    for name, value in row.get("run", {}).items():
        if isinstance(value, dict):  # names with numbers
            value = [f"{key}={count}" for key, count in sorted(value.items())]
        merged[name] = " ".join(value) if isinstance(value, list) else value
    for name, value in {"status": row["status"], "reason": row["reason"], **row.get("background", {})}.items():
        if name == "offset_deg":  # of the run from the target, whatever the background
            merged[name] = value
        elif isinstance(value, list):
            merged |= {f"{label}_{name}_{index}": item for index, item in enumerate(value)}
        else:
            merged[f"{label}_{name}"] = value
    if "status" not in merged or SEVERITY.index(row["status"]) < SEVERITY.index(str(merged["status"])):
        merged["status"], merged["reason"] = row["status"], row["reason"]


def _split_unit(name: str) -> tuple[str, str | None]:
    """Name and unit of a column, from a name with the unit at its end (or before the number of a group)."""
    stem, dot, group = name.rpartition("_") if name.rpartition("_")[2].isdigit() else (name, "", "")
    for ending, unit in UNITS.items():
        if stem.endswith(ending):
            return f"{stem.removesuffix(ending)}{dot}{group}", unit
    return name, None


def _place(column: str, labels: Sequence[str]) -> tuple[tuple[int, int, str], str, str]:
    """Place of a column (of the run, then headers, then label by label), name without label, and what it holds."""
    labelled = [label for label in labels if column.startswith(f"{label}_")]
    stem = column.rstrip("0123456789").rstrip("_")  # without the number of a group
    if stem in _COMMON or not labelled:
        number = list(FIRST).index(column) if column in FIRST else len(FIRST)
        return (0, number, column), column, _COMMON.get(stem, "")
    label = max(labelled, key=len)
    name = column.removeprefix(f"{label}_")
    return (1 + labels.index(label), 0, column), name, OF_LABEL.get(stem.removeprefix(f"{label}_"), "")
