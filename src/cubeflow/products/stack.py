"""Stacking: a run's contribution, a stack of runs and a stack of stacks are one and the same type.

Every layer of a `Stack` is a plain sum (or, for masks, a logical or) of what its parts hold, so
that a stack may be stacked again. Ratios, such as the mean PSF, are formed at the very end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry
from cubeflow.products.masked import is_finite, masked_planes
from cubeflow.products.room import Memory, Room

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """Summed maps of some runs.

    Parameters
    ----------
    layers : mapping of str to Cube
        Sums on the map grid and, named ``irf_...``, on the coarse grid of the responses. Layers of
        one grid share their geometry. Numbers are float64 or int64, masks bool.
    gti_s : array, shape (n, 2)
        Start and stop of all good time intervals, sorted, TT s since the time reference.
    ontime_s, livetime_s : float
        Sums over the runs.
    n_runs : int
        Number of runs.
    """

    layers: Mapping[str, Cube]
    gti_s: FloatArray
    ontime_s: float
    livetime_s: float
    n_runs: int


@dataclass(frozen=True, eq=False)
class Share:
    """A map of one run and what of it counts; both are put together plane by plane, which stays in the cache.

    Parameters
    ----------
    cube : Cube
        The map.
    factor : array that broadcasts to the map
        Truth values: values elsewhere do not count, whatever they are. Numbers: weights.
    unit : str
        Unit of the product.
    """

    cube: Cube
    factor: NDArray[Any]
    unit: str

    @property
    def geom(self) -> Geometry:
        """Pixel grid."""
        return self.cube.geom

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Axes besides the pixels."""
        return self.cube.axes

    @property
    def data(self) -> NDArray[Any]:
        """All values."""
        return np.stack([plane.copy() for plane in self.planes()])

    def planes(self) -> Iterator[NDArray[Any]]:
        """Values along the first axis, one plane after the other; each holds until the next one is asked for."""
        factor, values = np.broadcast_to(self.factor, self.cube.data.shape), self.cube.data
        if factor.dtype != bool:
            yield from map(np.multiply, values, factor)
            return
        yield from masked_planes(values, factor, values.dtype)


@dataclass(frozen=True, eq=False)
class RunStack:
    """What one run gives to a stack (see `cubeflow.products.run_stack`); fields as in `Stack`."""

    layers: Mapping[str, Share]
    gti_s: FloatArray
    ontime_s: float
    livetime_s: float
    n_runs: int = 1


def stack(parts: Iterable[Stack | RunStack]) -> Stack:
    """Add stacks in the order given.

    Parameters
    ----------
    parts : iterable of Stack or RunStack
        All with the same layers, axes and pixel grids; their geometries may differ. They are
        consumed one by one, so that only one of them need be in memory.

    Returns
    -------
    Stack
        On the smallest geometry that holds all parts.

    Raises
    ------
    ValueError
        If there is no part, layers differ, or a part holds a NaN or an infinity.
    GeometryError
        If the parts are not on one pixel grid.
    """
    total = StackSum()
    for part in parts:
        total.add(part)
    return total.result()


class StackSum:
    """A stack in the making: it owns its arrays and adds to them in place.

    Parameters
    ----------
    room : Room
        Where the arrays lie.

    Examples
    --------
    >>> total = StackSum()
    >>> for run in runs:
    ...     total.add(run)
    >>> stacked = total.result()
    """

    def __init__(self, room: Room | None = None) -> None:
        self._room: Room = room or Memory()
        self._sums: dict[str, Cube] = {}
        self._parts: list[Stack] = []

    def add(self, part: Stack | RunStack) -> None:
        """Add a part, which stays as it was; errors as in `stack`."""
        if self._sums and part.layers and self._sums.keys() != part.layers.keys():
            raise ValueError(f"layers differ: {sorted(self._sums)} and {sorted(part.layers)}")
        for name, cube in part.layers.items():
            self._sums[name] = _add(self._sums.get(name), cube, name, self._room)
            self._room.settle(self._sums[name].data)
        self._parts.append(Stack({}, part.gti_s, part.ontime_s, part.livetime_s, part.n_runs))

    def result(self) -> Stack:
        """Return the sum; the arrays are handed over, so that nothing may be added any more."""
        if not self._parts:
            raise ValueError("nothing to stack")
        intervals = np.concatenate([part.gti_s for part in self._parts])
        order = np.lexsort((intervals[:, 1], intervals[:, 0]))
        ontime_s, livetime_s = sum(part.ontime_s for part in self._parts), sum(part.livetime_s for part in self._parts)
        return Stack(self._sums, intervals[order], ontime_s, livetime_s, sum(part.n_runs for part in self._parts))


def empty_stack() -> Stack:
    """Stack of no runs: it has no layers and may be added to any other."""
    return Stack({}, np.zeros((0, 2)), 0.0, 0.0, 0)


def on_geometry(values: NDArray[Any], old: Geometry, new: Geometry) -> NDArray[Any]:
    """Put values (..., ny, nx) on another geometry of their grid: cut where it is smaller, zero or False beyond."""
    placed = np.zeros((*values.shape[:-2], *new.shape), values.dtype)
    shared = old.overlap(new)
    if shared is not None:
        placed[(..., *shared[1])] = values[(..., *shared[0])]
    return placed


def _add(total: Cube | None, part: Cube | Share, name: str, room: Room) -> Cube:
    """Add `part` to `total`, whose array is this module's own and may be written to."""
    if total is None:
        dtype = _sum_dtype(part.cube if isinstance(part, Share) else part)
        total = _zeros(part, part.geom, dtype, room)
    if total.unit != part.unit or total.axes != part.axes:
        raise ValueError(f"layer {name!r}: units or axes differ")
    union = total.geom.union(part.geom)
    grown = total if union == total.geom else _grown(total, union, room)
    x0, y0 = part.geom.origin_in(union)
    target = grown.data[..., y0 : y0 + part.geom.ny, x0 : x0 + part.geom.nx]
    planes = part.planes() if isinstance(part, Share) else part.data
    for sums, values in zip(target, planes, strict=True):
        if not is_finite(values):
            raise ValueError(f"layer {name!r} holds values that are not finite")
        np.logical_or(sums, values, out=sums) if sums.dtype == bool else np.add(sums, values, out=sums)
    return grown


def _zeros(like: Cube | Share, geom: Geometry, dtype: str, room: Room) -> Cube:
    """Cube of zeros with the axes and unit of another."""
    return Cube(room.zeros((*(axis.n_bins for axis in like.axes), *geom.shape), dtype), like.unit, geom, like.axes)


def _grown(total: Cube, geom: Geometry, room: Room) -> Cube:
    """Put a sum on a larger geometry, plane by plane."""
    grown = _zeros(total, geom, total.data.dtype.str, room)
    x0, y0 = total.geom.origin_in(geom)
    for sums, values in zip(grown.data, total.data, strict=True):
        sums[..., y0 : y0 + total.geom.ny, x0 : x0 + total.geom.nx] = values
    return grown


def _sum_dtype(cube: Cube) -> str:
    """Type in which a layer is summed."""
    return {"b": "?", "i": "i8", "u": "i8"}.get(cube.data.dtype.kind, "f8")


def mean_response(weighted: FloatArray, exposure: FloatArray) -> FloatArray:
    """Exposure-weighted mean PSF or energy dispersion of a stack.

    Parameters
    ----------
    weighted : array, shape (n_energy_true, n_rad or n_energy, ny, nx)
        Layer ``irf_psf`` or ``irf_edisp``, or some true energies of it.
    exposure : array, shape (n_energy_true, ny, nx)
        Layer ``irf_exposure``, m2 s, at the same energies.

    Returns
    -------
    array, shape (n_energy_true, n_rad or n_energy, ny, nx)
        Zero where there is no exposure. The energy dispersion is also lowered where runs with exposure have masked a
        reconstructed energy, so that exposure times energy dispersion predicts the counts that were kept.
    """
    weights = exposure[:, None]
    return np.divide(weighted, weights, out=np.zeros_like(weighted), where=weights > 0)
