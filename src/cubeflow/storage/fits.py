"""FITS products: datasets that gammapy models, images that viewers open."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cubeflow.fits_bytes import Keyword, primary_hdu
from cubeflow.maps import Axis, Cube
from cubeflow.storage import fits_layout
from cubeflow.storage.atomic import write_parts
from cubeflow.storage.slabs import Grid, Map, derive, dtype_of, grid_of, slabs_of

PathLike = str | os.PathLike[str]
FloatArray = NDArray[np.float64]
# On exposure, background and PSF cubes ISA-L writes 2 % more than zlib at level 1, in a ninth of the time.
GZIP_LEVEL = 1
_MAP_AXES = {
    "counts": ("energy",),
    "exposure": ("energy_true",),
    "background": ("energy",),
    "counts_off": ("energy",),
    "acceptance": ("energy",),
    "acceptance_off": ("energy",),
    "mask_safe": ("energy",),
    "mask_fit": ("energy",),
    "edisp": ("energy_true", "energy"),
    "psf": ("energy_true", "rad"),
    "irf_exposure": ("energy_true",),
}
_ON_OFF = ("counts_off", "acceptance", "acceptance_off")
_RESPONSES = ("edisp", "psf")


class ExportError(ValueError):
    """Maps do not make up a dataset; the message names the map."""


@dataclass(frozen=True, eq=False)
class FitsDataset:
    """A stack as gammapy reads it.

    Parameters
    ----------
    maps : mapping of str to Cube or CubeStream
        ``counts``, ``mask_safe`` (energy, lat, lon), ``exposure`` (energy_true, lat, lon; m2 s), and
        ``background``, or ``counts_off``, ``acceptance``, ``acceptance_off``, or neither. Optional: ``mask_fit``,
        and, on a grid of their own, ``psf`` (energy_true, rad, lat, lon; sr-1), ``edisp`` (energy_true, energy,
        lat, lon) with ``irf_exposure`` (energy_true, lat, lon; m2 s), the exposure by which they were averaged.
    gti_s : array, shape (n, 2)
        Start and stop of the good time intervals, TT seconds since `reference_mjd`.
    reference_mjd : float
        On the TT scale.
    livetime_s : float
        In s.
    keywords : mapping
        Of the primary header, such as the key of what this was made from.

    Raises
    ------
    ExportError
        If a map is missing or has other axes or another geometry than its companions.
    """

    maps: Mapping[str, Map]
    gti_s: FloatArray
    reference_mjd: float
    livetime_s: float
    keywords: Mapping[str, Keyword] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_maps(self.maps)
        if self.gti_s.ndim != 2 or self.gti_s.shape[1] != 2:
            raise ExportError(f"gti_s: expected shape (n, 2), got {self.gti_s.shape}")

    @property
    def is_on_off(self) -> bool:
        """Whether it is a MapDatasetOnOff."""
        return "counts_off" in self.maps


def write_dataset_fits(path: PathLike, dataset: FitsDataset) -> None:
    """Write a dataset for ``gammapy.datasets.MapDataset.read`` (or ``MapDatasetOnOff.read``).

    Parameters
    ----------
    path : path-like
        Ends in ``.fits.gz``, or in ``.fits`` for a file that is not compressed.
    dataset : FitsDataset
        What to write. Counts become floats, as gammapy has them: exact, in float32 up to 2**24 a pixel.

    Raises
    ------
    StorageError
        If the disk does not take it; a file that was there before is untouched.
    """
    _write(path, _dataset_hdus(dataset))


def write_image_fits(
    path: PathLike, images: Cube | Mapping[str, Cube], keywords: Mapping[str, Keyword] | None = None
) -> None:
    """Write maps for image viewers (DS9, Aladin); gammapy's ``Map.read`` opens them too.

    Parameters
    ----------
    path : path-like
        Ends in ``.fits.gz``, or in ``.fits`` for a file that is not compressed.
    images : Cube or mapping of str to Cube
        The first is the primary image, the others are extensions of their names. A cube whose axes have one bin
        only is written as an image.
    keywords : mapping, optional
        Of the primary header.

    Raises
    ------
    StorageError
        If the disk does not take it; a file that was there before is untouched.
    ExportError
        If there is no image.
    """
    named = {"image": images} if isinstance(images, Cube) else dict(images)
    if not named:
        raise ExportError(f"{os.fspath(path)}: no image to write")
    _write(path, _image_hdus(named, keywords or {}))


def _dataset_hdus(dataset: FitsDataset) -> Iterator[bytes | memoryview]:
    """Bytes of a dataset, made one HDU at a time."""
    yield primary_hdu({"CREATOR": "cubeflow", **dataset.keywords})
    for name, cube in dataset.maps.items():
        if name == "irf_exposure":
            continue
        meta = {"livetime": f"{dataset.livetime_s!r} s"} if name == "exposure" else None
        yield from fits_layout.image_hdus(name.upper(), _as_floats(cube), meta)
        if name in _RESPONSES:
            exposure = _with_single_bin(dataset.maps["irf_exposure"], cube.axes[1])
            yield from fits_layout.image_hdus(f"{name.upper()}_EXPOSURE", exposure)
    yield fits_layout.gti_hdu(dataset.gti_s[:, 0], dataset.gti_s[:, 1], dataset.reference_mjd)


def _image_hdus(images: Mapping[str, Cube], keywords: Mapping[str, Keyword]) -> Iterator[bytes | memoryview]:
    """Bytes of image files, made one HDU at a time."""
    cards: dict[str, Keyword] | None = {"CREATOR": "cubeflow", **keywords}
    for name, cube in images.items():
        if all(axis.n_bins == 1 for axis in cube.axes):
            cube = Cube(cube.data.reshape(cube.geom.shape), cube.unit, cube.geom, ())
        yield from fits_layout.image_hdus(name.upper(), cube, None, cards, primary=cards is not None)
        cards = None  # of the first alone


def _check_maps(maps: Mapping[str, Map]) -> None:
    """Refuse maps that do not fit each other."""
    off = [name for name in _ON_OFF if name in maps]
    needed = {"counts", "exposure", "mask_safe", *(_ON_OFF if off else ())}
    if any(name in maps for name in _RESPONSES):
        needed.add("irf_exposure")
    if missing := sorted(needed - set(maps)):
        raise ExportError(f"a dataset needs the maps {sorted(needed)}; missing: {missing}")
    if off and "background" in maps:
        raise ExportError(f"a dataset has either a background or {off}")
    for name, cube in maps.items():
        _check_map(name, cube, maps)


def _check_map(name: str, cube: Map, maps: Mapping[str, Map]) -> None:
    """Refuse a map with other axes or another geometry than its companions."""
    if name not in _MAP_AXES:
        raise ExportError(f"{name}: not a map of a dataset, expected one of {sorted(_MAP_AXES)}")
    if tuple(axis.name for axis in cube.axes) != _MAP_AXES[name]:
        raise ExportError(f"{name}: expected the axes {_MAP_AXES[name]}, got {[axis.name for axis in cube.axes]}")
    responses = (*_RESPONSES, "irf_exposure")
    partner = maps["irf_exposure"] if name in responses else maps["counts"]
    if cube.geom != partner.geom:
        raise ExportError(f"{name}: is on {cube.geom}, its companions are on {partner.geom}")
    axes = {"energy": maps["counts"].axes[0], "energy_true": maps["exposure"].axes[0]}
    if any(axes.get(axis.name, axis) != axis for axis in cube.axes):
        raise ExportError(f"{name}: has other energies than counts and exposure")


def _as_floats(cube: Map) -> Map:
    """Turn integers into floats without loss: gammapy adds and scales counts in place."""
    if dtype_of(cube).kind not in "iu":
        return cube
    kind = "f4" if _largest(cube) <= 1 << 24 else "f8"
    return derive(grid_of(cube), kind, lambda slab: slab.astype(kind), cube)


def _largest(cube: Map) -> int:
    """Largest whole number of a map, without its sign."""
    if not isinstance(cube, Cube) and cube.maximum is not None:
        return cube.maximum
    return max((int(np.abs(slab).max(initial=0)) for slab in slabs_of(cube)), default=0)


def _with_single_bin(exposure: Map, axis: Axis) -> Map:
    """Give (energy_true, lat, lon) a second axis: one bin from end to end of `axis`."""
    whole = Axis(axis.name, (axis.edges[0], axis.edges[-1]), axis.unit, axis.interp)
    grid = Grid(exposure.unit, exposure.geom, (exposure.axes[0], whole))
    return derive(grid, dtype_of(exposure).str, lambda slab: slab[:, None], exposure)


def _write(path: PathLike, parts: Iterator[bytes | memoryview]) -> None:
    """Write the parts of a file one after the other."""
    write_parts(path, _gzip(parts) if os.fspath(path).endswith(".gz") else parts)


def _gzip(parts: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """Compress to one gzip member without a name or a time in its header."""
    from isal import isal_zlib

    squeeze = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    checksum, length = 0, 0
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    for part in parts:
        checksum, length = isal_zlib.crc32(part, checksum), length + len(part)
        yield squeeze.compress(part)
    yield squeeze.flush() + struct.pack("<II", checksum, length & 0xFFFFFFFF)
