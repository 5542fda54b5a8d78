"""Plain spherical geometry on unit vectors: separations, frames, areas.

Nothing here imports astropy, so that a job can start quickly. All vectors are ICRS unless a
function says otherwise; the last axis holds the three components.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps.arrays import FloatArray, Pair

# Rotation from ICRS to Galactic coordinates, as realised by astropy (IAU 1958 pole in FK5 J2000,
# with the frame bias between FK5 and ICRS of Liu, Zhu & Hu 2011, A&A 526, A16).
ICRS_TO_GALACTIC = np.array(
    [
        [-0.05487565771259163, -0.8734370519556159, -0.48383507361671546],
        [0.4941094371927268, -0.4448297212232952, 0.7469821839866676],
        [-0.8676661375596576, -0.19807633727300053, 0.4559838136873016],
    ]
)

# Corners of the cells of a grid: lower left, then against the clock.
CELL_CORNERS = np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, 1:], np.s_[1:, :-1]


def unit_vectors(lon_deg: ArrayLike, lat_deg: ArrayLike) -> FloatArray:
    """Unit vectors of shape (..., 3) for longitudes and latitudes in deg, which broadcast; NaN stays NaN."""
    # Files hold float32 positions: without the conversion their pixels would be computed in float32.
    lon, lat = np.deg2rad(np.asarray(lon_deg, dtype=float)), np.deg2rad(np.asarray(lat_deg, dtype=float))
    cos_lat = np.cos(lat)
    x, y = cos_lat * np.cos(lon), cos_lat * np.sin(lon)
    return np.stack([x, y, np.broadcast_to(np.sin(lat), x.shape)], -1)


def lon_lat(vectors: FloatArray) -> Pair:
    """Longitude in [0, 360) and latitude, in deg, of vectors of shape (..., 3)."""
    lon = np.rad2deg(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0
    return lon, np.rad2deg(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))


def icrs_to_frame(vectors: FloatArray, frame: str) -> FloatArray:
    """Rotate ICRS vectors of shape (..., 3) into `frame` (``icrs`` or ``galactic``)."""
    return vectors @ ICRS_TO_GALACTIC.T if frame == "galactic" else vectors


def frame_to_icrs(vectors: FloatArray, frame: str) -> FloatArray:
    """Rotate vectors of shape (..., 3) given in `frame` into ICRS."""
    return vectors @ ICRS_TO_GALACTIC if frame == "galactic" else vectors


@dataclass(frozen=True, kw_only=True)
class Position:
    """A direction on the sky."""

    frame: Literal["icrs", "galactic"] = "icrs"
    """Frame of lon and lat."""
    lon_deg: float
    """Right ascension or galactic longitude."""
    lat_deg: float
    """Declination or galactic latitude."""

    @property
    def icrs_deg(self) -> tuple[float, float]:
        """Right ascension in [0, 360) and declination, deg."""
        return self.in_frame("icrs")

    def in_frame(self, frame: str) -> tuple[float, float]:
        """Longitude in [0, 360) and latitude in a frame, deg."""
        if frame == self.frame:
            return self.lon_deg % 360.0, self.lat_deg
        vector = frame_to_icrs(unit_vectors(self.lon_deg, self.lat_deg), self.frame)
        lon, lat = lon_lat(icrs_to_frame(vector, frame))
        # The last digits of sines depend on the processor, and what is made of this is a part of keys.
        return round(float(lon), 10) % 360.0, round(float(lat), 10)


def separation_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """Great-circle separation in deg between unit vectors of shape (..., 3); exact at small angles."""
    step = first - second
    chord = np.sqrt(np.einsum("...i,...i", step, step))
    return np.rad2deg(2.0 * np.arcsin(np.minimum(0.5 * chord, 1.0)))


def angular_distance_deg(first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike]) -> FloatArray:
    """Great-circle separation in deg of positions (lon, lat) in deg, which broadcast."""
    return separation_deg(unit_vectors(*first), unit_vectors(*second))


def local_basis(lon_deg: float, lat_deg: float) -> FloatArray:
    """Rows are the unit vectors (outward, east, north) at a position in deg; shape (3, 3)."""
    lon, lat = np.deg2rad(lon_deg), np.deg2rad(lat_deg)
    outward = unit_vectors(lon_deg, lat_deg)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    return np.stack([outward, east, north])


def circles(centers_deg: FloatArray, radius_deg: float, n_points: int = 16) -> FloatArray:
    """Unit vectors, shape (n, n_points, 3), on circles about positions (lon, lat), shape (n, 2), all in deg."""
    angle, away = np.linspace(0.0, 2 * np.pi, n_points, endpoint=False), np.deg2rad(radius_deg)
    across = np.sin(away) * np.cos(angle), np.sin(away) * np.sin(angle)
    ring = np.stack([np.full(n_points, np.cos(away)), *across], axis=1)
    return ring @ np.array([local_basis(*position) for position in centers_deg])


def sky_offset(vectors: FloatArray, lon_deg: float, lat_deg: float) -> Pair:
    """Longitude in (-180, 180], growing **east**, and latitude in deg, shape (...), in the sky-offset frame.

    Its origin is an ICRS position in deg, `vectors`, shape (..., 3), are ICRS unit vectors. GADF's own FoV longitude
    grows west: it is the negative of this one.
    """
    return offset_in(vectors, local_basis(lon_deg, lat_deg))


def offset_in(vectors: FloatArray, basis: FloatArray) -> Pair:
    """Longitude in (-180, 180] and latitude in deg, shape (...), with axes that are the rows of `basis`."""
    components = vectors @ basis.T
    lon = np.arctan2(components[..., 1], components[..., 0])
    lat = np.arctan2(components[..., 2], np.hypot(components[..., 0], components[..., 1]))
    return np.rad2deg(lon), np.rad2deg(lat)


def grid_solid_angles(corners: FloatArray) -> FloatArray:
    """Solid angle in sr of the cells of a grid, shape (ny, nx), from its corners, shape (ny + 1, nx + 1, 3).

    Each cell is two spherical triangles with components kept apart for speed and both angles in one arctangent; the
    triple products are formed from differences, so that tiny cells keep their digits. A cell with a corner that is NaN
    has no solid angle: 0.

    References
    ----------
    Van Oosterom & Strackee 1983, IEEE Trans. Biomed. Eng. 30, 125.
    """
    planes = [np.ascontiguousarray(corners[..., k]) for k in range(3)]
    a, b, c, d = ([plane[cut] for plane in planes] for cut in CELL_CORNERS)
    to_b, to_c, to_d = ([q - p for p, q in zip(a, other, strict=True)] for other in (b, c, d))
    a_c = _dot(a, c)
    below = 1.0 + _dot(a, b) + _dot(b, c) + a_c, _triple(a, to_b, to_c)
    above = 1.0 + _dot(a, d) + _dot(d, c) + a_c, _triple(a, to_c, to_d)
    imaginary = below[0] * above[1] + below[1] * above[0]
    area = np.abs(2.0 * np.arctan2(imaginary, below[0] * above[0] - below[1] * above[1]))
    return np.where(np.isfinite(area), area, 0.0)


def _dot(p: list[FloatArray], q: list[FloatArray]) -> FloatArray:
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


def _triple(p: list[FloatArray], q: list[FloatArray], r: list[FloatArray]) -> FloatArray:
    return p[0] * (q[1] * r[2] - q[2] * r[1]) + p[1] * (q[2] * r[0] - q[0] * r[2]) + p[2] * (q[0] * r[1] - q[1] * r[0])
