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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

from cubeflow.errors import FailedError

PathLike = str | os.PathLike[str]
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{16}\.tmp")
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


@contextmanager
def replacing(path: PathLike) -> Iterator[BufferedRandom]:
    """Give a new binary file, open for reading and writing, whose content gets the name `path` at the end.

    Raises
    ------
    StorageError
        For any OSError inside the block or here: the disk is full, the folder is read-only or not there. What stood
        under the name before is untouched, unless only the last step fails, flushing the folder; no temporary stays.
    """
    path = Path(path)
    temporary = path.parent / temporary_name(path.name)
    with naming(path):
        try:
            # A network file system may report only on closing that the disk is full.
            with temporary.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def write_atomic(path: PathLike, payload: bytes | bytearray | memoryview) -> None:
    """Put `payload` under the name `path`, completely or not at all; raises as `replacing`."""
    with replacing(path) as file:
        file.write(payload)


def file_sha256(path: PathLike) -> str:
    """Compute the sha256 of the bytes of a file, 64 hexadecimal digits; StorageError if it cannot be read."""
    with naming(path), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_name(name: str) -> str:
    """Hidden name for a file in the making: tells the host (hashed) and the process that makes it."""
    # 150 characters leave room in the 255 bytes of a file name even where each takes more than one byte.
    return f".{name.encode()[:150].decode(errors='ignore')}.{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


def sweep_temporaries(folder: PathLike) -> list[Path]:
    """Remove what writers that died on this host left in `folder`; give the files, sorted. StorageError if it fails."""
    folder = Path(folder)
    removed = []
    with naming(folder):
        for path in sorted(folder.iterdir()):
            match = TEMPORARY.fullmatch(path.name)
            if match and match[1] == _host() and not _is_alive(int(match[2])):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


@contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Turn an OSError inside the block into a StorageError that names the file and the cause."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = _REASONS.get(number, error.strerror or str(error))
        code = f" [{errno.errorcode[number]}]" if number in errno.errorcode else ""
        raise StorageError(f"{os.fspath(path)}: {reason}{code}") from error


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk; a file system that cannot is left alone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    """Whether a process of that number runs here."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is of somebody else
        pass
    return True


def _host() -> str:
    """Eight digits that stand for this host without naming it."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
