"""Flux maps of simple sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry, sphere
from cubeflow.products.spectrum import Spectrum

FloatArray = NDArray[np.float64]
STEP = 1e-5  # relative half width of the bin in which the differential flux is taken


@dataclass(frozen=True)
class Source:
    """A source.

    Parameters
    ----------
    ra_deg, dec_deg : float
        ICRS position.
    sigma_deg : float
        Width of a Gaussian; 0 for a point source.
    amplitude : float
        Differential flux at the reference energy, m-2 s-1 TeV-1.
    reference_tev : float
        Reference energy.
    spectrum : Spectrum
        Shape.
    """

    ra_deg: float
    dec_deg: float
    sigma_deg: float
    amplitude: float
    reference_tev: float
    spectrum: Spectrum


def make_map_source_flux(source: Source, geom: Geometry, energy_true: Axis) -> Cube:
    """Flux of a source in each pixel and bin of true energy.

    Parameters
    ----------
    source : Source
        Position, extension and spectrum.
    geom : Geometry
        Pixel grid.
    energy_true : Axis
        True energy, TeV.

    Returns
    -------
    flux : Cube, (energy_true, lat, lon), 'm-2 s-1'
        A point source is shared by the four pixels about it, so that its centre of gravity is right; one that lies
        off the map has no flux. A Gaussian narrower than half a pixel is a point.
    """
    edges = energy_true.edges_array
    around = source.reference_tev * np.array([1.0 - STEP, 1.0 + STEP])
    at_reference = source.spectrum.integral(around)[0] / np.diff(around)[0]
    flux = source.spectrum.integral(edges) * source.amplitude / at_reference
    image = _point(source, geom) if source.sigma_deg < 0.5 * geom.pixel_deg else _gaussian(source, geom)
    return Cube(flux[:, None, None] * image, "m-2 s-1", geom, (energy_true,))


def _gaussian(source: Source, geom: Geometry) -> FloatArray:
    """Share of each pixel, shape (ny, nx); 0 where there is no sky."""
    sigma = np.deg2rad(source.sigma_deg)
    offset = np.deg2rad(geom.offset_deg(source.ra_deg, source.dec_deg)) / sigma
    density = np.exp(-0.5 * np.square(offset)) / (2 * np.pi * sigma**2)
    return np.nan_to_num(density * geom.solid_angle_sr, nan=0.0)


def _point(source: Source, geom: Geometry) -> FloatArray:
    """Share of each pixel, shape (ny, nx), linear in the distance from the pixel centres."""
    image = np.zeros(geom.shape)
    x, y = (float(value) for value in geom.vectors_to_pixel(sphere.unit_vectors(source.ra_deg, source.dec_deg)))
    if not (np.isfinite(x) and np.isfinite(y)):
        return image
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    for ix, share_x in ((x0, x0 + 1 - x), (x0 + 1, x - x0)):
        for iy, share_y in ((y0, y0 + 1 - y), (y0 + 1, y - y0)):
            if 0 <= ix < geom.nx and 0 <= iy < geom.ny:
                image[iy, ix] += share_x * share_y
    return image
