"""Map geometry as plain frozen numbers; the WCS is derived from them.

A cutout is its parent with a shifted reference pixel: where it lies in the parent is computed
from the two reference pixels, and two geometries are aligned when their grids are equal.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps import sphere
from cubeflow.maps.arrays import FloatArray, IntArray, Pair
from cubeflow.maps.projection import has_closed_form, native_to_vectors, tangent_solid_angles, vectors_to_native

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.units import Quantity
    from astropy.wcs import WCS

N_RINGS = 9  # of positions that fill a disc
BISECTIONS = 20  # until the rim of the sky is found on the edge of a pixel
FRAMES = {"icrs": ("RA--", "DEC-"), "galactic": ("GLON", "GLAT")}


class GeometryError(ValueError):
    """A geometry is impossible, or two geometries do not fit each other."""


class NoOverlap(ValueError):
    """An observation does not touch the map; the message says how far away it is."""


@dataclass(frozen=True)
class Geometry:
    """A two-dimensional pixel grid on the sky.

    GeometryError for an unknown frame, a pixel size that is not positive, or no pixels.
    """

    frame: str  #: Celestial frame of the map, ``icrs`` or ``galactic``
    projection: str  #: Three-letter FITS code: ``TAN``, ``CAR``, ``AIT``, ``ZEA``, ...
    lon_deg: float  #: Longitude of the reference position (CRVAL) in `frame`
    lat_deg: float  #: Latitude of the reference position
    pixel_deg: float  #: Pixel size (CDELT), the same in both directions; longitude grows to the left
    nx: int  #: Number of pixels along longitude
    ny: int  #: Number of pixels along latitude
    crpix_x: float  #: Reference pixel along longitude, FITS convention (the centre of the first pixel is 1)
    crpix_y: float  #: Reference pixel along latitude

    def __post_init__(self) -> None:
        if self.frame not in FRAMES:
            raise GeometryError(f"frame: expected one of {sorted(FRAMES)}, got {self.frame!r}")
        if not (np.isfinite(self.pixel_deg) and self.pixel_deg > 0):
            raise GeometryError(f"pixel: expected a size above 0 deg, got {self.pixel_deg}")
        if self.nx < 1 or self.ny < 1:
            raise GeometryError(f"width: expected at least one pixel, got {self.nx} x {self.ny}")

    @classmethod
    def of(cls, center: "SkyCoord", width: "Quantity", pixel: "Quantity", projection: str = "TAN") -> "Geometry":
        """Geometry about a position, in the frame of that: ``galactic``, or ``icrs`` for any other.

        `width` is one size, or two along longitude and latitude; `pixel` the size of a pixel.
        """
        position = center if center.frame.name == "galactic" else center.icrs
        lon, lat = float(position.spherical.lon.deg), float(position.spherical.lat.deg)
        size_x, size_y = np.broadcast_to(width.to_value("deg"), 2).tolist()
        return make_geometry(position.frame.name, projection, lon, lat, (size_x, size_y), float(pixel.to_value("deg")))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one image: (ny, nx), i.e. (lat, lon)."""
        return self.ny, self.nx

    @property
    def projected(self) -> tuple[str, str, float, float]:
        """What two geometries in the same plane of projection share, whatever their pixels."""
        return self.frame, self.projection, self.lon_deg, self.lat_deg

    @property
    def grid(self) -> tuple[str, str, float, float, float]:
        """What two geometries on the same (unbounded) pixel grid share, up to whole-pixel shifts."""
        return *self.projected, self.pixel_deg

    def wcs(self) -> "WCS":
        """Celestial WCS of the grid, two axes."""
        from astropy.wcs import WCS

        wcs = WCS(naxis=2)
        wcs.wcs.ctype = [f"{name}-{self.projection}" for name in FRAMES[self.frame]]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [self.lon_deg, self.lat_deg]
        wcs.wcs.crpix = [self.crpix_x, self.crpix_y]
        wcs.wcs.cdelt = [-self.pixel_deg, self.pixel_deg]
        if self.frame == "icrs":
            wcs.wcs.radesys = "ICRS"
        wcs.array_shape = self.shape
        wcs.wcs.set()
        return wcs

    def pixel_to_vectors(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """ICRS unit vectors, shape (..., 3), at 0-based pixel positions; NaN outside the projection."""
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if has_closed_form(self.projection, self.lat_deg):
            u, v = (self.crpix_x - 1 - x) * self.pixel_deg, (y + 1 - self.crpix_y) * self.pixel_deg
            return native_to_vectors(self.projection, self.lon_deg, self.lat_deg, self.frame, u, v)
        x, y = np.broadcast_arrays(x, y)
        lon, lat = self.wcs().wcs_pix2world(x.ravel(), y.ravel(), 0)
        # A position beyond the edge of an all-sky projection is no position, whatever wcslib made of it.
        back_x, back_y = self.wcs().wcs_world2pix(lon, lat, 0)
        period = 360.0 / self.pixel_deg
        shift_x = np.abs(back_x - x.ravel())
        # The left rim of the sky is its right rim, too.
        turned = (np.abs(shift_x - period) < 1e-3) & (np.abs(x.ravel() + 1 - self.crpix_x) <= period / 2 * (1 + 1e-9))
        beyond = ~((turned | (shift_x < 1e-3)) & (np.abs(back_y - y.ravel()) < 1e-3))
        vectors = sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), self.frame)
        vectors[beyond] = np.nan
        return vectors.reshape(*x.shape, 3)

    def vectors_to_pixel(self, vectors: FloatArray) -> Pair:
        """0-based pixel positions (x, y), shape (...), of ICRS vectors (..., 3); NaN where there are none."""
        if has_closed_form(self.projection, self.lat_deg):
            u, v = vectors_to_native(self.projection, self.lon_deg, self.lat_deg, self.frame, vectors)
            return self.crpix_x - 1 - u / self.pixel_deg, self.crpix_y - 1 + v / self.pixel_deg
        lon, lat = sphere.lon_lat(sphere.icrs_to_frame(vectors, self.frame))
        x, y = self.wcs().wcs_world2pix(np.ravel(lon), np.ravel(lat), 0)
        return x.reshape(lon.shape), y.reshape(lon.shape)

    @cached_property
    def center_vectors(self) -> FloatArray:
        """ICRS unit vectors of the pixel centres, shape (ny, nx, 3).

        Where the rim of the sky cuts a pixel whose centre is beyond it, the middle of what is on the sky; else NaN.
        """
        y, x = np.ogrid[: self.ny, : self.nx]
        vectors = self.pixel_to_vectors(x, y)
        if np.isnan(vectors).any():
            rows, columns, _, middle = self._rim
            found = vectors[rows, columns]
            vectors[rows, columns] = np.where(np.isnan(found), middle, found)
        return vectors

    @cached_property
    def solid_angle_sr(self) -> FloatArray:
        """Exact solid angle of each pixel, shape (ny, nx), sr; of its part on the sky where the rim of that cuts it."""
        y, x = np.ogrid[: self.ny + 1, : self.nx + 1]
        if self.projection == "TAN":
            u, v = (x + 0.5 - self.crpix_x) * self.pixel_deg, (y + 0.5 - self.crpix_y) * self.pixel_deg
            return tangent_solid_angles(u, v)
        area = sphere.grid_solid_angles(self.pixel_to_vectors(x - 0.5, y - 0.5))
        if not area.all():
            rows, columns, parts, _ = self._rim
            area[rows, columns] = parts
        return area

    @cached_property
    def _rim(self) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """Row, column, solid angle in sr and middle (n, 3) of what is on the sky of the n pixels that its rim cuts.

        That is a spherical polygon. Its corners are those of the pixel and the points where its edges leave the sky.
        """
        y, x = np.ogrid[: self.ny + 1, : self.nx + 1]
        on_sky = np.isfinite(self.pixel_to_vectors(x - 0.5, y - 0.5)[..., 0])
        corners_on = [on_sky[cut] for cut in sphere.CELL_CORNERS]
        rows, columns = np.nonzero(np.any(corners_on, axis=0) & ~np.all(corners_on, axis=0))
        turn = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # x and y of the corners, against the clock
        corners = np.array([columns, rows]) + turn[..., None]  # (4, 2, n)
        is_on = on_sky[corners[:, 1], corners[:, 0]][:, None]
        following, next_on = np.roll(corners, -1, axis=0), np.roll(is_on, -1, axis=0)
        inner, outer = np.where(is_on, corners, following) - 0.5, np.where(is_on, following, corners) - 0.5
        outer = np.where(is_on & next_on, inner, outer)
        for _ in range(BISECTIONS):
            middle = 0.5 * (inner + outer)
            is_inside = np.isfinite(self.pixel_to_vectors(middle[:, 0], middle[:, 1])[..., :1]).swapaxes(1, 2)
            inner, outer = np.where(is_inside, middle, inner), np.where(is_inside, outer, middle)
        polygons = np.empty((8, rows.size, 3))
        polygons[0::2] = self.pixel_to_vectors(corners[:, 0] - 0.5, corners[:, 1] - 0.5)
        polygons[1::2] = self.pixel_to_vectors(inner[:, 0], inner[:, 1])
        for k in (*range(8), *range(8)):  # what there is not of the eight corners is the one before
            polygons[k] = np.where(np.isnan(polygons[k]), polygons[k - 1], polygons[k])
        # Three cells each, between one half of the corners of a polygon and the other, backwards.
        halves = np.stack([polygons[:4], polygons[:3:-1]], axis=2).reshape(4, -1, 3)
        area = sphere.grid_solid_angles(halves)[:, ::2].sum(axis=0)
        middle = polygons.mean(axis=0)
        middle /= np.linalg.norm(middle, axis=-1, keepdims=True)
        some = area > 1e-9 * np.deg2rad(self.pixel_deg) ** 2  # less is rounding
        return rows[some], columns[some], area[some], middle[some]

    @property
    def center_deg(self) -> tuple[float, float]:
        """ICRS position of the centre of the map, deg."""
        lon, lat = sphere.lon_lat(self.pixel_to_vectors((self.nx - 1) / 2, (self.ny - 1) / 2))
        return float(lon), float(lat)

    def offset_deg(self, lon_deg: float, lat_deg: float) -> FloatArray:
        """Separation of each pixel centre from an ICRS position, shape (ny, nx), deg; NaN off the sky.

        The array is remembered for the next product of the same run: it must not be written to.
        """
        return _offset_deg(self, lon_deg, lat_deg)

    def pixel_index(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[IntArray, IntArray]:
        """Pixel (ix, iy) of ICRS positions, ``floor(pix + 0.5)``; -1 for both where outside the map."""
        x, y = self.vectors_to_pixel(sphere.unit_vectors(ra_deg, dec_deg))
        with np.errstate(invalid="ignore"):
            ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
            inside = (ix >= 0) & (ix < self.nx) & (iy >= 0) & (iy < self.ny)
        return np.where(inside, ix, -1).astype(np.int64), np.where(inside, iy, -1).astype(np.int64)

    def cutout(self, x0: int, y0: int, nx: int, ny: int) -> "Geometry":
        """Return the `nx` x `ny` pixels from pixel (x0, y0) on, on the same grid; may reach outside."""
        return replace(self, nx=nx, ny=ny, crpix_x=self.crpix_x - x0, crpix_y=self.crpix_y - y0)

    def origin_in(self, parent: "Geometry") -> tuple[int, int]:
        """Pixel (x, y) of `parent` on which the first pixel of this one lies; GeometryError if the grids differ."""
        shift_x, shift_y = parent.crpix_x - self.crpix_x, parent.crpix_y - self.crpix_y
        if self.grid != parent.grid or not (shift_x.is_integer() and shift_y.is_integer()):
            raise GeometryError(f"geometries are not aligned: {self} and {parent}")
        return int(shift_x), int(shift_y)

    def overlap(self, parent: "Geometry") -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Slices (lat, lon) of the shared pixels in `self` and in `parent`; None where nothing is shared."""
        x0, y0 = self.origin_in(parent)
        lo_x, hi_x = max(0, x0), min(parent.nx, x0 + self.nx)
        lo_y, hi_y = max(0, y0), min(parent.ny, y0 + self.ny)
        if lo_x >= hi_x or lo_y >= hi_y:
            return None
        own = slice(lo_y - y0, hi_y - y0), slice(lo_x - x0, hi_x - x0)
        return own, (slice(lo_y, hi_y), slice(lo_x, hi_x))

    def union(self, other: "Geometry") -> "Geometry":
        """Smallest geometry on the same grid that holds both."""
        x0, y0 = other.origin_in(self)
        lo_x, hi_x = min(0, x0), max(self.nx, x0 + other.nx)
        lo_y, hi_y = min(0, y0), max(self.ny, y0 + other.ny)
        return self.cutout(lo_x, lo_y, hi_x - lo_x, hi_y - lo_y)

    def coarse(self, pixel_deg: float) -> "Geometry":
        """Grid of about `pixel_deg` with the same reference position that covers this one, for IRF maps."""
        nx, ny = (max(1, int(np.ceil(n * self.pixel_deg / pixel_deg - 1e-9))) for n in (self.nx, self.ny))
        scale = self.pixel_deg / pixel_deg
        crpix_x = (nx + 1) / 2 + (self.crpix_x - (self.nx + 1) / 2) * scale
        crpix_y = (ny + 1) / 2 + (self.crpix_y - (self.ny + 1) / 2) * scale
        return replace(self, pixel_deg=pixel_deg, nx=nx, ny=ny, crpix_x=crpix_x, crpix_y=crpix_y)


def make_geometry(
    frame: str, projection: str, lon_deg: float, lat_deg: float, width_deg: tuple[float, float], pixel_deg: float
) -> Geometry:
    """Geometry of the given width (lon, lat) in deg, centred on the reference position in `frame`."""
    if not (np.all(np.isfinite(width_deg)) and min(width_deg) > 0):
        raise GeometryError(f"width: expected two sizes above 0 deg, got {width_deg}")
    if not (np.isfinite(pixel_deg) and pixel_deg > 0):
        raise GeometryError(f"pixel: expected a size above 0 deg, got {pixel_deg}")
    nx, ny = (int(np.rint(width / pixel_deg)) for width in width_deg)
    return Geometry(frame, projection, lon_deg, lat_deg, pixel_deg, nx, ny, crpix_x=(nx + 1) / 2, crpix_y=(ny + 1) / 2)


@lru_cache(maxsize=3)
def _offset_deg(geom: Geometry, lon_deg: float, lat_deg: float) -> FloatArray:
    offset = sphere.separation_deg(geom.center_vectors, sphere.unit_vectors(lon_deg, lat_deg))
    offset.flags.writeable = False
    return offset


@lru_cache(maxsize=4)
def shared(geom: Geometry) -> Geometry:
    """Geometry that is equal to `geom` and may already know the positions and solid angles of its pixels.

    The runs of a batch often have one cutout in common; it is computed once.
    """
    return geom


def make_cutout(geom: Geometry, ra_deg: float, dec_deg: float, radius_deg: float) -> Geometry:
    """Bounding box, on the pixel grid of `geom`, of a disc on the sky about an ICRS position (the pointing).

    It is whole, also beyond the border of `geom`: what a run says of its background does not depend on the map.
    NoOverlap if no pixel centre of `geom` lies within the disc.
    """
    # Positions on rings that fill the disc, from its rim inwards, shape (n, 3).
    angle = np.linspace(0.0, 2.0 * np.pi, 721)
    radius = np.deg2rad(radius_deg) * np.linspace(1.0, 0.0, N_RINGS)[:, None, None]
    outward, east, north = sphere.local_basis(ra_deg, dec_deg)
    rim = np.cos(angle)[..., None] * east + np.sin(angle)[..., None] * north
    x, y = geom.vectors_to_pixel((np.cos(radius) * outward + np.sin(radius) * rim).reshape(-1, 3))
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    box = [x.min(), y.min(), x.max(), y.max()] if x.size else [0, 0, -1, -1]
    # A disc that is torn apart by the edge of an all-sky projection, or holds a pole, may fill the whole map.
    if x.size and max(np.ptp(x), np.ptp(y)) * geom.pixel_deg > 180.0:
        box = [0, 0, geom.nx - 1, geom.ny - 1]
    # Pixels [x0, x1) x [y0, y1) hold every pixel centre within the disc.
    x0, y0 = (int(np.floor(value)) for value in box[:2])
    x1, y1 = (int(np.ceil(value)) + 1 for value in box[2:])
    inner = max(x0, 0), max(y0, 0), min(x1, geom.nx), min(y1, geom.ny)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        whole = shared(geom.cutout(x0, y0, x1 - x0, y1 - y0))
        on_map = np.s_[inner[1] - y0 : inner[3] - y0, inner[0] - x0 : inner[2] - x0]
        if np.any(whole.offset_deg(ra_deg, dec_deg)[on_map] < radius_deg):
            return whole
    distance = sphere.angular_distance_deg(geom.center_deg, (ra_deg, dec_deg))
    pointing = f"the pointing ({ra_deg:.4f}, {dec_deg:.4f}), which is {distance:.2f} deg from the map centre"
    raise NoOverlap(f"no pixel of the map lies within {radius_deg:g} deg of {pointing}")
