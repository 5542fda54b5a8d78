"""What one run gives to a stack, not yet put together: maps, and what of them counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry
from cubeflow.products.masked import masked_planes


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
    def nbytes(self) -> int:
        """Memory of the map."""
        return int(self.cube.data.nbytes)

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
    gti_s: NDArray[np.float64]
    ontime_s: float
    livetime_s: float
    n_runs: int = 1
