"""What the report tells of the runs of a target, from its run table."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.quirks import QUIRKS, REPAIRS
from cubeflow.pipeline.certificate import read_certified
from cubeflow.pipeline.tasks import certificate_file

if TYPE_CHECKING:
    from astropy.table import Column, Table

MJD_0 = datetime(1858, 11, 17)
HEADINGS = {
    "obs_id": "run",
    "energy_threshold": "threshold",
    "counts_safe": "counts",
    "ra_pnt": "pointing RA",
    "dec_pnt": "pointing Dec",
    "tstart": "start (MJD, TT)",
    "tstop": "end (MJD, TT)",
}
DIGITS = {"tstart": 11, "tstop": 11, "ra_pnt": 7, "dec_pnt": 7, "ra_object": 7, "dec_object": 7}  # of numbers; else 3
# What HTML would take for markup inside a script, and the line ends of JavaScript that JSON does not know.
UNSAFE = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def read_runs(folder: Path, key: str) -> Table:
    """Run table of a target, the one of a key; masked where a run has no value. Raises as `read_certified`."""
    from astropy.table import Table

    content = read_certified(folder / "runs.fits", folder / certificate_file("", key), key)
    runs = Table.read(BytesIO(content), format="fits", character_as_bytes=False)
    for number, name in enumerate(runs.colnames, start=1):
        runs[name].description = runs.meta.get(f"TCOMM{number}", "")
    return runs


def numbers(runs: Table, name: str) -> NDArray[np.float64]:
    """Values of a column, shape (n_runs,); NaN where a run has none, or there is no such column."""
    if name not in runs.colnames:
        return np.full(len(runs), np.nan)
    return np.ma.filled(np.ma.asarray(runs[name].data).astype(float), np.nan)


def is_used(runs: Table, label: str = "") -> NDArray[np.bool_]:
    """Whether each row is ok, shape (n_rows,): for a label, or for any."""
    return np.ma.filled(np.ma.asarray(runs[_column(runs, label, "status")] == "ok"), False)


def n_runs(runs: Table) -> int:
    """Number of runs of some rows, which may be pieces of them."""
    return len(set(runs["obs_id"].tolist()))


def date(mjd: float) -> str:
    """Date and time of an MJD, to a minute; empty for none."""
    return f"{MJD_0 + timedelta(days=mjd):%Y-%m-%d %H:%M}" if math.isfinite(mjd) else ""


def run_names(runs: Table) -> list[str]:
    """Number, piece and start of each row, for people."""
    pieces = numbers(runs, "piece")
    return [
        f"run {obs_id}" + ("" if np.isnan(piece) else f" piece {piece:.0f}") + (f", {date(mjd)}" if mjd == mjd else "")
        for obs_id, piece, mjd in zip(runs["obs_id"].tolist(), pieces, numbers(runs, "tstart"), strict=True)
    ]


def left_out(runs: Table, labels: Sequence[str]) -> list[tuple[int, str, str, str]]:
    """Run, label (empty if none has used the run), status and reason of all that was not used."""
    found = []
    for label in ("", *labels):
        status, reason = _column(runs, label, "status"), _column(runs, label, "reason")
        rows = runs[~is_used(runs, label) & (is_used(runs) == bool(label))]
        found += [(int(row["obs_id"]), label, str(row[status]), without_folders(str(row[reason]))) for row in rows]
    return sorted(found)


def without_folders(reason: str) -> str:
    """Reason with the names of files in place of their paths."""
    return re.sub(r"(?:/|\b[\w.+~-]+/)(?:[\w.+~-]+/)*(?=[\w+-][\w.+-]*\.\w)", "", reason)


def _column(runs: Table, label: str, name: str) -> str:
    """Column of a label; that of the run without a label, or where the file has no room for so many columns."""
    column = f"{label}_{name}"
    return column if label and column in runs.colnames else name


def count_warnings(runs: Table) -> list[tuple[bool, str, str, int]]:
    """Deviations and repairs: whether they are to be looked at, name, words and number of runs; in that order."""
    found: Counter[str] = Counter()
    for column in ("quirks", "repairs"):
        for words in _texts(runs, column):
            found.update({word.partition("=")[0] for word in words.split()})
    known = {name: (quirk.description, quirk.is_suspect) for name, quirk in QUIRKS.items()} | REPAIRS
    rows = []
    for name, number in found.items():
        text, is_suspect = known.get(name, ("", True))
        rows.append((is_suspect, name, text, number))
    return sorted(rows, key=lambda row: (not row[0], -row[3], row[1]))


def suspicions(runs: Table, label: str) -> Iterator[tuple[str, str]]:
    """Run and reason of what is to be looked at in runs that are used: deviations that may matter, and notes."""
    used = runs[is_used(runs, label)]
    suspect = {name for is_suspect, name, *_ in count_warnings(used) if is_suspect}
    cells = [_texts(used, name) for name in ("quirks", "repairs", f"{label}_note")]
    for obs_id, quirks, repairs, note in zip(used["obs_id"].tolist(), *cells, strict=True):
        names = {word.partition("=")[0] for word in f"{quirks} {repairs}".split()}
        yield from ((str(obs_id), reason) for reason in sorted(suspect & names | {note} - {""}))


def _texts(runs: Table, name: str) -> list[str]:
    """Texts of a column; empty where a run has none, or there is no such column."""
    return [str(value or "") for value in runs[name].tolist()] if name in runs.colnames else [""] * len(runs)


def table_parts(runs: Table, shown: Sequence[str]) -> Iterator[str]:
    """Run table as the page's script takes it: JSON, column by column.

    A column whose values are all the same holds that ``value`` alone. Numbers are rounded to seven digits, times
    to a second.
    """
    yield f'{{"rows":{len(runs)},"columns":['
    for number, name in enumerate(runs.colnames):
        yield "," * (number > 0) + script_json(_column_data(runs[name], name in shown))
        if name == "reason" and "tstart" in runs.colnames:
            starts = {"name": "start", "description": "start of the first good time interval (TT)", "shown": True}
            yield "," + script_json(starts | {"values": [date(mjd) for mjd in numbers(runs, "tstart")]})
    yield "]}"


def _column_data(column: Column, is_shown: bool) -> dict[str, object]:
    digits = DIGITS.get(column.name, 3)
    values = [_short(value, max(digits, 7)) for value in column.tolist()]
    if column.name == "reason":
        values = [without_folders(str(value)) if value else value for value in values]
    about = {"name": column.name, "unit": str(column.unit or ""), "description": column.description or ""}
    about["heading"] = HEADINGS.get(column.name, column.name.replace("_", " ").removesuffix(" 0"))
    is_same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
    content = {"value": values[0]} if is_same else {"values": values}
    return {**{name: text for name, text in about.items() if text}, "digits": digits, "shown": is_shown, **content}


def _short(value: object, digits: int) -> object:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def script_json(content: object) -> str:
    """JSON that may stand inside a script element, whatever text it holds."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(UNSAFE)
