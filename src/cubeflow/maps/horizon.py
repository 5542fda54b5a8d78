"""Where the zenith is: plain formulas, good to 0.02 deg between 1990 and 2040, without astropy.

Nutation, aberration, polar motion and the last seconds of UT1 are left out: they are far below the angle by
which a field of view may turn within one step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps import sphere
from cubeflow.maps.sphere import FloatArray

MJD_J2000 = 51544.5
# TT - UT1 in s at the starts of these years (IERS), linear between.
DELTA_T_YEARS = (1990.0, 2000.0, 2010.0, 2020.0, 2030.0)
DELTA_T_S = (56.9, 63.8, 66.1, 69.4, 69.5)


def zenith_vectors(mjd_tt: ArrayLike, lon_deg: float, lat_deg: float) -> FloatArray:
    """ICRS unit vectors of the zenith of a site.

    Parameters
    ----------
    mjd_tt : array, shape (n,)
        Times, TT.
    lon_deg, lat_deg : float
        Geodetic longitude (east) and latitude of the site.

    Returns
    -------
    zenith : array, shape (n, 3)

    References
    ----------
    Capitaine, Wallace & Chapront 2003, A&A 412, 567 (sidereal time); Lieske et al. 1977, A&A 58, 1 (precession).
    """
    mjd_tt = np.atleast_1d(np.asarray(mjd_tt, dtype=float))
    century = (mjd_tt - MJD_J2000) / 36525.0
    delta_t = np.interp(2000.0 + 100.0 * century, DELTA_T_YEARS, DELTA_T_S)
    days_ut1 = mjd_tt - delta_t / 86400.0 - MJD_J2000
    rotation = 360.0 * (0.7790572732640 + 1.00273781191135448 * days_ut1)
    sidereal = rotation + (0.014506 + 4612.156534 * century + 1.3915817 * century**2) / 3600.0
    of_date = sphere.unit_vectors(sidereal + lon_deg, np.full_like(sidereal, lat_deg))
    return _to_j2000(of_date, century)


def _to_j2000(vectors: FloatArray, century: FloatArray) -> FloatArray:
    """Undo precession from J2000 to the date; vectors of shape (n, 3)."""
    zeta = (2306.2181 * century + 0.30188 * century**2) / 3600.0
    z = (2306.2181 * century + 1.09468 * century**2) / 3600.0
    theta = np.deg2rad((2004.3109 * century - 0.42665 * century**2) / 3600.0)
    lon, lat = sphere.lon_lat(vectors)
    x, y, height = np.moveaxis(sphere.unit_vectors(lon - z, lat), -1, 0)
    back = np.stack([np.cos(theta) * x + np.sin(theta) * height, y, np.cos(theta) * height - np.sin(theta) * x], -1)
    lon, lat = sphere.lon_lat(back)
    return sphere.unit_vectors(lon - zeta, lat)


def horizontal_offset(vectors: FloatArray, origin: FloatArray, zenith: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Field-of-view longitude (growing with azimuth) and latitude (with altitude) about a direction.

    Parameters
    ----------
    vectors : array, shape (..., 3)
        ICRS unit vectors.
    origin, zenith : array, shape (3,)
        ICRS unit vectors of the centre of the field and of the zenith.

    Returns
    -------
    lon, lat : array, shape (...)
        In deg, in the sky-offset frame of the horizontal frame.
    """
    azimuth = np.cross(origin, zenith)  # grows to the right of up, seen from inside the sphere
    azimuth /= np.linalg.norm(azimuth)
    up = np.cross(azimuth, origin)
    components = vectors @ np.stack([origin, azimuth, up]).T
    lon = np.arctan2(components[..., 1], components[..., 0])
    lat = np.arctan2(components[..., 2], np.hypot(components[..., 0], components[..., 1]))
    return np.rad2deg(lon), np.rad2deg(lat)
