"""What the report tells of the runs of a target, from its run table."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.pipeline.certificate import read_certified
from cubeflow.pipeline.tasks import certificate_file

if TYPE_CHECKING:
    from astropy.table import Column, Table

MAX_LEFT_OUT = 300
SHOWN = ("obs_id", "status", "object", "zenith", "offset", "livetime", "energy_threshold", "counts_safe")
SHOWN_OF_LABEL = ("norm_0", "norm_err_0", "excess", "significance")
# What HTML would take for markup inside a script, and the line ends of JavaScript that JSON does not know.
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


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


def left_out(runs: Table, labels: Sequence[str]) -> list[tuple[int, str, str, str]]:
    """Run, label (empty if none has used the run), status and reason of all that was not used."""
    found = []
    for label in ("", *labels):
        status, reason = _column(runs, label, "status"), _column(runs, label, "reason")
        rows = runs[~is_used(runs, label) & (is_used(runs) == bool(label))]
        found += [(int(row["obs_id"]), label, str(row[status]), str(row[reason])) for row in rows]
    return sorted(found)


def _column(runs: Table, label: str, name: str) -> str:
    """Column of a label; that of the run without a label, or where the file has no room for so many columns."""
    column = f"{label}_{name}"
    return column if label and column in runs.colnames else name


def count_warnings(runs: Table) -> list[tuple[str, int, str]]:
    """Deviations and repairs with the number of runs that have them, the most frequent first."""
    found: Counter[tuple[str, str]] = Counter()
    for column, kind in (("quirks", "deviation"), ("repairs", "repair")):
        for words in runs[column].tolist() if column in runs.colnames else ():
            found.update({(word.partition("=")[0], kind) for word in (words or "").split()})
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(name, number, kind) for (name, kind), number in ordered]


def shown_columns(runs: Table, labels: Sequence[str]) -> list[str]:
    """Columns that the page shows at first."""
    names = [*SHOWN, *(f"{label}_{name}" for label in labels for name in SHOWN_OF_LABEL)]
    return names if is_used(runs).all() else [*names, "reason"]


def table_parts(runs: Table, shown: Sequence[str]) -> Iterator[str]:
    """Run table as the page's script takes it: JSON, column by column.

    A column whose values are all the same holds that ``value`` alone. Numbers are rounded to seven digits, times
    to a second.
    """
    yield f'{{"rows":{len(runs)},"columns":['
    for number, name in enumerate(runs.colnames):
        yield "," * (number > 0) + script_json(_column_data(runs[name], name in shown))
    yield "]}"


def _column_data(column: Column, is_shown: bool) -> dict[str, object]:
    """Column as plain content."""
    digits = 11 if column.unit == "d" else 7  # of times MJD to a second
    values = [_short(value, digits) for value in column.tolist()]
    about = {"name": column.name, "unit": str(column.unit or ""), "description": column.description or ""}
    is_same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
    content = {"value": values[0]} if is_same else {"values": values}
    return {**{name: text for name, text in about.items() if text}, "shown": is_shown, **content}


def _short(value: object, digits: int) -> object:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def script_json(content: object) -> str:
    """JSON that may stand inside a script element, whatever text it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char, code in UNSAFE.items():
        text = text.replace(char, code)
    return text
