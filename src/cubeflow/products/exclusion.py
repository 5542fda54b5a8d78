"""Exclusion masks: where gamma rays are known or expected, so that the background is not taken from there.

An exclusion is a set of areas on the sky, or an image or a cube with an energy axis. True in a mask made here means
excluded; outside an exclusion image nothing is. What is left for the background of a run is in `allowed_bins`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from cubeflow.errors import MistakeError
from cubeflow.maps import Axis, BoolArray, FloatArray, Geometry, Maps, release, sphere
from cubeflow.products.cash import make_significance_cash, make_significance_li_ma

if TYPE_CHECKING:
    from astropy.wcs import WCS

EnergyRange = tuple[float, float]

EVERY_ENERGY: EnergyRange = (0.0, float("inf"))
SAME_ENERGY = 1e-6  # edges of energies are equal to this
ROUNDING = 1e-12  # of a cosine, on the safe side
RIM_SIGMA = 3.0  # one-sided
LARGEST_GROWTH = 10.0  # in radii of the disc: so far a wider exclusion with a clean rim is looked for
POLARITY = "In an exclusion image 1 means keep and 0 excluded; regions are the excluded areas"


class ExclusionError(MistakeError):
    """An exclusion cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class ExclusionFile:
    """A file of what is not background, at all energies or at some."""

    path: Path
    """The file."""
    energy_min_tev: float | None = None
    """It holds from this energy on; null for all."""
    energy_max_tev: float | None = None
    """It holds up to this energy; null for all."""

    def __post_init__(self) -> None:
        lower, upper = self.energy_min_tev, self.energy_max_tev
        if lower is not None and upper is not None and not lower < upper:
            raise ValueError(f"energy_min_tev: expected less than energy_max = {upper:g} TeV, got {lower:g} TeV")


@dataclass(frozen=True)
class Disc:
    """Circle on the sky, in great-circle separation: ICRS, deg."""

    kind: Literal["disc"] = field(default="disc", kw_only=True)
    ra_deg: float
    dec_deg: float
    radius_deg: float

    @property
    def cap(self) -> tuple[FloatArray, float]:
        """Unit vector of the centre, and the separation from it in deg within which all of the area lies."""
        return sphere.unit_vectors(self.ra_deg, self.dec_deg), self.radius_deg

    def contains(self, vectors: FloatArray) -> BoolArray:
        """Whether unit vectors, shape (n, 3), lie in the area."""
        return sphere.separation_deg(vectors, self.cap[0]) < self.radius_deg


@dataclass(frozen=True)
class Shape:
    """Ellipse or rectangle on the sky, or what lies between two with the same axes: ICRS, deg.

    A position has the separation from the centre and the angle at which the great circle to it leaves the centre.
    """

    kind: Literal["ellipse", "rectangle"]
    ra_deg: float
    dec_deg: float
    semi_deg: tuple[float, float]  # half the size along its first and second axis
    angle_deg: float  # of its first axis, from north through east
    inner_deg: tuple[float, float] | None = None  # half the size of what is left out of its middle

    @property
    def cap(self) -> tuple[FloatArray, float]:
        """As of a disc."""
        reach = float(np.hypot(*self.semi_deg)) if self.kind == "rectangle" else max(self.semi_deg)
        return sphere.unit_vectors(self.ra_deg, self.dec_deg), min(reach, 180.0)

    def contains(self, vectors: FloatArray) -> BoolArray:
        """Whether unit vectors, shape (n, 3), lie in the area."""
        angle = np.deg2rad(self.angle_deg)
        _, east, north = sphere.local_basis(self.ra_deg, self.dec_deg)
        first = vectors @ (np.cos(angle) * north + np.sin(angle) * east)
        second = vectors @ (np.cos(angle) * east - np.sin(angle) * north)
        along = np.hypot(first, second)  # sine of the separation
        scale = sphere.separation_deg(vectors, self.cap[0]) / np.where(along > 0, along, 1.0)

        def within(semi_deg: tuple[float, float]) -> BoolArray:
            x, y = np.abs(first * scale) / semi_deg[0], np.abs(second * scale) / semi_deg[1]
            return (np.hypot(x, y) if self.kind == "ellipse" else np.maximum(x, y)) < 1.0

        return within(self.semi_deg) & ~within(self.inner_deg) if self.inner_deg else within(self.semi_deg)


@dataclass(frozen=True)
class Polygon:
    """Polygon whose sides are great circles, smaller than a hemisphere: ICRS, deg."""

    kind: Literal["polygon"] = field(default="polygon", kw_only=True)
    corners_deg: tuple[tuple[float, float], ...]  # right ascension and declination

    @property
    def cap(self) -> tuple[FloatArray, float]:
        """As of a disc."""
        corners = sphere.unit_vectors(*np.transpose(self.corners_deg))
        centre = corners.mean(axis=0)
        centre = centre / np.sqrt(np.sum(centre**2))
        return centre, float(sphere.separation_deg(corners, centre).max())

    def contains(self, vectors: FloatArray) -> BoolArray:
        """Whether unit vectors, shape (n, 3), lie in the area: how often a line to its outside crosses the sides."""
        centre, _ = self.cap
        axes = np.linalg.svd(centre[None])[2][1:]  # of the plane that touches the sky at the centre
        # In the projection from the centre of the sphere great circles are straight.
        x, y = (vectors @ axes.T / (vectors @ centre)[:, None]).T
        corners = sphere.unit_vectors(*np.transpose(self.corners_deg))
        corners_xy = corners @ axes.T / (corners @ centre)[:, None]
        inside = np.zeros(len(vectors), bool)
        for (x0, y0), (x1, y1) in zip(corners_xy, np.roll(corners_xy, 1, axis=0), strict=True):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        return inside


Area = Disc | Shape | Polygon


@dataclass(frozen=True)
class Areas:
    """Areas on the sky, and those which are taken out of them again."""

    areas: tuple[Area, ...]
    holes: tuple[Area, ...] = ()


@dataclass(frozen=True, eq=False)
class Image:
    """Mask on a pixel grid of its own."""

    excluded: BoolArray  # one plane, or one for each range of energy, shape (n, ny, nx)
    wcs: "WCS"  # celestial, in any frame and projection
    energy_tev: tuple[EnergyRange, ...] = (EVERY_ENERGY,)  # reconstructed energies of each plane


@dataclass(frozen=True, eq=False)
class Exclusion:
    """What is excluded."""

    name: str  # where it comes from, for messages
    content: Areas | Image
    energy_tev: EnergyRange = EVERY_ENERGY  # reconstructed energies from and up to which it holds

    @property
    def by_energy(self) -> bool:
        """Whether it differs from energy to energy."""
        is_cube = isinstance(self.content, Image) and self.content.energy_tev != (EVERY_ENERGY,)
        return is_cube or self.energy_tev != EVERY_ENERGY


@dataclass(frozen=True, eq=False)
class ExclusionMasks:
    """Masks of all that must not serve as background; each is made once."""

    exclusions: Sequence[Exclusion]
    _masks: dict[tuple[Geometry, Axis | None], BoolArray] = field(default_factory=dict, init=False)

    def mask(self, geom: Geometry, energy: Axis | None = None) -> BoolArray:
        """Mask of what is excluded.

        Shape (n_energy, ny, nx) if there is an `energy` and an exclusion depends on it; otherwise (ny, nx), of pixels
        that are excluded at any energy.
        """
        if not any(exclusion.by_energy for exclusion in self.exclusions):
            energy = None
        if (geom, energy) not in self._masks:
            excluded = np.zeros(geom.shape if energy is None else (energy.n_bins, *geom.shape), bool)
            for exclusion in self.exclusions:
                excluded |= excluded_by(exclusion, geom, energy)
            self._masks[geom, energy] = excluded
        return self._masks[geom, energy]


def make_mask_exclusion(exclusion: Exclusion | None, geom: Geometry, energy: Axis | None = None) -> BoolArray:
    """Mask of the pixels from which background must not be taken, bool, (n_energy, ny, nx); (ny, nx) without `energy`.

    True where a pixel centre is excluded at any reconstructed energy that the bin holds, or at any energy at all. False
    outside an exclusion image, at energies that are not in a cube, and everywhere for None. ExclusionError if nothing
    is left, as with an image of the wrong polarity.
    """
    if exclusion is None:
        return np.zeros(geom.shape if energy is None else (energy.n_bins, *geom.shape), bool)
    excluded = excluded_by(exclusion, geom, energy)
    if excluded.all():
        raise ExclusionError(f"exclusion {exclusion.name}: nothing of the map is left. {POLARITY}")
    return excluded


def excluded_by(exclusion: Exclusion, geom: Geometry, energy: Axis | None) -> BoolArray:
    """Mask that may leave nothing: a run whose field is excluded as a whole has no background, and its norm says so."""
    excluded = np.zeros((1 if energy is None else energy.n_bins, *geom.shape), dtype=bool)
    content = exclusion.content
    if isinstance(content, Image):
        planes, ranges = _inside_image(content, geom), content.energy_tev
    else:
        planes, ranges = _inside_areas(content, geom)[None], (EVERY_ENERGY,)
    for inside, (lower, upper) in zip(planes, ranges, strict=True):
        lower, upper = max(lower, exclusion.energy_tev[0]), min(upper, exclusion.energy_tev[1])
        if energy is None:
            excluded |= inside & (lower < upper)  # not so beyond the energies at which a cube is to hold
        else:
            above, below = np.maximum(energy.edges_array[:-1], lower), np.minimum(energy.edges_array[1:], upper)
            excluded[below > above * (1 + SAME_ENERGY)] |= inside
    return excluded[0] if energy is None else excluded


def _inside_areas(areas: Areas, geom: Geometry) -> BoolArray:
    """Whether each pixel centre lies in an area and in no hole, shape (ny, nx); False off the sky."""
    vectors = geom.center_vectors.reshape(-1, 3)
    inside = np.zeros(len(vectors), bool)
    for value, parts in ((True, areas.areas), (False, areas.holes)):
        for part in parts:
            centre, reach_deg = part.cap
            near = np.flatnonzero(vectors @ centre > np.cos(np.deg2rad(reach_deg)) - ROUNDING)
            inside[near[part.contains(vectors[near])]] = value
    return inside.reshape(geom.shape)


def _inside_image(image: Image, geom: Geometry) -> BoolArray:
    """Whether the nearest pixel of an exclusion image is excluded, shape (n, ny, nx); False outside the image."""
    from astropy.coordinates import SkyCoord  # slow to import
    from astropy.wcs.utils import wcs_to_celestial_frame

    vectors, frame = geom.center_vectors.reshape(-1, 3), wcs_to_celestial_frame(image.wcs)
    if frame.name in ("icrs", "galactic"):  # three times as fast
        lon, lat = sphere.lon_lat(sphere.icrs_to_frame(vectors, frame.name))
    else:
        there = SkyCoord(*sphere.lon_lat(vectors), unit="deg").transform_to(frame).spherical
        lon, lat = there.lon.deg, there.lat.deg
    x, y = image.wcs.wcs_world2pix(lon, lat, 0)
    n_planes, n_y, n_x = image.excluded.shape
    with np.errstate(invalid="ignore"):
        ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
        found = (ix >= 0) & (ix < n_x) & (iy >= 0) & (iy < n_y)
    inside = np.zeros((n_planes, found.size), dtype=bool)
    inside[:, found] = image.excluded[:, iy[found].astype(int), ix[found].astype(int)]
    return inside.reshape(n_planes, *geom.shape)


def usable_bins(acceptance: FloatArray, safe: BoolArray | None) -> BoolArray:
    """Bins that are safe (None: all are) and have acceptance, shape (n_energy, ny, nx), as of the acceptance.

    Where the table of the background ends its rate is zero, which is no measurement: nothing is known there.
    ValueError if the mask does not fit.
    """
    if safe is not None and (safe.shape != acceptance.shape or safe.dtype != np.bool_):
        raise ValueError(f"safe: expected bool {acceptance.shape}, got {safe.dtype} {safe.shape}")
    known: BoolArray = acceptance > 0
    return known if safe is None else known & safe


def allowed_bins(usable: BoolArray, exclusion: BoolArray | None) -> BoolArray:
    """Usable bins, shape (n_energy, ny, nx), that are not excluded (None: none is).

    The exclusion may have that shape or (ny, nx); ValueError if it does not fit.
    """
    if exclusion is None:
        return usable
    shape = usable.shape
    if exclusion.shape not in (shape, shape[1:]) or exclusion.dtype != np.bool_:
        raise ValueError(f"exclusion: expected bool {shape} or {shape[1:]}, got {exclusion.dtype} {exclusion.shape}")
    return usable & ~exclusion


@dataclass(frozen=True)
class Rim:
    """An excess just outside an excluded area."""

    ra_deg: float  # of the centre of the area, ICRS
    dec_deg: float
    radius_deg: float | None  # of a circle
    significance: float
    grow_deg: float | None  # the least by which a wider area has a rim below 3 sigma; None if no such is found

    @property
    def text(self) -> str:
        """What there is, and what would do."""
        size_deg = (self.radius_deg or 0) + (self.grow_deg or 0)
        wider = f"{'a radius of' if self.radius_deg else 'more by'} {size_deg:.3g} deg"
        where = f"just outside what is excluded about RA {self.ra_deg:.3f} deg, Dec {self.dec_deg:+.3f} deg"
        return f"{self.significance:.1f} sigma {where}: {wider if self.grow_deg else 'nothing wider'} would do"


def find_rims(maps: Maps, exclusions: Sequence[Exclusion], excluded: BoolArray, disc_deg: float) -> list[Rim]:
    """Excesses above 3 sigma up to `disc_deg` outside excluded areas: circles, and what is connected of all else.

    Each area is a trial: of n, a rim must be as improbable as 3 sigma are, divided by n. `maps` are ``counts``,
    ``mask_safe``, ``background`` and for rings ``counts_off``, of which a rim is taken to have the mean of its pixels:
    less than it has seen, so that it is not too significant. `excluded`, shape (ny, nx), is so at any energy.
    """
    if "background" not in maps:
        return []
    used = [cube for name in ("counts", "background", "counts_off") if (cube := maps.get(name))]
    usable = np.any(maps["mask_safe"].data, axis=0) & ~excluded
    sums = np.stack([cube.data.sum(axis=0, dtype=float) for cube in used])
    for cube in (*used, maps["mask_safe"]):
        release(cube.data)

    def significance(edge_deg: FloatArray, grow_deg: float) -> float:
        """Of the rim that begins so far outside an edge."""
        rim = usable & (edge_deg >= grow_deg) & (edge_deg < grow_deg + disc_deg)
        counts, background, *counts_off = sums[:, rim].sum(axis=1)
        if n_off := sum(counts_off) / max(np.count_nonzero(rim), 1):
            return float(make_significance_li_ma(counts, n_off, background / n_off))
        return float(make_significance_cash(counts, background))

    found, n_areas, pixel_deg = [], 0, used[0].geom.pixel_deg
    for centre_deg, radius_deg, edge_deg in _edges(exclusions, excluded, used[0].geom):
        n_areas += np.isfinite(value := significance(edge_deg, 0.0))
        if value > RIM_SIGMA:
            growths = np.arange(pixel_deg, LARGEST_GROWTH * disc_deg, pixel_deg).tolist()
            grow_deg = next((each for each in growths if significance(edge_deg, each) < RIM_SIGMA), None)
            found.append(Rim(*centre_deg, radius_deg, value, grow_deg))
    limit = -NormalDist().inv_cdf(NormalDist().cdf(-RIM_SIGMA) / max(n_areas, 1))
    return [rim for rim in found if rim.significance > limit]


def _edges(
    exclusions: Sequence[Exclusion], excluded: BoolArray, geom: Geometry
) -> Iterator[tuple[tuple[float, float], float | None, FloatArray]]:
    """Centre and radius of each area, and how far outside its edge the pixels next to it are, deg."""
    parts, rest = [each.content for each in exclusions if isinstance(each.content, Areas)], excluded
    for disc in dict.fromkeys(area for part in parts for area in part.areas if isinstance(area, Disc)):
        if (inside := _inside_areas(Areas((disc,)), geom)).any():
            rest = rest & ~inside
            centre_deg = disc.ra_deg, disc.dec_deg
            yield centre_deg, disc.radius_deg, geom.offset_deg(*centre_deg) - disc.radius_deg
    if rest.any():
        from scipy.ndimage import distance_transform_edt, label  # slow to import

        areas, number = label(rest, np.ones((3, 3)))
        distance_pix, nearest = distance_transform_edt(~rest, return_indices=True)
        for area in range(1, number + 1):
            lon, lat = sphere.lon_lat(np.nanmean(geom.center_vectors[areas == area], axis=0))
            own = areas[tuple(nearest)] == area
            yield (float(lon), float(lat)), None, np.where(own, (distance_pix - 0.5) * geom.pixel_deg, np.inf)
