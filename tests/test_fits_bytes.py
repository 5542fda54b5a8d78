"""FITS bytes written directly, read back by astropy."""

import io

import numpy as np
import pytest
from astropy.io import fits

from cubeflow import fits_bytes
from cubeflow.fits_bytes import Column, card, image_hdu, image_parts, primary_hdu, table_hdu, table_parts


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


def test_a_table_in_blocks_is_the_same() -> None:
    values, names = np.random.default_rng(3).random(11), np.array([b"a", b"bcd", b""] * 4)[:11]

    def columns(rows: slice) -> list[Column]:
        return [Column("X", values[rows], "s"), Column("NAME", names[rows])]

    blocks = [slice(0, 4), slice(4, 8), slice(8, 11)]
    parts = list(table_parts(lambda: map(columns, blocks), 11, "X", {"A": 1}))
    assert b"".join(parts) == table_hdu(columns(slice(None)), "X", {"A": 1})
    assert [len(part) for part in parts[1:4]] == [44, 44, 33]


def test_a_table_without_rows_is_valid() -> None:
    with open_tables(primary_hdu({}), table_hdu([Column("X", np.empty(0), "TeV")], "X", {})) as hdus:
        assert len(hdus["X"].data) == 0


def test_quotes_are_doubled() -> None:
    assert fits.Card.fromstring(card("OBJECT", "Barnard's star")).value == "Barnard's star"


@pytest.mark.parametrize("value", [np.float64(1.5), np.float32(0.1), np.int64(-5), np.bool_(True), np.str_("it's")])
def test_numbers_of_numpy_are_plain_numbers(value: np.generic) -> None:
    read = fits.Card.fromstring(card("X", value)).value
    assert read == value
    assert type(read) is type(value.item())


@pytest.mark.parametrize("text", ["two\nlines", "5 µm", "tab\t"])
def test_text_that_fits_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"header card OBJECT: .* is not printable ASCII"):
        card("OBJECT", text)


@pytest.mark.parametrize(("key", "value"), [("OBJECT", "x" * 90), ("TOOLONGKEY", 1)])
def test_a_card_that_does_not_fit_is_refused(key: str, value: str | int) -> None:
    with pytest.raises(ValueError, match=f"header card {key}.*does not fit"):
        card(key, value)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("primary", [True, False])
def test_image_is_read_back_by_astropy(dtype: str, primary: bool) -> None:
    data = np.random.default_rng(5).uniform(0, 100, (3, 5, 7)).astype(dtype)
    image = b"".join(image_hdu(data.transpose(0, 2, 1), "A CUBE", {"BUNIT": "m2 s", "CRVAL1": -0.1}, primary=primary))
    with open_tables(*([image] if primary else [primary_hdu({}), image])) as hdus:
        hdus.verify("exception")
        hdu = hdus["A CUBE"]
        assert hdu.data.dtype.newbyteorder("=") == dtype
        np.testing.assert_array_equal(hdu.data, data.transpose(0, 2, 1))
        assert (hdu.header["BUNIT"], hdu.header["CRVAL1"]) == ("m2 s", -0.1)
        assert (hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1)


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_image_in_slabs_is_the_same_however_it_is_cut(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits_bytes, "IMAGE_PART", 50)
    data = np.random.default_rng(5).uniform(0, 100, (5, 3, 7)).astype(dtype)
    parts = list(image_hdu(data, "X", {"A": 1}))
    assert {len(part) for part in parts[1:-2]} == {50}
    for cuts in ([1, 2, 3, 4], [3], [2, 2, 4]):
        assert list(image_parts(np.split(data, cuts), data.shape, "X", {"A": 1})) == parts


def test_an_image_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image X: expected numbers of one of u1, .*, got complex128"):
        image_hdu(np.zeros((2, 2), complex), "X", {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_card_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"header card CRVAL1: .* is not a number"):
        card("CRVAL1", value)
