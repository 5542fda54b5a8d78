"""Where the zenith is, good to 0.02 deg between 1990 and 2040.

Nutation, aberration, polar motion and the last seconds of UT1 are left out: they are far below the angle by
which a field of view may turn within one step.
"""

import erfa
import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps import sphere
from cubeflow.maps.arrays import FloatArray, Pair

# TT - UT1 in s at the starts of these years (IERS), linear between.
DELTA_T_MJD = (47892.0, 51544.0, 55197.0, 58849.0, 62502.0)  # 1990, 2000, 2010, 2020, 2030
DELTA_T_S = (56.9, 63.8, 66.1, 69.4, 69.5)


def zenith_vectors(mjd_tt: ArrayLike, lon_deg: float, lat_deg: float) -> FloatArray:
    """ICRS unit vectors, shape (n, 3), of the zenith at geodetic longitude (east) and latitude, at times (n,) in TT.

    References
    ----------
    ERFA (IAU SOFA): gmst06, mean sidereal time, and pmat06, bias and precession from ICRS to the mean equator of date.
    """
    mjd_tt = np.atleast_1d(np.asarray(mjd_tt, dtype=float))
    mjd_ut1 = mjd_tt - np.interp(mjd_tt, DELTA_T_MJD, DELTA_T_S) / erfa.DAYSEC
    sidereal = erfa.gmst06(erfa.DJM0, mjd_ut1, erfa.DJM0, mjd_tt)
    of_date = sphere.unit_vectors(np.rad2deg(sidereal) + lon_deg, np.full_like(sidereal, lat_deg))
    return np.einsum("nij,ni->nj", erfa.pmat06(erfa.DJM0, mjd_tt), of_date)  # transposed: back to ICRS


def horizontal_offset(vectors: FloatArray, origin: FloatArray, zenith: FloatArray) -> Pair:
    """Field-of-view longitude (growing with azimuth) and latitude (with altitude) in deg, each of shape (...).

    They are those of `vectors`, shape (..., 3), in the sky-offset frame of the horizontal frame about `origin`; all are
    ICRS unit vectors.
    """
    azimuth = np.cross(origin, zenith)  # grows to the right of up, seen from inside the sphere
    azimuth /= np.linalg.norm(azimuth)
    up = np.cross(azimuth, origin)
    return sphere.offset_in(vectors, np.stack([origin, azimuth, up]))
