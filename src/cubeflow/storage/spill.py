"""Arrays that need not fit into memory: beyond a limit they lie in files without a name."""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.storage.atomic import storage_error

Array = NDArray[Any]


class SpillRoom:
    """Room for arrays: in memory as far as the limit, on the disk beyond.

    The files have no name, so that none is left behind however the process ends. The disk is asked for all of an
    array when it is made: one that is full is an error there, and never when a value is written.

    Parameters
    ----------
    folder : Path
        Existing folder on the disk that is used.
    limit_bytes : int
        Most memory of all arrays together.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._left = limit_bytes

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Give an array of zeros; StorageError if the disk does not take it, MemoryError without addresses for it."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size <= self._left:
            self._left -= size
            array: Array = np.zeros(shape, dtype)
            weakref.finalize(array, self._give_back, size).atexit = False  # a sum that has grown has left its old array
            return array
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)
        except OSError as error:
            if error.errno == errno.ENOMEM:  # the limit is on addresses, which files take, too
                raise MemoryError(str(error)) from error
            raise storage_error(self._folder, error) from error

    def _give_back(self, size: int) -> None:
        self._left += size

    def settle(self, array: Array) -> None:
        """Let the memory of an array on the disk go; its values stay."""
        settle(array)


def settle(array: Array) -> bool:
    """Let the memory of an array go if it lies on the disk; tell whether it does."""
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if not isinstance(owner, mmap.mmap):
        return False
    owner.madvise(mmap.MADV_DONTNEED)
    return True
