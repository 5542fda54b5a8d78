"""A file on the disk as HDF5 sees it: one that never refuses a byte."""

from __future__ import annotations

import errno
import os

from cubeflow.storage.atomic import write_all

Buffer = bytes | bytearray | memoryview


class Sink:
    """Seekable binary file object over a descriptor, which keeps the first error and goes on without the disk.

    HDF5 can end in a segmentation fault when it is closed after a write has failed. It is therefore told
    that all went well; whoever writes calls `check`, and must not use the file when that raises.

    Parameters
    ----------
    descriptor : int
        Of an empty file, open for reading and writing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._size = 0
        self._failure: tuple[int, str] | None = None

    def check(self) -> None:
        """Raise the first OSError, if there was one."""
        if self._failure is not None:
            raise OSError(*self._failure)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, as files do."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def write(self, data: Buffer) -> int:
        """Take all bytes; they go to the disk unless it has failed before."""
        length = memoryview(data).nbytes
        if self._failure is None:
            try:
                os.lseek(self._descriptor, self._position, os.SEEK_SET)
                write_all(self._descriptor, data)
            except OSError as error:
                self._keep(error)
        self._position += length
        self._size = max(self._size, self._position)
        return length

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill the buffer from the disk up to the end of the file; zeros where the disk has failed."""
        target = memoryview(buffer).cast("B")
        length = max(0, min(target.nbytes, self._size - self._position))
        count = 0
        while self._failure is None and count < length:
            count += self._read_some(target[count:length], self._position + count)
        target[count:length] = bytes(length - count)
        self._position += length
        return length

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or to the end of the file."""
        left = max(0, self._size - self._position)
        buffer = bytearray(left if size < 0 else min(size, left))
        self.readinto(buffer)
        return bytes(buffer)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        size = self._position if size is None else size
        if self._failure is None:
            try:
                os.ftruncate(self._descriptor, size)
            except OSError as error:
                self._keep(error)
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: all bytes have been handed on; the caller flushes the disk at the end."""

    def _keep(self, error: OSError) -> None:
        """Keep what an error says, but not the error.

        Its traceback leads to the frame in which h5py opens a file, which holds a list of HDF5 with a reference to
        this object that Python's collector cannot see: none of them would ever be freed, and HDF5 crashes on such
        a list when the process ends.
        """
        self._failure = (error.errno or errno.EIO, error.strerror or os.strerror(errno.EIO))

    def _read_some(self, target: memoryview, position: int) -> int:
        """Read some bytes; keeps the error if there are none where there must be."""
        try:
            count = os.preadv(self._descriptor, [target], position)
            if not count:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError as error:
            self._keep(error)
            return 0
        return count
