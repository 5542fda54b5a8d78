"""Artifacts: what a step made, with its key, in one HDF5 file that is whole or absent.

HDF5 leaves room for a block of 512 bytes in front of its content, and every HDF5 program skips it. Ours is text: a
line that names the format and its version, a line of JSON (kind, key, size and sha256 of all that follows), and the
checksum of the block itself. So a key is read without HDF5, and no flipped bit anywhere in the file goes unseen.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from cubeflow.errors import FailedError
from cubeflow.maps import Cube, scratch_zeros
from cubeflow.regular import open_regular
from cubeflow.store.atomic import PathLike, naming, replacing
from cubeflow.store.content import HDF5_ERRORS, Array, Description, describe, read_values, write_content
from cubeflow.store.content import USER_BLOCK as BLOCK
from cubeflow.store.keys import canonical_json, from_plain, parse_json, to_plain

if TYPE_CHECKING:
    import h5py

SCHEMA = 2
MAGIC = b"cubeflow artifact schema "
_SEALED = BLOCK - 65
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")


class _ArtifactError(FailedError):
    """A file and what is wrong with it."""

    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = path, reason


class ArtifactDamaged(_ArtifactError):
    """A file is not the artifact that was written: cut, changed, or never one."""


class ArtifactMismatch(_ArtifactError):
    """A sound artifact, but not the one asked for: another key, kind or older schema, or without a dataset."""


UNSOUND = (ArtifactDamaged, ArtifactMismatch)  # are set aside and made again


class ArtifactNewer(_ArtifactError):
    """An artifact of a newer version of this program: it is neither read nor replaced."""


class _Block(NamedTuple):
    """What the first block says: which artifact it is, length of the file, checksum of what follows."""

    kind: str
    key: str
    size: int
    sha256: str

    def seal(self) -> bytes:
        block = (MAGIC + b"%d\n" % SCHEMA + canonical_json(to_plain(self)) + b"\n").ljust(_SEALED)
        return block + hashlib.sha256(block).hexdigest().encode() + b"\n"


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a step made; raises ValueError if kind or key have another form.

    `datasets` are maps and tables, arrays of numbers or truth values with at least one dimension, which may lie in a
    file; `attributes` results that are no arrays, as JSON holds them, None for a number that there is not; `provenance`
    what it was made of: inputs with sha256, options, versions, but no times, hosts or absolute paths.
    """

    kind: str
    key: str
    algorithm: int
    datasets: Mapping[str, Cube | Array] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, form in (("kind", _KIND), ("key", _KEY)):
            if not form.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}: expected the form {form.pattern}, got {getattr(self, name)!r}")

    @property
    def maps(self) -> dict[str, Cube]:
        """Those of its datasets that are maps."""
        return {name: each for name, each in self.datasets.items() if isinstance(each, Cube)}


@dataclass(eq=False)
class OpenArtifact:
    """An artifact whose bytes have been checked; `artifact` is all of it but the datasets, which are read on demand."""

    path: PathLike
    artifact: Artifact
    _content: "h5py.File" = field(repr=False)
    _size: int = field(repr=False)

    @cached_property
    def _described(self) -> Mapping[str, Description]:
        with _damage(self.path):
            return describe(self._content, self._size)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the datasets, sorted."""
        return tuple(sorted(self._described))

    def describe(self, name: str) -> Description:
        """Shape, type, unit, geometry and axes of a dataset; ArtifactMismatch where there is none."""
        if name not in self._described:
            raise ArtifactMismatch(self.path, f"has no dataset {name!r}, only {list(self.names)}")
        return self._described[name]

    def dataset(self, name: str, out: Array | None = None) -> Cube | Array:
        """One dataset, in an array of its shape and type where one is given."""
        about = self.describe(name)
        data = np.empty(about.shape, about.dtype) if out is None else out
        if (data.shape, data.dtype.str[1:]) != (about.shape, about.dtype):
            raise ValueError(f"{name}: {data.dtype} {data.shape} given for {about.dtype} {about.shape}")
        with _damage(self.path):
            read_values(self._content[name], data)
        return data if about.geom is None else Cube(data, about.unit, about.geom, about.axes)

    def maps(self, names: Collection[str] | None = None) -> dict[str, Cube]:
        """All maps, or those of some names that are there; in scratch files where they are large."""
        found = {}
        for name, about in self._described.items():
            if about.geom is not None and (names is None or name in names):
                found[name] = cast(Cube, self.dataset(name, scratch_zeros(about.shape, about.dtype)))
        return found


def write_artifact(path: PathLike, artifact: Artifact, compression: str = "blosc") -> None:
    """Write an artifact; values that lie in a file are never in memory as a whole.

    `path` is its final name in an existing folder, `compression` (``blosc``, ``gzip`` or ``none``) the filter of all
    datasets. Raises StorageError if the disk does not take it (a file that was there before is untouched), ValueError
    if kind, key, a name or a type have no place in an artifact, or attributes are not plain.
    """
    root: dict[str, str | int] = {"schema": SCHEMA, "kind": artifact.kind, "key": artifact.key}
    root |= {name: canonical_json(getattr(artifact, name)).decode() for name in ("attributes", "provenance")}
    root["algorithm"] = artifact.algorithm
    with replacing(path) as file:
        write_content(file, root, artifact.datasets, compression)
        block = _Block(artifact.kind, artifact.key, file.seek(0, os.SEEK_END), _digest(file))
        file.seek(0)
        file.write(block.seal())


def read_artifact(
    path: PathLike, names: Sequence[str] | None = None, kind: str | None = None, key: str | None = None
) -> Artifact:
    """Read an artifact, after its checksum and what it declares of the datasets that are read have been checked.

    `names` are the datasets to read, all if not given, `kind` and `key` what it must be, where they are given. Values,
    types, geometries and axes are those that were written, to the bit.

    Raises StorageError if there is no such file or it cannot be read, ArtifactDamaged if it is not what was written,
    ArtifactMismatch if it has another kind, key or an older schema, or lacks a dataset, and ArtifactNewer if a newer
    version wrote it.
    """
    with open_artifact(path, kind, key) as opened:
        datasets = {name: opened.dataset(name) for name in (opened.names if names is None else names)}
        return replace(opened.artifact, datasets=datasets)


@contextmanager
def open_artifact(path: PathLike, kind: str | None = None, key: str | None = None) -> Iterator[OpenArtifact]:
    """Open an artifact for reading in parts; checks and raises as `read_artifact`."""
    if Path(path).exists() and not Path(path).is_file():
        raise ArtifactDamaged(path, "not a regular file")
    with ExitStack() as stack:
        with naming(path):
            file = stack.enter_context(open_regular(path))
            about = _read_block(path, file)
            for name, found, expected in (("kind", about.kind, kind), ("key", about.key, key)):
                if expected not in (None, found):
                    raise ArtifactMismatch(path, f"has {name} {found}, expected {expected}")
            if _digest(file) != about.sha256:
                raise ArtifactDamaged(path, "its content has another checksum than what was written")
        content = stack.enter_context(_open_hdf5(path, file))
        with _damage(path):
            root = dict(content.attrs)
            if wrong := [name for name in ("kind", "key") if root[name] != getattr(about, name)]:
                raise ValueError(f"the attributes {wrong} do not fit the first block")
            parts = [parse_json(root[name]) for name in ("attributes", "provenance")]
            artifact = Artifact(about.kind, about.key, int(root["algorithm"]), {}, *parts)
        yield OpenArtifact(path, artifact, content, about.size)


def set_aside(path: PathLike) -> Path:
    """Rename a damaged file to ``<name>.corrupt`` (``.corrupt.2``, ... if there is one) and give the new name."""
    path = Path(path)
    target, count = path.with_name(f"{path.name}.corrupt"), 1
    while os.path.lexists(target):
        count += 1
        target = path.with_name(f"{path.name}.corrupt.{count}")
    with naming(path):
        path.rename(target)
    return target


def _read_block(path: PathLike, file: BufferedReader) -> _Block:
    """Kind, key, size and sha256 from the first block, once it and the length of the file are as written."""
    block = file.read(BLOCK)
    if len(block) < BLOCK or not block.startswith(MAGIC):
        raise ArtifactDamaged(path, "not a cubeflow artifact, or its first block is damaged")
    if block[_SEALED:] != hashlib.sha256(block[:_SEALED]).hexdigest().encode() + b"\n":
        raise ArtifactDamaged(path, "the first block is damaged")
    schema, content = block[len(MAGIC) : _SEALED].split(b"\n", 1)
    if schema != b"%d" % SCHEMA:
        reason = f"has schema {schema[:9].decode('ascii', 'replace')}, this version reads {SCHEMA}"
        if schema.isdigit() and int(schema[:9]) > SCHEMA:
            raise ArtifactNewer(path, f"{reason}; use the newer version, or another results folder")
        raise ArtifactMismatch(path, reason)
    try:
        about = from_plain(_Block, parse_json(content))
    except ValueError as error:
        raise ArtifactDamaged(path, f"the first block is not valid: {error}") from error
    size = os.fstat(file.fileno()).st_size
    if size != about.size:
        raise ArtifactDamaged(path, f"has {size} bytes, {about.size} were written")
    return about


def _digest(file: BufferedReader | BufferedRandom) -> str:
    """Compute the sha256 of everything after the first block."""
    file.seek(BLOCK)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _open_hdf5(path: PathLike, file: BufferedReader) -> "h5py.File":
    import h5py

    try:
        return h5py.File(file, "r", rdcc_nbytes=0)
    except HDF5_ERRORS as error:
        reason = str(error)
    # Raised here, without the first error as its cause: the frames of that one hold an HDF5 object that refers to
    # `file`, and HDF5 crashes if such an object is still there when Python has ended.
    raise ArtifactDamaged(path, reason)


@contextmanager
def _damage(path: PathLike) -> Iterator[None]:
    """Turn what h5py raises on damaged content into `ArtifactDamaged`."""
    try:
        yield
    except HDF5_ERRORS as error:
        raise ArtifactDamaged(path, str(error) or type(error).__name__) from error
