"""FITS images and binary tables as bytes, the same bytes for the same content.

A file is laid out directly: cards, big-endian numbers, DATASUM and CHECKSUM. To import a library that does it
takes longer than to write what a target exports, and thousands of simulated runs have to be written in seconds.

References
----------
FITS standard 4.0, https://fits.gsfc.nasa.gov/fits_standard.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.fits_checksum import encode_checksum, ones_complement_sum

Keyword = str | int | float | bool
Header = dict[str, Keyword]

BLOCK = 2880
IMAGE_PART = 1 << 24  # bytes of an image that are handed on at a time
TFORM = {"i4": "J", "i8": "K", "f4": "E", "f8": "D"}
BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a binary table.

    Parameters
    ----------
    name, unit : str
        TTYPE and TUNIT; an empty unit writes no TUNIT.
    values : array, shape (n_rows, ...)
        Numbers of type i4, i8, f4 or f8, or fixed-width bytes (``S``). The axes after the first
        are written in numpy order, so that TDIM lists them reversed.
    """

    name: str
    values: NDArray[Any]
    unit: str = ""

    @property
    def cell(self) -> tuple[int, ...]:
        """Shape of one cell in numpy order."""
        return self.values.shape[1:]

    @property
    def tform(self) -> str:
        """TFORM: repeat count and type."""
        if self.values.dtype.kind == "S":
            return f"{self.values.dtype.itemsize}A"
        return f"{int(np.prod(self.cell, dtype=int))}{TFORM[self.values.dtype.str[1:]]}"


def card(key: str, value: Keyword) -> bytes:
    """One 80-byte header card; raises ValueError where the value does not fit, is not finite or not printable ASCII."""
    value = value.item() if isinstance(value, np.generic) else value  # numpy shows its numbers with their type
    if isinstance(value, str):
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"header card {key}: {value!r} is not printable ASCII text")
        quoted = value.replace("'", "''")
        text = f"{key:<8}= '{quoted:<8}'"
    elif isinstance(value, bool):
        text = f"{key:<8}= {'T' if value else 'F':>20}"
    elif not math.isfinite(value):
        raise ValueError(f"header card {key}: {value!r} is not a number")
    else:
        text = f"{key:<8}= {repr(value).upper():>20}"
    if len(text) > 80 or len(key) > 8:
        raise ValueError(f"header card {key}: {value!r} does not fit into 80 characters")
    return f"{text:<80}".encode("ascii")


def primary_hdu(header: Header) -> bytes:
    """Empty primary HDU with the given cards."""
    return _sealed({"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True, **header}, 0)


def image_hdu(
    data: NDArray[Any], name: str, header: Header, *, primary: bool = False
) -> tuple[bytes | memoryview, ...]:
    """Image extension, or primary HDU with an image, in memory: parts as of `image_parts`."""
    stored = np.ascontiguousarray(data, data.dtype.newbyteorder(">"))
    return tuple(image_parts([stored], data.shape, name, header, primary=primary))


def image_parts(
    slabs: Iterable[NDArray[Any]], shape: tuple[int, ...], name: str, header: Header, *, primary: bool = False
) -> Iterator[bytes | memoryview]:
    """Image extension, or primary HDU with an image, some of its values at a time.

    Parameters
    ----------
    slabs : iterable of array
        Consecutive values of one type: u1, i2, i4, i8, f4 or f8. They are asked for twice, for the checksum stands in
        front.
    shape : tuple of int
        Shape (..., ny, nx) in numpy order: NAXIS1 is the last axis.
    name : str
        EXTNAME.
    header : dict
        Further cards.
    primary : bool
        Whether it is the first HDU of a file.

    Yields
    ------
    bytes-like
        To be written one after the other; numbers that are big-endian and contiguous are not copied.

    Raises
    ------
    ValueError
        For another type, or a card that does not fit.
    """
    datasum, n_bytes, kind, rest = 0, 0, "", b""
    for slab in slabs:
        kind, part = slab.dtype.str[1:], _big_endian_bytes(slab, name)
        n_bytes += len(part)
        part = part if not rest else memoryview(rest + bytes(part))
        whole = len(part) // 4 * 4
        datasum, rest = ones_complement_sum(part[:whole], datasum), bytes(part[whole:])
    structure: Header = {"SIMPLE": True} if primary else {"XTENSION": "IMAGE"}
    structure |= {"BITPIX": BITPIX[kind], "NAXIS": len(shape)}
    structure |= {f"NAXIS{number}": size for number, size in enumerate(reversed(shape), start=1)}
    structure |= {"EXTEND": True} if primary else {"PCOUNT": 0, "GCOUNT": 1}
    yield _sealed({**structure, "EXTNAME": name, **header}, ones_complement_sum(rest, datasum))
    yield from _in_blocks(_big_endian_bytes(slab, name) for slab in slabs)
    yield b"\0" * (-n_bytes % BLOCK)


def _in_blocks(parts: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    """Content of parts of any length in parts of one length: what a compressor writes can depend on where it is cut."""
    block = bytearray()
    for part in parts:
        start = 0
        while start < len(part):
            piece = part[start : start + IMAGE_PART - len(block)]
            start += len(piece)
            if len(piece) == IMAGE_PART:
                yield piece
                continue
            block += piece
            if len(block) == IMAGE_PART:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)


def _big_endian_bytes(values: NDArray[Any], name: str) -> memoryview:
    """Values of an image as FITS stores them."""
    if values.dtype.str[1:] not in BITPIX:
        kind = values.dtype.newbyteorder("=")
        raise ValueError(f"image {name}: expected numbers of one of {', '.join(BITPIX)}, got {kind}")
    return np.ascontiguousarray(values, values.dtype.newbyteorder(">")).reshape(-1).view(np.uint8).data


def table_hdu(columns: list[Column], name: str, header: Header) -> bytes:
    """Binary table extension of equally long columns, with `header` after the structural cards."""
    return b"".join(table_parts(lambda: [columns], len(columns[0].values), name, header))


def table_parts(
    blocks: Callable[[], Iterable[list[Column]]], n_rows: int, name: str, header: Header
) -> Iterator[bytes]:
    """Binary table extension, some rows at a time.

    Parameters
    ----------
    blocks : callable
        Gives consecutive rows of all columns, at least one block that may be empty; it is called twice, for the
        checksum stands in front. All but the last have a multiple of four rows.
    n_rows : int
        Number of rows, of which there may be none.
    name : str
        EXTNAME.
    header : dict
        Further cards, after the structural ones.
    """
    columns, datasum = [], 0
    for columns in blocks():
        datasum = ones_complement_sum(_row_bytes(columns), datasum)
    width = _row_type(columns).itemsize
    structure: Header = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": width, "NAXIS2": n_rows}
    structure |= {"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": len(columns)}
    for number, column in enumerate(columns, start=1):
        structure |= _column_cards(column, number)
    yield _sealed({**structure, "EXTNAME": name, **header}, datasum)
    yield from map(_row_bytes, blocks())
    yield b"\0" * (-width * n_rows % BLOCK)


def _row_type(columns: list[Column]) -> np.dtype[Any]:
    """Type of a row as FITS stores it."""
    return np.dtype([(c.name, _big_endian(c), c.cell) for c in columns])


def _row_bytes(columns: list[Column]) -> bytes:
    """Rows as FITS stores them."""
    rows = np.empty(len(columns[0].values) if columns else 0, _row_type(columns))
    for column in columns:
        rows[column.name] = column.values
    return rows.tobytes()


def _big_endian(column: Column) -> str:
    """Numpy type of a column as FITS stores it."""
    return column.values.dtype.newbyteorder(">").str


def _column_cards(column: Column, number: int) -> Header:
    """TTYPE, TFORM, TUNIT and TDIM of one column."""
    cards: Header = {f"TTYPE{number}": column.name, f"TFORM{number}": column.tform}
    if column.unit:
        cards[f"TUNIT{number}"] = column.unit
    if len(column.cell) > 1:
        cards[f"TDIM{number}"] = "(" + ",".join(str(n) for n in reversed(column.cell)) + ")"
    return cards


def _sealed(header: Header, datasum: int) -> bytes:
    """Header with DATASUM and CHECKSUM for data of that sum."""
    cards = b"".join(card(key, value) for key, value in header.items()) + card("DATASUM", str(datasum))
    blank = cards + card("CHECKSUM", "0" * 16) + b"END".ljust(80)
    total = ones_complement_sum(_pad_header(blank), datasum)
    return _pad_header(cards + card("CHECKSUM", encode_checksum(total ^ 0xFFFFFFFF)) + b"END".ljust(80))


def _pad_header(cards: bytes) -> bytes:
    """Cards filled with blanks to whole blocks."""
    return cards + b" " * (-len(cards) % BLOCK)
