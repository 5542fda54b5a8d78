"""Stacking: a run's contribution, a stack of runs and a stack of stacks are added by one and the same sum.

Every layer of a `Stack` is a plain sum (or, for masks, a logical or) of what its parts hold, so that a stack may be
stacked again. Ratios, such as the mean PSF, are formed at the very end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, BoolArray, Cube, FloatArray, Geometry, GeometryError, release, scratch_zeros
from cubeflow.products.profiles import Profiles, add_profiles

SUM_TYPES = {"b": "?", "i": "i8", "u": "i8", "f": "f8"}  # type in which a layer is summed, by kind


@dataclass(frozen=True, eq=False)
class Stack:
    """Summed maps of some runs."""

    layers: Mapping[str, Cube]
    """Sums on the map grid and, named ``irf_...``, on the coarse grid of the responses. Layers of one grid share their
    geometry. Numbers are float64 or int64, masks bool; the arrays may be memory maps."""
    gti_s: FloatArray  #: start and stop of all good time intervals, shape (n, 2), sorted, TT s since the reference
    ontime_s: float  #: sum over the runs, as are livetime and profiles
    livetime_s: float
    n_runs: int
    profiles: Profiles | None = None  #: None if no run has any


@dataclass(frozen=True, eq=False)
class RunPart:
    """What one run gives to a sum: maps as they are, by the names of their layers, and what of them counts."""

    maps: Mapping[str, Cube]
    factors: Mapping[str, NDArray[Any]]  #: by layer, to which they broadcast: where values count, or weights
    gti_s: FloatArray  #: as of a stack, and so all that follows
    ontime_s: float
    livetime_s: float
    profiles: Profiles | None = None


def stack(parts: Iterable[Stack | RunPart]) -> Stack:
    """Add runs and stacks in the order given.

    They have the same layers, axes and pixel grids, their geometries may differ, and they are consumed one by one; the
    sum is on the smallest geometry that holds all parts. ValueError if there is no part, layers differ, or a part holds
    a NaN or an infinity, GeometryError if they are not on one pixel grid, OSError if the disk does not take the sums.
    """
    total = StackSum()
    for part in parts:
        total.add(part)
    return total.result()


class StackSum:
    """A stack in the making: its arrays, in scratch files if they are large, are added to in place."""

    def __init__(self) -> None:
        self._sums: dict[str, Cube] = {}
        self._gti_s: list[FloatArray] = []
        self._totals = np.zeros(3)  # ontime and livetime in s, number of runs
        self._profiles: Profiles | None = None

    def add(self, part: Stack | RunPart) -> None:
        """Add a part, which stays as it was; errors as in `stack`, after which the sum cannot be used."""
        if isinstance(part, RunPart):
            layers, factors, n_runs = part.maps, part.factors, 1
        else:
            layers, factors, n_runs = part.layers, {}, part.n_runs
        if layers and self._sums and self._sums.keys() != layers.keys():
            raise ValueError(f"layers differ: {sorted(self._sums)} and {sorted(layers)}")
        for name, layer in layers.items():
            self._sums[name] = _added(self._sums.get(name), layer, factors.get(name, np.True_), name)
        self._gti_s.append(part.gti_s)
        self._totals += part.ontime_s, part.livetime_s, n_runs
        self._profiles = add_profiles(self._profiles, part.profiles)

    def result(self) -> Stack:
        """Return the sum; the arrays are handed over, so that nothing may be added any more."""
        if not self._gti_s:
            raise ValueError("nothing to stack")
        for name, layer in self._sums.items():
            if not all(np.isfinite(plane).all() for plane in layer.data):
                raise ValueError(f"layer {name!r} holds values that are not finite")
            release(layer.data)
        intervals = np.concatenate(self._gti_s)
        intervals = intervals[np.lexsort((intervals[:, 1], intervals[:, 0]))]
        ontime_s, livetime_s, n_runs = self._totals.tolist()
        return Stack(self._sums, intervals, ontime_s, livetime_s, int(n_runs), self._profiles)


def empty_stack() -> Stack:
    """Stack of no runs: it has no layers and may be added to any other."""
    return Stack({}, np.zeros((0, 2)), 0.0, 0.0, 0)


def blank_stack(geometry: Geometry, energy: Axis, energy_true: Axis) -> Stack:
    """Stack of no runs on a geometry: no counts, no exposure, nowhere safe, and no background."""
    about = ("counts", "i", "", energy), ("mask_safe", "b", "", energy), ("exposure", "f", "m2 s", energy_true)
    layers = {}
    for name, kind, unit, axis in about:
        data = scratch_zeros((axis.n_bins, *geometry.shape), SUM_TYPES[kind])
        layers[name] = Cube(data, unit, geometry, (axis,))
    return replace(empty_stack(), layers=layers)


def _added(total: Cube | None, part: Cube, factor: NDArray[Any] | np.bool, name: str) -> Cube:
    """Add a part to a sum, whose array is this module's own and written to; it grows where the part lies beyond it."""
    if total is None:
        data = scratch_zeros(part.data.shape, SUM_TYPES[part.data.dtype.kind])
        total = Cube(data, part.unit, part.geom, part.axes)
    if (total.unit, total.axes) != (part.unit, part.axes):
        raise ValueError(f"layer {name!r}: units or axes differ")
    union = total.geom.union(part.geom)
    if union != total.geom:
        data = scratch_zeros((*total.data.shape[:-2], *union.shape), total.data.dtype)
        grown = Cube(data, total.unit, union, total.axes)
        for sums, before in zip(grown.cutout(total.geom).data, total.data, strict=True):
            sums[...] = before
        total = grown
    add = np.logical_or if total.data.dtype == bool else np.add
    factors = np.broadcast_to(factor, part.data.shape)
    for sums, values, counted in zip(total.cutout(part.geom).data, part.data, factors, strict=True):
        if counted.dtype != bool:
            values, counted = values * counted, np.True_
        add(sums, values, out=sums, where=counted)
    release(total.data)
    release(part.data)
    return total


def mean_response(weighted: FloatArray, exposure: FloatArray) -> FloatArray:
    """Exposure-weighted mean PSF or energy dispersion of a stack, shape of `weighted`.

    `weighted`, shape (n_rad or n_energy, ny, nx), is a plane, of one true energy, of the layer ``irf_psf`` or
    ``irf_edisp``, and `exposure`, shape (ny, nx), that of ``irf_exposure``; or both are all planes, with true energy
    first. Zero where there is no exposure. The energy dispersion is also lowered where runs with exposure have masked a
    reconstructed energy, so that exposure times energy dispersion predicts the counts that were kept.
    """
    weights = exposure[..., None, :, :]
    return np.divide(weighted, weights, out=np.zeros_like(weighted), where=weights > 0)


def safe_fraction(mask: BoolArray, geom: Geometry, coarse: Geometry) -> FloatArray:
    """Of the pixels in use in each coarse pixel, the fraction that is safe at each energy, (n_energy, my, mx).

    `mask`, shape (n_energy, ny, nx), is on `geom`; a pixel is in use if it is safe at any energy. A coarse pixel that
    holds no centre of a pixel in use, as at the rim of the field, has the fraction of the whole map. GeometryError if
    the grids differ in more than their pixels.
    """
    if geom.projected != coarse.projected:
        raise GeometryError(f"grids of different projections: {geom} and {coarse}")
    scale = geom.pixel_deg / coarse.pixel_deg
    # Coarse pixel of each pixel centre along either axis; the two grids share their reference position.
    ix = np.floor((np.arange(geom.nx) + 1 - geom.crpix_x) * scale + coarse.crpix_x - 0.5)
    iy = np.floor((np.arange(geom.ny) + 1 - geom.crpix_y) * scale + coarse.crpix_y - 0.5)
    rows, columns = np.arange(coarse.ny)[:, None] == iy, ix[:, None] == np.arange(coarse.nx)
    used = np.logical_or.reduce(mask)
    # Pixels in each coarse pixel: whole numbers, which are exact in float32 up to 2**24.
    number, total = (rows.astype("f4") @ each.astype("f4") @ columns.astype("f4") for each in (mask, used))
    whole = np.array([np.count_nonzero(safe) for safe in mask]) / max(np.count_nonzero(used), 1)
    fraction = np.broadcast_to(whole[:, None, None], number.shape).copy()
    return np.divide(number, total, out=fraction, where=total > 0, dtype=float)
