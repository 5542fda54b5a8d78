"""Compressed files of the simulation."""

import gzip

import pytest

from cubeflow.dl3.simulate_fits import write_gzip


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
