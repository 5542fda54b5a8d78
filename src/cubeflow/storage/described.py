"""Datasets and what is said about them: between cubes in memory and plain arrays with text beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry, axis_from_plain, geometry_from_plain
from cubeflow.storage.keys import canonical_json

Array = NDArray[Any]
DTYPES = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8")
MAX_DIMENSIONS = 5
MAX_ELEMENTS = 1 << 31
CHUNK_BYTES = 1 << 20
_FIELDS = Geometry.__dataclass_fields__
_AXIS_FORM = {"name": str, "edges": list, "unit": str, "interp": str}


@dataclass(frozen=True, eq=False)
class CubeStream:
    """A cube that is never in memory as a whole.

    Parameters
    ----------
    slabs : iterable of array
        Consecutive blocks along the first dimension, of any lengths; together (axes..., ny, nx).
    dtype : str
        Type of the values, one of `DTYPES`.
    unit, geom, axes
        As in `cubeflow.maps.Cube`.
    maximum : int or None
        Upper bound of unsigned integers, so that they can be stored in fewer bytes.
    """

    slabs: Iterable[Array]
    dtype: str
    unit: str
    geom: Geometry
    axes: tuple[Axis, ...]
    maximum: int | None = None


Dataset = Cube | CubeStream | Array


@dataclass(frozen=True)
class Description:
    """One dataset without its values; written as text beside them.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    dtype, stored : str
        Type of the values in memory and in the file (counts: the smallest that holds them), one of `DTYPES`.
    unit : str
        FITS unit of the values.
    geom, axes
        Of a cube; None and empty for a plain array.
    """

    shape: tuple[int, ...]
    dtype: str
    stored: str
    unit: str = ""
    geom: Geometry | None = None
    axes: tuple[Axis, ...] = ()

    @property
    def kind(self) -> str:
        """``cube``, or ``array`` for one without a place on the sky."""
        return "array" if self.geom is None else "cube"

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the blocks that are compressed one by one, whole energy planes where they fit; None if empty."""
        return chunk_shape(self.shape, np.dtype(self.stored).itemsize) if math.prod(self.shape) else None

    def to_text(self) -> dict[str, str]:
        """Text of each attribute of the dataset in the file."""
        geometry = None if self.geom is None else _plain_geometry(self.geom)
        plain = {"geometry": geometry, "axes": [axis.to_plain() for axis in self.axes]}
        text = {name: canonical_json(value).decode() for name, value in plain.items()}
        return {**text, "dtype": self.dtype, "kind": self.kind, "unit": self.unit}

    def build(self, data: Array) -> Cube | Array:
        """Cube or array of the values read from the file."""
        data = data if data.dtype == self.dtype else data.astype(self.dtype)
        return data if self.geom is None else Cube(data, self.unit, self.geom, self.axes)


def describe(name: str, dataset: Dataset) -> Description:
    """Describe a dataset that is to be written.

    Raises
    ------
    ValueError
        For a type that has no place in an artifact (objects, texts, complex numbers), a scalar, or too many values.
    """
    if isinstance(dataset, CubeStream):
        shape = (*(axis.n_bins for axis in dataset.axes), *dataset.geom.shape)
        dtype, largest = _dtype(name, np.dtype(dataset.dtype)), dataset.maximum
    else:
        data = dataset.data if isinstance(dataset, Cube) else dataset
        shape, dtype = data.shape, _dtype(name, data.dtype)
        largest = _largest(data) if dtype[0] in "iu" else None
    _check_shape(name, shape)
    stored = "u1" if dtype == "b1" else dtype
    if largest is not None and dtype[0] in "iu":
        stored = np.min_scalar_type(largest).str[1:] if largest >= 0 else dtype
    if isinstance(dataset, np.ndarray):
        return Description(shape, dtype, stored)
    return Description(shape, dtype, stored, dataset.unit, dataset.geom, tuple(dataset.axes))


def description_from_text(text: Mapping[str, str], shape: tuple[int, ...], stored: str) -> Description:
    """Undo `Description.to_text`, for an array of type `stored` found in a file.

    Raises
    ------
    ValueError, TypeError, KeyError
        If the text is not what `to_text` writes, or does not fit the array.
    """
    if text["dtype"] not in DTYPES or np.dtype(stored).kind not in _storable(text["dtype"]):
        raise ValueError(f"values of type {text['dtype']!r} are not stored as {stored!r}")
    plain, axes = json.loads(text["geometry"]), tuple(_axis(plain) for plain in json.loads(text["axes"]))
    if text["kind"] != ("array" if plain is None else "cube") or (plain is None and axes):
        raise ValueError(f"kind {text['kind']!r} does not fit its geometry and axes")
    geom = None if plain is None else _geometry(plain)
    if geom is not None and shape != (*(axis.n_bins for axis in axes), *geom.shape):
        raise ValueError(f"shape {shape} does not fit its geometry {geom.shape} and axes")
    return Description(shape, text["dtype"], stored, text["unit"], geom, axes)


def slabs_of(name: str, dataset: Dataset, description: Description) -> Iterator[Array]:
    """Cut a dataset along its first dimension as its chunks are cut, in the stored type.

    Raises
    ------
    ValueError
        If the slabs of a stream do not have the type and shape, or the values are above its maximum.
    """
    if description.chunks is None:
        return
    rows = description.chunks[0]
    waiting = np.empty((0, *description.shape[1:]), description.dtype)
    for part in _parts(dataset):
        if part.dtype.str[1:] != description.dtype or part.shape[1:] != description.shape[1:]:
            raise ValueError(f"{name}: slab of type {part.dtype}, shape {part.shape} does not fit {description.shape}")
        block = np.concatenate([waiting, part]) if len(waiting) else part
        whole = len(block) // rows * rows
        yield from (_stored(name, block[start : start + rows], description) for start in range(0, whole, rows))
        waiting = block[whole:]
    if len(waiting):
        yield _stored(name, waiting, description)


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut an array into contiguous blocks of about `CHUNK_BYTES`, evenly: whole planes as far as they fit."""
    chunks: list[int] = []
    size = itemsize
    for n in reversed(shape):
        fit = max(1, min(n, CHUNK_BYTES // size))
        length = -(-n // -(-n // fit))
        chunks.append(length)
        size = size * n if length == n else CHUNK_BYTES + 1
    return tuple(reversed(chunks))


def _parts(dataset: Dataset) -> Iterable[Array]:
    """Consecutive blocks of the values along the first dimension."""
    if isinstance(dataset, CubeStream):
        return dataset.slabs
    return [dataset.data if isinstance(dataset, Cube) else dataset]


def _stored(name: str, block: Array, description: Description) -> Array:
    """Turn a block into the stored type; ValueError if a value has no place there."""
    if description.dtype == "b1":
        return np.ascontiguousarray(block).view("u1")
    stored = np.ascontiguousarray(block.astype(description.stored, copy=False))
    if description.stored != description.dtype and not _fits(block, description.stored):
        raise ValueError(f"{name}: values of type {description.dtype} above the maximum for {description.stored}")
    return stored


def _fits(block: Array, stored: str) -> bool:
    """Whether all integers of a block that is not empty have a place in a smaller type."""
    limits = np.iinfo(stored)
    return bool(block.min() >= limits.min and block.max() <= limits.max)


def _largest(data: Array) -> int:
    """Return the largest value, or -1 if any is negative (those are not stored in fewer bytes)."""
    return int(data.max()) if data.size and data.min() >= 0 else -1


def _dtype(name: str, dtype: np.dtype[Any]) -> str:
    """Name of a type without its byte order."""
    if dtype.str[1:] not in DTYPES:
        raise ValueError(f"{name}: values of type {dtype} have no place in an artifact, expected one of {DTYPES}")
    return dtype.str[1:]


def _storable(dtype: str) -> str:
    """Kinds of numbers as which a type may be stored."""
    return {"b": "u", "i": "iu"}.get(dtype[0], dtype[0])


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if not 1 <= len(shape) <= MAX_DIMENSIONS or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(
            f"{name}: shape {shape}; expected 1 to {MAX_DIMENSIONS} dimensions, at most {MAX_ELEMENTS} values"
        )


def _plain_geometry(geom: Geometry) -> dict[str, Any]:
    """Plain numbers of a geometry, each of exactly its type."""
    make = {"str": str, "int": int, "float": float}
    return {name: make[str(field.type)](getattr(geom, name)) for name, field in _FIELDS.items()}


def _axis(plain: Any) -> Axis:
    """Axis from what a file says; ValueError unless every part has its type."""
    if not isinstance(plain, dict) or {name: type(value) for name, value in plain.items()} != _AXIS_FORM:
        raise ValueError(f"not an axis: {str(plain)[:80]}")
    if not all(type(edge) is float for edge in plain["edges"]) or plain["interp"] not in ("log", "lin"):
        raise ValueError(f"axis {plain['name'][:20]}: edges must be numbers, interp log or lin")
    return axis_from_plain(plain)


def _geometry(plain: Any) -> Geometry:
    """Geometry from what a file says; ValueError unless every part has its type."""
    if not isinstance(plain, dict):
        raise ValueError(f"not a geometry: {str(plain)[:80]}")
    form = {name: str(field.type) for name, field in _FIELDS.items()}
    given = {name: type(value).__name__ for name, value in plain.items()}
    if given != form or not all(math.isfinite(value) for value in plain.values() if type(value) is float):
        raise ValueError(f"not a geometry: {str(plain)[:80]}")
    return geometry_from_plain(plain)
