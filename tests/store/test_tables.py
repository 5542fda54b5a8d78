import csv
import errno

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from cubeflow.store.atomic import StorageError
from cubeflow.store.tables import MAX_FITS_COLUMNS, NO_NUMBER, write_table


def make_table():
    columns = {
        "obs_id": [23523, 23526, 23559],
        "livetime": MaskedColumn([1580.1, 0.0, 1e-300], mask=[0, 1, 0], unit="s", description="dead-time corrected"),
        "counts": MaskedColumn([7, -1, 0], mask=[0, 1, 0]),
        "reason": MaskedColumn(["", 'no "PSF", é', "x"], mask=[1, 0, 0]),
        "usable": MaskedColumn([True, False, True], mask=[0, 0, 1]),
        "flux": MaskedColumn([1.5, 2.5, 3.5], unit="TeV-1 s-1 sr-1"),
    }
    return Table(columns, meta={"labels": ["fov", "ring"], "key": "0" * 16})


def plain(column):
    return [None if value is np.ma.masked else value for value in column.tolist()]


def test_ecsv_holds_all_of_it(tmp_path):
    table = make_table()
    write_table(tmp_path / "runs", table)
    read = Table.read(tmp_path / "runs.ecsv")
    assert dict(read.meta) == table.meta
    for name in table.colnames:
        assert plain(read[name]) == plain(table[name])
        assert (read[name].unit, read[name].dtype.kind) == (table[name].unit, table[name].dtype.kind)
        assert read[name].description == table[name].description


def test_csv_is_what_the_library_reads(tmp_path):
    write_table(tmp_path / "runs", make_table())
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["counts"] for row in rows] == ["7", "", "0"]
    assert rows[1]["reason"] == 'no "PSF", é'
    assert float(rows[2]["livetime"]) == 1e-300


def test_fits_has_nulls_and_question_marks(tmp_path):
    write_table(tmp_path / "runs", make_table())
    with fits.open(tmp_path / "runs.fits", checksum=True) as hdus:
        hdus.verify("exception")
        data, header = hdus["RUNS"].data, hdus["RUNS"].header
        assert data["counts"].tolist() == [7, NO_NUMBER, 0]
        assert data["usable"].tolist() == [1, 0, NO_NUMBER]
        assert data["reason"].tolist() == ["", 'no "PSF", ?', "x"]
        assert np.isnan(data["livetime"][1])
        assert {"DATE", "CREATED"}.isdisjoint(header)
        assert header["TUNIT6"] == "TeV-1 s-1 sr-1"
        assert header["TCOMM2"] == "dead-time corrected"
    assert plain(Table.read(tmp_path / "runs.fits")["counts"]) == [7, None, 0]


@pytest.mark.parametrize("kind", ["i4", "i8"])
def test_no_number_of_a_run_stands_for_none(tmp_path, kind):
    """999999 does in a masked column of astropy."""
    write_table(tmp_path / "runs", Table({"obs_id": MaskedColumn([999999, 7], mask=False, dtype=kind)}))
    assert plain(Table.read(tmp_path / "runs.fits")["obs_id"]) == [999999, 7]


def test_table_without_rows(tmp_path):
    write_table(tmp_path / "runs", make_table()[:0])
    assert len(Table.read(tmp_path / "runs.ecsv")) == 0
    assert len(Table.read(tmp_path / "runs.fits")) == 0


def test_fits_has_the_columns_that_it_can(tmp_path):
    write_table(tmp_path / "runs", Table({f"c{number}": [number] for number in range(MAX_FITS_COLUMNS + 1)}))
    with fits.open(tmp_path / "runs.fits") as hdus:
        assert hdus["RUNS"].data.names[-1] == "c998"
    assert Table.read(tmp_path / "runs.ecsv")["c999"][0] == 999


@pytest.mark.faults
def test_fault_37_full_disk_leaves_the_old_table(tmp_path, monkeypatch, flaky):
    write_table(tmp_path / "runs", make_table()[:1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        flaky(patch, 2, errno.ENOSPC)
        with pytest.raises(StorageError, match=r"runs\.csv: no space is left"):
            write_table(tmp_path / "runs", make_table())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_text_is_no_formula_in_a_spreadsheet(tmp_path):
    """As OWASP has it, a quote stands before it; numbers, and what programs read, stay as they are."""
    odd = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "a=b", ""]
    numbers = -np.arange(8.0)
    write_table(tmp_path / "runs", Table({"object": odd, "number": numbers}))
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["object"] for row in rows] == [f"'{text}" for text in odd[:4]] + ["'=1", "'=1", *odd[6:]]
    assert [float(row["number"]) for row in rows] == numbers.tolist()
    assert Table.read(tmp_path / "runs.fits")["object"].tolist()[:4] == odd[:4]
    assert Table.read(tmp_path / "runs.ecsv")["object"].tolist()[:4] == odd[:4]
