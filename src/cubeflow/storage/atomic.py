"""Files appear whole or not at all.

A file is written under a hidden name in its own folder, flushed to the disk and renamed. Whatever
fails on the way, the name of the file leads to the old content or to the new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cubeflow.errors import FailedError

Payload = bytes | bytearray | memoryview
WRITE_STEP = 1 << 24
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{16}\.tmp")
_REASONS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the allowed file size",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ENOENT: "there is no such file or folder (any more)",
    errno.ENOTDIR: "its folder is no folder",
    errno.EISDIR: "a folder has that name",
    errno.ENAMETOOLONG: "the name is too long",
}


class StorageError(FailedError):
    """A file could not be written or read; the message names it and says why."""


def write_atomic(path: str | os.PathLike[str], payload: Payload, *, is_read_soon: bool = True) -> None:
    """Put `payload` under the name `path`, completely or not at all.

    Parameters
    ----------
    path : path-like
        Final name. Its folder must exist; a file of that name is replaced.
    payload : bytes-like
        Content of the file.
    is_read_soon : bool
        Keep it in the memory of the operating system. Without that the memory serves the next file, which costs a
        quarter of what new memory does, and what else is kept there stays.

    Raises
    ------
    StorageError
        If the disk is full, the folder is read-only or gone, or any other call fails. What stood under
        the name before is untouched and no temporary file stays (except that, when only the last step
        fails, flushing the folder, the new content is already in place).
    """
    with replacing(path, is_read_soon) as descriptor:
        write_all(descriptor, payload)


def write_parts(path: str | os.PathLike[str], parts: Iterable[Payload]) -> None:
    """Put content that is made part by part under the name `path`; as `write_atomic`."""
    with replacing(path) as descriptor:
        for part in parts:
            write_all(descriptor, part)


@contextmanager
def replacing(path: str | os.PathLike[str], is_read_soon: bool = True) -> Iterator[int]:
    """Give a file descriptor, open for reading and writing, whose content gets the name `path` at the end.

    Raises
    ------
    StorageError
        As `write_atomic`; also for an OSError raised inside the block.
    """
    path = Path(path)
    temporary = path.parent / temporary_name(path.name)
    try:
        try:
            yield from _written(temporary, is_read_soon)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def write_all(descriptor: int, payload: Payload) -> None:
    """Write all bytes at the current position of an open file; OSError if the disk does not take them."""
    rest = memoryview(payload).cast("B")
    while rest.nbytes:
        rest = rest[os.write(descriptor, rest[:WRITE_STEP]) :]


def temporary_name(name: str) -> str:
    """Hidden name for a file in the making: tells the host (hashed) and the process that makes it."""
    # 150 characters leave room in the 255 bytes of a file name even where each takes more than one byte.
    return f".{name.encode()[:150].decode(errors='ignore')}.{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


def sweep_temporaries(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what writers that died left behind in `folder`.

    Files of living processes and of other hosts stay. Returns the removed files, sorted.

    Raises
    ------
    StorageError
        If the folder cannot be read or a leftover cannot be removed.
    """
    folder = Path(folder)
    removed = []
    try:
        for path in sorted(folder.iterdir()):
            match = _TEMPORARY.fullmatch(path.name)
            if match and match[1] == _host() and not _alive(int(match[2])):
                path.unlink(missing_ok=True)
                removed.append(path)
    except OSError as error:
        raise storage_error(folder, error) from error
    return removed


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk; a file system that cannot is left alone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def storage_error(path: str | os.PathLike[str], error: OSError) -> StorageError:
    """Turn an OSError into a message that names the file and the cause."""
    number = error.errno or 0
    reason = _REASONS.get(number, error.strerror or str(error))
    code = f" [{errno.errorcode[number]}]" if number in errno.errorcode else ""
    return StorageError(f"{os.fspath(path)}: {reason}{code}")


def _written(temporary: Path, is_read_soon: bool) -> Iterator[int]:
    """Open the temporary file, hand it out, flush it to the disk, close it."""
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
        os.fsync(descriptor)
        if not is_read_soon and hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # it is no more than advice
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)  # a network file system may report here that the disk is full


def _alive(pid: int) -> bool:
    """Whether a process of that number runs on this host."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    """Eight digits that stand for this host without naming it."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
