"""FITS bytes written directly, read back by astropy."""

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.simulate_fits import Column, card, primary_hdu, table_hdu, write_gzip


def open_tables(*hdus: bytes) -> fits.HDUList:
    return fits.open(io.BytesIO(b"".join(hdus)), checksum=True)


def test_table_is_read_back_by_astropy() -> None:
    cube = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    columns = [
        Column("ID", np.array([-(2**40)], dtype=np.int64)),
        Column("N", np.array([7], dtype=np.int32)),
        Column("X", np.array([0.1]), "deg"),
        Column("NAME", np.array([b"irf"], dtype="S8")),
        Column("CUBE", cube, "s-1 TeV-1 sr-1"),
    ]
    with open_tables(
        primary_hdu({}), table_hdu(columns, "A TABLE", {"ANSWER": 42, "SMALL": 1e-7, "YES": True})
    ) as hdus:
        hdus.verify("exception")
        table = hdus["A TABLE"]
        assert table.columns["CUBE"].dim == "(4,3,2)"
        assert (table.columns["CUBE"].unit, table.columns["ID"].unit) == ("s-1 TeV-1 sr-1", None)
        np.testing.assert_array_equal(table.data["CUBE"], cube)
        assert (table.data["ID"][0], table.data["N"][0], table.data["X"][0]) == (-(2**40), 7, 0.1)
        assert table.data["NAME"][0] == "irf"
        assert (table.header["ANSWER"], table.header["SMALL"], table.header["YES"]) == (42, 1e-7, True)


@pytest.mark.parametrize("seed", range(20))
def test_checksums_agree_with_astropy(seed: int) -> None:
    values = np.random.default_rng(seed).random(100 + 37 * seed)
    ours = table_hdu([Column("X", values)], "X", {"SEED": seed})
    with open_tables(primary_hdu({"SEED": seed}), ours) as hdus:
        for hdu in hdus:
            written = hdu.header["CHECKSUM"], hdu.header["DATASUM"]
            assert (hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1)
            hdu.add_checksum(when="", override_datasum=False)
            assert (hdu.header["CHECKSUM"], hdu.header["DATASUM"]) == written


def test_a_table_without_rows_is_valid() -> None:
    with open_tables(primary_hdu({}), table_hdu([Column("X", np.empty(0), "TeV")], "X", {})) as hdus:
        assert len(hdus["X"].data) == 0


def test_quotes_are_doubled() -> None:
    assert fits.Card.fromstring(card("OBJECT", "Barnard's star")).value == "Barnard's star"


@pytest.mark.parametrize(("key", "value"), [("OBJECT", "x" * 90), ("TOOLONGKEY", 1)])
def test_a_card_that_does_not_fit_is_refused(key: str, value: str | int) -> None:
    with pytest.raises(ValueError, match=f"header card {key}.*does not fit"):
        card(key, value)


def test_gzip_has_no_date_and_leaves_no_temporary_file(tmp_path) -> None:
    path = write_gzip(tmp_path / "a.fits.gz", b"content")
    packed = path.read_bytes()
    assert gzip.decompress(packed) == b"content"
    assert packed[4:8] == b"\0\0\0\0"
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits.gz"]


def test_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch) -> None:
    path = write_gzip(tmp_path / "a.fits.gz", b"old")

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="no space"):
        write_gzip(path, b"new")
    assert gzip.decompress(path.read_bytes()) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits.gz"]
