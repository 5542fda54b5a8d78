"""The first 512 bytes of an artifact: what it is, and the checksum of everything after them.

HDF5 leaves room for such a block in front of its own content, and every HDF5 program skips it. Ours
is text: one line that names the format and its version, one line of JSON, and the checksum of the block itself. So
a key is read without HDF5, and no flipped bit anywhere in the file goes unseen.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from dataclasses import asdict, dataclass
from typing import Protocol

from cubeflow.errors import FailedError
from cubeflow.storage.atomic import storage_error
from cubeflow.storage.keys import canonical_json

BLOCK = 512
SCHEMA = 1
MAX_FILE_BYTES = 1 << 38
READ_STEP = 1 << 20
_MAGIC = b"cubeflow artifact schema "
_SEALED = BLOCK - 65
_FORMS = {
    "kind": re.compile(r"[a-z][a-z0-9_-]{0,63}"),
    "key": re.compile(r"[0-9a-f]{64}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
}


class ArtifactDamaged(FailedError):
    """A file is not the artifact that was written: cut, changed, or never one."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = path, reason


class ArtifactMismatch(FailedError):
    """A sound artifact, but not the one asked for: another key, kind or older schema, or without a dataset."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = path, reason


class ArtifactNewer(FailedError):
    """An artifact of a newer version of this program: it is neither read nor replaced."""


@dataclass(frozen=True)
class Envelope:
    """What the first block says.

    Parameters
    ----------
    kind : str
        ``reduced``, ``background``, ``stack``, ...
    key : str
        Key of the artifact, 64 hexadecimal digits.
    size : int
        Length of the whole file in bytes.
    sha256 : str
        Checksum of all bytes after the first block.

    Raises
    ------
    ValueError
        If one of them has another form.
    """

    kind: str
    key: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        for name, form in _FORMS.items():
            value = getattr(self, name)
            if not (isinstance(value, str) and form.fullmatch(value)):
                raise ValueError(f"{name}: expected the form {form.pattern}, got {value!r}")
        if type(self.size) is not int or self.size <= BLOCK:
            raise ValueError(f"size: expected more than {BLOCK} bytes, got {self.size!r}")


def seal(envelope: Envelope) -> bytes:
    """Write the first block, 512 bytes."""
    text = _MAGIC + b"%d\n" % SCHEMA + canonical_json(asdict(envelope)) + b"\n"
    block = text.ljust(_SEALED)
    return block + hashlib.sha256(block).hexdigest().encode() + b"\n"


def open_block(path: str | os.PathLike[str], block: bytes) -> Envelope:
    """Read the first block of `path`.

    Raises
    ------
    ArtifactDamaged
        If it is not what was written.
    ArtifactMismatch
        If the file was written by an older version.
    ArtifactNewer
        If the file was written by a newer version.
    """
    if len(block) < BLOCK or not block.startswith(_MAGIC):
        raise ArtifactDamaged(path, "not a cubeflow artifact, or its first block is damaged")
    if block[_SEALED:] != hashlib.sha256(block[:_SEALED]).hexdigest().encode() + b"\n":
        raise ArtifactDamaged(path, "the first block is damaged")
    schema, content = block[len(_MAGIC) : _SEALED].split(b"\n", 1)
    if schema.isdigit() and int(schema[:9]) > SCHEMA:
        raise ArtifactNewer(
            f"{os.fspath(path)}: has schema {schema[:9].decode()}, this version reads {SCHEMA};"
            " use the newer version, or another results folder"
        )
    if schema != b"%d" % SCHEMA:
        raise ArtifactMismatch(path, f"has schema {schema.decode('ascii', 'replace')}, this version reads {SCHEMA}")
    try:
        return Envelope(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise ArtifactDamaged(path, f"the first block is not valid: {error}") from error


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, without ever waiting; give its descriptor.

    Raises
    ------
    StorageError
        If the file cannot be opened.
    ArtifactDamaged
        If it is a folder, a device, a pipe or a socket.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactDamaged(path, "not a regular file")
    return descriptor


def read_envelope(path: str | os.PathLike[str], descriptor: int) -> Envelope:
    """Read the first block of an open file and compare the length of the file with it.

    Raises
    ------
    ArtifactDamaged, ArtifactMismatch
        As `open_block`; also for a file of another length than the block says, or above `MAX_FILE_BYTES`.
    """
    envelope = open_block(path, os.pread(descriptor, BLOCK, 0))
    size = os.fstat(descriptor).st_size
    if size != envelope.size:
        raise ArtifactDamaged(path, f"has {size} bytes, {envelope.size} were written")
    if size > MAX_FILE_BYTES:
        raise ArtifactDamaged(path, f"has {size} bytes, the limit is {MAX_FILE_BYTES}")
    return envelope


class Readable(Protocol):
    """A seekable binary file object."""

    def seek(self, offset: int, whence: int = ..., /) -> int:
        """Set the position."""

    def readinto(self, buffer: bytearray, /) -> int | None:
        """Fill the buffer as far as there is content."""


def digest(file: Readable) -> str:
    """Compute the sha256 of everything after the first block of an open file."""
    if isinstance(file, io.BytesIO):
        return hashlib.sha256(file.getbuffer()[BLOCK:]).hexdigest()
    buffer, total = bytearray(READ_STEP), hashlib.sha256()
    file.seek(BLOCK)
    while count := file.readinto(buffer):
        total.update(memoryview(buffer)[:count])
    return total.hexdigest()
