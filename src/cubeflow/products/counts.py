"""Counts per pixel and energy bin."""

import numpy as np

from cubeflow.maps import Axis, Cube, Geometry, IntArray, sphere
from cubeflow.observation import EventList, Pointing


def make_map_counts(
    events: EventList,
    geom: Geometry,
    energy: Axis,
    pointing: Pointing | None = None,
    offset_max_deg: float | None = None,
) -> Cube:
    """Fill events into a cube of int64, (energy, lat, lon); events outside map or energy range are not counted.

    Those outside the good time intervals are removed before. Energy bins are half-open ``[lo, hi)``. With
    `offset_max_deg`, which needs the pointing (ValueError without), only pixels whose centre has a smaller offset
    count: whole pixels, as in the exposure and the acceptance that belong to them.
    """
    if offset_max_deg is not None and pointing is None:
        raise ValueError("counts: offset_max needs a pointing")

    def voxels(part: EventList) -> IntArray:
        """Flat index of the voxel of each event that counts."""
        bin_index = energy.index(part.energy_tev)
        keep = np.flatnonzero(bin_index >= 0)
        ix, iy = geom.pixel_index(part.ra_deg[keep], part.dec_deg[keep])
        inside = ix >= 0
        if pointing is not None and offset_max_deg is not None:
            origin = sphere.unit_vectors(pointing.ra_deg, pointing.dec_deg)
            inside &= sphere.separation_deg(geom.center_vectors[iy, ix], origin) < offset_max_deg
        return (bin_index[keep][inside] * geom.ny + iy[inside]) * geom.nx + ix[inside]

    flat = np.concatenate([voxels(part) for part in events.blocks()])
    counts = np.bincount(flat, minlength=energy.n_bins * geom.ny * geom.nx).astype(np.int64, copy=False)
    return Cube(counts.reshape(energy.n_bins, *geom.shape), "", geom, (energy,))
