"""Exclusion masks: where gamma rays are known or expected, so that the background is not taken from there.

An exclusion is a set of shapes (DS9 regions: the excluded areas), or an image or a cube with an energy axis (FITS:
1 = keep). True in a mask made here means keep; whatever lies outside an exclusion image is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import sphere
from cubeflow.maps.axis import Axis
from cubeflow.maps.geom import Geometry
from cubeflow.products.ds9_circles import read_circles
from cubeflow.products.exclusion_image import EVERY_ENERGY, EnergyRange, Image, inside_image, overlapping, read_image

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
    energy_tev : tuple of float
        Reconstructed energies from and up to which it holds, TeV.
    """

    name: str
    areas: tuple[Disc | Shape | Image, ...]
    holes: tuple[Disc | Shape, ...] = ()
    energy_tev: EnergyRange = EVERY_ENERGY

    @property
    def by_energy(self) -> bool:
        """Whether it differs from energy to energy."""
        images = (area for area in self.areas if isinstance(area, Image))
        return self.energy_tev != EVERY_ENERGY or any(image.energy_tev != (EVERY_ENERGY,) for image in images)


def make_mask_exclusion(exclusion: Exclusion | None, geom: Geometry, energy: Axis | None = None) -> BoolArray:
    """Mask of the pixels from which background may be taken.

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
    keep : array of bool, shape (n_energy, ny, nx), or (ny, nx) without `energy`
        False where a pixel centre is excluded at any energy that the bin holds, or at any energy at all. True outside
        an exclusion image, and at energies that are not in a cube.

    Raises
    ------
    ExclusionError
        If nothing is left, as with an image of the wrong polarity.
    """
    keep = np.ones((1 if energy is None else energy.n_bins, *geom.shape), dtype=bool)
    for planes, ranges in _excluded(exclusion, geom) if exclusion else ():
        for inside, (lower, upper) in zip(planes, ranges, strict=True):
            if lower < upper:  # not so for planes of a cube beyond the energies at which it is to hold
                keep[... if energy is None else overlapping(energy, lower, upper)] &= ~inside
    if exclusion and not keep.any():
        raise ExclusionError(
            f"exclusion {exclusion.name}: nothing of the map is left. In an exclusion image 1 (true) means keep "
            "and 0 excluded; regions are the excluded areas"
        )
    return keep[0] if energy is None else keep


def read_exclusion(path: str | Path) -> Exclusion:
    """Read what is excluded.

    A FITS image or cube (``.fits``, ``.fits.gz``; 1 = keep), a table with a radius for each position (``.ecsv``, or a
    FITS file without image), or DS9 regions (any other name; the excluded areas).

    Raises
    ------
    ExclusionError
        If the file cannot be read, holds no area, an image has values other than 0 and 1, or a cube no energies.
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


def _excluded(exclusion: Exclusion, geom: Geometry) -> Iterator[tuple[BoolArray, tuple[EnergyRange, ...]]]:
    """Excluded pixels of each area, shape (n, ny, nx), without the holes, and the energies of each plane."""
    lower, upper = exclusion.energy_tev
    open_again = np.zeros(geom.shape, dtype=bool)
    for hole in exclusion.holes:
        open_again |= _inside(hole, geom)
    for area in exclusion.areas:
        if isinstance(area, Image):
            ranges = tuple((max(low, lower), min(high, upper)) for low, high in area.energy_tev)
            yield inside_image(area, geom) & ~open_again, ranges
        else:
            yield (_inside(area, geom) & ~open_again)[None], (exclusion.energy_tev,)


def _inside(area: Disc | Shape, geom: Geometry) -> BoolArray:
    """Whether each pixel centre lies in an excluded area, shape (ny, nx)."""
    if isinstance(area, Disc):
        return geom.offset_deg(area.ra_deg, area.dec_deg) < area.radius_deg
    from astropy.coordinates import SkyCoord

    on_sky = np.isfinite(geom.center_vectors[..., 0])
    ra, dec = sphere.lon_lat(geom.center_vectors[on_sky])
    inside = np.zeros(geom.shape, dtype=bool)
    inside[on_sky] = area.sky_region.contains(SkyCoord(ra, dec, unit="deg"), geom.wcs())
    return inside


def _read_table(path: Path) -> tuple[Disc, ...]:
    """Read the discs of a catalogue."""
    from cubeflow.products.exclusion_table import read_discs

    try:
        return tuple(Disc(*disc) for disc in read_discs(path))
    except (OSError, ValueError, TypeError) as error:
        raise ExclusionError(f"exclusion {path}: {error}") from error


def _read_image(path: Path) -> Image | None:
    """Read the first image of a FITS file; None if it holds none."""
    try:
        return read_image(path)
    except (OSError, ValueError) as error:
        raise ExclusionError(f"exclusion {path}: {error}") from error


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
