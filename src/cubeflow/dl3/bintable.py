"""Columns of a binary table HDU as numpy arrays, straight from its bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.blocks import Hdu
from cubeflow.dl3.cards import Header
from cubeflow.dl3.files import FileRefused

_TFORM = re.compile(r"\s*(\d*)\s*([LXBIJKAEDCMPQ])")
_NUMPY = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"}
_BYTES = {"A": 1, "L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_UNREAD = "XCMPQ"
MAX_FIELDS = 999


@dataclass(frozen=True)
class Field:
    """One column of a binary table.

    Parameters
    ----------
    name, unit : str
        TTYPE and TUNIT.
    code, repeat : str, int
        Type letter and repeat count of TFORM.
    offset : int
        First byte in the row.
    number : int
        Number of the column, from 1.
    """

    name: str
    unit: str
    code: str
    repeat: int
    offset: int
    number: int


@dataclass(frozen=True, eq=False)
class Table:
    """A binary table in memory.

    Parameters
    ----------
    hdu : Hdu
        Where its bytes lie.
    fields : dict of str to Field
        Columns by upper-case name, in their order.
    row_size, n_rows : int
        NAXIS1 and NAXIS2.
    """

    hdu: Hdu
    fields: dict[str, Field]
    row_size: int
    n_rows: int

    @property
    def header(self) -> Header:
        """Keys and values of the header."""
        return self.hdu.header

    def column(self, name: str) -> NDArray[Any]:
        """Values of a column in native byte order.

        Returns
        -------
        array
            Shape (n_rows,) for a scalar column, (n_rows, ...) in numpy order (TDIM reversed) for
            others. TSCAL and TZERO are applied; numbers equal to TNULL become NaN. Strings are bytes
            without trailing blanks.

        Raises
        ------
        FileRefused
            If the column is missing, of a type that is not read, or its TDIM disagrees with its size.
        """
        field = self.fields.get(name.upper())
        if field is None:
            raise FileRefused(f"{self.hdu}: no column {name}; there are {', '.join(self.fields) or 'none'}")
        if field.code in _UNREAD:
            raise FileRefused(f"{self.hdu}: column {name}: TFORM type {field.code} is not read")
        return self._shaped(field, self._scaled(field, self._raw(field)))

    def cell(self, name: str) -> NDArray[Any]:
        """Value of a column in the only row of the table; raises FileRefused if there is not one row."""
        if self.n_rows != 1:
            raise FileRefused(f"{self.hdu}: {self.n_rows} rows, expected 1")
        return np.atleast_1d(self.column(name)[0])

    def _raw(self, field: Field) -> NDArray[Any]:
        """Stored values, shape (n_rows, repeat), or (n_rows,) for strings."""
        text = field.code == "A"
        kind = f"S{field.repeat}" if text else _NUMPY[field.code]
        if field.repeat == 0:
            return np.zeros((self.n_rows,) if text else (self.n_rows, 0), "S1" if text else kind)
        shape = () if text else (field.repeat,)
        row = np.dtype(
            {"names": ["x"], "formats": [(kind, shape)], "offsets": [field.offset], "itemsize": self.row_size}
        )
        rows = np.frombuffer(self.hdu.data_bytes, dtype=row, count=self.n_rows)
        return rows["x"]

    def _scaled(self, field: Field, raw: NDArray[Any]) -> NDArray[Any]:
        """Physical values in native byte order."""
        if field.code == "A":
            return np.char.rstrip(raw)
        if field.code == "L":
            return raw == b"T"
        scale, zero = self.header.get(f"TSCAL{field.number}", 1), self.header.get(f"TZERO{field.number}", 0)
        null = self.header.get(f"TNULL{field.number}")
        if not isinstance(scale, int | float) or not isinstance(zero, int | float):
            raise FileRefused(f"{self.hdu}: column {field.name}: TSCAL = {scale!r}, TZERO = {zero!r}, expected numbers")
        values = _native(raw)
        if (scale, zero) != (1, 0):
            whole = values.dtype.kind in "iu" and scale == 1 and float(zero).is_integer()
            values = _shift(values, int(zero)) if whole else values * float(scale) + float(zero)
        if isinstance(null, int) and raw.dtype.kind in "iu" and np.any(raw == null):
            values = np.where(raw == null, np.nan, values.astype(float))
        return values

    def _shaped(self, field: Field, values: NDArray[Any]) -> NDArray[Any]:
        """Apply TDIM; a scalar column loses its second axis."""
        if field.code == "A":
            return values
        tdim = self.header.get(f"TDIM{field.number}")
        if tdim is None:
            return values[:, 0] if field.repeat == 1 else values
        shape = _parse_tdim(str(tdim))
        if not shape or int(np.prod(shape, dtype=object)) != field.repeat:
            raise FileRefused(f"{self.hdu}: column {field.name}: TDIM = {tdim!r}, but it has {field.repeat} values")
        return values.reshape(self.n_rows, *shape[::-1])


def open_table(hdu: Hdu) -> Table:
    """Lay out the columns of a binary table HDU.

    Raises
    ------
    FileRefused
        If it is no binary table, or its columns do not add up to the row.
    """
    header = hdu.header
    if str(header.get("XTENSION", "")).strip() != "BINTABLE":
        raise FileRefused(f"{hdu}: XTENSION = {header.get('XTENSION')!r}, expected a binary table")
    shape = header.get("NAXIS"), header.get("BITPIX"), header.get("GCOUNT", 1)
    if shape != (2, 8, 1):
        raise FileRefused(f"{hdu}: NAXIS, BITPIX, GCOUNT = {shape}, expected (2, 8, 1)")
    row_size, n_rows, n_fields = header["NAXIS1"], header["NAXIS2"], header.get("TFIELDS")
    if not isinstance(n_fields, int) or not 0 <= n_fields <= MAX_FIELDS:
        raise FileRefused(f"{hdu}: TFIELDS = {n_fields!r}, expected 0 to {MAX_FIELDS}")
    fields: dict[str, Field] = {}
    offset = 0
    for number in range(1, n_fields + 1):
        field, width = _read_field(hdu, number, offset)
        fields.setdefault(field.name.upper(), field)
        offset += width
    if offset != row_size:
        raise FileRefused(f"{hdu}: columns take {offset} bytes, but NAXIS1 = {row_size}")
    return Table(hdu, fields, offset, int(n_rows or 0))


def _read_field(hdu: Hdu, number: int, offset: int) -> tuple[Field, int]:
    """Column `number` and its width in bytes."""
    header = hdu.header
    form = header.get(f"TFORM{number}")
    match = _TFORM.match(str(form))
    if not match:
        raise FileRefused(f"{hdu}: TFORM{number} = {form!r} is no column format")
    repeat, code = int(match[1] or 1), match[2]
    width = -(-repeat // 8) if code == "X" else repeat * _BYTES[code]
    name = str(header.get(f"TTYPE{number}") or f"COLUMN{number}").strip()
    unit = str(header.get(f"TUNIT{number}") or "").strip()
    return Field(name, unit, code, repeat, offset, number), width


def _parse_tdim(text: str) -> tuple[int, ...]:
    """TDIM as numbers, first axis fastest; empty if it cannot be read. Blanks are allowed."""
    match = re.fullmatch(r"\s*\(([\d\s,]+)\)\s*", text)
    parts = match[1].split(",") if match else []
    return tuple(int(part) for part in parts) if all(part.strip().isdigit() for part in parts) else ()


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Copy in native byte order, contiguous."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _shift(values: NDArray[Any], zero: int) -> NDArray[Any]:
    """Whole numbers plus TZERO without loss: unsigned 64-bit numbers stay exact."""
    if zero == 2**63 and values.dtype.itemsize == 8:
        return values.view(np.uint64) ^ np.uint64(2**63)
    if values.dtype.itemsize == 8:
        return values + np.int64(zero)
    return values.astype(np.int64) + zero
