"""Compressed FITS files of the simulation."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path


def write_gzip(path: Path, content: bytes) -> Path:
    """Compress and write a file through a temporary name, so that it is there whole or not at all; returns `path`.

    Raises
    ------
    OSError
        If the folder cannot be written; no temporary file is left.
    """
    packed = gzip.compress(content, compresslevel=6, mtime=0)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(packed)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
