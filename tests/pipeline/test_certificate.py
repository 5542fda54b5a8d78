"""Certificates: there after the last product, and an error names the file that it is about."""

import errno
import fcntl
import os

import pytest

from cubeflow.errors import FailedError
from cubeflow.pipeline.certificate import certified, holds, read_certificate, read_certified
from cubeflow.store.atomic import StorageError

KEY = "ab" * 32


def test_a_certificate_appears_after_the_products_and_replaces_the_one_before(tmp_path):
    (tmp_path / "made-0123456789abcdef.json").write_text("{}")
    product = tmp_path / "product"
    with certified(tmp_path / "made-abab.json", KEY, [product], {"inputs": {}}):
        assert not list(tmp_path.glob("made-*.json"))
        product.write_bytes(b"12345")
    (certificate,) = tmp_path.glob("made-*.json")
    assert holds(certificate, KEY)
    assert not holds(certificate, KEY[:-1] + "c"), "sixteen digits of a key are not the key"
    product.write_bytes(b"123456")
    assert not holds(certificate, KEY)


def test_a_certificate_with_any_byte_changed_is_none(tmp_path):
    product = tmp_path / "product"
    with certified(tmp_path / "made-abab.json", KEY, [product], {"inputs": {"a": "b", "n": 7}}):
        product.write_bytes(b"12345")
    path = tmp_path / "made-abab.json"
    content = path.read_bytes()
    plain = read_certificate(path, KEY)
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert read_certificate(path, KEY) in (None, plain)  # blanks between values are no content
        if not content[position : position + 1].isspace():
            assert not holds(path, KEY)


def test_a_product_is_read_as_its_certificate_says_or_set_aside(tmp_path):
    product, certificate = tmp_path / "product", tmp_path / "made-abab.json"
    with certified(certificate, KEY, [product], {}):
        product.write_bytes(b"12345")
    assert read_certified(product, certificate, KEY) == b"12345"
    product.write_bytes(b"12346")
    with pytest.raises(FailedError, match=r"product: not as made-abab.json says; set aside as product.corrupt"):
        read_certified(product, certificate, KEY)
    assert not product.exists()
    assert (tmp_path / "product.corrupt").read_bytes() == b"12346"


def test_an_error_of_another_disk_is_not_laid_to_the_folder(tmp_path):
    with pytest.raises(OSError, match="scratch") as caught, certified(tmp_path / "made-abab.json", KEY, [], {}):
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch")
    assert str(tmp_path) not in str(caught.value)


def test_a_product_that_was_not_written_is_named(tmp_path):
    with (
        pytest.raises(StorageError, match="absent: there is no such file"),
        certified(tmp_path / "made-abab.json", KEY, [tmp_path / "absent"], {}),
    ):
        pass


def test_a_file_system_without_locks_is_told_in_a_line(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with (
        pytest.raises(StorageError, match=rf"^{tmp_path}: Operation not supported \[(ENOTSUP|EOPNOTSUPP)\]$"),
        certified(tmp_path / f"made-{KEY[:16]}.json", KEY, [], {}),
    ):
        pass


def test_no_certificate_is_back_after_a_power_cut(tmp_path, monkeypatch):
    """The folder is flushed once it holds no certificate, before the first product is written, here or elsewhere."""
    flushed, flush = [], os.fsync

    def fsync(descriptor):
        flushed.append(sorted(path.name for path in tmp_path.iterdir()))
        flush(descriptor)

    old = tmp_path / f"made-{'0' * 16}.json"
    old.write_text("{}")
    monkeypatch.setattr(os, "fsync", fsync)
    with certified(tmp_path / f"made-{KEY[:16]}.json", KEY, [], {}):
        assert flushed == [[]]
