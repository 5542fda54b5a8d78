"""Files may lie below the index or below a folder the user has named, and nowhere else."""

import os

import pytest

from cubeflow.dl3.entries import direction_of, whole_number
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.index import make_resolver


@pytest.fixture
def store(tmp_path):
    for name in ("top/a/index/gps", "top/a/data", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("top/a/index/gps/in.fits", "top/a/data/run.fits", "elsewhere/x.fits"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "top/a/index/gps"


def resolver(store, *roots):
    return make_resolver(store, store, roots)


@pytest.mark.parametrize("name", ["in.fits", "a [b] {c}.fits", "-rf", "ü.fits", "x;rm -f y.fits"])
def test_below_the_index(store, name):
    (store / "sub dir").mkdir()
    (store / "sub dir" / name).write_bytes(b"x")
    assert resolver(store)("sub dir", name) == store / "sub dir" / name


def test_slashes_dots_and_empty_folders(store):
    for file_dir, name in (("", "in.fits"), (".", "in.fits"), ("./", "in.fits"), ("../gps/", "../gps/in.fits")):
        assert resolver(store)(file_dir, name) == store / "in.fits"


def test_outside_is_refused_with_the_line_to_add(store, tmp_path):
    line = f'data: {{roots: ["{tmp_path / "top/a"}"]}}'
    with pytest.raises(FileRefused) as refused:
        resolver(store)("../../data", "run.fits")
    assert str(refused.value).endswith(line)
    assert resolver(store, tmp_path / "top/a")("../../data", "run.fits") == tmp_path / "top/a/data/run.fits"


def test_absolute_paths(store, tmp_path):
    folder = str(tmp_path / "elsewhere")
    with pytest.raises(FileRefused, match="to allow it, add to the configuration"):
        resolver(store)(folder, "x.fits")
    assert resolver(store, folder)(folder, "x.fits") == tmp_path / "elsewhere/x.fits"


@pytest.mark.parametrize(
    ("file_dir", "name"),
    [("../../../../../../../../../../etc", "passwd"), ("/etc", "passwd"), ("", "/etc/passwd"), ("/", "etc/passwd")],
)
def test_the_root_is_never_proposed(store, file_dir, name):
    with pytest.raises(FileRefused, match=r'roots: \["/etc"\]'):
        resolver(store)(file_dir, name)


def test_symbolic_links(store, tmp_path):
    (store / "link.fits").symlink_to(tmp_path / "elsewhere/x.fits")
    (store / "folder").symlink_to(tmp_path / "elsewhere")
    (store / "good.fits").symlink_to(store / "in.fits")
    for file_dir, name in (("", "link.fits"), ("folder", "x.fits")):
        with pytest.raises(FileRefused, match="elsewhere: outside"):
            resolver(store)(file_dir, name)
    assert resolver(store)("", "good.fits") == store / "in.fits"
    assert resolver(store, tmp_path / "elsewhere")("", "link.fits") == tmp_path / "elsewhere/x.fits"


def test_loops_and_missing_files(store):
    (store / "loop").symlink_to(store / "loop")
    for file_dir, name in (("", "loop"), ("loop", "x.fits"), ("", "no.fits"), ("no", "no.fits")):
        with pytest.raises(FileRefused, match=r"loop|no.fits"):
            resolver(store)(file_dir, name)


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb.fits", "\x1b[2J.fits"])
def test_names_that_are_none(store, name):
    with pytest.raises(FileRefused, match="no name of a file"):
        resolver(store)("", name)


def test_fifo_and_folder(store):
    os.mkfifo(store / "fifo")
    for name in ("fifo", ".", "..", "../gps"):
        with pytest.raises(FileRefused, match=r"expected a regular file|outside"):
            resolver(store)("", name)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"RA_PNT": 83.6, "DEC_PNT": -22}, (83.6, -22.0)),
        ({"RA_PNT": "83.6", "DEC_PNT": "22"}, (83.6, 22.0)),
        ({"RA_PNT": 83.6}, None),
        ({"RA_PNT": 83.6, "DEC_PNT": None}, None),
        ({"RA_PNT": float("nan"), "DEC_PNT": 22.0}, None),
        ({"RA_OBJ": 83.6, "DEC_OBJ": 22.0}, None),
    ],
)
def test_a_pointing_is_two_finite_numbers(info, expected):
    assert direction_of(info) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("00100001", 100001),
        (b" 2200000001 ", 2200000001),
        ("2200000001.0", 2200000001),
        (100001.0, 100001),
        ("-3", -3),
        (2.0**53, None),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        ("9" * 30, None),
        ("9" * 5000, None),
        (7.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ("", None),
        ("1_000", None),
        ("1e5", None),
        ("\xb2", None),
        ("\u0663", None),
        (b"7\xff", None),
    ],
)
def test_whole_numbers_as_text_or_float(value, expected):
    assert whole_number(value) == expected
