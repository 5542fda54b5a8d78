"""Tiles of the sky, which are pixels of HEALPix (nested, ICRS), and what discs cover. Needs the library hpgeom."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Geometry, IntArray, sphere
from cubeflow.products.setting import Setting

STEPS = 32  # positions on each side of a tile
ORDER = 11  # of coverage: cells of 0.03 deg
DEEPEST = 29  # order in which coverage maps count, whatever their own


@dataclass(frozen=True)
class Tiles:
    """Pixels of HEALPix, each of which is a target."""

    nside: Annotated[int, Setting(least=1, most=4096)]
    """Number of tiles along the side of a base pixel, of which there are twelve: a power of two."""
    overlap_deg: Annotated[float, Setting(least=0.0, most=45.0)] = 0.5
    """How far the map of a tile reaches beyond it, at least."""

    def __post_init__(self) -> None:
        if self.nside.bit_count() > 1:
            raise ValueError(f"nside: expected a power of two, got {self.nside}")


@dataclass(frozen=True)
class Tile:
    """A pixel of HEALPix."""

    nside: int
    number: int

    @property
    def center_deg(self) -> tuple[float, float]:
        """ICRS position of its centre, to ten digits, as it decides keys."""
        lon, lat = _hpgeom().pixel_to_angle(self.nside, self.number)
        return round(float(lon), 10), round(float(lat), 10)

    def holds(self, lon_deg: ArrayLike, lat_deg: ArrayLike) -> NDArray[np.bool_]:
        """Whether ICRS positions, deg, lie in it: each lies in one tile."""
        return _hpgeom().angle_to_pixel(self.nside, np.mod(lon_deg, 360.0), lat_deg) == self.number

    def width_pixels(self, geom: Geometry, overlap_deg: float) -> int:
        """Pixels along a side of the square, about the reference position of `geom`, that holds it and its overlap.

        MistakeError where the projection does not.
        """
        radius_deg = _hpgeom().max_pixel_radius(self.nside) + overlap_deg
        x, y = geom.vectors_to_pixel(sphere.circles(np.array([self.center_deg]), radius_deg, 64))
        half = np.abs([x + 1 - geom.crpix_x, y + 1 - geom.crpix_y]).max()
        if not np.isfinite(half):
            expected = "expected one that holds a tile and its overlap"
            raise MistakeError(f"geometry.projection: {expected}, got {geom.projection}")
        return int(np.ceil(2 * half - 1e-6))


def tiles_reached(nside: int, position_deg: tuple[float, float], radius_deg: float) -> list[int]:
    """Numbers of the tiles that share some of a disc about an ICRS position."""
    at = position_deg[0] % 360.0, position_deg[1]
    near: IntArray = _hpgeom().query_circle(nside, *at, min(radius_deg, 179.0), inclusive=True)
    apart = sphere.angular_distance_deg(_hpgeom().boundaries(nside, near, step=STEPS), at).min(axis=1)
    return near[(apart <= radius_deg) | (near == _hpgeom().angle_to_pixel(nside, *at))].tolist()


def covered_ranges(discs: Iterable[tuple[float, ...]]) -> IntArray:
    """Ranges [start, stop) of HEALPix numbers of order 29, shape (n, 2), that discs (lon, lat, radius) cover, ICRS deg.

    A cell of the order `ORDER` is covered if its centre is.
    """
    query, nside = _hpgeom().query_circle, 2**ORDER
    ranges = [query(nside, lon % 360.0, lat, radius, return_pixel_ranges=True) for lon, lat, radius in discs]
    found: IntArray = _hpgeom().pixel_ranges_union([*ranges, np.empty((0, 2), np.int64)])
    return found << 2 * (DEEPEST - ORDER)


def _hpgeom() -> Any:
    try:
        import hpgeom
    except ImportError as error:
        raise MistakeError("tiles: expected the library hpgeom: pip install 'cubeflow[survey]'") from error
    return hpgeom
