"""From the pixels of a map to those of the coarse grid of the responses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Geometry, GeometryError
from cubeflow.products.masked import mask_factors


def safe_fraction(mask: NDArray[np.bool_], geom: Geometry, coarse: Geometry) -> NDArray[np.float64]:
    """Of the pixels in use in each coarse pixel, the fraction that is safe at each energy.

    Parameters
    ----------
    mask : array of bool, shape (n_energy, ny, nx)
        Safe voxels on `geom`; a pixel is in use if it is safe at any energy.
    geom, coarse : Geometry
        Fine and coarse grid of one projection and reference position.

    Returns
    -------
    fraction : array, shape (n_energy, my, mx)
        From 0 to 1. A coarse pixel that holds no centre of a pixel in use, as at the rim of the field,
        has the fraction of the whole map; without any safe voxel all are 0.

    Raises
    ------
    GeometryError
        If the grids differ in more than their pixels.
    """
    if (geom.frame, geom.projection, geom.lon_deg, geom.lat_deg) != (
        coarse.frame,
        coarse.projection,
        coarse.lon_deg,
        coarse.lat_deg,
    ):
        raise GeometryError(f"grids of different projections: {geom} and {coarse}")
    scale = geom.pixel_deg / coarse.pixel_deg
    ix = _coarse_index(geom.nx, geom.crpix_x, coarse.crpix_x, scale)
    iy = _coarse_index(geom.ny, geom.crpix_y, coarse.crpix_y, scale)
    used = mask.any(axis=0)
    n_cells = coarse.ny * coarse.nx
    # Pixels outside the coarse grid share one more cell, which is dropped.
    inside = (iy[:, None] >= 0) & (iy[:, None] < coarse.ny) & (ix >= 0) & (ix < coarse.nx)
    cell = np.where(inside, iy[:, None] * coarse.nx + ix, n_cells).ravel()
    total = np.bincount(cell, used.ravel(), n_cells + 1)
    n_used = max(float(total.sum()), 1.0)
    fraction = np.zeros((len(mask), n_cells))
    number, factor = np.zeros_like(total), None
    for plane, safe in zip(fraction, mask_factors(mask), strict=True):
        if safe is not factor:
            number, factor = np.bincount(cell, safe.ravel(), n_cells + 1), safe
        plane[:] = number.sum() / n_used
        np.divide(number[:-1], total[:-1], out=plane, where=total[:-1] > 0)
    return fraction.reshape(len(mask), coarse.ny, coarse.nx)


def _coarse_index(n_pixels: int, crpix: float, coarse_crpix: float, scale: float) -> NDArray[np.int64]:
    """Coarse pixel of each pixel centre along one axis; the two grids share their reference position."""
    position = (np.arange(n_pixels) + 1 - crpix) * scale + coarse_crpix - 1
    return np.floor(position + 0.5).astype(np.int64)
