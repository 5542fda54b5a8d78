"""Counts per pixel and energy bin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import sphere
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import EventList, Pointing


def make_map_counts(
    events: EventList,
    geom: Geometry,
    energy: Axis,
    pointing: Pointing | None = None,
    offset_max_deg: float | None = None,
) -> Cube:
    """Fill events into a cube.

    Parameters
    ----------
    events : EventList
        Events that are to be counted; those outside the good time intervals are removed before.
    geom : Geometry
        Pixel grid.
    energy : Axis
        Reconstructed energy, TeV; bins are half-open ``[lo, hi)``.
    pointing : Pointing, optional
        Needed with `offset_max_deg`.
    offset_max_deg : float, optional
        Count only events with a smaller offset to the pointing, deg.

    Returns
    -------
    counts : Cube of int64, (energy, lat, lon)
        Events outside the map or the energy range are not counted.

    Raises
    ------
    ValueError
        If there is an offset cut without a pointing.
    """
    bin_index = energy.index(events.energy_tev)
    keep = np.flatnonzero((bin_index >= 0) & _within(events, pointing, offset_max_deg))
    ix, iy = geom.pixel_index(events.ra_deg[keep], events.dec_deg[keep])
    inside = ix >= 0
    flat = (bin_index[keep][inside] * geom.ny + iy[inside]) * geom.nx + ix[inside]
    counts = np.bincount(flat, minlength=energy.n_bins * geom.ny * geom.nx)
    return Cube(counts.reshape(energy.n_bins, *geom.shape).astype(np.int64, copy=False), "", geom, (energy,))


def _within(events: EventList, pointing: Pointing | None, offset_max_deg: float | None) -> NDArray[np.bool_]:
    """Whether each event passes the offset cut, shape (n_events,)."""
    if offset_max_deg is None:
        return np.ones(len(events), dtype=bool)
    if pointing is None:
        raise ValueError("counts: offset_max needs a pointing")
    origin = sphere.unit_vectors(pointing.ra_deg, pointing.dec_deg)
    offset = sphere.separation_deg(sphere.unit_vectors(events.ra_deg, events.dec_deg), origin)
    return offset < offset_max_deg
