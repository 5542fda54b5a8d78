"""Arrays on the disk, for maps that need not fit into memory."""

import math
import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SCRATCH_VARIABLE = "CUBEFLOW_SCRATCH"
HELD_VALUES = 1 << 22  # of an array that stays in memory; writing to a file takes several times as long


def scratch_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Array of zeros: if it is large, in a file without a name, so that none is left behind however the process ends.

    The file is in the folder that ``CUBEFLOW_SCRATCH`` names, in which variables are filled in here, on the machine of
    the job (``$SLURM_TMPDIR`` is known to no other), or in the system's folder for temporary files. OSError if the disk
    does not take it: all of it is asked for at once, and never when a value is written.
    """
    folder = os.path.expandvars(os.environ.get(SCRATCH_VARIABLE, "")) or tempfile.gettempdir()
    number = math.prod(shape)
    if number <= HELD_VALUES:
        return np.zeros(shape, dtype)
    size = max(number * np.dtype(dtype).itemsize, 1)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            memory = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, for {size / 1e6:.0f} MB of scratch space", folder) from error
    return np.frombuffer(memory, dtype, number).reshape(shape)


def release(array: NDArray[Any]) -> bool:
    """Let the memory of an array go if it lies in a file, where its values stay; tell whether it does."""
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if not isinstance(owner, mmap.mmap):
        return False
    owner.madvise(mmap.MADV_DONTNEED)
    return True
