"""HDUs, headers and columns: every byte accounted for, whatever astropy only warns of."""

import gzip
import io
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import UnitError, factor, open_table, read_hdus, split_hdus
from cubeflow.dl3.index import StoreError, open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.observation import RunRefused

HERE = Path("x.fits")
N = 5
RATE = "s-1 TeV-1 sr-1"
WRONG_KINDS = [("deg", "TeV"), ("K", "s"), ("parrots", "m"), ("TeV", ""), ("m", "m2")]
WRONG_KINDS += [("dex(TeV)", "TeV"), ("mag(TeV)", "TeV"), ("dB(m2)", "m2")]  # of which one factor cannot say enough


@pytest.fixture(scope="module")
def content(stores) -> bytes:
    return stores.to_bytes(stores.make_run(7), checksum=True)


def to_bytes(*hdus, checksum=False) -> bytes:
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream, checksum=checksum)
    return stream.getvalue()


def open_hdu(hdu: fits.BinTableHDU, edit=lambda content: content):
    return open_table(split_hdus(edit(to_bytes(hdu)), HERE)[1])


def test_spans_are_those_of_astropy(content):
    hdus = split_hdus(content, HERE)
    with fits.open(io.BytesIO(content)) as expected:
        assert len(hdus) == len(expected) == 7
        for hdu, other in zip(hdus, expected, strict=True):
            info = other.fileinfo()
            assert hdu.content == content[info["hdrLoc"] : info["datLoc"] + info["datSpan"]]
            assert (hdu.data_start, hdu.name) == (info["datLoc"] - info["hdrLoc"], other.name)
            assert hdu.header == dict(other.header)


@pytest.mark.parametrize("cut", [0, 10, 2000, 2879, 2881, 5000])
def test_truncation_inside_a_header(content, cut):
    with pytest.raises(FileRefused, match=r"x.fits: (no FITS file|damaged or truncated in HDU \d)"):
        split_hdus(content[:cut], HERE)


def test_truncation_anywhere_is_seen_but_at_an_hdu_border(content):
    borders = np.cumsum([0, *(len(hdu.content) for hdu in split_hdus(content, HERE))])
    for cut in range(0, len(content), 977):
        if cut not in borders:
            with pytest.raises(FileRefused, match=r"x.fits"):
                split_hdus(content[:cut], HERE)


def test_truncation_inside_the_data_says_how_much_is_missing(content):
    border = sum(len(hdu.content) for hdu in split_hdus(content, HERE)[:2])
    with pytest.raises(FileRefused, match=r"x.fits: truncated in HDU 1 \(EVENTS\): 2880 bytes declared, 2870 there"):
        split_hdus(content[: border - 10], HERE)


def test_padding_with_nul_is_no_hdu_but_garbage_is_refused(content):
    assert len(split_hdus(content + b"\0" * 5760, HERE)) == 7
    with pytest.raises(FileRefused, match=r"x.fits: damaged or truncated in HDU 7"):
        split_hdus(content + b"garbage" * 500, HERE)
    with pytest.raises(FileRefused, match=r"x.fits: damaged or truncated in HDU 7"):
        split_hdus(content + b"X" * 2880, HERE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NAXIS2  =                   40", b"NAXIS2  =        1000000000000"),
        (b"NAXIS2  =                   40", b"NAXIS2  =                  -40"),
        (b"NAXIS2  =                   40", b"NAXIS2  =              -400000"),
        (b"NAXIS2  =                   40", b"NAXIS2  =                 'ab'"),
        (b"NAXIS   =                    2", b"NAXIS   =            999999999"),
        (b"NAXIS2  =                   40", b"NAXIS3  =                   40"),
        (b"PCOUNT  =                    0", b"PCOUNT  =                  1.5"),
        (b"GCOUNT  =                    1", b"GCOUNT  =                   -1"),
    ],
)
def test_absurd_sizes(content, old, new):
    assert old in content
    with pytest.raises(FileRefused, match=r"x.fits: (HDU 1|truncated in HDU 1|damaged or truncated in HDU 1)"):
        split_hdus(content.replace(old, new), HERE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"BITPIX  =                    8", b"BITPIX  =                    7"),
        (b"NAXIS1  =                   28", b"NAXIS1  =                   27"),
        (b"TFIELDS =                    5", b"TFIELDS =                    4"),
        (b"TFIELDS =                    5", b"TFIELDS =                   -1"),
        (b"TFIELDS =                    5", b"TFIELDS =              9999999"),
        (b"TFIELDS =                    5", b"TFIELDS =                  'x'"),
        (b"XTENSION= 'BINTABLE'", b"XTENSION= 'BINTABLF'"),
        (b"XTENSION= 'BINTABLE'", b"XTENSIOM= 'BINTABLE'"),
    ],
)
def test_a_table_that_does_not_add_up(stores, old, new):
    content = stores.to_bytes([stores.make_run(7)["events"]])
    assert old in content
    with pytest.raises(FileRefused, match=r"x.fits"):
        open_table(split_hdus(content.replace(old, new), HERE)[1])


def test_a_table_packed_by_fpack_is_named(stores):
    run = stores.make_run(7)
    run["events"].header["ZTABLE"] = True
    with pytest.raises(FileRefused, match=r"x.fits\[EVENTS\]: ZTABLE = True, a table packed by fpack"):
        open_table(split_hdus(stores.to_bytes(run), HERE)[1])


GIB_16 = 2**34
LIES = [
    ("PRIMARY", {"NAXIS": 2, "NAXIS1": 2**17, "NAXIS2": 2**17}),
    ("EVENTS", {"NAXIS2": GIB_16 // 28}),
    ("EVENTS", {"PCOUNT": GIB_16}),
    ("EVENTS", {"NAXIS1": GIB_16}),
    ("EVENTS", {"NAXIS1": GIB_16, "NAXIS2": 0, "TFORM2": "2147483648D"}),
    ("EVENTS", {"NAXIS1": 8 * (2**31 - 1) + 20, "NAXIS2": 0, "TFORM2": "2147483647D"}),
    ("AEFF", {"TFORM5": "2147483647E"}),
    ("AEFF", {"TDIM5": "(65536,65536)"}),
]


@pytest.mark.parametrize(("name", "keys"), LIES)
def test_16_gib_that_a_header_declares_are_never_asked_for(stores, tmp_path, name, keys):
    """In a file of some kB, packed or not; not even where a table has no row and so may lie about its width."""
    with fits.open(io.BytesIO(stores.to_bytes(stores.make_run(7)))) as hdus:
        start = hdus[name].fileinfo()["hdrLoc"]
        header, data = hdus[name].header.copy(), hdus[name].fileinfo()["datLoc"]
    content = stores.to_bytes(stores.make_run(7))
    header.update({key: value for key, value in keys.items() if key != "NAXIS"})
    header["NAXIS"] = keys.get("NAXIS", header["NAXIS"])
    lie = header.tostring().encode()
    rest = content[data:] if keys.get("NAXIS2") != 0 else content[data + 2880 :]
    path = tmp_path / "run_7.fits.gz"
    path.write_bytes(gzip.compress(content[:start] + lie + rest))
    tracemalloc.start()
    try:
        with pytest.raises((StoreError, RunRefused), match=r"run_7.fits.gz"):
            read_observation(open_store(path).runs[0])
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_more_hdus_than_any_file_has(monkeypatch, content):
    monkeypatch.setattr("cubeflow.dl3.hdus.MAX_HDUS", 3)
    with pytest.raises(FileRefused, match=r"x.fits: more than 3 HDUs"):
        split_hdus(content, HERE)


def test_checksums(content):
    hdus = split_hdus(content, HERE)
    for hdu in hdus:
        hdu.check_sums()
    position = sum(len(hdu.content) for hdu in hdus[:1]) + hdus[1].data_start
    damaged = content[: position + 5] + bytes([content[position + 5] ^ 4]) + content[position + 6 :]
    with pytest.raises(FileRefused, match=r"x.fits\[EVENTS\]: DATASUM = '\d+' does not agree"):
        split_hdus(damaged, HERE)[1].check_sums()
    with pytest.raises(FileRefused, match=r"x.fits\[EVENTS\]: CHECKSUM = '\w+' does not agree"):
        split_hdus(content.replace(b"83.6 ", b"84.6 "), HERE)[1].check_sums()


def test_a_checksum_without_a_datasum_is_compared_too(content):
    """The sum of all words of an HDU is all ones, whatever other keys there are (FITS 4.0, appendix J)."""
    alone = content.replace(b"DATASUM ", b"DBTASTM ")  # another key, with the same sum of its words
    hdus = split_hdus(alone, HERE)
    assert "DATASUM" not in hdus[1].header
    for hdu in hdus:
        hdu.check_sums()
    position = len(hdus[0].content) + hdus[1].data_start + 5
    damaged = alone[:position] + bytes([alone[position] ^ 4]) + alone[position + 1 :]
    with pytest.raises(FileRefused, match=r"x.fits\[EVENTS\]: CHECKSUM = '\w+' does not agree"):
        split_hdus(damaged, HERE)[1].check_sums()


@pytest.mark.parametrize("keys", [("DATASUM",), ("CHECKSUM",), ("DATASUM", "CHECKSUM")])
def test_sums_that_are_empty_say_nothing(content, keys):
    """An empty value means that the sum is not known (FITS 4.0, 4.4.2.7)."""
    with fits.open(io.BytesIO(content)) as hdus:
        table = hdus["EVENTS"].copy()
    for key in ("DATASUM", "CHECKSUM"):
        table.header.remove(key, ignore_missing=True)
    for key in keys:
        table.header[key] = ""
    split_hdus(to_bytes(table), HERE)[1].check_sums()


@pytest.mark.parametrize("names", [("ENERGY", "ENERGY"), ("energy", "ENERGY"), ("ENERGY", "Energy")])
def test_a_column_of_which_there_are_two_is_refused(names):
    """Which of them counts is not said; other columns of the table are read."""
    written = ("FIRST_", "SECOND", "OTHER")
    columns = [fits.Column(name, "E", array=np.arange(N) + number) for number, name in enumerate(written)]
    table = to_bytes(fits.BinTableHDU.from_columns(columns, name="EVENTS"))
    for old, new in zip(written, names, strict=False):
        table = table.replace(old.encode(), new.encode())
    with pytest.raises(FileRefused, match=rf"x.fits\[EVENTS\]: column {names[0]}: two columns have this name"):
        open_table(split_hdus(table, HERE)[1]).column("ENERGY")
    if names[0] == names[1]:  # of which astropy lays out no row
        return
    opened = open_table(split_hdus(table, HERE)[1])
    np.testing.assert_array_equal(opened.column("OTHER"), np.arange(N) + 2)


def test_not_fits(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("<html>not found</html>")
    with pytest.raises(FileRefused, match=r"a.fits: no FITS file: expected it to begin with 'SIMPLE"):
        read_hdus(path)


def test_compression_does_not_matter(stores, tmp_path):
    paths = tmp_path / "a.fits", tmp_path / "b.fits.gz"
    content = stores.to_bytes(stores.make_run(7))
    paths[0].write_bytes(content)
    paths[1].write_bytes(gzip.compress(content, 9))
    plain, packed = (read_hdus(path) for path in paths)
    assert [hdu.content for hdu in plain] == [hdu.content for hdu in packed]


def test_only_the_light_parts_of_astropy_are_imported():
    heavy = "astropy.time", "astropy.coordinates", "astropy.table", "astropy.wcs"
    code = f"import sys, cubeflow.dl3.index, cubeflow.dl3.reader; assert not set({heavy}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_header_values():
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(1))])
    values = {"A": 1, "B": -2.5e-7, "C": "it's / a 'string'", "D": True, "E": False, "F": "", "BIG": 2**60}
    values |= {"LONGTEXT": "x" * 100 + "'" + "y" * 90, "BLANKS": "  a"}
    for key, value in values.items():
        hdu.header[key] = value
    hdu.header["HIERARCH LONGKEYWORDNAME"] = 3
    hdu.header["COMMENT"] = "A = 5"
    hdu.header["HISTORY"] = "B = 6"
    header = open_hdu(hdu).header
    assert {key: header[key] for key in values} == values
    assert header["LONGKEYWORDNAME"] == 3
    assert (type(header["A"]), type(header["D"])) == (int, bool)
    assert not {"", "COMMENT", "HISTORY"} & header.keys()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 1.5D+03 / x", 1500.0),
        (" +7", 7),
        ("'a''b' / c", "a'b"),
        ("'Field: 3.0'", "Field: 3.0"),
        (" T", True),
        (" nan", None),
        ("", None),
        (" 'open", None),
        (" 1 2", None),
        ("'a\xe9\x00\x1b'", None),
    ],
)
def test_a_value_that_cannot_be_read_is_none(text, value):
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(1))])
    hdu.header["KEY"] = "here"
    old, new = b"KEY     = 'here    '".ljust(80), f"KEY     = {text}".encode("latin-1").ljust(80)
    header = open_hdu(hdu, lambda content: content.replace(old, new)).header
    assert header["KEY"] == value
    assert type(header["KEY"]) is type(value)


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
    assert len(table.rows) == N
    for column in hdu.columns:
        if column.name == "bits":
            continue
        found, expected = table.column(column.name), hdu.data[column.name]
        if column.name == "text":
            expected = np.char.encode(np.asarray(expected))
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape
        assert found.dtype.isnative
    assert table.columns["E"].unit == "TeV"
    assert table.columns["CUBE"].number == 11


def test_scaled_numbers():
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "I", array=np.array([-3, 0, 4], dtype="i2"))])
    hdu.header["TSCAL1"], hdu.header["TZERO1"] = 0.5, 10.0
    np.testing.assert_array_equal(open_hdu(hdu).column("x"), [8.5, 10.0, 12.0])


@pytest.mark.parametrize("key", ["TSCAL1", "TZERO1"])
def test_scales_that_are_no_numbers(key):
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "I", array=np.array([-3, 0, 4], dtype="i2"))])
    hdu.header[key] = "abc"
    with pytest.raises(FileRefused, match=rf"x.fits\[\]: {key} = 'abc', expected a number"):
        open_hdu(hdu).column("x")


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
    for bad in (b"'(3,3)   '", b"'(3,2    '", b"'(-3,-2) '", b"'(a,b)   '", b"'(3,0)   '", b"'(3)     '"):
        with pytest.raises(FileRefused, match=r"x.fits\[\]: (column x: TDIM|columns take)"):
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
    with pytest.raises(FileRefused, match=r"x.fits\[\]: columns: Format 'Z' is not recognized"):
        open_hdu(hdu, lambda c: c.replace(b"TFORM1  = 'K ", b"TFORM1  = 'Z "))
    with pytest.raises(FileRefused, match="expected a binary table"):
        open_table(split_hdus(to_bytes(), HERE)[0])


@pytest.mark.parametrize(
    ("text", "target", "same_as"),
    [
        ("TeV", "TeV", "TeV"),
        ("GeV", "TeV", "GeV"),
        ("MeV", "TeV", "MeV"),
        ("erg", "TeV", "erg"),
        ("J", "TeV", "J"),
        ("deg", "deg", "deg"),
        ("rad", "deg", "rad"),
        ("arcmin", "deg", "arcmin"),
        ("h", "s", "h"),
        ("sec", "s", "s"),
        ("m2", "m2", "m2"),
        ("m**2", "m2", "m2"),
        ("cm^2", "m2", "cm2"),
        ("km2", "m2", "km2"),
        ("sr^-1", "sr-1", "sr-1"),
        ("sr^(-1)", "sr-1", "sr-1"),
        ("sr**(-1)", "sr-1", "sr-1"),
        ("1/deg2", "sr-1", "deg-2"),
        ("MeV-1 s-1 sr-1", RATE, "MeV-1 s-1 sr-1"),
        ("1/s/MeV/sr", RATE, "MeV-1 s-1 sr-1"),
        ("s^-1.GeV^-1.sr^-1", RATE, "GeV-1 s-1 sr-1"),
        ("1 / (MeV s sr)", RATE, "MeV-1 s-1 sr-1"),
        ("", "", ""),
    ],
)
def test_factor(text, target, same_as):
    assert factor(text, target) == pytest.approx(u.Unit(same_as).to(u.Unit(target)), rel=1e-12)


@pytest.mark.parametrize(("text", "target"), WRONG_KINDS)
def test_wrong_kind(text, target):
    with pytest.raises(UnitError, match=re.escape(f"unit '{text}', expected one like '{target}'")):
        factor(text, target)


def test_text_is_no_number():
    table = open_hdu(fits.BinTableHDU.from_columns([fits.Column("x", "3A", array=np.array(["1.5"]))]))
    assert table.column("x").tolist() == [b"1.5"]
    for read in (table.numbers, table.cell):
        with pytest.raises(FileRefused, match=r"x.fits\[\]: column x: text, expected numbers"):
            read("x")
