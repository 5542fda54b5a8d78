"""Rate of background events (BKG_3D, BKG_2D).

The logarithm of the rate is linear in ln E between bin centres and in the outermost half bins, and so it is in the
position; or the rate itself is linear in the position, as it must be between coarse bins. It is zero outside the
table. Along energy it is a chain of power laws, which is integrated exactly.

https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/bkg/
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.energy_chain import close_energies, fill_log_rate, integrate_rate
from cubeflow.irf.table import EDGE_TOLERANCE, Nodes, check_shape, nodes_from_edges
from cubeflow.maps.arrays import BoolArray, FloatArray

Interpolation = Literal["auto", "log", "linear"]
STEEP = 2.0  # factor between neighbouring nodes beyond which the bins of a table are wide


def _is_linear(background: "BackgroundRate") -> bool:
    """Whether it is the rate that is linear between positions; ``auto`` looks at its steps."""
    if background.interpolation != "auto":
        return background.interpolation == "linear"
    # Energies are summed: of a few events each would jump.
    whole = np.tensordot(np.diff(background.energy_edges_tev), background.rate, axes=1)
    for along in (np.moveaxis(whole, axis, 0) for axis in range(whole.ndim)):
        lower, upper = np.minimum(along[:-1], along[1:]), np.maximum(along[:-1], along[1:])
        if np.any(upper > STEEP * lower * (1 + EDGE_TOLERANCE)):
            return True
    return False


@dataclass(frozen=True, eq=False)
class Background3D:
    """Background rate as a function of energy and position in the field of view.

    Longitude and latitude grow for RADEC to the **east** and north, for ALTAZ with azimuth and altitude, as readers
    turn them. Between positions the logarithm of the rate is linear, or the rate, which keeps the sum over a field of
    coarse bins or steep edges: ``auto`` is linear if the rate over all energies changes anywhere by more than `STEEP`
    from node to node.
    """

    energy_edges_tev: FloatArray  #: shape (n_energy + 1,), reconstructed energy
    lon_edges_deg: FloatArray  #: shape (n_lon + 1,)
    lat_edges_deg: FloatArray  #: shape (n_lat + 1,)
    rate: FloatArray  #: shape (n_energy, n_lon, n_lat), s-1 TeV-1 sr-1, not negative
    alignment: Literal["RADEC", "ALTAZ"] = "RADEC"  #: orientation of the field of view
    interpolation: Interpolation = "log"  #: what is linear between positions

    def __post_init__(self) -> None:
        axes = self.energy_edges_tev, self.lon_edges_deg, self.lat_edges_deg
        check_shape("BKG: table", self.rate, *(len(edges) - 1 for edges in axes))

    @cached_property
    def axes(self) -> tuple[Nodes, ...]:
        """Nodes in energy, longitude and latitude."""
        axes = self.energy_edges_tev, self.lon_edges_deg, self.lat_edges_deg
        return tuple(nodes_from_edges(edges[:-1], edges[1:], log=edges is axes[0]) for edges in axes)

    log_rate = cached_property(lambda self: fill_log_rate(self.rate))
    is_linear = cached_property(_is_linear)

    def integrate(self, energy_edges_tev: ArrayLike, lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
        """Rate in s-1 sr-1, shape (r, ...), for energy edges (r + 1,) and field-of-view positions (...).

        Positions are in the table's own orientation. The rate is zero outside the table, and the part of an energy bin
        outside adds nothing.
        """
        energy, lon, lat = self.axes
        lon_deg, lat_deg = np.asarray(lon_deg), np.asarray(lat_deg)
        inside = lon.inside(lon_deg) & lat.inside(lat_deg)
        interpolate = _bilinear(lon, lat, lon_deg[inside], lat_deg[inside])
        return _integrate(self, energy, energy_edges_tev, interpolate, inside)


@dataclass(frozen=True, eq=False)
class Background2D:
    """Background rate as a function of energy and offset."""

    energy_edges_tev: FloatArray  #: shape (n_energy + 1,), reconstructed energy
    offset: Nodes  #: deg
    rate: FloatArray  #: shape (n_energy, n_offset), s-1 TeV-1 sr-1, not negative
    alignment: Literal["RADEC", "ALTAZ"] = "RADEC"
    interpolation: Interpolation = "log"  #: as for `Background3D`

    def __post_init__(self) -> None:
        check_shape("BKG: table", self.rate, len(self.energy_edges_tev) - 1, len(self.offset))

    @cached_property
    def energy(self) -> Nodes:
        """Nodes in energy."""
        return nodes_from_edges(self.energy_edges_tev[:-1], self.energy_edges_tev[1:], log=True)

    log_rate = cached_property(lambda self: fill_log_rate(self.rate))
    is_linear = cached_property(_is_linear)

    def integrate(self, energy_edges_tev: ArrayLike, lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
        """Rate in s-1 sr-1, shape (r, ...), at the offset of each position; see `Background3D.integrate`."""
        lon, lat = np.deg2rad(lon_deg), np.deg2rad(lat_deg)
        # Haversine of the separation from the centre of the field of view: exact at small offsets.
        half = np.sqrt(np.sin(0.5 * lat) ** 2 + np.cos(lat) * np.sin(0.5 * lon) ** 2)
        offset_deg = np.rad2deg(2.0 * np.arcsin(np.minimum(half, 1.0)))
        inside = self.offset.inside(offset_deg)
        weights = self.offset.weights(offset_deg[inside]).T
        return _integrate(self, self.energy, energy_edges_tev, lambda rate: rate @ weights, inside)


BackgroundRate = Background2D | Background3D


def mean_by_offset(table: Background3D, offset_max_deg: float, n_bins: int) -> Background2D:
    """Mean rate at each offset; its integrals over the bins of energy are those of the table."""
    edges, angle = np.linspace(0.0, offset_max_deg, n_bins + 1), np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
    offset, energy = nodes_from_edges(edges[:-1], edges[1:], log=False), table.energy_edges_tev
    whole = table.integrate(energy, *(np.outer(offset.values, each) for each in (np.cos(angle), np.sin(angle))))
    return Background2D(energy, offset, close_energies(energy, whole.mean(axis=-1)), table.alignment)


Interpolate = Callable[[FloatArray], FloatArray]  # from (..., nodes) to (..., positions)


def _integrate(
    background: BackgroundRate, energy: Nodes, energy_edges_tev: ArrayLike, interpolate: Interpolate, inside: BoolArray
) -> FloatArray:
    """Rate in s-1 sr-1, shape (r, ...), which `interpolate` finds at the p positions inside the table, else zero."""
    planes = background.log_rate.reshape(len(energy), -1)
    if background.is_linear:
        rate = np.maximum(interpolate(integrate_rate(energy, energy_edges_tev, planes.__getitem__)), 0.0)
    else:
        rate = integrate_rate(energy, energy_edges_tev, lambda node: interpolate(planes[node]))
    out = np.zeros((len(rate), *inside.shape))
    out[:, inside] = rate
    return out


def _bilinear(lon: Nodes, lat: Nodes, lon_deg: FloatArray, lat_deg: FloatArray) -> Interpolate:
    """Interpolation of tables flattened from (n_lon, n_lat) at p positions in deg, by the four nodes around each."""
    i, f = lon.bracket(lon_deg)
    j, g = lat.bracket(lat_deg)
    step_i, step_j = (len(lat) if len(lon) > 1 else 0), (1 if len(lat) > 1 else 0)
    base = i * len(lat) + j
    first, *others = zip(
        (base, base + step_j, base + step_i, base + step_i + step_j),
        ((1 - f) * (1 - g), (1 - f) * g, f * (1 - g), f * g),
        strict=True,
    )

    def interpolate(rate: FloatArray) -> FloatArray:
        value = rate.take(first[0], axis=-1, mode="clip")
        value *= first[1]
        for index, weight in others:
            part = rate.take(index, axis=-1, mode="clip")
            part *= weight
            value += part
        return value

    return interpolate
