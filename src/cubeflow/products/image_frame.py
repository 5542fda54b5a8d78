"""Positions in the celestial frame of any FITS image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import sphere

if TYPE_CHECKING:
    from astropy.wcs import WCS


def frame_lon_lat(wcs: WCS, vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in deg, in the frame of a WCS, of ICRS vectors of shape (n, 3)."""
    from astropy.wcs.utils import wcs_to_celestial_frame

    frame = wcs_to_celestial_frame(wcs)
    if frame.name in ("icrs", "galactic"):
        return sphere.lon_lat(sphere.icrs_to_frame(vectors, frame.name))
    from astropy.coordinates import SkyCoord

    lon, lat = sphere.lon_lat(vectors)
    good = np.isfinite(lon)
    coords = SkyCoord(lon[good], lat[good], unit="deg").transform_to(frame).spherical
    lon[good], lat[good] = coords.lon.deg, coords.lat.deg
    return lon, lat
