"""Plain spherical geometry on unit vectors: separations, frames, areas.

Nothing here imports astropy, so that a worker can start quickly. All vectors are ICRS unless a
function says otherwise; the last axis holds the three components.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Rotation from ICRS to Galactic coordinates, as realised by astropy (IAU 1958 pole in FK5 J2000,
# with the frame bias between FK5 and ICRS of Liu, Zhu & Hu 2011, A&A 526, A16).
ICRS_TO_GALACTIC = np.array(
    [
        [-0.05487565771259163, -0.8734370519556159, -0.48383507361671546],
        [0.4941094371927268, -0.4448297212232952, 0.7469821839866676],
        [-0.8676661375596576, -0.19807633727300053, 0.4559838136873016],
    ]
)


def unit_vectors(lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
    """Unit vectors of shape (..., 3) for longitudes and latitudes in deg, which broadcast; NaN stays NaN."""
    # Files hold float32 positions: without the conversion their pixels would be computed in float32.
    lon, lat = np.deg2rad(np.asarray(lon_deg, dtype=float)), np.deg2rad(np.asarray(lat_deg, dtype=float))
    cos_lat = np.cos(lat)
    x, y = cos_lat * np.cos(lon), cos_lat * np.sin(lon)
    return np.stack([x, y, np.broadcast_to(np.sin(lat), x.shape)], -1)


def lon_lat(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Longitude in [0, 360) and latitude, in deg, of vectors of shape (..., 3)."""
    lon = np.rad2deg(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0
    return lon, np.rad2deg(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))


def icrs_to_frame(vectors: FloatArray, frame: str) -> FloatArray:
    """Rotate ICRS vectors of shape (..., 3) into `frame` (``icrs`` or ``galactic``)."""
    return vectors @ ICRS_TO_GALACTIC.T if frame == "galactic" else vectors


def frame_to_icrs(vectors: FloatArray, frame: str) -> FloatArray:
    """Rotate vectors of shape (..., 3) given in `frame` into ICRS."""
    return vectors @ ICRS_TO_GALACTIC if frame == "galactic" else vectors


def separation_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """Great-circle separation in deg between unit vectors of shape (..., 3); exact at small angles."""
    step = first - second
    chord = np.sqrt(np.einsum("...i,...i", step, step))
    return np.rad2deg(2.0 * np.arcsin(np.minimum(0.5 * chord, 1.0)))


def local_basis(lon_deg: float, lat_deg: float) -> FloatArray:
    """Rows are the unit vectors (outward, east, north) at a position in deg; shape (3, 3)."""
    lon, lat = np.deg2rad(lon_deg), np.deg2rad(lat_deg)
    outward = unit_vectors(lon_deg, lat_deg)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    return np.stack([outward, east, north])


def sky_offset(vectors: FloatArray, lon_deg: float, lat_deg: float) -> tuple[FloatArray, FloatArray]:
    """Longitude (growing **east**) and latitude in deg in the sky-offset frame about a position.

    Parameters
    ----------
    vectors : array, shape (..., 3)
        ICRS unit vectors.
    lon_deg, lat_deg : float
        Origin of the frame, ICRS, deg.

    Returns
    -------
    lon_east, lat_north : array, shape (...)
        In deg, longitude in (-180, 180]. GADF's own FoV longitude grows west: it is ``-lon_east``.
    """
    components = vectors @ local_basis(lon_deg, lat_deg).T
    lon = np.arctan2(components[..., 1], components[..., 0])
    lat = np.arctan2(components[..., 2], np.hypot(components[..., 0], components[..., 1]))
    return np.rad2deg(lon), np.rad2deg(lat)


def position_angle_deg(lon_deg: float, lat_deg: float, to_lon_deg: float, to_lat_deg: float) -> float:
    """Position angle, east of north, in deg, of the second position seen from the first."""
    _, east, north = local_basis(lon_deg, lat_deg) @ unit_vectors(to_lon_deg, to_lat_deg)
    return float(np.rad2deg(np.arctan2(east, north)))


def triangle_solid_angle(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """Solid angle in sr of spherical triangles with corners of shape (..., 3).

    The triple product is formed from differences, so that tiny triangles keep their digits.

    References
    ----------
    Van Oosterom & Strackee 1983, IEEE Trans. Biomed. Eng. 30, 125.
    """
    triple = np.einsum("...i,...i", a, np.cross(b - a, c - a))
    denominator = 1.0 + np.einsum("...i,...i", a, b) + np.einsum("...i,...i", b, c) + np.einsum("...i,...i", c, a)
    return np.abs(2.0 * np.arctan2(triple, denominator))


def grid_solid_angles(corners: FloatArray) -> FloatArray:
    """Solid angle in sr of the cells of a grid, shape (ny, nx), from its corners, shape (ny + 1, nx + 1, 3).

    Each cell is two spherical triangles, as in `triangle_solid_angle`, with components kept apart for speed
    and both angles in one arctangent. A cell with a corner that is NaN has no solid angle: 0.
    """
    planes = [np.ascontiguousarray(corners[..., k]) for k in range(3)]
    a = [plane[:-1, :-1] for plane in planes]
    b, c, d = ([plane[cut] for plane in planes] for cut in _OTHER_CORNERS)
    to_b, to_c, to_d = ([q - p for p, q in zip(a, other, strict=True)] for other in (b, c, d))
    a_c = _dot(a, c)
    below = 1.0 + _dot(a, b) + _dot(b, c) + a_c, _triple(a, to_b, to_c)
    above = 1.0 + _dot(a, d) + _dot(d, c) + a_c, _triple(a, to_c, to_d)
    imaginary = below[0] * above[1] + below[1] * above[0]
    area = np.abs(2.0 * np.arctan2(imaginary, below[0] * above[0] - below[1] * above[1]))
    return np.where(np.isfinite(area), area, 0.0)


# Lower right, upper right and upper left corner of each cell.
_OTHER_CORNERS = (np.s_[:-1, 1:], np.s_[1:, 1:], np.s_[1:, :-1])


def _dot(p: list[FloatArray], q: list[FloatArray]) -> FloatArray:
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


def _triple(p: list[FloatArray], q: list[FloatArray], r: list[FloatArray]) -> FloatArray:
    return p[0] * (q[1] * r[2] - q[2] * r[1]) + p[1] * (q[2] * r[0] - q[0] * r[2]) + p[2] * (q[0] * r[1] - q[1] * r[0])
