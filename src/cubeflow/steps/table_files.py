"""A table as ECSV, CSV and FITS: text and bytes, without the seconds that it takes to load a library for it.

References
----------
Enhanced character-separated values, https://github.com/astropy/astropy-APEs/blob/main/APE6.rst
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.fits_bytes import Column, Header, primary_hdu, table_parts
from cubeflow.steps.cells import BLOCK_ROWS, Cells, Value

NO_NUMBER = -(2**63)  # TNULL of whole numbers
MAX_FITS_COLUMNS = 999  # of a binary table: numbers in keywords have three digits


@dataclass(frozen=True)
class TableColumn:
    """One column.

    Parameters
    ----------
    name : str
        Without blanks.
    values : Cells, or tuple of bool, int, float, str or None
        One per row; None where there is no value.
    unit : str or None
        FITS unit.
    description : str
        What it is; may be empty.
    """

    name: str
    values: Cells | tuple[Value, ...]
    unit: str | None = None
    description: str = ""

    @cached_property
    def kinds(self) -> frozenset[type]:
        """Types of the values, without that of None."""
        return frozenset({type(value) for value in self.values} - {type(None)})

    @cached_property
    def datatype(self) -> str:
        """``bool``, ``int64``, ``float64`` or ``string``; string for a column without any value."""
        for name, allowed in (("bool", {bool}), ("int64", {int, bool}), ("float64", {float, int, bool})):
            if self.kinds and self.kinds <= allowed:
                return name
        return "string"

    def block(self, start: int) -> Sequence[Value]:
        """Some values in the type of the column: truth values among numbers are 0 and 1."""
        values = self.values[start : start + BLOCK_ROWS]
        if self.datatype in ("bool", "string") or bool not in self.kinds:
            return values
        return [int(value) if isinstance(value, bool) else value for value in values]


def ecsv_parts(columns: Sequence[TableColumn], meta: Mapping[str, Any]) -> Iterator[bytes]:
    """ECSV with types, units, descriptions and `meta` (plain values), some rows at a time.

    Cells without a value are ``""``.
    """
    lines = ["%ECSV 1.0", "---", "datatype:"]
    for column in columns:
        about = {"name": column.name, "unit": column.unit, "datatype": column.datatype}
        about |= {"description": column.description or None}
        lines.append(
            "- " + json.dumps({name: text for name, text in about.items() if text is not None}, ensure_ascii=False)
        )
    lines += [
        "meta: !!omap",
        *(f"- {{{name}: {json.dumps(value, ensure_ascii=False)}}}" for name, value in meta.items()),
    ]
    header = [f"# {line}" for line in [*lines, "schema: astropy-2.0"]]
    yield "\n".join([*header, " ".join(column.name for column in columns), ""]).encode()
    for start in _starts(columns):
        rows = zip(*(map(_cell, column.block(start)) for column in columns), strict=True)
        yield "".join(f"{' '.join(row)}\n" for row in rows).encode()


def csv_parts(columns: Sequence[TableColumn]) -> Iterator[bytes]:
    """Comma-separated values, some rows at a time; cells without a value are empty."""
    yield _csv_text([[column.name for column in columns]])
    for start in _starts(columns):
        yield _csv_text(zip(*(map(_one_line, column.block(start)) for column in columns), strict=True))


def _csv_text(rows: Iterable[Iterable[Value]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def fits_parts(columns: Sequence[TableColumn], name: str) -> Iterator[bytes]:
    """FITS binary table in the first extension, some rows at a time.

    Cells without a value are blank, NaN or the null of their column. FITS knows ASCII alone: other letters become
    question marks. There may be `MAX_FITS_COLUMNS` columns; raises ValueError for more.
    """
    if len(columns) > MAX_FITS_COLUMNS:
        raise ValueError(f"table {name}: expected at most {MAX_FITS_COLUMNS} columns, got {len(columns)}")
    cards: Header = {
        f"TNULL{number}": NO_NUMBER
        for number, column in enumerate(columns, start=1)
        if column.datatype in ("int64", "bool") and None in column.values
    }
    widths = [_width(column) for column in columns]

    def blocks() -> Iterator[list[Column]]:
        """Columns of some rows at a time."""
        for start in _starts(columns) or [0]:
            yield [
                Column(column.name, _stored(column, start, width), column.unit or "")
                for column, width in zip(columns, widths, strict=True)
            ]

    yield primary_hdu({})
    yield from table_parts(blocks, len(columns[0].values) if columns else 0, name, cards)


def _starts(columns: Sequence[TableColumn]) -> range:
    """First rows of the blocks of a table."""
    return range(0, len(columns[0].values) if columns else 0, BLOCK_ROWS)


def _width(column: TableColumn) -> int:
    """Bytes of the longest text of a column, at least 1."""
    if column.datatype != "string":
        return 0
    return max((len(_ascii(value)) for value in column.values), default=1) or 1


def _ascii(value: Value) -> bytes:
    """Text as FITS holds it."""
    return str(_one_line(value)).encode("ascii", "replace")


def _stored(column: TableColumn, start: int, width: int) -> NDArray[Any]:
    """Some values of a column as FITS holds them; truth values as 0 and 1."""
    values = column.values[start : start + BLOCK_ROWS]
    if column.datatype == "string":
        return np.array([_ascii(value) for value in values], f"S{width}")
    if column.datatype == "float64":
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array([NO_NUMBER if value is None else value for value in values], np.int64)


def _one_line(value: Value) -> Value:
    """Nothing for None, and text without line breaks."""
    if isinstance(value, str):
        return " ".join(value.split())
    return "" if value is None else value


def _cell(value: Value) -> str:
    """Cell of an ECSV row."""
    return _text_cell(value) if isinstance(value, str) or value is None else str(value)


@lru_cache(maxsize=256)
def _text_cell(value: str | None) -> str:
    """Cell of an ECSV row with a text, or with nothing."""
    text = str(_one_line(value))
    if text and not set(text) & set(' "#,') and text.isascii():
        return text
    return '"' + text.replace('"', '""') + '"'
