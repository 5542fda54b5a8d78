"""Exclusion masks: where gamma rays are known or expected, so that the background is not taken from there.

An exclusion is a set of shapes (DS9 regions: the excluded areas) or an image (FITS: 1 = keep). True in a
mask made here means keep; whatever lies outside an exclusion image is kept.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import sphere
from cubeflow.maps.geom import Geometry
from cubeflow.products.ds9_circles import read_circles
from cubeflow.products.image_frame import frame_lon_lat

if TYPE_CHECKING:
    from astropy.wcs import WCS

BoolArray = NDArray[np.bool_]
FITS_ENDINGS = (".fits", ".fit", ".fits.gz", ".fit.gz")


class ExclusionError(MistakeError):
    """An exclusion cannot be used; the message names the file and what is wrong."""


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
    """Mask on a pixel grid of its own.

    Parameters
    ----------
    keep : array of bool, shape (ny, nx)
        True = keep.
    wcs : WCS
        Celestial WCS of the image, in any frame and projection.
    """

    keep: BoolArray
    wcs: WCS


@dataclass(frozen=True, eq=False)
class Exclusion:
    """What is excluded.

    Parameters
    ----------
    name : str
        Where it comes from, for messages.
    areas : tuple of Disc, Shape or Image
        Excluded areas.
    holes : tuple of Disc or Shape
        Areas taken out of the excluded ones again (DS9: a minus sign before the shape).
    """

    name: str
    areas: tuple[Disc | Shape | Image, ...]
    holes: tuple[Disc | Shape, ...] = ()


def make_mask_exclusion(exclusion: Exclusion | None, geom: Geometry) -> BoolArray:
    """Mask of the pixels from which background may be taken.

    Parameters
    ----------
    exclusion : Exclusion or None
        What is excluded; None for nothing.
    geom : Geometry
        Pixel grid.

    Returns
    -------
    keep : array of bool, shape (ny, nx)
        True where a pixel centre is not excluded, or lies outside an exclusion image.

    Raises
    ------
    ExclusionError
        If nothing is left, as with an image of the wrong polarity.
    """
    keep = np.ones(geom.shape, dtype=bool)
    if exclusion is None:
        return keep
    for area in exclusion.areas:
        keep &= ~_inside(area, geom)
    for hole in exclusion.holes:
        keep |= _inside(hole, geom)
    if not keep.any():
        raise ExclusionError(
            f"exclusion {exclusion.name}: nothing of the map is left. In an exclusion image 1 (true) means keep "
            "and 0 excluded; regions are the excluded areas"
        )
    return keep


def read_exclusion(path: str | Path) -> Exclusion:
    """Read what is excluded.

    A FITS image (``.fits``, ``.fits.gz``; 1 = keep), a table with a radius for each position (``.ecsv``, or a
    FITS file without image), or DS9 regions (any other name; the excluded areas).

    Raises
    ------
    ExclusionError
        If the file cannot be read, holds no area, or an image has values other than 0 and 1.
    """
    path = Path(path)
    if not path.is_file():
        raise ExclusionError(f"exclusion {path}: no such file")
    if path.suffix.lower() == ".ecsv":
        return Exclusion(str(path), _read_table(path))
    if path.name.lower().endswith(FITS_ENDINGS):
        image = _read_image(path)
        return Exclusion(str(path), _read_table(path) if image is None else (image,))
    return _read_regions(path)


def _inside(area: Disc | Shape | Image, geom: Geometry) -> BoolArray:
    """Whether each pixel centre lies in an excluded area, shape (ny, nx)."""
    if isinstance(area, Disc):
        return geom.offset_deg(area.ra_deg, area.dec_deg) < area.radius_deg
    if isinstance(area, Image):
        return _inside_image(area, geom)
    from astropy.coordinates import SkyCoord

    on_sky = np.isfinite(geom.center_vectors[..., 0])
    ra, dec = sphere.lon_lat(geom.center_vectors[on_sky])
    inside = np.zeros(geom.shape, dtype=bool)
    inside[on_sky] = area.sky_region.contains(SkyCoord(ra, dec, unit="deg"), geom.wcs())
    return inside


def _inside_image(image: Image, geom: Geometry) -> BoolArray:
    """Whether the nearest pixel of an exclusion image is excluded; False outside the image."""
    lon, lat = frame_lon_lat(image.wcs, geom.center_vectors.reshape(-1, 3))
    x, y = image.wcs.wcs_world2pix(lon, lat, 0)
    with np.errstate(invalid="ignore"):
        ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
        found = (ix >= 0) & (ix < image.keep.shape[1]) & (iy >= 0) & (iy < image.keep.shape[0])
    inside = np.zeros(found.shape, dtype=bool)
    inside[found] = ~image.keep[iy[found].astype(int), ix[found].astype(int)]
    return inside.reshape(geom.shape)


def _read_table(path: Path) -> tuple[Disc, ...]:
    """Read the discs of a catalogue."""
    from cubeflow.products.exclusion_table import read_discs

    try:
        return tuple(Disc(*disc) for disc in read_discs(path))
    except (OSError, ValueError, TypeError) as error:
        raise ExclusionError(f"exclusion {path}: {error}") from error


def _read_image(path: Path) -> Image | None:
    """Read the first two-dimensional image of a FITS file; None if it holds none."""
    from astropy.io import fits
    from astropy.wcs import WCS

    try:
        with fits.open(path, memmap=False) as hdus:
            found = next((hdu for hdu in hdus if hdu.is_image and hdu.data is not None), None)
            if found is None:
                return None
            data, wcs = np.array(found.data).squeeze(), WCS(found.header).celestial
    except (OSError, ValueError) as error:
        raise ExclusionError(f"exclusion {path}: {error}") from error
    if data.ndim != 2 or wcs.naxis != 2:
        raise ExclusionError(f"exclusion {path}: expected an image with two celestial axes, got shape {data.shape}")
    wrong = ~((data == 0) | (data == 1))
    if wrong.any():
        raise ExclusionError(f"exclusion {path}: expected 1 (keep) or 0 (excluded), found {data[wrong][0]}")
    return Image(data.astype(bool), wcs)


def _read_regions(path: Path) -> Exclusion:
    """Read DS9 regions in celestial coordinates; whatever the parser would skip is an error here."""
    circles = _read_plain_circles(path)
    if circles is not None:
        return circles
    from regions import Regions

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = list(Regions.read(str(path), format="ds9"))
    except Exception as error:  # the parser's errors and warnings have no common class
        raise ExclusionError(f"exclusion {path}: {type(error).__name__}: {error}") from error
    if not parsed:
        raise ExclusionError(f"exclusion {path}: no region in the file")
    areas = [(_plain_area(region, path), bool(region.meta.get("include", True))) for region in parsed]
    return Exclusion(
        str(path),
        tuple(area for area, include in areas if include),
        tuple(area for area, include in areas if not include),
    )


def _read_plain_circles(path: Path) -> Exclusion | None:
    """Exclusion of a file with circles only, which needs no parser; None for any other."""
    try:
        found = read_circles(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # the parser says what is wrong
    if found is None:
        return None
    areas, holes = (tuple(Disc(*disc) for *disc, include in found if include is wanted) for wanted in (True, False))
    return Exclusion(str(path), areas, holes)


def _plain_area(region: Any, path: Path) -> Disc | Shape:
    """Turn a parsed region into a disc, if it is one, or keep it as it is."""
    from regions import CircleSkyRegion, LineSkyRegion, PixelRegion, PointSkyRegion, TextSkyRegion

    kind = type(region).__name__
    if isinstance(region, PixelRegion):
        raise ExclusionError(f"exclusion {path}: {kind}: expected celestial coordinates, got those of an image")
    if isinstance(region, PointSkyRegion | LineSkyRegion | TextSkyRegion):
        raise ExclusionError(f"exclusion {path}: {kind} has no area")
    if isinstance(region, CircleSkyRegion):
        center = region.center.icrs
        return Disc(center.ra.deg, center.dec.deg, region.radius.to_value("deg"))
    plain = region.copy()
    plain.meta["include"] = True
    return Shape(plain)
