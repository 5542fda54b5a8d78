"""Reading HDF5 that may have been made by anyone: everything is checked before a value is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeflow.storage.described import (
    DTYPES,
    MAX_DIMENSIONS,
    MAX_ELEMENTS,
    Array,
    Description,
    description_from_text,
)
from cubeflow.storage.hdf5_write import COMPRESSIONS, MAX_DATASETS

if TYPE_CHECKING:
    import h5py

MAX_TEXT_BYTES = 1 << 26
MAX_CHUNK_BYTES = 1 << 28
MAX_ATTRIBUTES = 16
# Filters of HDF5 in the order in which they are applied: deflate 1, shuffle 2, fletcher32 3, blosc 32001.
PIPELINES = {(32001, 3): "blosc", (2, 1, 3): "gzip", (3,): "none"}
# What h5py raises on damaged content.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


class Unfit(ValueError):
    """Content that no artifact has; the message says what and where."""


def read_root(content: h5py.File) -> dict[str, str]:
    """Text of the root attributes.

    Raises
    ------
    Unfit
        If one is not a short text, or the content was not written to its end.
    """
    text = _read_texts(content.id, "root")
    if text.get("complete") != "yes":
        raise Unfit("was not written to its end")
    return text


def check_datasets(content: h5py.File, names: Sequence[str] | None = None) -> dict[str, Description]:
    """Check the objects of these names that are in the file, or all of them, without reading a value.

    Raises
    ------
    Unfit
        For a soft or external link, a group, external storage, a virtual dataset, a type of variable length or of
        objects, an unknown filter, too many values, or a shape that does not fit its geometry and axes.
    """
    count = content.id.get_num_objs()
    if count > MAX_DATASETS:
        raise Unfit(f"{count} objects, the limit is {MAX_DATASETS}")
    found = [name.decode("utf-8") for name in list(content.id)]
    return {name: _check_object(content, name.encode()) for name in found if names is None or name in names}


def read_slabs(content: h5py.File, name: str, description: Description) -> Iterator[Array]:
    """Read the stored values of a checked dataset, as many rows at a time as its chunks have."""
    if description.chunks is None:
        return
    dataset = content[name]
    _use_filter(dataset)
    rows = dataset.chunks[0]
    for start in range(0, description.shape[0], rows):
        yield dataset[start : start + rows]


def read_rows(content: h5py.File, name: str, description: Description, start: int, stop: int) -> Array:
    """Read the stored values of a checked dataset between two places of its first dimension."""
    if description.chunks is None:
        return np.empty((stop - start, *description.shape[1:]), description.stored)
    _use_filter(content[name])
    return content[name][start:stop]


def read_values(content: h5py.File, name: str, description: Description) -> Array:
    """Read all stored values of a checked dataset."""
    if description.chunks is None:
        return np.empty(description.shape, description.stored)
    _use_filter(content[name])
    return content[name][...]


def checksum(content: h5py.File, name: str, description: Description) -> int:
    """CRC-32 of the stored values of a checked dataset."""
    from isal.isal_zlib import crc32

    total = 0
    for slab in read_slabs(content, name, description):
        total = crc32(slab, total)
    return total


def compression_of(content: h5py.File, name: str) -> str:
    """Name of the compression of a checked dataset."""
    return PIPELINES.get(_pipeline(content[name].id.get_create_plist()), COMPRESSIONS[-1])


def _check_object(content: h5py.File, name: bytes) -> Description:
    """Check one entry of the root group, from the outside in: link, object, storage, type, shape, text."""
    from h5py import h5d, h5l, h5o

    shown = name.decode("utf-8", "replace")
    if content.id.links.get_info(name).type != h5l.TYPE_HARD:
        raise Unfit(f"{shown}: is a link, links are not followed")
    if h5o.get_info(content.id, name).type != h5o.TYPE_DATASET:
        raise Unfit(f"{shown}: is not a dataset")
    dataset = h5d.open(content.id, name)
    stored = _check_type(shown, dataset)
    # Storage before shape: HDF5 opens the sources of a virtual dataset to find its shape.
    chunked = _check_storage(shown, dataset)
    shape = _check_shape(shown, dataset, np.dtype(stored).itemsize, chunked)
    try:
        return description_from_text(_read_texts(dataset, shown), shape, stored)
    except KeyError as error:
        raise Unfit(f"{shown}: lacks the attribute {error}") from error


def _check_type(shown: str, dataset: Any) -> str:
    """Name of the type, which must be a plain number in the byte order that is written."""
    from h5py import h5t

    kind = dataset.get_type()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT) or kind.get_order() not in (h5t.ORDER_LE, h5t.ORDER_NONE):
        raise Unfit(f"{shown}: values are not plain numbers")
    if kind.dtype.str[1:] not in DTYPES:
        raise Unfit(f"{shown}: values of type {kind.dtype} have no place in an artifact")
    return kind.dtype.str[1:]


def _check_storage(shown: str, dataset: Any) -> bool:
    """Whether the values are in chunks; refuses values elsewhere than in this file and unknown filters."""
    from h5py import h5d

    plan = dataset.get_create_plist()
    layout = plan.get_layout()
    if layout not in (h5d.CHUNKED, h5d.CONTIGUOUS) or (layout == h5d.CONTIGUOUS and plan.get_external_count()):
        raise Unfit(f"{shown}: its values are not in this file")
    if layout == h5d.CHUNKED and _pipeline(plan) not in PIPELINES:
        raise Unfit(f"{shown}: unknown filters {_pipeline(plan)}")
    return layout == h5d.CHUNKED


def _check_shape(shown: str, dataset: Any, itemsize: int, chunked: bool) -> tuple[int, ...]:
    """Shape, within the limits; only an empty dataset may be without chunks."""
    from h5py import h5s

    space = dataset.get_space()
    if space.get_simple_extent_type() != h5s.SIMPLE or not 1 <= space.get_simple_extent_ndims() <= MAX_DIMENSIONS:
        raise Unfit(f"{shown}: expected 1 to {MAX_DIMENSIONS} dimensions")
    shape = space.get_simple_extent_dims()
    if math.prod(shape) > MAX_ELEMENTS:
        raise Unfit(f"{shown}: declares {math.prod(shape)} values, the limit is {MAX_ELEMENTS}")
    if chunked != (math.prod(shape) > 0):
        raise Unfit(f"{shown}: its values are not in chunks")
    if chunked and math.prod(dataset.get_create_plist().get_chunk()) * itemsize > MAX_CHUNK_BYTES:
        raise Unfit(f"{shown}: its chunks are above the limit of {MAX_CHUNK_BYTES} bytes")
    return shape


def _read_texts(owner: Any, shown: str) -> dict[str, str]:
    """Read all attributes of an object; they must be scalar texts of fixed length within the limits."""
    from h5py import h5a, h5s, h5t

    count = h5a.get_num_attrs(owner)
    if count > MAX_ATTRIBUTES:
        raise Unfit(f"{shown}: {count} attributes, the limit is {MAX_ATTRIBUTES}")
    texts = {}
    for index in range(count):
        attribute = h5a.open(owner, index=index)
        kind, space = attribute.get_type(), attribute.get_space()
        plain = kind.get_class() == h5t.STRING and not kind.is_variable_str()
        if not plain or space.get_simple_extent_type() != h5s.SCALAR or kind.get_size() > MAX_TEXT_BYTES:
            raise Unfit(f"{shown}: attribute {index} is not a text within the limits")
        value = np.empty((), f"S{kind.get_size()}")
        attribute.read(value)
        texts[attribute.name.decode("utf-8")] = value.item().decode("ascii")
    return texts


def _pipeline(plan: Any) -> tuple[int, ...]:
    """Numbers of the filters of a dataset."""
    return tuple(plan.get_filter(index)[0] for index in range(plan.get_nfilters()))


def _use_filter(dataset: h5py.Dataset) -> None:
    """Load what decompresses a checked dataset, unless it is there."""
    if "hdf5plugin" not in sys.modules and 32001 in _pipeline(dataset.id.get_create_plist()):
        import hdf5plugin

        hdf5plugin.get_filters("blosc")
