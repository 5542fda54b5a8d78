"""Columns against astropy.io.fits."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.bintable import open_table
from cubeflow.dl3.blocks import scan_hdus
from cubeflow.dl3.files import FileRefused

N = 5


def open_hdu(hdu: fits.BinTableHDU, edit=lambda content: content):
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    return open_table(scan_hdus(edit(stream.getvalue()), Path("x.fits"))[1])


def columns() -> list[fits.Column]:
    rng = np.random.default_rng(5)
    return [
        fits.Column("b", "B", array=rng.integers(0, 255, N).astype("u1")),
        fits.Column("i", "I", array=rng.integers(-30000, 30000, N).astype("i2")),
        fits.Column("j", "J", unit="m", array=rng.integers(-(2**31), 2**31, N).astype("i4")),
        fits.Column("k", "K", array=rng.integers(-(2**62), 2**62, N)),
        fits.Column("e", "E", unit="TeV", array=rng.normal(size=N).astype("f4")),
        fits.Column("d", "D", array=rng.normal(size=N)),
        fits.Column("flag", "L", array=rng.random(N) > 0.5),
        fits.Column("bits", "11X", array=rng.random((N, 11)) > 0.5),
        fits.Column("text", "6A", array=np.array(["a", "bcd", "", "e f", "ghijkl"])),
        fits.Column("vector", "3E", array=rng.normal(size=(N, 3)).astype("f4")),
        fits.Column("cube", "24D", dim="(4,3,2)", array=rng.normal(size=(N, 2, 3, 4))),
        fits.Column("unsigned", "J", bzero=2**31, array=rng.integers(0, 2**32, N).astype("u4")),
        fits.Column("unsigned64", "K", bzero=2**63, array=np.array([0, 1, 2**63, 2**64 - 1, 5], dtype="u8")),
    ]


def test_every_column_agrees_with_astropy():
    hdu = fits.BinTableHDU.from_columns(columns())
    table = open_hdu(hdu)
    assert table.n_rows == N
    for column in hdu.columns:
        if column.name == "bits":
            continue
        found, expected = table.column(column.name), hdu.data[column.name]
        if column.name == "text":
            expected = np.char.encode(np.asarray(expected))
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape
        assert found.dtype.isnative
    assert table.fields["E"].unit == "TeV"
    assert table.fields["CUBE"].number == 11


def test_scaled_numbers():
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "I", array=np.array([-3, 0, 4], dtype="i2"))])
    hdu.header["TSCAL1"], hdu.header["TZERO1"] = 0.5, 10.0
    np.testing.assert_array_equal(open_hdu(hdu).column("x"), [8.5, 10.0, 12.0])


def test_null_becomes_nan():
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "J", null=-99, array=np.array([1, -99, 3], dtype="i4"))])
    np.testing.assert_array_equal(open_hdu(hdu).column("X"), [1, np.nan, 3])


def test_no_rows_and_empty_cells():
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(0)), fits.Column("none", "0E")])
    table = open_hdu(hdu)
    assert table.column("x").shape == (0,)
    assert table.column("none").shape == (0, 0)
    with pytest.raises(FileRefused, match="0 rows, expected 1"):
        table.cell("x")


def test_tdim_may_hold_blanks_but_must_fit():
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "6E", dim="(3,2)", array=np.arange(6.0).reshape(1, 2, 3))])
    assert open_hdu(hdu, lambda c: c.replace(b"'(3,2)   '", b"'( 3, 2) '")).cell("x").shape == (2, 3)
    for bad in (b"'(3,3)   '", b"'(3,2    '", b"'(-3,-2) '", b"'(a,b)   '"):
        with pytest.raises(FileRefused, match=r"x.fits\[\]: column x: TDIM"):
            open_hdu(hdu, lambda c, bad=bad: c.replace(b"'(3,2)   '", bad)).column("x")


def test_missing_unread_and_disagreeing_columns():
    table = open_hdu(fits.BinTableHDU.from_columns(columns()))
    with pytest.raises(FileRefused, match="no column nope; there are B, I, J"):
        table.column("nope")
    with pytest.raises(FileRefused, match="column bits: TFORM type X is not read"):
        table.column("bits")
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "K", array=np.arange(3))])
    with pytest.raises(FileRefused, match="columns take 4 bytes, but NAXIS1 = 8"):
        open_hdu(hdu, lambda c: c.replace(b"TFORM1  = 'K ", b"TFORM1  = 'J "))
    with pytest.raises(FileRefused, match="TFORM1 = 'Z"):
        open_hdu(hdu, lambda c: c.replace(b"TFORM1  = 'K ", b"TFORM1  = 'Z "))
    with pytest.raises(FileRefused, match="expected a binary table"):
        open_table(scan_hdus(fits.PrimaryHDU().header.tostring().encode(), Path("x.fits"))[0])
