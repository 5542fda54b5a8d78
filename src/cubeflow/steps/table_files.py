"""A table as ECSV, CSV and FITS: text and bytes, without the seconds that it takes to load a library for it.

References
----------
Enhanced character-separated values, https://github.com/astropy/astropy-APEs/blob/main/APE6.rst
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.fits_bytes import Column, Header, primary_hdu, table_hdu

Value = bool | int | float | str | None
NO_NUMBER = -(2**63)  # TNULL of whole numbers
MAX_FITS_COLUMNS = 999  # of a binary table: numbers in keywords have three digits


@dataclass(frozen=True)
class TableColumn:
    """One column.

    Parameters
    ----------
    name : str
        Without blanks.
    values : tuple of bool, int, float, str or None
        One per row; None where there is no value.
    unit : str or None
        FITS unit.
    description : str
        What it is; may be empty.
    """

    name: str
    values: tuple[Value, ...]
    unit: str | None = None
    description: str = ""

    @property
    def datatype(self) -> str:
        """``bool``, ``int64``, ``float64`` or ``string``; string for a column without any value."""
        kinds = {type(value) for value in self.values if value is not None}
        for name, allowed in (("bool", {bool}), ("int64", {int, bool}), ("float64", {float, int, bool})):
            if kinds and kinds <= allowed:
                return name
        return "string"

    @property
    def cells(self) -> tuple[Value, ...]:
        """Values in the type of the column: truth values among numbers are 0 and 1."""
        if self.datatype in ("bool", "string"):
            return self.values
        return tuple(int(value) if isinstance(value, bool) else value for value in self.values)


def ecsv_text(columns: Sequence[TableColumn], meta: Mapping[str, Any]) -> str:
    """ECSV with types, units, descriptions and `meta` (plain values); cells without a value are ``""``."""
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
    rows = zip(*(column.cells for column in columns), strict=True)
    body = [" ".join(_cell(value) for value in row) for row in rows]
    return "\n".join([*header, " ".join(column.name for column in columns), *body, ""])


def csv_text(columns: Sequence[TableColumn]) -> str:
    """Comma-separated values; cells without a value are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows(zip(*(map(_one_line, column.cells) for column in columns), strict=True))
    return text.getvalue()


def fits_bytes(columns: Sequence[TableColumn], name: str) -> bytes:
    """FITS binary table in the first extension; cells without a value are blank, NaN or the null of their column.

    FITS knows ASCII alone: other letters become question marks. There may be `MAX_FITS_COLUMNS` columns; raises
    ValueError for more.
    """
    if len(columns) > MAX_FITS_COLUMNS:
        raise ValueError(f"table {name}: expected at most {MAX_FITS_COLUMNS} columns, got {len(columns)}")
    cards: Header = {
        f"TNULL{number}": NO_NUMBER
        for number, column in enumerate(columns, start=1)
        if column.datatype in ("int64", "bool") and None in column.values
    }
    stored = [Column(column.name, _stored(column), column.unit or "") for column in columns]
    return primary_hdu({}) + table_hdu(stored, name, cards)


def _stored(column: TableColumn) -> NDArray[Any]:
    """Values of a column as FITS holds them; truth values as 0 and 1."""
    if column.datatype == "string":
        texts = [str(_one_line(value)).encode("ascii", "replace") for value in column.values]
        return np.array(texts, f"S{max(1, *map(len, texts))}" if texts else "S1")
    if column.datatype == "float64":
        return np.array([np.nan if value is None else value for value in column.values], np.float64)
    return np.array([NO_NUMBER if value is None else value for value in column.values], np.int64)


def _one_line(value: Value) -> Value:
    """Nothing for None, and text without line breaks."""
    if isinstance(value, str):
        return " ".join(value.split())
    return "" if value is None else value


def _cell(value: Value) -> str:
    """Cell of an ECSV row."""
    text = str(_one_line(value))
    if text and not set(text) & set(' "#,') and text.isascii():
        return text
    return '"' + text.replace('"', '""') + '"'
