"""An artifact that is open for reading, after everything it declares has been checked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cubeflow.maps import Cube
from cubeflow.storage import hdf5_read
from cubeflow.storage.atomic import StorageError, storage_error
from cubeflow.storage.described import Array, Description
from cubeflow.storage.envelope import (
    SCHEMA,
    ArtifactDamaged,
    ArtifactMismatch,
    Envelope,
    digest,
    open_regular,
    read_envelope,
)
from cubeflow.storage.hdf5_write import FORMAT
from cubeflow.storage.made import PARTS, Artifact

if TYPE_CHECKING:
    import h5py

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class OpenArtifact:
    """An artifact whose checksum and declarations have been checked; values are read on demand.

    Parameters
    ----------
    path : path-like
        File, for messages.
    envelope : Envelope
        What the first block says.
    content : h5py.File
        The open file.
    parts : mapping
        Algorithm version, attributes and provenance.
    descriptions : mapping of str to Description
        Datasets.
    """

    path: PathLike
    envelope: Envelope
    content: Any
    parts: Mapping[str, Any]
    descriptions: Mapping[str, Description]

    def read(self, names: Sequence[str] | None = None) -> Artifact:
        """Artifact with the datasets of the given names, or all; ArtifactMismatch where it lacks one."""
        datasets = {name: self.dataset(name) for name in (self.descriptions if names is None else names)}
        parts = [self.parts[name] for name in PARTS]
        return Artifact(self.envelope.kind, self.envelope.key, parts[0], datasets, parts[1], parts[2])

    def dataset(self, name: str) -> Cube | Array:
        """One dataset."""
        description = self._description(name)
        with _damage(self.path):
            return description.build(hdf5_read.read_values(self.content, name, description))

    def cube(self, name: str) -> Cube:
        """One map; TypeError for a dataset of another kind."""
        return self.read([name]).cube(name)

    def slabs(self, name: str) -> Iterator[Array]:
        """Consecutive blocks of a dataset along its first dimension, about a megabyte each."""
        description = self._description(name)
        slabs = hdf5_read.read_slabs(self.content, name, description)
        while True:
            with _damage(self.path):
                slab = next(slabs, None)
            if slab is None:
                return
            yield slab.astype(description.dtype, copy=False)

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Part of a dataset along its first dimension."""
        description = self._description(name)
        with _damage(self.path):
            values = hdf5_read.read_rows(self.content, name, description, start, stop)
        return values.astype(description.dtype, copy=False)

    def describe(self, name: str) -> dict[str, Any]:
        """Shape, type, unit, axes, geometry, compression and stored length of a dataset, as plain values."""
        plain = plain_description(self._description(name))
        stored = self.content[name].id.get_storage_size()
        return {**plain, "stored_bytes": stored, "compression": hdf5_read.compression_of(self.content, name)}

    def _description(self, name: str) -> Description:
        if name not in self.descriptions:
            raise ArtifactMismatch(self.path, f"has no dataset {name!r}, only {sorted(self.content)}")
        return self.descriptions[name]


@dataclass(frozen=True, eq=False)
class HeldArtifact:
    """A file whose checksum has been compared and that stays open, but for HDF5.

    HDF5 takes half a megabyte for each file that is open, whatever is in it.

    Parameters
    ----------
    path : path-like
        File, for messages.
    file : file object
        The open file.
    envelope : Envelope
        What the first block says.
    """

    path: PathLike
    file: Any
    envelope: Envelope

    @contextmanager
    def open(self, names: Sequence[str] | None = None) -> Iterator[OpenArtifact]:
        """Open the content and check what it declares: of the datasets of these names, or of all."""
        with _content(self.path, self.file, self.envelope, names) as opened:
            yield opened

    @contextmanager
    def open_again(self, known: OpenArtifact) -> Iterator[OpenArtifact]:
        """Open content that has been checked before: what is known of it still holds, for the file is the same."""
        with _open_hdf5(self.path, self.file) as content:
            yield replace(known, content=content)


@contextmanager
def hold_artifact(
    path: PathLike, *, expect_kind: str | None = None, expect_key: str | None = None
) -> Iterator[HeldArtifact]:
    """Compare the checksum of an artifact that is then opened once or often; raises as `open_artifact`."""
    with _checked_bytes(path, expect_kind, expect_key) as (file, envelope):
        yield HeldArtifact(path, file, envelope)


@contextmanager
def open_artifact(
    path: PathLike,
    *,
    names: Sequence[str] | None = None,
    expect_kind: str | None = None,
    expect_key: str | None = None,
) -> Iterator[OpenArtifact]:
    """Open an artifact for reading in parts: the datasets of these names, or all.

    Checks and raises as `cubeflow.storage.artifact.read_artifact`.
    """
    with hold_artifact(path, expect_kind=expect_kind, expect_key=expect_key) as held, held.open(names) as opened:
        yield opened


def check_artifact(path: PathLike, *, expect_kind: str | None = None, expect_key: str | None = None) -> None:
    """Compare the checksum of a whole file, without HDF5; raises as `cubeflow.storage.artifact.read_artifact`."""
    with _checked_bytes(path, expect_kind, expect_key):
        pass


def verify(path: PathLike, file: Any, envelope: Envelope, sums: Mapping[str, int]) -> None:
    """Read back what was written into a file object.

    Raises
    ------
    StorageError
        If the stored values do not have the CRC-32 in `sums`, or anything else is not as written.
    """
    try:
        with _content(path, file, envelope) as opened, _damage(path):
            found = {
                name: hdf5_read.checksum(opened.content, name, described)
                for name, described in opened.descriptions.items()
            }
    except ArtifactDamaged as error:
        raise StorageError(f"{path}: what was written cannot be read back: {error.reason}") from error
    if found != dict(sums):
        wrong = sorted(name for name in {*found, *sums} if found.get(name) != sums.get(name))
        raise StorageError(f"{path}: what was written reads back differently: {wrong}")


def plain_description(description: Description) -> dict[str, Any]:
    """Shape, types, unit, axes and geometry of a dataset as plain values."""
    text = description.to_text()
    nested = {name: json.loads(text[name]) for name in ("axes", "geometry")}
    return {**text, **nested, "shape": list(description.shape), "stored": description.stored}


@contextmanager
def _checked_bytes(path: PathLike, expect_kind: str | None, expect_key: str | None) -> Iterator[tuple[Any, Envelope]]:
    """Open a file whose first block is as expected and whose checksum holds."""
    with os.fdopen(open_regular(path), "rb") as file:
        try:
            envelope = read_envelope(path, file.fileno())
            for name, found, expected in (("kind", envelope.kind, expect_kind), ("key", envelope.key, expect_key)):
                if expected not in (None, found):
                    raise ArtifactMismatch(path, f"has {name} {found}, expected {expected}")
            if digest(file) != envelope.sha256:
                raise ArtifactDamaged(path, "its content has another checksum than what was written")
        except OSError as error:
            raise storage_error(path, error) from error
        yield file, envelope


@contextmanager
def _content(
    path: PathLike, file: Any, envelope: Envelope, names: Sequence[str] | None = None
) -> Iterator[OpenArtifact]:
    """Open the HDF5 content of a file object and check what it declares: of the datasets of these names, or of all."""
    with _open_hdf5(path, file) as content:
        with _damage(path):
            root = hdf5_read.read_root(content)
            said = {"format": FORMAT, "schema": str(SCHEMA), "kind": envelope.kind, "key": envelope.key}
            wrong = sorted(name for name in said if root.get(name) != said[name])
            if wrong:
                raise hdf5_read.Unfit(f"root attributes {wrong} do not fit the first block")
            parts = {name: json.loads(root[name]) for name in PARTS}
            descriptions = hdf5_read.check_datasets(content, names)
        yield OpenArtifact(path, envelope, content, parts, descriptions)


def _open_hdf5(path: PathLike, file: Any) -> h5py.File:
    """Open a file object that may hold anything."""
    import h5py

    try:
        return h5py.File(file, "r", rdcc_nbytes=0)
    except hdf5_read.HDF5_ERRORS as error:
        reason = str(error)
    # Raised here, without the first error as its cause: the frames of that one hold an HDF5 object that refers to
    # `file`, and HDF5 crashes if such an object is still there when Python has ended.
    raise ArtifactDamaged(path, reason)


@contextmanager
def _damage(path: PathLike) -> Iterator[None]:
    """Turn what h5py raises on damaged content into `ArtifactDamaged`."""
    try:
        yield
    except hdf5_read.HDF5_ERRORS as error:
        raise ArtifactDamaged(path, str(error) or type(error).__name__) from error
