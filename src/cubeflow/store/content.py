"""HDF5 content of an artifact: laid out so that any HDF5 program understands it, and checked when it is read.

```
/                  attributes: schema, kind, key, algorithm; attributes, provenance (JSON)
/counts ...        maps and tables; attributes: dtype (in memory, where it is another one), and of maps unit and wcs:
                   FITS header of a celestial WCS, a line for each keyword, with every digit, NAXIS1 and NAXIS2
/axes/energy ...   edges of a binned axis (one more than bins) with unit and interp: dimension scales of the maps
```
Of two different axes of one name the second is ``axes/energy-2``.
"""

import errno
import math
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedRandom, RawIOBase
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry, release
from cubeflow.maps.geom import FRAMES

if TYPE_CHECKING:
    import h5py

Array = NDArray[Any]
USER_BLOCK = 512
DTYPES = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8")
MAX_DIMENSIONS = 5
MAX_VALUES = 1 << 31
# Zeros in chunks of a megabyte shrink to a 250th by LZ4, to a 1000th by gzip.
MAX_SHRINKAGE = 2000
CHUNK_BYTES = 1 << 20
SLAB_BYTES = 1 << 23
# HDF5 1.10 checksums its own structures, and every HDF5 library in use today reads it.
LIBRARY = ("v110", "v110")
# What h5py raises on damaged content.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
AXES = "axes"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_AXIS = re.compile(r"([A-Za-z_]+)(-[0-9]+)?")
_CARD = re.compile(r"^(\w+) *= (?:'([\w-]+)'|([-+.e\d]+))$", re.MULTILINE)


@dataclass(frozen=True)
class Description:
    """A dataset without its values: shape, type in memory, and of a map its unit, geometry and axes."""

    shape: tuple[int, ...]
    dtype: str
    unit: str = ""
    geom: Geometry | None = None
    axes: tuple[Axis, ...] = ()


@contextmanager
def _holding_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM act afterwards: what their handlers raise in a file that HDF5 writes to is lost.

    So it is where hdf5plugin is imported. Handlers that are not Python's are left alone; other threads have none.
    """
    with ExitStack() as acts, ExitStack() as handlers:  # the second is left first
        for number in (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ():
            if callable(handler := signal.getsignal(number)):
                handlers.callback(signal.signal, number, handler)
                signal.signal(number, lambda number, _: acts.callback(signal.raise_signal, number))
        yield


class _PatientFile(RawIOBase):
    """A file, open for reading and writing, as HDF5 sees it when it writes: one that never refuses a byte.

    HDF5 can end in a segmentation fault when it is closed after a write has failed. It is therefore told that all
    went well; whoever writes calls `check`, and must not use the file when that raises.
    """

    def __init__(self, file: BufferedRandom) -> None:
        self._file = file
        self._position = self._size = 0
        # Only what an error says: its traceback holds HDF5 objects that Python's collector cannot see, and HDF5
        # crashes on them when the process ends.
        self._failure: tuple[int, str] | None = None

    def check(self) -> None:
        """Raise the first OSError, if there was one."""
        if self._failure is not None:
            raise OSError(*self._failure)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def write(self, data: Any) -> int:
        """Take all bytes; they go to the file unless it has failed before."""
        self._attempt(self._file.write, data)
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        count = self._attempt(self._file.readinto, buffer)
        buffer[count:] = bytes(len(buffer) - count)
        self._position += len(buffer)
        return len(buffer)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        self._attempt(self._file.truncate, self._size)
        return self._size

    def _attempt(self, call: Any, argument: Any) -> int:
        if self._failure is None:
            try:
                self._file.seek(self._position)
                return call(argument)
            except OSError as error:
                self._failure = (error.errno or errno.EIO, error.strerror or os.strerror(errno.EIO))
        return 0


@_holding_signals()
def write_content(
    file: BufferedRandom, root: Mapping[str, str | int], datasets: Mapping[str, Cube | Array], compression: str
) -> None:
    """Write attributes and datasets into an empty file, reproducible to the byte, after room for the first block.

    Some megabytes at a time. OSError if the disk does not take it, ValueError for what has no place in an artifact.
    """
    import h5py

    filters = _filters(compression)
    arrays = {name: each.data if isinstance(each, Cube) else each for name, each in sorted(datasets.items())}
    for name, data in arrays.items():
        if not _NAME.fullmatch(name) or name == AXES:
            raise ValueError(f"dataset {name!r}: expected a name of letters, digits and _.-, other than {AXES!r}")
        if data.dtype.str[1:] not in DTYPES:
            raise ValueError(f"{name}: values of type {data.dtype} have no place in an artifact, only {DTYPES}")
        _check_shape(name, data.shape)
    patient = _PatientFile(file)
    scales: dict[Axis, h5py.Dataset] = {}
    # Without a chunk cache each block is written when it is given: in order, and in no memory but ours.
    with h5py.File(patient, "w", libver=LIBRARY, userblock_size=USER_BLOCK, rdcc_nbytes=0) as content:
        content.attrs.update(root)
        for name, data in arrays.items():
            stored, cube = _write_array(content, name, data, filters), datasets[name]
            patient.check()
            if not isinstance(cube, Cube):
                continue
            stored.attrs.update({"unit": cube.unit, "wcs": _wcs_text(cube.geom)})
            for dimension, axis in zip(stored.dims, cube.axes, strict=False):
                if axis not in scales:
                    number = sum(known.name == axis.name for known in scales) + 1
                    place = f"{AXES}/{axis.name}{f'-{number}' if number > 1 else ''}"
                    scales[axis] = content.create_dataset(place, data=axis.edges_array, track_times=False)
                    scales[axis].attrs.update({"unit": axis.unit, "interp": axis.interp})
                    scales[axis].make_scale(axis.name)
                dimension.attach_scale(scales[axis])
    patient.check()


def describe(content: "h5py.File", size: int) -> dict[str, Description]:
    """Check what a file of `size` bytes declares, before a value is read, and describe its datasets by name.

    ValueError or KeyError for a link, a group, values in other files, a type that is no number, more values than the
    limit or than such a file can hold, or a shape that does not fit geometry and axes.
    """
    import h5py

    def open_plain(group: "h5py.Group", name: str, kind: Any = h5py.Dataset) -> Any:
        """From the outside in: link, object, storage, type, shape."""
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name}: is a link, links are not followed")
        held = group[name]
        if not isinstance(held, kind):
            raise ValueError(f"{name}: is not a {kind.__name__.lower()}")
        if kind is h5py.Group:
            return held
        # Storage before shape: HDF5 opens the sources of a virtual dataset to find its shape.
        if held.is_virtual or held.external:
            raise ValueError(f"{name}: its values are not in this file")
        dtype, shape = held.dtype, held.shape
        if dtype.str[1:] not in DTYPES[1:] or dtype.metadata or dtype.byteorder == ">":
            raise ValueError(f"{name}: values of type {dtype} are not plain numbers")
        _check_shape(name, shape)
        declared = max(math.prod(shape), math.prod(held.chunks or ())) * dtype.itemsize
        if declared > MAX_SHRINKAGE * size:
            raise ValueError(f"{name}: declares {declared} bytes in a file of {size}")
        return held

    axes, found = {}, {}
    group = open_plain(content, AXES, h5py.Group) if AXES in content else {}
    for name in group:
        scale, match = open_plain(group, name), _AXIS.fullmatch(name)
        interp = scale.attrs["interp"]
        if not match or scale.ndim != 1 or interp not in ("log", "lin"):
            raise ValueError(f"{scale.name}: not an axis")
        axes[scale.name] = Axis(match[1], tuple(scale[...].tolist()), str(scale.attrs["unit"]), interp)
    for name in content:
        if name == AXES:
            continue
        dataset = open_plain(content, name)
        stored, attributes = dataset.dtype, dataset.attrs
        dtype, wcs = attributes.get("dtype", stored.str[1:]), attributes.get("wcs")
        if dtype not in DTYPES or np.dtype(dtype).kind not in {"u": "bui"}.get(stored.kind, stored.kind):
            raise ValueError(f"{name}: values of type {dtype!r} are not stored as {stored}")
        if wcs is None:
            found[name] = Description(dataset.shape, dtype)
            continue
        geom, scales = _read_wcs(str(wcs)), [dimension[0].name for dimension in dataset.dims if len(dimension)]
        if unknown := [scale for scale in scales if scale not in axes]:
            raise ValueError(f"{name}: {unknown[0]}: not an axis")
        about = Description(dataset.shape, dtype, str(attributes["unit"]), geom, tuple(axes[each] for each in scales))
        if about.shape != (*(axis.n_bins for axis in about.axes), *geom.shape):
            raise ValueError(f"{name}: shape {about.shape} does not fit its geometry {geom.shape} and axes")
        found[name] = about
    return found


@_holding_signals()
def read_values(dataset: "h5py.Dataset", out: Array) -> None:
    """Read a checked dataset into an array of its shape and type; of one in a scratch file, some rows at a time."""
    if dataset.chunks and "hdf5plugin" not in sys.modules:
        import hdf5plugin

        hdf5plugin.get_filters("blosc")
    values, is_scratch = out.view("u1") if out.dtype == bool else out, release(out)
    rows = _slab_rows(dataset.chunks, out) if is_scratch and dataset.chunks else len(out)
    for start in range(0, len(out), rows) if out.size else ():
        slab = np.s_[start : start + rows]
        dataset.read_direct(values, slab, slab)
        release(out)


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


def wcs_keywords(geom: Geometry) -> dict[str, str | int | float]:
    """FITS keywords of the celestial WCS, with every digit of its numbers (astropy's own writer rounds them)."""
    cards: dict[str, str | int | float] = {"WCSAXES": 2}
    numbers = (geom.crpix_x, geom.crpix_y), (-geom.pixel_deg, geom.pixel_deg), (geom.lon_deg, geom.lat_deg)
    for key, pair in zip(("CRPIX", "CDELT", "CRVAL"), numbers, strict=True):
        cards |= {f"{key}{axis}": float(number) for axis, number in enumerate(pair, 1)}
    for axis, name in enumerate(FRAMES[geom.frame], 1):
        cards |= {f"CTYPE{axis}": f"{name}-{geom.projection}", f"CUNIT{axis}": "deg"}
    return cards | ({"RADESYS": "ICRS"} if geom.frame == "icrs" else {})


def _wcs_text(geom: Geometry) -> str:
    """FITS header, a line for each keyword: astropy reads it with ``Header.fromstring``."""
    cards = {"NAXIS1": int(geom.nx), "NAXIS2": int(geom.ny), **wcs_keywords(geom)}
    return "\n".join(f"{name:8}= {value!r}" for name, value in cards.items())


@lru_cache(256)
def _read_wcs(text: str) -> Geometry:
    """Undo `_wcs_text`, of nothing else."""
    cards = {name: word or number for name, word, number in _CARD.findall(text)}
    try:
        names = ("CRVAL1", "CRVAL2", "CDELT2", "NAXIS1", "NAXIS2", "CRPIX1", "CRPIX2")
        lon, lat, pixel, nx, ny, x, y = (float(cards[name]) for name in names)
        frame = "icrs" if "RADESYS" in cards else "galactic"
        geom = Geometry(frame, cards["CTYPE1"][5:], lon, lat, pixel, int(nx), int(ny), x, y)
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"not a WCS: {error}") from error
    if _wcs_text(geom) != text:
        raise ValueError(f"not a WCS: {text!r:.200}")
    return geom


def _check_shape(name: str, shape: tuple[int, ...] | None) -> None:
    if shape is None or not 1 <= len(shape) <= MAX_DIMENSIONS or math.prod(shape) > MAX_VALUES:
        expected = f"1 to {MAX_DIMENSIONS} dimensions, at most {MAX_VALUES} values"
        raise ValueError(f"{name}: shape {shape}; expected {expected}")


def _write_array(content: "h5py.File", name: str, data: Array, filters: Mapping[str, Any]) -> "h5py.Dataset":
    """Write an array, some chunks along its first dimension at a time.

    Whole numbers are stored in the smallest type without a sign that holds them, truth values as bytes.
    """
    dtype = data.dtype.str[1:]
    stored = "u1" if dtype == "b1" else dtype
    if data.dtype.kind in "iu" and data.size and data.min() >= 0:
        stored = np.min_scalar_type(int(data.max())).str[1:]
    chunks = chunk_shape(data.shape, np.dtype(stored).itemsize) if data.size else None
    options = {"chunks": chunks, **filters} if chunks else {}
    dataset = content.create_dataset(name, data.shape, f"<{stored}", track_times=False, **options)
    if stored != dtype:
        dataset.attrs["dtype"] = dtype
    if chunks:
        rows = _slab_rows(chunks, data)
        for start in range(0, len(data), rows):
            dataset[start : start + rows] = np.ascontiguousarray(data[start : start + rows], stored)
            release(data)
    return dataset


def _slab_rows(chunks: tuple[int, ...], data: Array) -> int:
    """Rows of whole chunks that are read or written at once."""
    return chunks[0] * max(1, SLAB_BYTES * len(data) // (chunks[0] * data.nbytes))


def _filters(compression: str) -> dict[str, Any]:
    """Arguments of `create_dataset`; ``blosc`` is byte shuffle and LZ4."""
    known = {"none": {}, "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True}}
    if compression in known:
        return known[compression]
    if compression == "blosc":
        import hdf5plugin

        # Measured on exposure, acceptance and PSF cubes: zstd level 1 gives the same size at 2-3 times the
        # CPU time, level 5 saves 10 % at 10 times; bit shuffle makes files larger.
        return dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))
    raise ValueError(f"compression: expected one of 'blosc', 'gzip', 'none', got {compression!r}")
