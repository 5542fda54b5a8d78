"""Stacking: a run's contribution, a stack of runs and a stack of stacks are one and the same type.

Every layer of a `Stack` is a plain sum (or, for masks, a logical or) of what its parts hold, so
that a stack may be stacked again. Ratios, such as the mean PSF, are formed at the very end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube, Geometry
from cubeflow.products.masked import is_finite
from cubeflow.products.room import Memory, Room
from cubeflow.products.share import RunStack, Share

FloatArray = NDArray[np.float64]

PENDING_BYTES = 1 << 26  # of parts that are added in one pass over the sums, which are far larger than any cache


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


Layers = Mapping[str, Cube] | Mapping[str, Share]


def stack(parts: Iterable[Stack | RunStack]) -> Stack:
    """Add stacks in the order given.

    Parameters
    ----------
    parts : iterable of Stack or RunStack
        All with the same layers, axes and pixel grids; their geometries may differ. They are
        consumed one by one, so that only a few of them need be in memory.

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
        self._pending: list[Layers] = []
        self._pending_bytes = 0
        self._parts: list[Stack] = []

    def add(self, part: Stack | RunStack) -> None:
        """Add a part, which stays as it was and must not be changed; errors as in `stack`, some with a later part."""
        if part.layers:
            known = next(iter(self._pending), self._sums)
            if known and known.keys() != part.layers.keys():
                raise ValueError(f"layers differ: {sorted(known)} and {sorted(part.layers)}")
            self._pending.append(part.layers)
            self._pending_bytes += sum(each.nbytes for each in part.layers.values())
        if self._pending_bytes >= PENDING_BYTES:
            self._add_pending()
        self._parts.append(Stack({}, part.gti_s, part.ontime_s, part.livetime_s, part.n_runs))

    def _add_pending(self) -> None:
        """Add the parts that wait, in the order they came."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0  # also if it fails: they hold memory
        for name in pending[0] if pending else ():
            self._sums[name] = _add(self._sums.get(name), [layers[name] for layers in pending], name, self._room)
            self._room.settle(self._sums[name].data)

    def result(self) -> Stack:
        """Return the sum; the arrays are handed over, so that nothing may be added any more."""
        if not self._parts:
            raise ValueError("nothing to stack")
        self._add_pending()
        intervals = np.concatenate([part.gti_s for part in self._parts])
        order = np.lexsort((intervals[:, 1], intervals[:, 0]))
        ontime_s, livetime_s = sum(part.ontime_s for part in self._parts), sum(part.livetime_s for part in self._parts)
        return Stack(self._sums, intervals[order], ontime_s, livetime_s, sum(part.n_runs for part in self._parts))


def empty_stack() -> Stack:
    """Stack of no runs: it has no layers and may be added to any other."""
    return Stack({}, np.zeros((0, 2)), 0.0, 0.0, 0)


def on_geometry(values: NDArray[Any], old: Geometry, new: Geometry) -> NDArray[Any]:
    """Put values (..., ny, nx) on another geometry of their grid: cut where it is smaller, zero or False beyond."""
    if old == new:
        return values
    placed = np.zeros((*values.shape[:-2], *new.shape), values.dtype)
    shared = old.overlap(new)
    if shared is not None:
        placed[(..., *shared[1])] = values[(..., *shared[0])]
    return placed


def _add(total: Cube | None, parts: Sequence[Cube | Share], name: str, room: Room) -> Cube:
    """Add `parts`, one after the other, to `total`, whose array is this module's own and may be written to."""
    union = (total or parts[0]).geom
    for part in parts:
        if (part.unit, part.axes) != (parts[0].unit, parts[0].axes):
            raise ValueError(f"layer {name!r}: units or axes differ")
        union = union.union(part.geom)
    if total is None:
        total = _zeros(parts[0], union, _sum_dtype(parts[0]), room)
    if (total.unit, total.axes) != (parts[0].unit, parts[0].axes):
        raise ValueError(f"layer {name!r}: units or axes differ")
    grown = total if union == total.geom else _grown(total, union, room)
    for planes in zip(*(_places(grown, part) for part in parts), strict=True):
        for sums, values in planes:
            if not is_finite(values):
                raise ValueError(f"layer {name!r} holds values that are not finite")
            np.logical_or(sums, values, out=sums) if sums.dtype == bool else np.add(sums, values, out=sums)
    return grown


def _places(total: Cube, part: Cube | Share) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Planes of a sum, where a part lies, with the planes of the part."""
    x0, y0 = part.geom.origin_in(total.geom)
    target = total.data[..., y0 : y0 + part.geom.ny, x0 : x0 + part.geom.nx]
    yield from zip(target, part.planes() if isinstance(part, Share) else part.data, strict=True)


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


def _sum_dtype(part: Cube | Share) -> str:
    """Type in which a layer is summed."""
    cube = part.cube if isinstance(part, Share) else part
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
