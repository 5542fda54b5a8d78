"""HDF5 content of an artifact, reproducible to the byte.

The file is written through a Python file object, in memory or on the disk: HDF5 lays both out alike,
and a disk that refuses a byte is met by our code, never by HDF5 (which can crash on it).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeflow.storage.described import Dataset, Description, describe, slabs_of
from cubeflow.storage.envelope import BLOCK

if TYPE_CHECKING:
    import h5py

FORMAT = "cubeflow artifact"
COMPRESSIONS = ("blosc", "gzip", "none")
MAX_DATASETS = 256
# HDF5 1.10 checksums its own structures, and every HDF5 library in use today reads it.
LIBRARY = ("v110", "v110")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def write_content(
    file: Any,
    root: Mapping[str, str],
    datasets: Mapping[str, Dataset],
    compression: str,
    check: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Write attributes and datasets into an empty, seekable binary file object, after room for the first block.

    Parameters
    ----------
    file : file object
        Empty, open for reading and writing.
    root : mapping of str to str
        Text of the root attributes.
    datasets : mapping of str to Cube, CubeStream or array
        Written in the order of their names.
    compression : {"blosc", "gzip", "none"}
        ``blosc`` is byte shuffle and LZ4 by way of hdf5plugin.
    check : callable
        Called after each block; may raise what stops the writing.

    Returns
    -------
    dict of str to int
        CRC-32 of the stored values of each dataset.

    Raises
    ------
    ValueError
        For another compression, a name or a type that has no place in an artifact, or a stream that does
        not give what it declares.
    """
    import h5py

    filters = _filters(compression)
    _check_names(datasets)
    # Without a chunk cache each block is written when it is given: in order, and in no memory but ours.
    with h5py.File(file, "w", libver=LIBRARY, userblock_size=BLOCK, rdcc_nbytes=0) as content:
        for name in sorted(root):
            _write_text(content, name, root[name])
        sums = {name: _write_dataset(content, name, datasets[name], filters, check) for name in sorted(datasets)}
        _write_text(content, "complete", "yes")
    return sums


def _write_dataset(
    content: h5py.File, name: str, dataset: Dataset, filters: Mapping[str, Any], check: Callable[[], None]
) -> int:
    """Write a dataset slab by slab; give the CRC-32 of the stored values."""
    from h5py import h5s
    from isal.isal_zlib import crc32

    description = describe(name, dataset)
    chunks, total, start = description.chunks, 0, 0
    options = {"track_times": False, "dtype": f"<{description.stored}"}
    if chunks is not None:
        options |= {"chunks": chunks, "fletcher32": True, **filters}
    stored = content.create_dataset(name, description.shape, **options)
    for attribute, text in sorted(description.to_text().items()):
        _write_text(stored, attribute, text)
    place = stored.id.get_space()
    for slab in slabs_of(name, dataset, description):
        stop = start + len(slab)
        if stop > description.shape[0]:
            raise _wrong_length(name, description)
        # Straight to HDF5, as texts below: what h5py finds out about a selection is known here.
        place.select_hyperslab((start, *(0,) * (slab.ndim - 1)), slab.shape)
        stored.id.write(h5s.create_simple(slab.shape), place, slab)
        check()
        total, start = crc32(slab, total), stop
    if chunks is not None and start != description.shape[0]:
        raise _wrong_length(name, description)
    return total


def _wrong_length(name: str, description: Description) -> ValueError:
    return ValueError(f"{name}: the slabs together do not have the declared shape {description.shape}")


def _write_text(owner: h5py.File | h5py.Dataset, name: str, text: str) -> None:
    """Write ASCII text of fixed length: HDF5 keeps texts of variable length in a heap without checksum."""
    from h5py import h5a, h5s, h5t

    content = text.encode("ascii")
    value = np.array(content, f"S{max(1, len(content))}")
    # Straight to HDF5: `attrs.create` takes ten times as long, and an artifact has some fifty of them.
    space, kind = h5s.create(h5s.SCALAR), h5t.py_create(value.dtype)
    h5a.create(owner.id, name.encode("ascii"), kind, space).write(value)


def _check_names(datasets: Mapping[str, Dataset]) -> None:
    for name in datasets:
        if not _NAME.fullmatch(name):
            raise ValueError(f"dataset {name!r}: expected a name of letters, digits and _.-")
    if len(datasets) > MAX_DATASETS:
        raise ValueError(f"{len(datasets)} datasets, at most {MAX_DATASETS} have a place in an artifact")


def _filters(compression: str) -> dict[str, Any]:
    """Arguments of `create_dataset` for one kind of compression."""
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    if compression == "blosc":
        import hdf5plugin

        # Measured on exposure, acceptance and PSF cubes: zstd level 1 gives the same size at 2-3 times the
        # CPU time, level 5 saves 10 % at 10 times; bit shuffle makes files larger.
        return dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))
    raise ValueError(f"compression: expected one of {COMPRESSIONS}, got {compression!r}")
