"""Stacking: a run's contribution, a stack of runs and a stack of stacks are one and the same type.

Every layer of a `Stack` is a plain sum (or, for masks, a logical or) of what its parts hold, so
that a stack may be stacked again. Ratios, such as the mean PSF, are formed at the very end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry
from cubeflow.products.coarsen import safe_fraction

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


def stack(parts: Iterable[Stack]) -> Stack:
    """Add stacks in the order given.

    Parameters
    ----------
    parts : iterable of Stack
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

    Examples
    --------
    >>> total = StackSum()
    >>> for run in runs:
    ...     total.add(run)
    >>> stacked = total.result()
    """

    def __init__(self) -> None:
        self._sums: dict[str, Cube] = {}
        self._parts: list[Stack] = []

    def add(self, part: Stack) -> None:
        """Add a part, which stays as it was; errors as in `stack`."""
        if self._sums and part.layers and self._sums.keys() != part.layers.keys():
            raise ValueError(f"layers differ: {sorted(self._sums)} and {sorted(part.layers)}")
        for name, cube in part.layers.items():
            self._sums[name] = _add(self._sums.get(name), cube, name)
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


def on_geometry(cube: Cube, geom: Geometry) -> Cube:
    """Put a cube on another geometry of its grid: cut where it is larger, zero (or False) where it is smaller."""
    data = np.zeros((*cube.data.shape[:-2], *geom.shape), cube.data.dtype)
    shared = cube.geom.overlap(geom)
    if shared is not None:
        data[(..., *shared[1])] = cube.data[(..., *shared[0])]
    return Cube(data, cube.unit, geom, cube.axes)


def _add(total: Cube | None, part: Cube, name: str) -> Cube:
    """Add `part` to `total`, whose array is this module's own and may be written to."""
    if part.data.dtype.kind == "f" and not np.all(np.isfinite(part.data)):
        raise ValueError(f"layer {name!r} holds values that are not finite")
    if total is None:
        return Cube(part.data.astype(_sum_dtype(part), copy=True), part.unit, part.geom, part.axes)
    if total.unit != part.unit or total.axes != part.axes:
        raise ValueError(f"layer {name!r}: units or axes differ")
    union = total.geom.union(part.geom)
    grown = total if union == total.geom else on_geometry(total, union)
    x0, y0 = part.geom.origin_in(union)
    target = grown.data[..., y0 : y0 + part.geom.ny, x0 : x0 + part.geom.nx]
    np.logical_or(target, part.data, out=target) if target.dtype == bool else np.add(target, part.data, out=target)
    return grown


def _sum_dtype(cube: Cube) -> str:
    """Type in which a layer is summed."""
    return {"b": "?", "i": "i8", "u": "i8"}.get(cube.data.dtype.kind, "f8")


def make_run_stack(
    maps: Mapping[str, Cube], mask: NDArray[np.bool_], irf_weight: Cube, gti_s: FloatArray, livetime_s: float
) -> Stack:
    """Contribution of one run: its maps where they are safe.

    Parameters
    ----------
    maps : mapping of str to Cube
        Maps with a reconstructed-energy axis are kept where `mask` holds, those with a single bin
        over all energies (OFF counts of a ring) where it holds at any. ``exposure`` (true energy)
        is kept in pixels that are safe at any energy. ``psf`` and ``edisp`` on the IRF grid are
        weighted by `irf_weight`, and ``edisp`` by the safe fraction at each reconstructed energy: a run
        must not predict counts where its own are masked. Values that are no answer (NaN) outside the
        mask do not count.
    mask : array, shape (energy, lat, lon)
        Safe voxels of this run.
    irf_weight : Cube, shape (energy_true, lat, lon)
        Exposure on the IRF grid, m2 s, zero where the run does not contribute.
    gti_s : array, shape (n, 2)
        Good time intervals.
    livetime_s : float
        Livetime, s.

    Returns
    -------
    Stack
        Layers: those of `maps` by their names, ``mask_safe``, and for the responses
        ``irf_psf``, ``irf_edisp`` (weighted sums) and ``irf_exposure``.
    """
    geom = next(iter(maps.values())).geom
    layers: dict[str, Cube] = {}
    energy: Axis | None = None
    for name, cube in maps.items():
        if name in ("psf", "edisp"):
            weighted = cube.data * irf_weight.data[:, None]
            if name == "edisp":
                weighted *= safe_fraction(mask, geom, cube.geom)
            layers[f"irf_{name}"] = Cube(weighted, f"{cube.unit} m2 s".strip(), cube.geom, cube.axes)
        elif cube.axes[0].name == "energy_true":
            layers[name] = Cube(np.where(mask.any(axis=0), cube.data, 0), cube.unit, cube.geom, cube.axes)
        else:
            energy = energy if energy is not None and energy.n_bins == len(mask) else cube.axes[0]
            kept = mask if len(cube.data) == len(mask) else mask.any(axis=0)
            layers[name] = Cube(np.where(kept, cube.data, 0), cube.unit, cube.geom, cube.axes)
    if energy is None:
        raise ValueError("no map in reconstructed energy among the maps to stack")
    layers["mask_safe"] = Cube(mask, "", geom, (energy,))
    layers["irf_exposure"] = irf_weight
    ontime_s = float(np.sum(gti_s[:, 1] - gti_s[:, 0]))
    return Stack(layers, gti_s, ontime_s, livetime_s, 1)


def mean_response(stacked: Stack, name: str) -> Cube:
    """Exposure-weighted mean PSF or energy dispersion of a stack.

    Parameters
    ----------
    stacked : Stack
        With layers ``irf_<name>`` and ``irf_exposure``.
    name : {"psf", "edisp"}
        Which response.

    Returns
    -------
    Cube
        Shape (energy_true, rad or energy, lat, lon); zero where there is no exposure. The energy
        dispersion is also lowered where runs with exposure have masked a reconstructed energy, so that
        exposure times energy dispersion predicts the counts that were kept.
    """
    weighted, exposure = stacked.layers[f"irf_{name}"], stacked.layers["irf_exposure"].data[:, None]
    data = np.divide(weighted.data, exposure, out=np.zeros_like(weighted.data), where=exposure > 0)
    return Cube(data, weighted.unit.removesuffix("m2 s").strip(), weighted.geom, weighted.axes)
