"""Exclusion masks: where gamma rays are known or expected, so that the background is not taken from there.

An exclusion is a set of areas (DS9 regions, discs of a table), or an image or a cube with an energy axis (FITS: 1 =
keep, 0 = excluded). True in a mask made here means excluded; outside an exclusion image nothing is.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeflow.errors import FailedError, MistakeError
from cubeflow.maps import Axis, Geometry, sphere
from cubeflow.maps.arrays import BoolArray, FloatArray
from cubeflow.products.reduced import ReduceOptions

if TYPE_CHECKING:
    from astropy.io.fits import HDUList, Header
    from astropy.table import Column
    from astropy.wcs import WCS

EnergyRange = tuple[float, float]

EVERY_ENERGY: EnergyRange = (0.0, float("inf"))
SAME_ENERGY = 1e-6  # edges of energies are equal to this
LEAST_KEPT = 0.05  # of the field must be left
FITS_ENDINGS = (".fits", ".fit", ".fits.gz", ".fit.gz")
# Names of columns, in any case of letters.
EDGES = (("E_MIN", "E_MAX"), ("ENERGY_MIN", "ENERGY_MAX"), ("ENERG_LO", "ENERG_HI"))
POSITIONS = (("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("RA_ICRS", "DE_ICRS"), ("RA_J2000", "DEC_J2000"))
GALACTIC = (("GLON", "GLAT"), ("L", "B"))
RADII = ("RADIUS", "EXCLUSION_RADIUS", "RADIUS_DEG", "EXTENSION")
POLARITY = "In an exclusion image 1 means keep and 0 excluded; regions are the excluded areas"


class ExclusionError(MistakeError):
    """An exclusion cannot be used; the message names the file and what is wrong."""


class ExclusionChanged(FailedError):
    """An exclusion file is not the one that was planned with; what is made with it belongs to no key."""


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

    ra_deg: float
    dec_deg: float
    radius_deg: float


@dataclass(frozen=True)
class Shape:
    """Any area that the ``regions`` library can evaluate (ellipse, box, polygon, annulus, ...)."""

    sky_region: Any


@dataclass(frozen=True, eq=False)
class Image:
    """Mask on a pixel grid of its own."""

    excluded: BoolArray  # one plane, or one for each range of energy, shape (n, ny, nx)
    wcs: WCS  # celestial, in any frame and projection
    energy_tev: tuple[EnergyRange, ...] = (EVERY_ENERGY,)  # reconstructed energies of each plane


@dataclass(frozen=True, eq=False)
class Exclusion:
    """What is excluded."""

    name: str  # where it comes from, for messages
    areas: tuple[Disc | Shape | Image, ...]
    holes: tuple[Disc | Shape, ...] = ()  # taken out of the areas again (DS9: a minus sign before the shape)
    energy_tev: EnergyRange = EVERY_ENERGY  # reconstructed energies from and up to which it holds

    @property
    def by_energy(self) -> bool:
        """Whether it differs from energy to energy."""
        images = (area for area in self.areas if isinstance(area, Image))
        return self.energy_tev != EVERY_ENERGY or any(image.energy_tev != (EVERY_ENERGY,) for image in images)


class ExclusionMasks:
    """Masks of what must not serve as background; files are read once, and each mask is made once.

    Parameters
    ----------
    files : sequence of ExclusionFile
        DS9 region files, FITS images or tables; their excluded areas are joined.
    digests : sequence of str, optional
        The sha256 that each file must have; not compared if not given.
    """

    def __init__(self, files: Sequence[ExclusionFile], digests: Sequence[str] | None = None) -> None:
        self._files = tuple(files)
        self._digests = digests
        self._masks: dict[tuple[Geometry, Axis | None], BoolArray] = {}

    @cached_property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """What each file excludes; raises as `mask`."""
        return tuple(self._read(index) for index in range(len(self._files)))

    def mask(self, geom: Geometry, energy: Axis | None = None) -> BoolArray:
        """Mask of what is excluded.

        Shape (n_energy, ny, nx) if there is an `energy` and an exclusion depends on it; otherwise (ny, nx), of pixels
        that are excluded at any energy.

        Raises
        ------
        ExclusionChanged
            If a file is gone or has another digest than it must have.
        ExclusionError
            If a file cannot be used.
        """
        if not any(exclusion.by_energy for exclusion in self.exclusions):
            energy = None
        if (geom, energy) not in self._masks:
            excluded = np.zeros(geom.shape if energy is None else (energy.n_bins, *geom.shape), bool)
            for exclusion in self.exclusions:
                excluded |= _mask(exclusion, geom, energy)
            self._masks[geom, energy] = excluded
        return self._masks[geom, energy]

    def _read(self, index: int) -> Exclusion:
        """Read a file; what is parsed is what has the digest."""
        file = self._files[index]
        if self._digests is None:
            exclusion = read_exclusion(file.path)
        else:
            try:
                content = Path(file.path).read_bytes()
            except OSError as error:
                reason = f"can no longer be read ({error.strerror or error})"
                raise ExclusionChanged(f"exclusion {file.path}: {reason}; start again") from error
            if hashlib.sha256(content).hexdigest() != self._digests[index]:
                raise ExclusionChanged(f"exclusion {file.path}: changed since the plan was made; start again")
            exclusion = read_exclusion(file.path, content)
        limits = zip((file.energy_min_tev, file.energy_max_tev), EVERY_ENERGY, strict=True)
        lower, upper = (end if given is None else given for given, end in limits)
        return replace(exclusion, energy_tev=(lower, upper))


def check_exclusion(name: str, options: ReduceOptions, files: Sequence[ExclusionFile]) -> None:
    """Read the exclusion files of a target and see that they leave something, before any job needs them.

    Raises
    ------
    ExclusionError
        If a file cannot be used, or all but 5 % of the field from which background is taken are excluded.
    """
    geom = options.irf_geometry
    # Where whole runs are used, what lies around the map counts, too.
    margin = 0 if options.trim else int(np.ceil(options.offset_max_deg / geom.pixel_deg))
    field = geom.cutout(-margin, -margin, geom.nx + 2 * margin, geom.ny + 2 * margin)
    try:
        kept = 1.0 - float(ExclusionMasks(files).mask(field, options.energy).mean())
    except ExclusionError as error:
        raise ExclusionError(f"targets.{name}.exclusion: {error}") from error
    if kept < LEAST_KEPT:
        raise ExclusionError(
            f"targets.{name}.exclusion: {', '.join(str(file.path) for file in files)}: {kept:.1%} of the field is "
            f"left, expected at least {LEAST_KEPT:.0%}. {POLARITY}"
        )


def make_mask_exclusion(exclusion: Exclusion | None, geom: Geometry, energy: Axis | None = None) -> BoolArray:
    """Mask of the pixels from which background must not be taken.

    Parameters
    ----------
    exclusion : Exclusion or None
        What is excluded; None for nothing.
    geom : Geometry
        Pixel grid.
    energy : Axis, optional
        Reconstructed energy.

    Returns
    -------
    excluded : array of bool, shape (n_energy, ny, nx), or (ny, nx) without `energy`
        True where a pixel centre is excluded at any energy that the bin holds, or at any energy at all. False outside
        an exclusion image, and at energies that are not in a cube.

    Raises
    ------
    ExclusionError
        If nothing is left, as with an image of the wrong polarity.
    """
    excluded = _mask(exclusion, geom, energy)
    if excluded.all():
        name = exclusion.name if exclusion else ""
        raise ExclusionError(f"exclusion {name}: nothing of the map is left. {POLARITY}")
    return excluded


def _mask(exclusion: Exclusion | None, geom: Geometry, energy: Axis | None) -> BoolArray:
    """Mask that may leave nothing: a run whose field is excluded as a whole has no background, and its norm says so."""
    excluded = np.zeros((1 if energy is None else energy.n_bins, *geom.shape), dtype=bool)
    exclusion = exclusion or Exclusion("", ())
    for area in exclusion.areas:
        if isinstance(area, Image):
            planes, ranges = _inside_image(area, geom), area.energy_tev
        else:
            planes, ranges = _inside(area, geom)[None], (EVERY_ENERGY,)
        for inside, (lower, upper) in zip(planes, ranges, strict=True):
            lower, upper = max(lower, exclusion.energy_tev[0]), min(upper, exclusion.energy_tev[1])
            if energy is None:
                excluded |= inside & (lower < upper)  # not so beyond the energies at which a cube is to hold
            else:
                above, below = np.maximum(energy.edges_array[:-1], lower), np.minimum(energy.edges_array[1:], upper)
                excluded[below > above * (1 + SAME_ENERGY)] |= inside
    for hole in exclusion.holes:
        excluded &= ~_inside(hole, geom)
    return excluded[0] if energy is None else excluded


def _inside(area: Disc | Shape, geom: Geometry) -> BoolArray:
    """Whether each pixel centre lies in an area, shape (ny, nx)."""
    if isinstance(area, Disc):
        return geom.offset_deg(area.ra_deg, area.dec_deg) < area.radius_deg
    from astropy.coordinates import SkyCoord

    on_sky = np.isfinite(geom.center_vectors[..., 0])
    inside = np.zeros(geom.shape, dtype=bool)
    position = SkyCoord(*sphere.lon_lat(geom.center_vectors[on_sky]), unit="deg")
    inside[on_sky] = area.sky_region.contains(position, geom.wcs())
    return inside


def _inside_image(image: Image, geom: Geometry) -> BoolArray:
    """Whether the nearest pixel of an exclusion image is excluded, shape (n, ny, nx); False outside the image."""
    x, y = image.wcs.wcs_world2pix(*_lon_lat_in(image.wcs, geom.center_vectors.reshape(-1, 3)), 0)
    n_planes, n_y, n_x = image.excluded.shape
    with np.errstate(invalid="ignore"):
        ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
        found = (ix >= 0) & (ix < n_x) & (iy >= 0) & (iy < n_y)
    inside = np.zeros((n_planes, found.size), dtype=bool)
    inside[:, found] = image.excluded[:, iy[found].astype(int), ix[found].astype(int)]
    return inside.reshape(n_planes, *geom.shape)


def _lon_lat_in(wcs: WCS, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Longitude and latitude in deg, in the frame of a WCS, of ICRS vectors of shape (n, 3); NaN stays NaN."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    frame = wcs_to_celestial_frame(wcs)
    if frame.name in ("icrs", "galactic"):
        return sphere.lon_lat(sphere.icrs_to_frame(vectors, frame.name))
    lon, lat = sphere.lon_lat(vectors)
    good = np.isfinite(lon)
    coords = SkyCoord(lon[good], lat[good], unit="deg").transform_to(frame).spherical
    lon[good], lat[good] = coords.lon.deg, coords.lat.deg
    return lon, lat


def read_exclusion(path: str | Path, content: bytes | None = None) -> Exclusion:
    """Read what is excluded.

    A FITS image or cube (``.fits``, ``.fits.gz``; 1 = keep), a table with a radius for each position (``.ecsv``, or a
    FITS file without image), or DS9 regions (any other name; the excluded areas).

    Parameters
    ----------
    path : str or Path
        The file.
    content : bytes, optional
        Its content, where that has been read.

    Raises
    ------
    ExclusionError
        If the file cannot be read, holds no area, an image has values other than 0 and 1, or a cube no energies.
    """
    path = Path(path)
    if content is None and not path.is_file():
        raise ExclusionError(f"exclusion {path}: no such file")
    try:
        content = path.read_bytes() if content is None else content
        if path.suffix.lower() == ".ecsv":
            return Exclusion(str(path), _read_discs(content.decode(), "ascii.ecsv"))
        if not path.name.lower().endswith(FITS_ENDINGS):
            return _read_regions(str(path), content.decode())
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        image = _read_image(content)
        return Exclusion(str(path), _read_discs(content, "fits") if image is None else (image,))
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise ExclusionError(f"exclusion {path}: {error}") from error


def _read_regions(name: str, text: str) -> Exclusion:
    """Read DS9 regions in celestial coordinates; whatever the parser would skip is an error here."""
    from regions import Regions

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = list(Regions.parse(text, format="ds9"))
    except Exception as error:  # the parser's errors and warnings have no common class
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not parsed:
        raise ValueError("no region in the file")
    areas = [(_plain_area(region), bool(region.meta.get("include", True))) for region in parsed]
    inside, outside = (tuple(area for area, include in areas if include is wanted) for wanted in (True, False))
    return Exclusion(name, inside, outside)


def _plain_area(region: Any) -> Disc | Shape:
    """Turn a parsed region into a disc, if it is one, or keep it as it is."""
    from regions import CircleSkyRegion, LineSkyRegion, PixelRegion, PointSkyRegion, TextSkyRegion

    kind = type(region).__name__
    if isinstance(region, PixelRegion):
        raise ValueError(f"{kind}: expected celestial coordinates, got those of an image")
    if isinstance(region, PointSkyRegion | LineSkyRegion | TextSkyRegion):
        raise ValueError(f"{kind} has no area")
    if isinstance(region, CircleSkyRegion):
        center = region.center.icrs
        return Disc(float(center.ra.deg), float(center.dec.deg), float(region.radius.to_value("deg")))
    plain = region.copy()
    plain.meta["include"] = True
    return Shape(plain)


def _read_image(content: bytes) -> Image | None:
    """Read the first image of a FITS file; None if it holds none.

    It has two celestial axes, and may have one of energy, the third. Energies stand in the table which ``BANDSHDU``
    names, or in ``EBOUNDS``: columns ``E_MIN`` and ``E_MAX`` with a unit. A cube with one plane is an image, which
    holds at every energy.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(io.BytesIO(content)) as hdus:
        found = next((hdu for hdu in hdus if hdu.is_image and hdu.data is not None), None)
        if found is None:
            return None
        data, wcs = np.array(found.data), WCS(found.header).celestial
        while data.ndim > 2 and data.shape[0] == 1:
            data = data[0]
        if data.ndim not in (2, 3) or wcs.naxis != 2:
            raise ValueError(f"expected an image with two celestial axes and at most one of energy, got {data.shape}")
        ranges = (EVERY_ENERGY,) if data.ndim == 2 else _read_energies(hdus, found.header, data.shape[0])
    wrong = ~((data == 0) | (data == 1))
    if wrong.any():
        raise ValueError(f"expected 1 (keep) or 0 (excluded), found {data[wrong][0]}")
    return Image(data.reshape(len(ranges), *data.shape[-2:]) == 0, wcs, ranges)


def _read_energies(hdus: HDUList, header: Header, n_planes: int) -> tuple[EnergyRange, ...]:
    """Energies of the planes of a cube, TeV."""
    from astropy import units

    name = header.get("BANDSHDU", "EBOUNDS")
    if name not in hdus:
        raise ValueError(f"cube of {n_planes} planes: expected their energies in the table {name}, found none")
    columns = {column.name.upper(): column for column in hdus[name].columns}
    pair = next((pair for pair in EDGES if set(pair) <= set(columns)), None)
    if pair is None:
        raise ValueError(f"{name}: expected columns E_MIN and E_MAX, found {list(columns)}")
    edges = []
    for key in pair:
        try:
            scale = units.Unit(columns[key].unit or "").to("TeV")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {key}: expected a unit of energy, got {columns[key].unit!r}") from error
        edges.append(np.asarray(hdus[name].data[key], dtype=float) * scale)
    if edges[0].shape != (n_planes,) or not np.all((edges[0] >= 0) & (edges[1] > edges[0]) & np.isfinite(edges[1])):
        raise ValueError(f"{name}: expected E_MIN below E_MAX for each of {n_planes} planes, got {edges}")
    return tuple(zip(edges[0].tolist(), edges[1].tolist(), strict=True))


def _read_discs(content: bytes | str, kind: str) -> tuple[Disc, ...]:
    """Discs of a table: a catalogue of sources, or of bright stars, with a radius for each.

    Columns are ``RA`` and ``DEC`` (also ``RAJ2000``, ``DEJ2000``) or ``GLON`` and ``GLAT``, and ``RADIUS``. Positions
    without unit are in deg; the radius must have a unit. Further columns are not looked at.
    """
    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units that are not those of FITS are judged here
        table = Table.read(io.BytesIO(content) if isinstance(content, bytes) else content, format=kind)
    columns = {name.upper(): table[name] for name in table.colnames}
    frames = (("icrs", pair) for pair in POSITIONS), (("galactic", pair) for pair in GALACTIC)
    known = next(((frame, pair) for found in frames for frame, pair in found if set(pair) <= set(columns)), None)
    if known is None:
        raise ValueError(f"expected columns RA and DEC, or GLON and GLAT, found {list(columns)}")
    radius = next((columns[name] for name in RADII if name in columns), None)
    if radius is None:
        raise ValueError(f"expected a column RADIUS, found {table.colnames}")
    if radius.unit is None:
        raise ValueError("column RADIUS: expected a unit such as deg, got none")
    if not len(table):
        raise ValueError("no rows")
    frame, pair = known
    lon, lat, size = (_degrees(column) for column in (*(columns[name] for name in pair), radius))
    sound = np.isfinite(lon) & (np.abs(lat) <= 90.0) & (size > 0.0) & (size <= 180.0)
    if not sound.all():
        row = int(np.argmin(sound))
        found = f"{lon[row]:g}, {lat[row]:g}, {size[row]:g}"
        raise ValueError(f"row {row + 1}: expected a position and a radius above 0, got {found} deg")
    ra, dec = sphere.lon_lat(sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), frame))
    return tuple(Disc(*disc) for disc in zip(ra.tolist(), dec.tolist(), size.tolist(), strict=True))


def _degrees(column: Column) -> FloatArray:
    """Values of a column in deg; NaN where they are masked."""
    from astropy import units

    if column.dtype.kind not in "iuf":
        raise ValueError(f"column {column.name}: expected numbers, got {column.dtype}")
    try:
        scale = units.Unit(column.unit or "deg").to("deg")
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {column.name}: expected a unit of angle, got {str(column.unit)!r}") from error
    return np.asarray(np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)) * scale
