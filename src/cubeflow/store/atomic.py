"""Files appear whole or not at all.

A file is written under a hidden name in its own folder, flushed to the disk and renamed. Whatever
fails on the way, the name of the file leads to the old content or to the new one. Its writer holds a
lock on it: the kernel gives that back when the writer dies, on whatever host or in whatever container.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

from cubeflow.errors import FailedError
from cubeflow.regular import open_regular

PathLike = str | os.PathLike[str]
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8}-[0-9]{1,10}-)?[0-9a-f]{16}\.tmp")
_REASONS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the allowed file size",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ENOENT: "there is no such file or folder (any more)",
    errno.ENOTDIR: "its folder is no folder",
    errno.EEXIST: "a file, or a link to nothing, is there in place of a folder",
    errno.ELOOP: "a link that leads to itself",
    errno.EISDIR: "a folder has that name",
    errno.ENAMETOOLONG: "the name is too long",
}


class StorageError(FailedError):
    """A file could not be written or read; the message names it and says why."""


@contextmanager
def replacing(path: PathLike) -> Iterator[BufferedRandom]:
    """Give a new binary file, open for reading and writing, whose content gets the name `path` at the end.

    Any OSError inside the block or here becomes a StorageError: the disk is full, the folder is read-only or not there.
    What stood under the name before is untouched, unless only the last step fails, flushing the folder; no temporary
    stays.
    """
    path = Path(path)
    with naming(path):
        temporary = path.parent / temporary_name(path.name)
        try:  # begins before the file is there: a signal may come at any time
            file = _open_locked(temporary)
            with os.fdopen(os.dup(file.fileno()), "rb"):  # keeps the lock until the file has its name
                # A network file system may report only on closing that the disk is full.
                with file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def write_atomic(path: PathLike, payload: bytes | bytearray | memoryview) -> None:
    """Put `payload` under the name `path`, completely or not at all; raises as `replacing`."""
    with replacing(path) as file:
        file.write(payload)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are not there; StorageError if that fails."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)


def file_sha256(path: PathLike) -> str:
    """Compute the sha256 of the bytes of a file, 64 hexadecimal digits; StorageError if it cannot be read."""
    with naming(path), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_name(name: str) -> str:
    """Hidden name for a file in the making, another one at each call."""
    # 150 bytes and what follows fit into the 255 of a file name.
    return f".{name.encode()[:150].decode(errors='ignore')}.{secrets.token_hex(8)}.tmp"


def sweep_temporaries(folder: PathLike) -> list[Path]:
    """Remove what writers that died left in `folder`; give the files, sorted. StorageError if it fails."""
    folder = Path(folder)
    with naming(folder):
        found = [path for path in sorted(folder.iterdir()) if TEMPORARY.fullmatch(path.name)]
        return [path for path in found if is_abandoned(path, remove=True)]


def is_abandoned(path: Path, remove: bool = False) -> bool:
    """Whether no writer holds a temporary file any more; where that cannot be told, it counts as held.

    With `remove` it is removed in the same breath, so that nobody can take it up.
    """
    try:
        file = open_regular(path)
    except OSError:  # it is gone, or none of ours
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # held, or on a file system without locks
            return False
        if remove:
            path.unlink(missing_ok=True)
    return True


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


def _open_locked(temporary: Path) -> BufferedRandom:
    """Make and open a file, locked where the file system has locks."""
    while True:
        file = temporary.open("x+b")
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)  # waits for nobody but one who sweeps, and then the file is gone
        if temporary.exists():
            return file
        file.close()
