"""Read a file once, safely: regular files only, a cap on its size, whole-file decompression with its checksum."""

import bz2
import errno
import hashlib
import os
import zlib
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar, cast

from isal import igzip, isal_zlib

from cubeflow.errors import FailedError
from cubeflow.regular import open_regular

MAX_FILE_BYTES = MAX_CONTENT_BYTES = 2**30
READ_LIMIT_S = 120.0
BZIP2_RATIO, GZIP_RATIO = 5, 16  # by which they make event lists smaller, at most
GZIP_MAGIC, BZIP2_MAGIC = b"\x1f\x8b", b"BZh"
_ERRORS = OSError, zlib.error, cast(type[Exception], isal_zlib.error)  # of which the stubs say that it is no class
_RESERVED = 0xE0  # flags of a gzip header
_CHUNK, _HEAD = 2**22, 2**12
CHANGED = "changed since the plan was made; start again, after cubeflow plan --verify if its times do not tell"
T = TypeVar("T")


class FileRefused(ValueError):
    """A file cannot be used; the message is one line that begins with its path."""


class InputChanged(FailedError):
    """A file is not what the plan was made with: what is read from it belongs to no key."""


class _Changed(Exception):
    """The file changed while it was read."""


def digest_file(path: Path) -> str:
    """Sha256, in hexadecimal digits, of the bytes of a file as they lie on the disk; FileRefused if it is not read."""
    return _read_steadily(path, lambda stream, _: hashlib.file_digest(stream, "sha256").hexdigest())


def read_content(path: Path, md5: str | None = None, *, sha256: str | None = None) -> bytes:
    """Bytes of a file, decompressed if its first bytes, never its name, say that it is gzip or bzip2.

    It must have the MD5 of its index and the digest (`digest_file`) of the plan, if they are given. A file that changes
    while it is read is read once more. Raises FileRefused if it is missing, unreadable, not read within `READ_LIMIT_S`,
    no regular file, too large, changing, truncated or damaged (CRC and length are checked), or its MD5 is another; and
    InputChanged if it has another digest than `sha256`, or can no longer be read.
    """
    try:
        raw = _read_steadily(path, lambda stream, size: stream.read(size + 1))
    except FileRefused as error:
        if sha256 is None:
            raise
        raise InputChanged(f"{error}: {CHANGED}") from error
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise InputChanged(f"{path}: {CHANGED}")
    if md5 and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5.strip().lower():
        raise FileRefused(f"{path}: its MD5 is not {md5}, as the index has it")
    return _unpack(raw, path) if raw.startswith((GZIP_MAGIC, BZIP2_MAGIC)) else raw


def begins_with(path: Path, start: bytes) -> bool:
    """Whether a file begins so, packed or not (all bzip2 does: it is not known before all is read); FileRefused."""
    head = _read_steadily(path, lambda stream, _: (stream.read(_HEAD), stream.seek(0, os.SEEK_END))[0])
    if head[:2] == GZIP_MAGIC:
        with suppress(zlib.error):
            head = zlib.decompressobj(31).decompress(head, len(start))
    return head.startswith((start, BZIP2_MAGIC))


def content_bytes(path: Path) -> int:
    """Size of a file when it is decompressed, from its last bytes (of bzip2 a guess); errors of `read_content`.

    Those of a gzip file that is cut may say anything: where they say more than events give, it is decompressed.
    """

    def take(stream: BufferedReader, size: int) -> int | None:
        start, _ = stream.read(3), stream.seek(max(0, size - 4))
        end = int.from_bytes(stream.read(), "little")
        likely = end if end <= GZIP_RATIO * size else None
        return likely if start[:2] == GZIP_MAGIC else BZIP2_RATIO * size if start == BZIP2_MAGIC else size

    size = _read_steadily(path, take)
    return len(read_content(path)) if size is None else size


def _read_steadily(path: Path, take: Callable[[BufferedReader, int], T]) -> T:
    """What `take` makes of the stream and size of a file, once more if the file changes meanwhile."""
    for _ in range(2):
        try:
            return _within_limit(path, take)
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror or error}") from error
        except ValueError as error:
            raise error if isinstance(error, FileRefused) else FileRefused(f"{str(path)!r}: {error}") from error
        except _Changed:
            continue
    raise FileRefused(f"{path}: changed while it was read, twice")


def _within_limit(path: Path, take: Callable[[BufferedReader, int], T]) -> T:
    """Read beside: a file system that hangs cannot be interrupted, only left behind with a TimeoutError."""
    answer: Future[T] = Future()

    def read() -> None:
        try:
            answer.set_result(_read_regular(path, take))
        except Exception as error:
            answer.set_exception(error)

    try:
        Thread(target=read, daemon=True).start()
    except RuntimeError as error:
        raise FailedError(f"{path}: {error}: reading takes one; expected room below `ulimit -u` or pids.max") from error
    if not wait([answer], READ_LIMIT_S).done:
        raise TimeoutError(errno.ETIMEDOUT, f"not read within {READ_LIMIT_S:g} s: the disk does not answer")
    return answer.result()


def _read_regular(path: Path, take: Callable[[BufferedReader, int], T]) -> T:
    """Read a regular file; a device, FIFO or folder is refused without waiting for it."""
    with open_regular(path) as stream:
        before = os.fstat(stream.fileno())
        if before.st_size > MAX_FILE_BYTES:
            raise FileRefused(f"{path}: {before.st_size} bytes, expected at most {MAX_FILE_BYTES}")
        value, length = take(stream, before.st_size), stream.tell()
        after = os.fstat(stream.fileno())
    if length != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _Changed
    return value


def _unpack(raw: bytes, path: Path) -> bytes:
    """Decompress all parts of a gzip or bzip2 file; FileRefused if it is damaged, cut, too large or not all."""
    kind = "gzip" if raw[:2] == GZIP_MAGIC else "bzip2"
    library: Any = bz2 if kind == "bzip2" else igzip  # ISA-L takes half the time of zlib
    if kind == "gzip" and raw[3:4] and raw[3] & _RESERVED:
        raise FileRefused(f"{path}: damaged gzip file (flags {raw[3]:#04x} in its header)")
    try:
        with library.open(BytesIO(raw)) as stream:
            # A single read would ask for all that is allowed.
            content = b"".join(islice(iter(lambda: stream.read(_CHUNK), b""), MAX_CONTENT_BYTES // _CHUNK + 1))
    except EOFError as error:
        raise FileRefused(f"{path}: truncated {kind} file") from error
    except _ERRORS as error:
        raise FileRefused(f"{path}: damaged {kind} file ({error})") from error
    if len(content) > MAX_CONTENT_BYTES:
        raise FileRefused(f"{path}: more than {MAX_CONTENT_BYTES} bytes after decompression")
    return content
