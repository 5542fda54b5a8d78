"""Read a file once, safely: regular files only, a cap on its size, whole-file decompression with its checksum."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, cast

from isal import isal_zlib

MAX_FILE_BYTES = 2**30
MAX_CONTENT_BYTES = 2**30
READ_LIMIT_S = 120.0
GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
_GZIP_ERRORS = zlib.error, cast(type[Exception], isal_zlib.error)  # of which the stubs say that it is no class
_RARE_FLAGS = 0xE2  # of a gzip header: a checksum of its own, and what the format has reserved
_CHUNK = 2**24


class FileRefused(ValueError):
    """A file cannot be used; the message is one line that begins with its path."""


class _Changed(Exception):
    """The file changed while it was read."""


def read_content(path: Path, max_content: int = MAX_CONTENT_BYTES, md5: str | None = None) -> bytes:
    """Bytes of a file, decompressed if it is gzip.

    Parameters
    ----------
    path : Path
        A regular file; whether it is gzip is decided by its first bytes, never by its name.
    max_content : int
        Largest size accepted after decompression.
    md5 : str or None
        MD5 that the file must have, in hexadecimal digits.

    Returns
    -------
    bytes
        The content. A file that changes while it is read is read once more.

    Raises
    ------
    FileRefused
        If it is missing, unreadable, not read within `READ_LIMIT_S`, no regular file, too large,
        changing, or a gzip file that is truncated or damaged (its CRC and length are checked); or if
        its MD5 is another.
    """
    for _ in range(2):
        try:
            raw = _read_within_limit(path)
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror or error}") from error
        except ValueError as error:
            raise error if isinstance(error, FileRefused) else FileRefused(f"{str(path)!r}: {error}") from error
        except _Changed:
            continue
        if md5 and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5.strip().lower():
            raise FileRefused(f"{path}: its MD5 is not {md5}, as the index has it")
        return gunzip(raw, path, max_content) if raw[:2] == GZIP_MAGIC else raw
    raise FileRefused(f"{path}: changed while it was read, twice")


def _read_within_limit(path: Path) -> bytes:
    """Bytes of a regular file, read beside: a file system that hangs cannot be interrupted, only left behind.

    Raises
    ------
    TimeoutError
        If they are not there after `READ_LIMIT_S`.
    """
    answers: SimpleQueue[bytes | Exception] = SimpleQueue()

    def read() -> None:
        """Answer with the bytes, or with what went wrong."""
        try:
            answers.put(_read_regular(path))
        except (OSError, ValueError, MemoryError, _Changed) as error:
            answers.put(error)

    Thread(target=read, daemon=True).start()
    try:
        answer = answers.get(timeout=READ_LIMIT_S)
    except Empty:
        raise TimeoutError(errno.ETIMEDOUT, f"not read within {READ_LIMIT_S:g} s: the disk does not answer") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read_regular(path: Path) -> bytes:
    """Bytes of a regular file; a device, FIFO or folder is refused without waiting for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise FileRefused(f"{path}: expected a regular file, got {_kind(before.st_mode)}")
        if before.st_size > MAX_FILE_BYTES:
            raise FileRefused(f"{path}: {before.st_size} bytes, expected at most {MAX_FILE_BYTES}")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            raw = stream.read(before.st_size + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if len(raw) != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _Changed
    return raw


def _kind(mode: int) -> str:
    """What a file that is not regular is."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _decoder(raw: bytes) -> Any:
    """Decoder of a gzip member: ISA-L in half the time of zlib, but for headers of which it checks less than zlib."""
    return (zlib if raw[3:4] and raw[3] & _RARE_FLAGS else isal_zlib).decompressobj(_GZIP_WBITS)


def gunzip(raw: bytes, path: Path, max_content: int) -> bytes:
    """Decompress all members of a gzip file in memory.

    Raises
    ------
    FileRefused
        If it is truncated, damaged, followed by other bytes, or larger than `max_content`.
    """
    parts: list[bytes] = []
    size = 0
    while raw:
        decoder = _decoder(raw)
        try:
            pending = raw
            while pending and not decoder.eof:
                parts.append(decoder.decompress(pending, _CHUNK))
                size += len(parts[-1])
                if size > max_content:
                    raise FileRefused(f"{path}: more than {max_content} bytes after decompression")
                pending = decoder.unconsumed_tail
        except _GZIP_ERRORS as error:
            raise FileRefused(f"{path}: damaged gzip file ({error})") from error
        if not decoder.eof:
            raise FileRefused(f"{path}: truncated gzip file")
        raw = decoder.unused_data.lstrip(b"\0")
    return b"".join(parts)
