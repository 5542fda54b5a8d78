"""Tables for people: ECSV, CSV and FITS of one astropy table."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cubeflow.store.atomic import PathLike, write_atomic
from cubeflow.store.fits import with_checksums

if TYPE_CHECKING:
    from astropy.table import Table

NO_NUMBER = -(2**63)  # TNULL of whole numbers
FORMULAS = tuple("=+-@")  # what a formula of a spreadsheet begins with
LINE_ENDS = str.maketrans("\t\r\n", "   ")
MAX_FITS_COLUMNS = 999  # numbers in keywords have three digits


def write_table(path: PathLike, table: "Table") -> None:
    """Write ``<path>.csv``, ``<path>.fits`` and, last, ``<path>.ecsv``, each whole or not at all.

    Columns hold truth values, numbers or text, with units and descriptions; cells without a value are masked. ECSV has
    all of it. In CSV text that a spreadsheet would run as a formula has a quote before it. FITS has the first
    `MAX_FITS_COLUMNS` columns; it knows ASCII alone: other letters become question marks. Raises StorageError if the
    disk does not take it; a file that was there before is untouched.
    """
    from astropy.io import fits

    path = Path(path)
    csv, binary, ecsv = io.StringIO(), io.BytesIO(), io.StringIO()
    _for_csv(table).write(csv, format="ascii.csv")
    hdu = fits.table_to_hdu(_for_fits(table))
    for number, name in enumerate(hdu.columns.names, start=1):
        if table[name].description:
            hdu.header[f"TCOMM{number}"] = table[name].description
    with_checksums([fits.PrimaryHDU(), hdu]).writeto(binary)
    table.write(ecsv, format="ascii.ecsv")
    contents = {"csv": csv.getvalue().encode(), "fits": binary.getvalue(), "ecsv": ecsv.getvalue().encode()}
    for suffix, content in contents.items():
        write_atomic(path.with_name(f"{path.name}.{suffix}"), content)


def _for_csv(table: "Table") -> "Table":
    """Copy a table so that a spreadsheet can open it: none of its text is a formula."""
    from astropy.table import MaskedColumn

    out = table.copy()
    for name in (column.name for column in table.itercols() if column.dtype.kind == "U"):
        lines = [cell.translate(LINE_ENDS).strip() for cell in np.ma.filled(table[name], "").tolist()]
        cells = [f"'{line}" if line.startswith(FORMULAS) else line for line in lines]
        out[name] = MaskedColumn(cells, mask=np.ma.getmaskarray(table[name]))
    return out


def _for_fits(table: "Table") -> "Table":
    """Copy a table so that FITS can hold it: with masked text empty, masked truth values as numbers."""
    from astropy.table import MaskedColumn

    out = table[table.colnames[:MAX_FITS_COLUMNS]]
    out.meta = {"EXTNAME": "RUNS"} | {key: value for key, value in table.meta.items() if key.isupper()}
    for name in out.colnames:
        column = out[name]
        if column.dtype.kind == "U":
            out[name] = np.char.encode(np.ma.filled(column, ""), "ascii", "replace")
        elif column.dtype.kind == "i" or (np.ma.is_masked(column) and column.dtype.kind == "b"):
            out[name] = MaskedColumn(column, dtype="i8", fill_value=NO_NUMBER)
        out[name].unit = column.unit
    return out
