"""Maps that are gone through some planes at a time, whether they are in memory or not.

A map in memory is one slab. Any other is a `CubeStream` whose slabs are single rows of the first axis and can be asked
for again and again: so the slabs of two maps fit each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeflow.maps import Axis, Cube, Geometry
from cubeflow.storage.described import Array, CubeStream
from cubeflow.storage.opened import OpenArtifact

Map = Cube | CubeStream


@dataclass(frozen=True, eq=False)
class Slabs:
    """Slabs that are made anew whenever they are asked for."""

    make: Callable[[], Iterator[Array]]

    def __iter__(self) -> Iterator[Array]:
        return self.make()


@dataclass(frozen=True)
class Grid:
    """Unit, geometry and axes of a map."""

    unit: str
    geom: Geometry
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return (*(axis.n_bins for axis in self.axes), *self.geom.shape)


def grid_of(cube: Map) -> Grid:
    """Grid of a map."""
    return Grid(cube.unit, cube.geom, cube.axes)


def dtype_of(cube: Map) -> np.dtype[Any]:
    """Type of the values of a map."""
    return cube.data.dtype if isinstance(cube, Cube) else np.dtype(cube.dtype)


def slabs_of(cube: Map) -> Iterable[Array]:
    """Slabs of a map."""
    return [cube.data] if isinstance(cube, Cube) else cube.slabs


def rows_of(cube: Map) -> Iterator[Array]:
    """Rows of a map along its first axis, each without that axis."""
    for slab in slabs_of(cube):
        yield from slab


def open_map(opened: OpenArtifact, name: str) -> CubeStream:
    """Map of an open artifact that stays on the disk."""
    described = opened.descriptions[name]
    if described.geom is None:
        raise TypeError(f"{opened.path}: {name}: expected a cube")

    def rows() -> Iterator[Array]:
        """Rows one by one, as views of the blocks in which they are stored."""
        for slab in opened.slabs(name):
            yield from (slab[row : row + 1] for row in range(len(slab)))

    return CubeStream(Slabs(rows), described.dtype, described.unit, described.geom, described.axes)


def derive(grid: Grid, dtype: str, function: Callable[..., Array], *maps: Map) -> Map:
    """Map whose slabs are made from those of others; in memory if all of them are.

    Parameters
    ----------
    grid : Grid
        Of the new map; the first axis has as many bins as that of the others.
    dtype : str
        Type of the new map.
    function : callable
        Takes a slab of each map, of one or more rows, and gives one of the new map.
    maps : Cube or CubeStream
        What it is made from.
    """
    if all(isinstance(cube, Cube) for cube in maps):
        return Cube(function(*(cube.data for cube in maps if isinstance(cube, Cube))), grid.unit, grid.geom, grid.axes)
    parts = [[row[None] for row in cube.data] if isinstance(cube, Cube) else cube.slabs for cube in maps]
    return CubeStream(Slabs(lambda: map(function, *parts)), np.dtype(dtype).str[1:], grid.unit, grid.geom, grid.axes)


def in_memory(cube: Map) -> Cube:
    """Map in memory."""
    if isinstance(cube, Cube):
        return cube
    data = np.concatenate(list(cube.slabs)) if cube.axes else next(iter(cube.slabs))
    return Cube(data, cube.unit, cube.geom, cube.axes)


def in_float32(cube: Map) -> Map:
    """Map rounded to float32, in which maps are kept; of whole numbers the largest is found instead."""
    if isinstance(cube, Cube):
        return cube.to_float32()
    if np.dtype(cube.dtype).kind == "f":
        return derive(grid_of(cube), "f4", lambda slab: slab.astype(np.float32), cube)
    largest = max((int(slab.max(initial=0)) for slab in cube.slabs), default=0) if cube.dtype[0] in "iu" else None
    return CubeStream(cube.slabs, cube.dtype, cube.unit, cube.geom, cube.axes, largest)


def sum_of(cube: Map, piece: int = 1 << 17) -> float:
    """Sum of all values, to the bit that of `numpy.sum` over the whole array: in halves of halves.

    References
    ----------
    Pairwise summation, https://numpy.org/doc/stable/reference/generated/numpy.sum.html
    """
    if isinstance(cube, Cube):
        return float(cube.data.sum())
    numbers = _Numbers(cube.slabs)

    def half(n: int) -> float:
        """Sum of the next `n` values."""
        if n <= piece:
            return float(numbers.take(n).sum())
        first = n // 2 - n // 2 % 8
        return half(first) + half(n - first)

    return half(int(np.prod(grid_of(cube).shape)))


class _Numbers:
    """Values of slabs, so many at a time."""

    def __init__(self, slabs: Iterable[Array]) -> None:
        self._slabs = iter(slabs)
        self._left: Array = np.empty(0)

    def take(self, n: int) -> Array:
        """Next `n` values."""
        found: list[Array] = []
        while n:
            if not self._left.size:
                self._left = next(self._slabs).reshape(-1)
            found.append(self._left[:n])
            self._left, n = self._left[n:], n - found[-1].size
        return found[0] if len(found) == 1 else np.concatenate(found or [np.empty(0)])


def masked_sums(mask: Map, *maps: Map) -> list[Array]:
    """Sums of maps over their first axis where a mask is True, and where it is anywhere; each of shape (ny, nx).

    Plane after plane, in the order and the precision in which `numpy.sum` adds up whole arrays.
    """
    shape = mask.geom.shape
    totals = [np.zeros(shape, "i8" if dtype_of(cube).kind in "iu" else dtype_of(cube)) for cube in maps]
    used = np.zeros(shape, bool)
    for on, *planes in zip(rows_of(mask), *map(rows_of, maps), strict=True):
        used |= on
        for total, plane in zip(totals, planes, strict=True):
            np.add(total, plane, out=total, where=on)
    return [*totals, used]


def sum_rows(cube: Map) -> Array:
    """Sum of a map over its first axis, shape (1, ...); of truth values, whether any is True."""
    kind = dtype_of(cube).kind
    total = np.zeros(grid_of(cube).shape[1:], "i8" if kind in "iu" else dtype_of(cube))
    add = np.logical_or if kind == "b" else np.add
    for plane in rows_of(cube):
        add(total, plane, out=total)
    return total[None]
