"""Arrays beyond a limit lie on the disk, and nobody who computes with them can tell."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cubeflow.storage.atomic import StorageError
from cubeflow.storage.spill import SpillRoom, settle


def test_in_memory_up_to_the_limit_and_on_the_disk_beyond(tmp_path):
    room = SpillRoom(tmp_path, 8 * 30)
    small, large, other = room.zeros((5, 4), "f8"), room.zeros((5, 7), "i8"), room.zeros((5, 2), "f8")
    assert [settle(array) for array in (small, large, large[2:], other)] == [False, True, True, False]
    assert not large.any()
    assert (large.shape, large.dtype) == ((5, 7), np.int64)


def test_values_stay_when_their_memory_goes(tmp_path):
    array = SpillRoom(tmp_path, 0).zeros((6, 50, 40), "f8")
    expected = np.random.default_rng(3).random(array.shape)
    for plane, values in zip(array, expected, strict=True):
        plane += values
        settle(array)
    np.testing.assert_array_equal(array, expected)


def test_no_file_has_a_name(tmp_path):
    array = SpillRoom(tmp_path, 0).zeros((3, 3), "f8")
    assert list(tmp_path.iterdir()) == []
    array[1, 2] = 4.0
    assert array.sum() == 4.0


def test_memory_does_not_grow_with_what_is_written(tmp_path):
    array = SpillRoom(tmp_path, 0).zeros((16, 1 << 20), "f8")
    before = resident_mb()
    for plane in array:
        plane += 1.0
        settle(array)
    assert resident_mb() < before + 0.25 * array.nbytes / 2**20


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match="there is no such file or folder"):
        SpillRoom(tmp_path / "gone", 0).zeros((3, 3), "f8")


def test_disk_that_is_full_is_an_error_when_the_array_is_made(tmp_path):
    with pytest.raises(StorageError, match=r"no space is left|file size|cannot allocate|Invalid|File too large"):
        SpillRoom(tmp_path, 0).zeros((1 << 20, 1 << 30), "f8")


def test_no_addresses_left_is_a_lack_of_memory(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    room = SpillRoom(tmp_path, 0)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(MemoryError, match="Cannot allocate memory"):
        room.zeros((3, 3), "f8")


def test_memory_of_an_array_that_is_gone_can_be_used_again(tmp_path):
    room = SpillRoom(tmp_path, 8 * 30)
    for _ in range(3):
        array = room.zeros((5, 6), "f8")
        assert not settle(array)
        assert settle(room.zeros((1, 1), "f8"))
        del array
