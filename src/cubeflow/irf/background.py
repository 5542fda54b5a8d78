"""Rate of background events (BKG_3D, BKG_2D).

The logarithm of the rate is linear in ln E between bin centres and in the outermost half bins, and so it is in the
position; or the rate itself is linear in the position. It is zero outside the table. Along energy it is a chain of
power laws, which is integrated exactly.

References
----------
https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/bkg/
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.irf.energy_chain import EnergyIntegral, fill_log_rate
from cubeflow.irf.table import Nodes, nodes_from_edges

FloatArray = NDArray[np.float64]

CHUNK = 8192  # positions at a time: their arrays stay in the cache, and out of fresh memory


Interpolation = Literal["log", "linear"]


class BackgroundRate(Protocol):
    """Any background model."""

    @property
    def alignment(self) -> Literal["RADEC", "ALTAZ"]:
        """What the field-of-view longitude and latitude are aligned with."""
        ...

    def integrate(self, energy_edges_tev: ArrayLike, lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
        """Rate in s-1 sr-1, shape (r, ...), for energy edges (r + 1,) and positions (...)."""
        ...

    def interpolated(self, how: Interpolation) -> BackgroundRate:
        """Same table, interpolated in another way between positions."""
        ...


@dataclass(frozen=True, eq=False)
class Background3D:
    """Background rate as a function of energy and position in the field of view.

    Parameters
    ----------
    energy_edges_tev : array, shape (n_energy + 1,)
        Edges in reconstructed energy, TeV.
    lon_edges_deg, lat_edges_deg : array, shape (n_lon + 1,), (n_lat + 1,)
        Edges in deg; for RADEC longitude grows to the **east** and latitude to the north, for ALTAZ with
        azimuth and altitude. The reader has turned the table that way.
    rate : array, shape (n_energy, n_lon, n_lat)
        Rate in s-1 TeV-1 sr-1, not negative.
    alignment : {"RADEC", "ALTAZ"}
        Orientation of the field of view.
    interpolation : {"log", "linear"}
        What is linear between positions: the logarithm of the rate, or the rate, which keeps the sum over a field of
        coarse bins or steep edges.

    Raises
    ------
    ValueError
        If the table does not have the shape of its axes.
    """

    energy_edges_tev: FloatArray
    lon_edges_deg: FloatArray
    lat_edges_deg: FloatArray
    rate: FloatArray
    alignment: Literal["RADEC", "ALTAZ"] = "RADEC"
    interpolation: Interpolation = "log"

    def __post_init__(self) -> None:
        axes = self.energy_edges_tev, self.lon_edges_deg, self.lat_edges_deg
        expected = tuple(len(edges) - 1 for edges in axes)
        if self.rate.shape != expected:
            raise ValueError(f"BKG: table of shape {self.rate.shape}, axes of shape {expected}")

    @cached_property
    def axes(self) -> tuple[Nodes, Nodes, Nodes]:
        """Nodes in energy, longitude and latitude."""
        energy, lon, lat = self.energy_edges_tev, self.lon_edges_deg, self.lat_edges_deg
        return (
            nodes_from_edges(energy[:-1], energy[1:], log=True),
            nodes_from_edges(lon[:-1], lon[1:], log=False),
            nodes_from_edges(lat[:-1], lat[1:], log=False),
        )

    @cached_property
    def log_rate(self) -> FloatArray:
        """Logarithm of the rate with gaps along energy filled, shape (n_energy, n_lon, n_lat)."""
        return fill_log_rate(self.rate)

    def integrate(self, energy_edges_tev: ArrayLike, lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
        """Integrate the rate over energy bins.

        Parameters
        ----------
        energy_edges_tev : array, shape (r + 1,)
            Edges in reconstructed energy, TeV; the part of a bin outside the table adds nothing.
        lon_deg, lat_deg : array, shape (...)
            Field-of-view position in deg, in the table's own orientation.

        Returns
        -------
        rate : array, shape (r, ...)
            In s-1 sr-1; zero outside the table.
        """
        energy, lon, lat = self.axes
        at_lon, at_lat = np.ravel(lon_deg), np.ravel(lat_deg)
        inside = np.flatnonzero(lon.inside(at_lon) & lat.inside(at_lat))
        planes = self.log_rate.reshape(len(energy), -1)
        integral = EnergyIntegral.of(energy, energy_edges_tev)
        linear = self.interpolation == "linear"
        whole = integral.evaluate(planes.__getitem__, planes.shape[1]) if linear else None
        rate = np.zeros((integral.n_bins, inside.size))
        for start in range(0, inside.size, CHUNK):
            part, out = inside[start : start + CHUNK], rate[:, start : start + CHUNK]
            corners = _Corners.at(lon, lat, at_lon[part], at_lat[part])
            if whole is None:
                integral.add(out, partial(corners.row, planes))
            else:
                out[:] = [np.maximum(corners.interpolate(plane), 0.0) for plane in whole]
        if inside.size == at_lon.size:
            return rate.reshape(integral.n_bins, *np.shape(lon_deg))
        out = np.zeros((integral.n_bins, at_lon.size))
        out[:, inside] = rate
        return out.reshape(integral.n_bins, *np.shape(lon_deg))

    def interpolated(self, how: Interpolation) -> Background3D:
        """Same table, interpolated in another way between positions."""
        return self if how == self.interpolation else replace(self, interpolation=how)


@dataclass(frozen=True, eq=False)
class Background2D:
    """Background rate as a function of energy and offset.

    Parameters
    ----------
    energy_edges_tev : array, shape (n_energy + 1,)
        Edges in reconstructed energy, TeV.
    offset : Nodes
        Offset in deg.
    rate : array, shape (n_energy, n_offset)
        Rate in s-1 TeV-1 sr-1, not negative.
    interpolation : {"log", "linear"}
        As for `Background3D`.

    Raises
    ------
    ValueError
        If the table does not have the shape of its axes.
    """

    energy_edges_tev: FloatArray
    offset: Nodes
    rate: FloatArray
    alignment: Literal["RADEC", "ALTAZ"] = "RADEC"
    interpolation: Interpolation = "log"

    def __post_init__(self) -> None:
        expected = len(self.energy_edges_tev) - 1, len(self.offset)
        if self.rate.shape != expected:
            raise ValueError(f"BKG: table of shape {self.rate.shape}, axes of shape {expected}")

    def integrate(self, energy_edges_tev: ArrayLike, lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
        """Rate in s-1 sr-1, shape (r, ...), at the offset of each position; see `Background3D.integrate`."""
        lon, lat = np.deg2rad(lon_deg), np.deg2rad(lat_deg)
        # Haversine of the separation from the centre of the field of view: exact at small offsets.
        half = np.sqrt(np.sin(0.5 * lat) ** 2 + np.cos(lat) * np.sin(0.5 * lon) ** 2)
        offset_deg = np.rad2deg(2.0 * np.arcsin(np.minimum(half, 1.0)))
        inside = self.offset.inside(offset_deg)
        energy = nodes_from_edges(self.energy_edges_tev[:-1], self.energy_edges_tev[1:], log=True)
        weights = self.offset.weights(offset_deg[inside]).T
        log_rate = fill_log_rate(self.rate)
        integral = EnergyIntegral.of(energy, energy_edges_tev)
        out = np.zeros((integral.n_bins, *inside.shape))
        if self.interpolation == "linear":
            out[:, inside] = np.maximum(integral.evaluate(log_rate.__getitem__, len(self.offset)) @ weights, 0.0)
        else:
            out[:, inside] = integral.evaluate(lambda node: log_rate[node] @ weights, weights.shape[1])
        return out

    def interpolated(self, how: Interpolation) -> Background2D:
        """Same table, interpolated in another way between offsets."""
        return self if how == self.interpolation else replace(self, interpolation=how)


@dataclass(frozen=True, eq=False)
class _Corners:
    """The four nodes around each of p positions, as flat indices into (n_lon, n_lat), with their weights."""

    index: tuple[NDArray[np.int64], ...]  # 4 x (p,)
    weight: tuple[FloatArray, ...]  # 4 x (p,)

    @classmethod
    def at(cls, lon: Nodes, lat: Nodes, lon_deg: FloatArray, lat_deg: FloatArray) -> _Corners:
        """Nodes and weights at positions in deg, each of shape (p,), inside the table."""
        i, f = lon.bracket(lon_deg)
        j, g = lat.bracket(lat_deg)
        step_i, step_j = (len(lat) if len(lon) > 1 else 0), (1 if len(lat) > 1 else 0)
        base = i * len(lat) + j
        index = base, base + step_j, base + step_i, base + step_i + step_j
        return cls(index, ((1 - f) * (1 - g), (1 - f) * g, f * (1 - g), f * g))

    def row(self, planes: FloatArray, index: int) -> FloatArray:
        """Bilinear values, shape (p,), of one of several flattened tables, shape (n, n_lon n_lat)."""
        return self.interpolate(planes[index])

    def interpolate(self, plane: FloatArray) -> FloatArray:
        """Bilinear values, shape (p,), of a table flattened from (n_lon, n_lat)."""
        value = plane.take(self.index[0], mode="clip")
        value *= self.weight[0]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            part = plane.take(index, mode="clip")
            part *= weight
            value += part
        return value
