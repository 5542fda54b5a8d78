"""A map with its geometry, axes and unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.geom import Geometry


@dataclass(frozen=True, eq=False)
class Cube:
    """Values on (axes..., lat, lon).

    Parameters
    ----------
    data : array, shape (axes..., ny, nx)
        For most maps (energy, lat, lon); for PSF maps (energy_true, rad, lat, lon) and for
        energy-dispersion maps (energy_true, energy, lat, lon).
    unit : str
        FITS unit of the values; ``""`` for counts.
    geom : Geometry
        Pixel grid.
    axes : tuple of Axis
        Non-spatial axes in the order of the array; none for an image.

    Raises
    ------
    ValueError
        If the shape of `data` is not that of the axes and the geometry.
    """

    data: NDArray[Any]
    unit: str
    geom: Geometry
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        expected = (*(axis.n_bins for axis in self.axes), *self.geom.shape)
        if self.data.shape != expected:
            raise ValueError(f"data of shape {self.data.shape} do not fit axes and geometry of shape {expected}")

    def __repr__(self) -> str:
        """What it is in one line; the values are in `data`."""
        lat, lon = self.geom.shape
        axes = [*((axis.name, axis.n_bins) for axis in self.axes), ("lat", lat), ("lon", lon)]
        shape = " x ".join(f"{name} {size}" for name, size in axes)
        return f"<Cube {shape}, {self.data.dtype}{f', {self.unit}' if self.unit else ''}>"

    @property
    def nbytes(self) -> int:
        """Memory of the values."""
        return int(self.data.nbytes)

    def axis(self, name: str) -> Axis:
        """Axis of that name; KeyError where the cube has none."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise KeyError(f"no axis {name!r}; the cube has {[axis.name for axis in self.axes]}")

    def to_float32(self) -> Cube:
        """Round floating-point values to float32, in which maps are kept; others stay as they are."""
        if self.data.dtype.kind != "f":
            return self
        return Cube(self.data.astype(np.float32), self.unit, self.geom, self.axes)

    def cutout(self, geom: Geometry) -> Cube:
        """Return the part on `geom`, which must lie inside this cube's geometry on the same grid."""
        shared = geom.overlap(self.geom)
        if shared is None or self.data[(..., *shared[1])].shape[-2:] != geom.shape:
            raise ValueError(f"{geom} does not lie inside {self.geom}")
        return Cube(self.data[(..., *shared[1])], self.unit, geom, self.axes)


def zeros(unit: str, geom: Geometry, *axes: Axis, dtype: str = "f8") -> Cube:
    """Cube of zeros."""
    return Cube(np.zeros((*(axis.n_bins for axis in axes), *geom.shape), dtype), unit, geom, axes)
