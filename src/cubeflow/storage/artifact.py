"""Artifacts: what a step made, with its key, in one HDF5 file that is whole or absent.

In front of the HDF5 content stands a block of text with key, length and checksum (see
`cubeflow.storage.envelope`). Reading compares all of them, so that a damaged file is never used.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cubeflow.storage.atomic import WRITE_STEP, StorageError, replacing, storage_error, write_all, write_atomic
from cubeflow.storage.described import CubeStream
from cubeflow.storage.envelope import (
    SCHEMA,
    ArtifactDamaged,
    ArtifactMismatch,
    ArtifactNewer,
    Envelope,
    digest,
    open_regular,
    read_envelope,
    seal,
)
from cubeflow.storage.hdf5_write import write_content
from cubeflow.storage.made import Artifact, root_attributes
from cubeflow.storage.opened import check_artifact, hold_artifact, open_artifact, verify
from cubeflow.storage.sink import Sink

__all__ = [
    "Artifact",
    "ArtifactDamaged",
    "ArtifactMismatch",
    "ArtifactNewer",
    "CubeStream",
    "StorageError",
    "check_artifact",
    "hold_artifact",
    "open_artifact",
    "read_artifact",
    "read_key",
    "read_summary",
    "set_aside",
    "write_artifact",
    "write_artifact_streamed",
]
PathLike = str | os.PathLike[str]


def write_artifact(
    path: PathLike, artifact: Artifact, compression: str = "blosc", *, is_read_soon: bool = True
) -> None:
    """Write an artifact: built in memory, read back, then put under its name in one step.

    Parameters
    ----------
    path : path-like
        Final name in an existing folder.
    artifact : Artifact
        What to write.
    compression : {"blosc", "gzip", "none"}
        Filter of all datasets.
    is_read_soon : bool
        As for `cubeflow.storage.atomic.write_atomic`.

    Raises
    ------
    StorageError
        If the disk does not take it; a file that was there before is untouched.
    ValueError
        If kind, key, a name or a type have no place in an artifact; KeyContentError (a TypeError) for
        attributes that are not plain.
    """
    buffer = io.BytesIO()
    _write(path, buffer, artifact, compression, lambda: None)
    write_atomic(path, buffer.getbuffer(), is_read_soon=is_read_soon)


def write_artifact_streamed(
    path: PathLike, artifact: Artifact, compression: str = "blosc", scratch: Path | None = None
) -> None:
    """Write an artifact larger than memory straight to the disk, with the same bytes as `write_artifact`.

    HDF5 writes into a temporary file through our own file object: when the disk refuses a byte, that object
    keeps the error and takes the rest in silence, so that HDF5 (which may crash on a full disk) ends in
    order. The file is then read back from the disk, sealed and put under its name.

    Parameters
    ----------
    path, compression
        As for `write_artifact`.
    artifact : Artifact
        Its datasets may be `CubeStream`, of which only some megabytes are in memory at a time.
    scratch : Path or None
        Folder where it is put together before it is copied in one go, such as one on a disk of this machine.

    Raises
    ------
    StorageError, ValueError, KeyContentError
        As `write_artifact`; ValueError also for a stream that does not give what it declares.
    """
    if scratch is None:
        with replacing(path) as descriptor:
            _write_checked(path, descriptor, artifact, compression)
        return
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            _write_checked(path, file.fileno(), artifact, compression)
            file.seek(0)
            with replacing(path) as descriptor:
                while block := file.read(WRITE_STEP):
                    write_all(descriptor, block)
    except OSError as error:
        raise storage_error(scratch, error) from error


def _write_checked(path: PathLike, descriptor: int, artifact: Artifact, compression: str) -> None:
    """Write through a sink; OSError if the disk does not take it."""
    sink = Sink(descriptor)
    try:
        _write(path, sink, artifact, compression, sink.check)
    finally:
        sink.check()


def read_artifact(
    path: PathLike,
    *,
    names: Sequence[str] | None = None,
    expect_kind: str | None = None,
    expect_key: str | None = None,
) -> Artifact:
    """Read an artifact, after its checksum and what it declares of the datasets that are read have been checked.

    Parameters
    ----------
    path : path-like
        File.
    names : sequence of str, optional
        Datasets to read; all if not given.
    expect_kind, expect_key : str, optional
        What it must be.

    Returns
    -------
    Artifact
        With the values, types, geometries and axes that were written, to the bit.

    Raises
    ------
    StorageError
        If there is no such file or it cannot be read.
    ArtifactDamaged
        If it is not the artifact that was written.
    ArtifactMismatch
        If it has another kind, key or schema, or lacks a dataset.
    """
    with open_artifact(path, names=names, expect_kind=expect_kind, expect_key=expect_key) as opened:
        return opened.read(names)


def read_key(path: PathLike) -> str | None:
    """Key of an artifact from its first block; None if there is none, or it is cut, or of another schema.

    Costs well under a millisecond; flipped bits behind the first block are found by `check_artifact` and on reading.
    """
    try:
        descriptor = open_regular(path)
    except (StorageError, ArtifactDamaged):
        return None
    try:
        return read_envelope(path, descriptor).key
    except (ArtifactDamaged, ArtifactMismatch, ArtifactNewer, OSError):
        return None
    finally:
        os.close(descriptor)


def read_summary(path: PathLike) -> dict[str, Any]:
    """Everything about an artifact except its values, as plain numbers and strings; raises as `read_artifact`."""
    with open_artifact(path) as opened:
        artifact, envelope = opened.read([]), opened.envelope
        datasets = {name: opened.describe(name) for name in sorted(opened.descriptions)}
    return {
        "schema": SCHEMA,
        "kind": artifact.kind,
        "key": artifact.key,
        "algorithm": artifact.algorithm,
        "bytes": envelope.size,
        "sha256": envelope.sha256,
        "attributes": artifact.attributes,
        "provenance": artifact.provenance,
        "datasets": datasets,
    }


def set_aside(path: PathLike) -> Path:
    """Rename a damaged file to ``<name>.corrupt`` (``.corrupt.2``, ... if there is one) and give the new name.

    Raises
    ------
    StorageError
        If the file cannot be renamed.
    """
    path = Path(path)
    target, count = path.with_name(f"{path.name}.corrupt"), 1
    while os.path.lexists(target):
        count += 1
        target = path.with_name(f"{path.name}.corrupt.{count}")
    try:
        path.rename(target)
    except OSError as error:
        raise storage_error(path, error) from error
    return target


def _write(
    path: PathLike, file: io.BytesIO | Sink, artifact: Artifact, compression: str, check: Callable[[], None]
) -> None:
    """Write content and first block into an empty file object and read all of it back; `check` may stop it."""
    sums = write_content(file, root_attributes(artifact), artifact.datasets, compression, check)
    check()
    envelope = Envelope(artifact.kind, artifact.key, file.seek(0, os.SEEK_END), digest(file))
    file.seek(0)
    file.write(seal(envelope))
    check()
    verify(path, file, envelope, sums)
