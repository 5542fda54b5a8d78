"""Closed forms of the two projections that are used most: thirty times faster than going through a WCS.

With them a job need not import `astropy.wcs`, which takes longer than to reduce a run.

References
----------
Calabretta & Greisen 2002, A&A 395, 1077.
"""

import numpy as np

from cubeflow.maps import sphere
from cubeflow.maps.arrays import FloatArray, Pair


def has_closed_form(projection: str, lat_deg: float) -> bool:
    """Whether this module knows the projection with this reference latitude.

    A tangent plane at a pole has another native orientation, and CAR away from the equator is oblique.
    """
    return (projection == "TAN" and abs(lat_deg) < 90.0) or (projection == "CAR" and lat_deg == 0.0)


def native_to_vectors(
    projection: str, lon_deg: float, lat_deg: float, frame: str, u_deg: FloatArray, v_deg: FloatArray
) -> FloatArray:
    """ICRS unit vectors, shape (..., 3), of positions in the plane of projection; NaN beyond the sky in CAR.

    `lon_deg`, `lat_deg` are the reference position in `frame`; `u_deg`, `v_deg` go to the east and to the north in the
    plane and broadcast to shape (...).
    """
    if projection == "TAN":
        u, v = np.deg2rad(u_deg), np.deg2rad(v_deg)
        norm = 1.0 / np.sqrt(1.0 + u * u + v * v)
        vectors = np.empty((*norm.shape, 3))
        axes = sphere.frame_to_icrs(sphere.local_basis(lon_deg, lat_deg), frame)
        for k, (outward, east, north) in enumerate(axes.T):
            vectors[..., k] = (outward + u * east + v * north) * norm
        return vectors
    on_sky = (np.abs(v_deg) <= 90.0 + 1e-9) & (np.abs(u_deg) <= 180.0 + 1e-9)
    vectors = sphere.unit_vectors(lon_deg + u_deg, np.where(on_sky, v_deg, np.nan))
    return sphere.frame_to_icrs(vectors, frame)


def tangent_solid_angles(u_deg: FloatArray, v_deg: FloatArray) -> FloatArray:
    """Solid angle in sr of the cells of a grid on the tangent plane, shape (ny, nx).

    Straight lines on that plane are great circles, so that each cell is a spherical polygon, the difference of four
    rectangles with a corner at the tangent point: ``arctan(u v / sqrt(1 + u^2 + v^2))``. `u_deg`, shape (1, nx + 1),
    and `v_deg`, shape (ny + 1, 1), are the plane coordinates of the edges in deg. The area is exact but for rounding,
    which grows with the distance from the tangent point over the size of a cell, squared: 6e-10 of the area for cells
    of 0.01 deg at 10 deg.
    """
    u, v = np.deg2rad(u_deg), np.deg2rad(v_deg)
    corner = np.arctan(u * v / np.sqrt(1.0 + u * u + v * v))
    return np.abs(np.diff(np.diff(corner, axis=0), axis=1))


def vectors_to_native(projection: str, lon_deg: float, lat_deg: float, frame: str, vectors: FloatArray) -> Pair:
    """Undo `native_to_vectors`: plane coordinates, shape (...), in deg of ICRS unit vectors, shape (..., 3).

    NaN where the tangent plane does not reach, a quarter of the sky from its centre and beyond; in CAR the first
    coordinate is in [-180, 180] deg.
    """
    if projection == "TAN":
        axes = sphere.frame_to_icrs(sphere.local_basis(lon_deg, lat_deg), frame)
        outward, east, north = (np.einsum("...i,i", vectors, axis) for axis in axes)
        scale = np.rad2deg(1.0) / np.where(outward > 0, outward, np.nan)
        return east * scale, north * scale
    lon, lat = sphere.lon_lat(sphere.icrs_to_frame(vectors, frame))
    turn = np.fmod(lon - lon_deg, 360.0)
    return turn - 360.0 * (turn > 180.0) + 360.0 * (turn < -180.0), lat
