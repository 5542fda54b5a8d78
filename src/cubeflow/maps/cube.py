"""A map with its geometry, axes and unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.geom import Geometry

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.units import Quantity
    from gammapy.maps import WcsNDMap
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Cube:
    """Values on (axes..., lat, lon); ValueError if the shape of `data` is not that of the axes and the geometry."""

    data: NDArray[Any]
    """Shape (axes..., ny, nx): for most maps (energy, lat, lon), (energy_true, rad, lat, lon) for PSF maps and
    (energy_true, energy, lat, lon) for energy-dispersion maps."""
    unit: str  #: FITS unit of the values; ``""`` for counts
    geom: Geometry  #: Pixel grid
    axes: tuple[Axis, ...]  #: Non-spatial axes in the order of the array; none for an image

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

    def axis(self, name: str) -> Axis:
        """Axis of that name; KeyError where the cube has none."""
        if found := [axis for axis in self.axes if axis.name == name]:
            return found[0]
        raise KeyError(f"no axis {name!r}; the cube has {[axis.name for axis in self.axes]}")

    @property
    def quantity(self) -> "Quantity":
        """Values with their unit, shape (axes..., ny, nx)."""
        from astropy.units import Quantity

        return Quantity(self.data, self.unit)

    def at(self, position: "SkyCoord") -> "Quantity":
        """Value in the pixel that holds a position, with the shape of the axes; ValueError outside the map."""
        icrs = position.icrs
        ix, iy = (int(index) for index in self.geom.pixel_index(icrs.ra.deg, icrs.dec.deg))
        if ix < 0:
            raise ValueError(f"position ({icrs.ra.deg:.4f}, {icrs.dec.deg:.4f}) deg lies outside the map")
        return self.quantity[..., iy, ix]

    def sum_over_energy(self) -> "Cube":
        """Sum over the first axis, which is left with one bin over its whole range."""
        return Cube(self.data.sum(axis=0)[None], self.unit, self.geom, (self.axes[0].in_one_bin(), *self.axes[1:]))

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the sum over all axes but those of the sky, on celestial axes of its own unless some are given."""
        from matplotlib import pyplot

        axes = axes or pyplot.subplot(projection=self.geom.wcs())
        shown = axes.imshow(self.data.sum(axis=tuple(range(len(self.axes)))), origin="lower")
        axes.figure.colorbar(shown, ax=axes, label=self.unit)
        return axes

    def to_gammapy(self, meta: Mapping[str, Any] | None = None) -> "WcsNDMap":
        """Give the same map to gammapy, which must be installed; integers become float64, truth values stay so.

        Of an exposure gammapy looks for ``livetime`` (a Quantity) and ``is_pointlike`` in `meta`.
        """
        from gammapy.maps import MapAxis, WcsGeom, WcsNDMap

        # gammapy has the fastest axis first.
        make, own = MapAxis.from_edges, reversed(self.axes)
        axes = [make(axis.edges_array, unit=axis.unit, name=axis.name, interp=axis.interp) for axis in own]
        pixel = self.geom.pixel_deg
        geom = WcsGeom(self.geom.wcs(), (self.geom.nx, self.geom.ny), cdelt=(pixel, pixel), axes=axes)
        data = self.data.astype(float) if self.data.dtype.kind in "iu" else self.data
        return WcsNDMap(geom, data=data, unit=self.unit, meta=dict(meta or {}))

    def to_float32(self) -> "Cube":
        """Round floating-point values to float32, in which maps are kept; others stay as they are."""
        if self.data.dtype.kind != "f":
            return self
        return Cube(self.data.astype(np.float32), self.unit, self.geom, self.axes)

    def cutout(self, geom: Geometry) -> "Cube":
        """Return the part on `geom`, which must lie inside this cube's geometry on the same grid, as a view."""
        shared = geom.overlap(self.geom)
        if shared is None or self.data[(..., *shared[1])].shape[-2:] != geom.shape:
            raise ValueError(f"{geom} does not lie inside {self.geom}")
        return Cube(self.data[(..., *shared[1])], self.unit, geom, self.axes)


Maps = Mapping[str, Cube]  # by name


def zeros(unit: str, geom: Geometry, *axes: Axis, dtype: str = "f8") -> Cube:
    """Cube of zeros."""
    return Cube(np.zeros((*(axis.n_bins for axis in axes), *geom.shape), dtype), unit, geom, axes)
