"""Certificates: what the products in a folder were made from. There is one in a folder, and it is current.

Products have plain names, for people. The certificate is named by their key: it is removed before the first of them is
written again and appears after the last.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cubeflow.pipeline.tasks import certificate_file
from cubeflow.store.atomic import file_sha256, naming, write_atomic

LIBRARIES = ("cubeflow", "numpy", "scipy", "astropy", "h5py")


@contextmanager
def certified(folder: Path, key: str, files: Sequence[Path], made_from: Mapping[str, object]) -> Iterator[None]:
    """Write products in the block; their certificate appears at its end, and no other is left.

    Parameters
    ----------
    folder : Path
        Folder of the certificate; made if it is not there.
    key : str
        Key of the products.
    files : sequence of Path
        What the block writes.
    made_from : mapping
        Inputs, options and algorithm versions, as plain values.

    Raises
    ------
    StorageError
        If a file cannot be written. Another writer in the same folder is waited for.
    """
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for old in folder.glob("made-*.json"):
            with naming(old):
                old.unlink(missing_ok=True)
        yield
        listed = {}
        for path in files:
            sha256 = file_sha256(path)  # says which file it is if it is not there
            listed[os.path.relpath(path, folder)] = {"bytes": path.stat().st_size, "sha256": sha256}
        content = {"key": key, **made_from, "software": software(), "files": listed}
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        write_atomic(folder / certificate_file("", key), text.encode())
    finally:
        os.close(descriptor)


def read_certificate(path: Path) -> Mapping[str, Any] | None:
    """Content of a certificate; None if there is none or it is something else."""
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content["files"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def holds(path: Path) -> bool:
    """Whether there is a certificate, and each file that it names has the size that it says."""
    content = read_certificate(path)
    if content is None:
        return False
    try:
        return all((path.parent / name).stat().st_size == each["bytes"] for name, each in content["files"].items())
    except (OSError, KeyError, TypeError):
        return False


def software() -> dict[str, str]:
    """Versions and kind of processor: between others of them the last digits of products may differ."""
    from importlib.metadata import version  # slow to import, and few need it

    found = {name: version(name) for name in LIBRARIES}
    return {**found, "python": platform.python_version(), "processor": _processor()}


def _processor() -> str:
    """Kind of processor: its architecture, and the widest vector instructions that it has."""
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        flags = []
    widest = next((name for name in ("avx512f", "avx2", "avx", "sse4_2") if name in flags), "")
    return f"{platform.machine()} {widest}".strip()
