"""The HDUs of a FITS file in memory, read by astropy: headers, checksums, columns, units.

astropy warns, or says nothing, where a file is cut short or a header does not add up; here that is refused.
It is imported where it is used: jobs that read no FITS do without the fifth of a second that it takes.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.files import FileRefused, read_content

Value = str | int | float | bool | None
Header = Mapping[str, Value]

MAX_HDUS = 100_000
KEYS_OF_COLUMNS = (("TTYPE", str, None), ("TFORM", str, None), ("TSCAL", int | float, 1), ("TZERO", int | float, 0))
ODD_UNITS = {"sec": "s", "degrees": "deg"}


class UnitError(ValueError):
    """A unit is of the wrong kind or cannot be read."""


class Column(NamedTuple):
    """Name and unit of a column as written, its number (from 1), and the letter of its type in TFORM."""

    name: str
    unit: str
    number: int
    code: str
    is_twice: bool = False  # another column has the same name, but for case

    @property
    def is_read(self) -> bool:
        """Whether it holds numbers, logicals or text, in the rows themselves, and is the only one of its name."""
        return self.code not in "XCMPQ" and not self.is_twice


@dataclass(frozen=True, eq=False)
class Hdu:
    """One HDU of a file in memory."""

    path: Path  # for messages
    index: int  # 0 is the primary HDU
    name: str  # EXTNAME as written, PRIMARY for an unnamed primary HDU
    content: memoryview  # header and data with their padding
    data_start: int  # byte of `content` where the data begin
    hdu: Any  # as astropy sees it

    def __str__(self) -> str:
        return f"{self.path}[{self.name}]"

    @cached_property
    def header(self) -> Header:
        """Values by upper-case key; the first of several equal keys counts, a value that cannot be read is None."""
        from astropy.io.fits import VerifyError

        header: dict[str, Value] = {}
        with _strict(f"{self}"):
            for card in self.hdu.header.cards:
                key, value = card.rawkeyword.upper(), None
                if key in ("", "COMMENT", "HISTORY") or key in header:
                    continue
                with suppress(VerifyError, ValueError):
                    value = card.rawvalue
                header[key] = value if isinstance(value, str | int | float | bool) else None
        return header

    def check_sums(self) -> None:
        """Compare DATASUM and CHECKSUM with the bytes, where the header has them and not empty; raises FileRefused.

        astropy compares no CHECKSUM without DATASUM, and cannot read an empty one, which the standard allows.
        """
        for key, start, right in (("DATASUM", self.data_start, None), ("CHECKSUM", 0, ("0", "4294967295"))):
            written = str(self.header.get(key) or "").strip()
            if not written:
                continue
            total = int(np.frombuffer(self.content[start:], ">u4").sum(dtype=np.uint64))
            while total >> 32:  # words of 32 bits are summed in ones' complement
                total = (total & 0xFFFFFFFF) + (total >> 32)
            if str(total) not in (right or (written.lstrip("0") or "0",)):
                raise FileRefused(f"{self}: {key} = {self.header[key]!r} does not agree with the content")


@dataclass(frozen=True, eq=False)
class Table:
    """A binary table in memory."""

    hdu: Hdu  # where its bytes lie; its text is file and HDU, for messages
    header: Header
    columns: dict[str, Column]  # by upper-case name, in their order
    rows: NDArray[np.void]  # numbers as stored, shape (n_rows,)

    def column(self, name: str) -> NDArray[Any]:
        """Values of a column, shape (n_rows,) or (n_rows, ...) in numpy order (TDIM reversed), in native byte order.

        TSCAL and TZERO are applied; numbers equal to TNULL become NaN. Strings are bytes without trailing blanks.
        Raises FileRefused if the column is missing, of a type that is not read, or its TDIM disagrees with its size.
        """
        column = self.columns.get(name.upper())
        if column is None:
            raise FileRefused(f"{self.hdu}: no column {name}; there are {', '.join(self.columns) or 'none'}")
        if not column.is_read:
            why = "two columns have this name" if column.is_twice else f"TFORM type {column.code} is not read"
            raise FileRefused(f"{self.hdu}: column {column.name}: {why}")
        with _strict(f"{self.hdu}: column {column.name}"):
            raw, about = self.rows[column.name], self.hdu.hdu.columns[column.number - 1]
            if column.code == "A":
                return np.char.rstrip(raw)
            tdim, repeat = self.header.get(f"TDIM{column.number}"), about.format.repeat
            if tdim is not None:  # what does not fit is no more than a warning of astropy
                cell = tuple(int(number) for number in re.findall(r"\d+", str(tdim)))[::-1]
                if cell != raw.shape[1:] or int(np.prod(cell)) != repeat:
                    raise FileRefused(f"{self.hdu}: column {column.name}: TDIM = {tdim!r}, but it has {repeat} values")
            is_plain = column.code != "L" and about.bscale is None and about.bzero is None
            values = raw if is_plain else np.asarray(self.hdu.hdu.data.field(column.number - 1))
            values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
            if about.null is not None and raw.dtype.kind in "iu" and np.any(raw == about.null):
                values = np.where(raw == about.null, np.nan, values.astype(float))
            return values

    def numbers(self, name: str) -> NDArray[Any]:
        """Values of a column of numbers; raises FileRefused for another, too."""
        values = self.column(name)
        if values.dtype.kind not in "iuf":
            kind = "truth values" if values.dtype.kind == "b" else "text"
            raise FileRefused(f"{self.hdu}: column {name}: {kind}, expected numbers")
        return values

    def one_per_row(self, name: str) -> NDArray[Any]:
        """Numbers of a column, shape (n_rows,); raises FileRefused for another shape, too."""
        values = self.numbers(name)
        if values.ndim != 1:
            raise FileRefused(f"{self.hdu}: column {name}: shape {values.shape}, expected one number a row")
        return values

    def cell(self, name: str) -> NDArray[Any]:
        """Numbers of a column in the only row of the table; raises FileRefused if there is not one row."""
        if len(self.rows) != 1:
            raise FileRefused(f"{self.hdu}: {len(self.rows)} rows, expected 1")
        return np.atleast_1d(self.numbers(name)[0])


@contextmanager
def _strict(where: str) -> Iterator[None]:
    """Refuse whatever astropy raises for damaged bytes, of which it promises nothing; what it warns of is checked."""
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # damaged numbers are found by the checks
            warnings.simplefilter("ignore", AstropyWarning)
            yield
    except (FileRefused, MemoryError):
        raise
    except Exception as error:
        odd = isinstance(error, NameError | LookupError) or not str(error)  # of astropy, on what it does not expect
        words = f"astropy cannot read it ({type(error).__name__})" if odd else " ".join(str(error).split())
        raise FileRefused(f"{where}: {words}") from error


def read_hdus(path: Path, md5: str | None = None, sha256: str | None = None) -> tuple[Hdu, ...]:
    """Read a file once and split it into its HDUs; raises as `read_content` and `split_hdus`."""
    return split_hdus(read_content(path, md5=md5, sha256=sha256), path)


def split_hdus(content: bytes, path: Path) -> tuple[Hdu, ...]:
    """Split a FITS file into its HDUs; FileRefused if it is none, is truncated, or a header is damaged."""
    from astropy.io import fits

    if not content.startswith(b"SIMPLE  ="):
        raise FileRefused(f"{path}: no FITS file: expected it to begin with 'SIMPLE  =', got {content[:9]!r}")
    view, found, end = memoryview(content), list[Hdu](), 0
    with _strict(f"{path}: damaged or truncated in HDU 0"):
        file = fits.open(BytesIO(content), memmap=False, lazy_load_hdus=True, disable_image_compression=True)
    while end < len(content) and not (content[end] == 0 and not content[end:].strip(b"\0")):  # some mirrors pad files
        with _strict(f"{path}: damaged or truncated in HDU {len(found)}"):
            with warnings.catch_warnings():
                warnings.simplefilter("error", fits.verify.VerifyWarning)  # of a damaged header, where astropy ends
                hdu = file[len(found)]
            if not isinstance(hdu, fits.hdu.base.ExtensionHDU if found else fits.PrimaryHDU):
                raise FileRefused(f"{path}: HDU {len(found)}: neither an image nor a table of the FITS standard")
            name = str(hdu.header.get("EXTNAME") or ("PRIMARY" if not found else "")).strip()
            data_start, size = hdu.fileinfo()["datLoc"], hdu.fileinfo()["datSpan"]
            if size <= 0 and hdu.size < 0:  # slow to ask
                raise FileRefused(f"{path}: HDU {len(found)} ({name}): {hdu.size} bytes declared, expected 0 or more")
        if data_start + size > len(content):
            here = len(content) - data_start
            raise FileRefused(f"{path}: truncated in HDU {len(found)} ({name}): {size} bytes declared, {here} there")
        if len(found) == MAX_HDUS:
            raise FileRefused(f"{path}: more than {MAX_HDUS} HDUs")
        found.append(Hdu(path, len(found), name, view[end : data_start + size], data_start - end, hdu))
        end = data_start + size
    return tuple(found)


def open_table(hdu: Hdu) -> Table:
    """Lay out the columns of a binary table; FileRefused if it is none, or they do not add up to the row."""
    from astropy.io.fits import BinTableHDU

    header = hdu.header
    if not isinstance(hdu.hdu, BinTableHDU):
        raise FileRefused(f"{hdu}: XTENSION = {header.get('XTENSION')!r}, expected a binary table")
    if header.get("ZTABLE"):
        raise FileRefused(f"{hdu}: ZTABLE = {header['ZTABLE']!r}, a table packed by fpack: funpack makes it readable")
    shape = header.get("NAXIS"), header.get("BITPIX"), header.get("GCOUNT", 1)
    if shape != (2, 8, 1):
        raise FileRefused(f"{hdu}: NAXIS, BITPIX, GCOUNT = {shape}, expected (2, 8, 1)")
    with _strict(f"{hdu}: columns"):
        for number, (key, kind, default) in product(range(1, hdu.hdu.header["TFIELDS"] + 1), KEYS_OF_COLUMNS):
            value = header.get(f"{key}{number}", default)
            if not isinstance(value, kind):
                raise FileRefused(f"{hdu}: {key}{number} = {value!r}, expected {'text' if kind is str else 'a number'}")
        written = hdu.hdu.columns
        if again := [name for name, count in Counter(written.names).items() if count > 1]:  # astropy: no row of such
            raise FileRefused(f"{hdu}: column {again[0]}: two columns have this name")
        row = written.dtype.newbyteorder(">")
        if row.itemsize != header["NAXIS1"]:
            raise FileRefused(f"{hdu}: columns take {row.itemsize} bytes, but NAXIS1 = {header['NAXIS1']}")
        # not `hdu.data`, which sets up every column a second time: 5 of 10 ms a run
        rows = np.frombuffer(hdu.content, row, int(header["NAXIS2"] or 0), hdu.data_start)
        columns: dict[str, Column] = {}
        for number, about in enumerate(written, start=1):
            column = Column(about.name, str(about.unit or "").strip(), number, about.format.format)
            name = about.name.strip().upper()
            columns[name] = columns[name]._replace(is_twice=True) if name in columns else column
    return Table(hdu, header, columns, rows)


@lru_cache(maxsize=1024)
def factor(unit: str, target: str) -> float:
    """Factor from a unit, as written in a file, to a plain one, such as ``TeV`` or ``s-1 TeV-1 sr-1``.

    Raises UnitError if `unit` cannot be read or is of another kind than `target`; without characters it is a number.
    """
    if unit == target:
        return 1.0
    from astropy import units

    plain = ODD_UNITS.get(unit.strip(), unit.strip())
    first, *divisors = plain.split("/")
    if len(divisors) > 1 and "(" not in plain:
        plain = f"{first}/({' '.join(divisors)})"  # 1/s/MeV/sr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", units.UnitsWarning)
            return float(units.Quantity(1.0, plain).to_value(target))  # which a logarithmic unit, dex(TeV), is not for
    except (ValueError, TypeError) as error:
        raise UnitError(f"unit {unit!r}, expected one like {target!r}") from error
