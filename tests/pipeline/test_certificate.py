"""Certificates: there after the last product, and an error names the file that it is about."""

import errno

import pytest

from cubeflow.pipeline.certificate import certified, holds
from cubeflow.store.atomic import StorageError

KEY = "ab" * 32


def test_a_certificate_appears_after_the_products_and_replaces_the_one_before(tmp_path):
    (tmp_path / "made-0123456789abcdef.json").write_text("{}")
    product = tmp_path / "product"
    with certified(tmp_path, KEY, [product], {"inputs": {}}):
        assert not list(tmp_path.glob("made-*.json"))
        product.write_bytes(b"12345")
    (certificate,) = tmp_path.glob("made-*.json")
    assert holds(certificate)
    product.write_bytes(b"123456")
    assert not holds(certificate)


def test_an_error_of_another_disk_is_not_laid_to_the_folder(tmp_path):
    with pytest.raises(OSError, match="scratch") as caught, certified(tmp_path, KEY, [], {}):
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch")
    assert str(tmp_path) not in str(caught.value)


def test_a_product_that_was_not_written_is_named(tmp_path):
    with (
        pytest.raises(StorageError, match="absent: there is no such file"),
        certified(tmp_path, KEY, [tmp_path / "absent"], {}),
    ):
        pass
