"""Certificates: what the products in a folder were made from. There is one in a folder, and it is current.

Products have plain names, for people. The certificate is named by their key: it is removed before the first of them is
written again and appears after the last. It holds size and sha256 of each, and its own sha256.
"""

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from cubeflow.errors import FailedError
from cubeflow.regular import read_regular
from cubeflow.store.artifact import set_aside
from cubeflow.store.atomic import file_sha256, make_folder, naming, sync_folder, write_atomic
from cubeflow.store.keys import parse_json, seal

LIBRARIES = ("cubeflow", "numpy", "scipy", "astropy", "h5py", "hdf5plugin")


@contextmanager
def certified(
    certificate: Path, key: str, files: Sequence[Path], made_from: Mapping[str, object], read: Sequence[Path] = ()
) -> Iterator[None]:
    """Write products of a key, `files`, in the block; their certificate appears at its end, the only one of its kind.

    The certificate is named ``<kind>-<key>.json``; its folder is made if it is not there. What the products are
    `made_from` (the record of the recipe of the key, and what else it should hold) is taken at the end of the block,
    with the digests of stacks and certificates that were `read`: who changes one of these must change all above it.
    Another writer in the same folder is waited for. StorageError if a file cannot be written.
    """
    folder, kind = certificate.parent, certificate.name.partition("-")[0]
    make_folder(folder)
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for old in folder.glob(f"{kind}-*.json"):
            with naming(old):
                old.unlink(missing_ok=True)
        with naming(folder):
            sync_folder(folder)  # after a power cut none may be back beside what is written here, or in another folder
        yield
        listed = {}
        for path in files:
            sha256 = file_sha256(path)  # says which file it is if it is not there
            listed[os.path.relpath(path, folder)] = {"bytes": path.stat().st_size, "sha256": sha256}
        proofs = {os.path.relpath(path, folder): file_sha256(path) for path in read}
        content = {"key": key, **made_from, "software": software(), "files": listed, "read": proofs}
        text = json.dumps({**content, "sha256": seal(content)}, indent=1, sort_keys=True) + "\n"
        write_atomic(certificate, text.encode())
    finally:
        os.close(descriptor)


def read_certificate(path: Path, key: str | None = None) -> Mapping[str, Any] | None:
    """Content of a certificate, that of a key if it is given; None if there is none or it is not as it was written."""
    try:
        content = parse_json(read_regular(path))
        return content if content.pop("sha256") == seal(content) and key in (None, content["key"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def holds(path: Path, key: str) -> bool:
    """Whether there is a certificate of a key, and each file that it names has the size that it says."""
    content = read_certificate(path, key)
    try:
        return content is not None and all(
            (path.parent / name).stat().st_size == each["bytes"] for name, each in content["files"].items()
        )
    except OSError:
        return False


def read_certified(path: Path, certificate: Path, key: str) -> bytes:
    """Content of a product.

    FailedError if it is not the one of its certificate: it is set aside, and the next start makes it again.
    """
    found = read_certificate(certificate, key)
    with naming(path):
        payload = read_regular(path)
    name = os.path.relpath(path, certificate.parent)
    if found is None or found["files"][name]["sha256"] != hashlib.sha256(payload).hexdigest():
        aside = set_aside(path).name
        raise FailedError(f"{path}: not as {certificate.name} says; set aside as {aside}, start again to make it")
    return payload


@cache
def software() -> Mapping[str, str]:
    """Versions and kind of processor: between others of them the last digits of products may differ."""
    from importlib.metadata import version  # slow to import, and few need it

    import h5py
    import numpy as np

    blas: Any = np.show_config("dicts")["Build Dependencies"]["blas"]
    found = {name: version(name) for name in LIBRARIES}
    found |= {"hdf5": h5py.version.hdf5_version, "blas": f"{blas['name']} {blas['version']}"}
    flags: list[str] = []
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    widest = next((name for name in ("avx512f", "avx2", "avx", "sse4_2") if name in flags), "")  # of its vectors
    processor = f"{platform.machine()} {widest}".strip()
    return {**found, "python": platform.python_version(), "processor": processor}
