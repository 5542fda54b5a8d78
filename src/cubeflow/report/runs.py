"""What the report tells of the runs of a target, from its run table."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.quirks import QUIRKS, REPAIRS
from cubeflow.pipeline.certificate import read_certified
from cubeflow.pipeline.tasks import certificate_file

Cell = bool | int | float | str | None
LOOK_AT = "look at"
KINDS: Mapping[str, Callable[[str], Cell]] = {"int64": int, "float64": float, "bool": "True".__eq__, "string": str}
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


@dataclass(frozen=True, eq=False)
class Runs:
    """A run table: of each column the cells of all rows, None where a run has no value."""

    columns: Mapping[str, Sequence[Cell]]
    about: Mapping[str, tuple[str, str]]  # unit and description of a column

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @property
    def n_runs(self) -> int:
        """Number of runs; rows may be pieces of them."""
        return len(set(self.column("obs_id")))

    def column(self, name: str) -> Sequence[Cell]:
        """Cells of a column; None in all rows if there is no such column."""
        return self.columns.get(name) or [None] * len(self)

    def rows(self, chosen: NDArray[Any]) -> "Runs":
        """Some of the rows, by a truth value for each, or by their numbers in order."""
        places = np.arange(len(self))[chosen].tolist()
        return Runs({name: [cells[k] for k in places] for name, cells in self.columns.items()}, self.about)


def read_runs(folder: Path, key: str) -> Runs:
    """Run table of a target, the one of a key. Raises as `read_certified`."""
    import yaml

    path = folder / "runs.ecsv"  # astropy's tables take half a second to import, and its FITS a third
    lines = read_certified(path, folder / certificate_file("", key), key).decode().split("\n")
    header = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    names, *rows = csv.reader((f"{line}\n" for line in lines[len(header) : -1]), delimiter=" ", strict=True)
    columns, about = dict[str, Sequence[Cell]](), dict[str, tuple[str, str]]()
    for number, told in enumerate(yaml.load("\n".join(header[1:]), yaml.CSafeLoader)["datatype"]):
        cells = [row[number] for row in rows]
        columns[names[number]] = [None if cell == "" else KINDS[told["datatype"]](cell) for cell in cells]
        about[names[number]] = told.get("unit", ""), told.get("description", "")
    return Runs(columns, about)


def numbers(runs: Runs, name: str) -> NDArray[np.float64]:
    """Values of a column, shape (n_runs,); NaN where a run has none, or there is no such column."""
    return np.array(runs.column(name), float)


def is_used(runs: Runs, label: str = "") -> NDArray[np.bool_]:
    """Whether each row is ok, shape (n_rows,): for a label, or for any."""
    return np.array([status == "ok" for status in runs.column(_column(runs, label, "status"))], bool)


def pointings(runs: Runs, label: str = "") -> NDArray[np.float64]:
    """Right ascension and declination of the rows that are ok, as far as they are known; ICRS deg, shape (n, 2)."""
    places = np.stack([numbers(runs, "ra_pnt"), numbers(runs, "dec_pnt")], axis=1)[is_used(runs, label)]
    return places[np.isfinite(places).all(axis=1)]


def date(mjd: float) -> str:
    """Date and time of an MJD, to a minute; empty for none."""
    return f"{MJD_0 + timedelta(days=mjd):%Y-%m-%d %H:%M}" if math.isfinite(mjd) else ""


def run_names(runs: Runs) -> list[str]:
    """Number, piece and start of each row, for people."""
    pieces = numbers(runs, "piece")
    return [
        f"run {obs_id}" + ("" if np.isnan(piece) else f" piece {piece:.0f}") + (f", {date(mjd)}" if mjd == mjd else "")
        for obs_id, piece, mjd in zip(runs.column("obs_id"), pieces, numbers(runs, "tstart"), strict=True)
    ]


def left_out(runs: Runs, labels: Sequence[str]) -> list[tuple[int, str, str, str]]:
    """Run, label (all if none has used the run), status and reason of all that was not used."""
    found = []
    for label in ("", *labels):
        status, reason = _column(runs, label, "status"), _column(runs, label, "reason")
        rows = runs.rows(~is_used(runs, label) & (is_used(runs) == bool(label)))
        cells = zip(rows.column("obs_id"), _texts(rows, status), _texts(rows, reason), strict=True)
        found += [(int(obs_id or 0), label or "all", what, without_folders(why)) for obs_id, what, why in cells]
    return sorted(found)


def without_folders(reason: str) -> str:
    """Reason with the names of files in place of their paths."""
    return re.sub(r"(?:/|\b[\w.+~-]+/)(?:[\w.+~-]+/)*(?=[\w+-][\w.+-]*\.\w)", "", reason)


def _column(runs: Runs, label: str, name: str) -> str:
    """Column of a label; that of the run without a label, or where the file has no room for so many columns."""
    column = f"{label}_{name}"
    return column if label and column in runs.columns else name


def count_warnings(runs: Runs) -> list[tuple[str, str, int, str]]:
    """Deviations and repairs: name, words, number of runs, and whether they are to be looked at, which come first."""
    found: Counter[str] = Counter()
    for column in ("quirks", "repairs"):
        for words in _texts(runs, column):
            found.update({word.partition("=")[0] for word in words.split()})
    known = {name: (quirk.description, quirk.is_suspect) for name, quirk in QUIRKS.items()} | REPAIRS
    rows = []
    for name, number in found.items():
        text, is_suspect = known.get(name, ("", True))
        rows.append((name, text, number, LOOK_AT if is_suspect else "harmless"))
    return sorted(rows, key=lambda row: (row[3] != LOOK_AT, -row[2], row[0]))


def suspicions(runs: Runs, label: str) -> Iterator[tuple[str, str]]:
    """Run and reason of what is to be looked at in runs that are used: deviations that may matter, and notes."""
    used = runs.rows(is_used(runs, label))
    suspect = {name for name, *_, found in count_warnings(used) if found == LOOK_AT}
    cells = [_texts(used, name) for name in ("quirks", "repairs", f"{label}_note")]
    for obs_id, quirks, repairs, note in zip(used.column("obs_id"), *cells, strict=True):
        names = {word.partition("=")[0] for word in f"{quirks} {repairs}".split()}
        yield from ((str(obs_id), reason) for reason in sorted(suspect & names | {note} - {""}))


def _texts(runs: Runs, name: str) -> list[str]:
    """Texts of a column; empty where a run has none, or there is no such column."""
    return [str(value or "") for value in runs.column(name)]


def table_parts(runs: Runs, wanted: Sequence[str]) -> Iterator[str]:
    """Run table for the script of the page: JSON by column, of equal values one; seven digits, times to a second."""
    yield f'{{"rows":{len(runs)},"columns":['
    shown = [*wanted, *["reason"] * (not is_used(runs).all())]
    known = {name: cells for name, cells in runs.columns.items() if name in shown or cells.count(None) < len(cells)}
    for number, (name, cells) in enumerate(known.items()):
        digits, (unit, description) = DIGITS.get(name), runs.about.get(name, ("", ""))
        heading = HEADINGS.get(name, name.replace("_", " ").removesuffix(" 0"))
        told = {"name": name, "unit": unit, "description": description, "digits": digits, "shown": name in shown}
        told["heading"] = "" if heading == name else heading
        about = {key: value for key, value in told.items() if value}
        values = [_short(cell, max(digits or 0, 7)) for cell in cells]
        if name == "reason":
            values = [without_folders(str(value)) if value else value for value in values]
        is_same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
        content = {"value": values[0]} if is_same else {"values": values}
        yield "," * (number > 0) + script_json(about | content)
        if name == "reason" and "tstart" in runs.columns:
            starts = {"name": "start", "description": "start of the first good time interval (TT)", "shown": True}
            yield "," + script_json(starts | {"values": [date(mjd) for mjd in numbers(runs, "tstart")]})
    yield "]}"


def _short(value: object, digits: int) -> object:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def script_json(content: object) -> str:
    """JSON that may stand inside a script element, whatever text it holds."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(UNSAFE)
