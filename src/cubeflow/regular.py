"""Regular files alone are opened: a FIFO in the place of a file would be waited for, for ever."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading; OSError if that fails, or if it is a folder, FIFO, socket or device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"expected a regular file, got {KINDS.get(kind, 'a device')}", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """Content of a file; raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()
