"""Arrays in scratch files if large: zeros, values that stay, and an error where the disk does not take them."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cubeflow.maps import release, scratch_zeros


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBEFLOW_SCRATCH", str(tmp_path))
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 0)
    return tmp_path


def test_a_small_array_is_in_memory_and_a_large_one_is_not(folder, monkeypatch):
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 20)
    small, large = scratch_zeros((4, 5), "f8"), scratch_zeros((3, 7), "u1")
    assert not small.any()
    assert not large.any()
    assert (small.shape, large.shape) == ((4, 5), (3, 7))
    assert [release(array) for array in (small, large)] == [False, True]


@pytest.mark.parametrize("dtype", ["f4", "i8", "?"])
def test_values_stay_when_memory_is_released(folder, dtype):
    array = scratch_zeros((3, 50, 70), dtype)
    assert array.dtype == np.dtype(dtype)
    assert not array.any()
    expected = np.random.default_rng(1).integers(0, 2, array.shape).astype(dtype)
    array[1:, 5:] = expected[1:, 5:]
    assert release(array[1])
    np.testing.assert_array_equal(array[1:, 5:], expected[1:, 5:])
    assert not array[0].any()


def test_files_have_no_name_and_lie_where_the_variable_says(folder, monkeypatch):
    (folder / "job-7").mkdir()
    monkeypatch.setenv("CUBEFLOW_SCRATCH", f"{folder}/job-$NUMBER")
    monkeypatch.setenv("NUMBER", "7")
    array = scratch_zeros((1 << 20,), "u1")
    assert list((folder / "job-7").iterdir()) == []
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert any(str(folder / "job-7") in line and "(deleted)" in line for line in lines)
    assert array.nbytes == 1 << 20


def test_what_is_in_memory_is_not_released():
    assert not release(np.zeros(3))
    assert not release(np.arange(12.0).reshape(3, 4)[1:].T)


def test_an_array_without_values(folder):
    assert scratch_zeros((0, 5), "f8").shape == (0, 5)


def test_a_full_disk_is_an_error_when_the_array_is_made(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device, for 8 MB of scratch space") as caught:
        scratch_zeros((1000, 1000), "f8")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBEFLOW_SCRATCH", str(tmp_path / "absent"))
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 2)
    with pytest.raises(FileNotFoundError, match="absent"):
        scratch_zeros((3,), "f8")
