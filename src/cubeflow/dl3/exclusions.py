"""Exclusion files: DS9 regions, FITS images (1 = keep, 0 = excluded), tables with a disc for each row."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeflow.dl3.files import FileRefused, read_content
from cubeflow.dl3.hdus import Hdu, split_hdus
from cubeflow.maps import FloatArray, sphere
from cubeflow.products import exclusion

if TYPE_CHECKING:
    from astropy.io.fits import HDUList, Header
    from astropy.table import Column, Table
    from astropy.units import Quantity

# Names of columns, in any case of letters.
EDGES = (("E_MIN", "E_MAX"), ("ENERGY_MIN", "ENERGY_MAX"), ("ENERG_LO", "ENERG_HI"))
EQUATORIAL = (("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("RA_ICRS", "DE_ICRS"), ("RA_J2000", "DEC_J2000"))
POSITIONS = dict.fromkeys(EQUATORIAL, "icrs") | dict.fromkeys((("GLON", "GLAT"), ("L", "B")), "galactic")
LARGEST_POLYGON_DEG = 80.0
RADII = ("RADIUS", "EXCLUSION_RADIUS", "RADIUS_DEG", "EXTENSION")


def read_exclusion(path: str | Path, sha256: str | None = None) -> exclusion.Exclusion:
    """Read what is excluded from a file, which may be compressed by gzip, and has to have the digest `sha256` if given.

    A FITS image or cube (1 = keep), a table with a radius for each position (ECSV, or FITS without image), or DS9
    regions (the excluded areas; any other content). Raises ExclusionError if the file cannot be read, holds no area, an
    image has values other than 0 and 1, or a cube no energies, and InputChanged if it has another digest.
    """
    from astropy.table import Table

    path = Path(path)
    try:
        content = read_content(path, sha256=sha256)
        if content.startswith(b"SIMPLE  ="):
            found = _read_fits(split_hdus(content, path))
        elif path.suffix.lower() == ".ecsv" or content.startswith(b"# %ECSV"):
            found = _discs(Table.read(content.decode(), format="ascii.ecsv"))
        else:
            found = _read_regions(content.decode())
    except (OSError, EOFError, ValueError, TypeError) as error:
        where = "" if isinstance(error, FileRefused) else f"{path}: "
        raise exclusion.ExclusionError(f"exclusion {where}{error}") from error
    return exclusion.Exclusion(str(path), found)


def _read_regions(text: str) -> exclusion.Areas:
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
    inside, holes = (tuple(area for area, include in areas if include is wanted) for wanted in (True, False))
    if not inside:
        raise ValueError("every region has a minus sign: nothing is excluded from which they could be taken out")
    return exclusion.Areas(inside, holes)


def _plain_area(region: Any) -> exclusion.Area:
    """Numbers of a parsed region, in ICRS."""
    from astropy.coordinates import Angle
    from regions import CircleAnnulusSkyRegion, CircleSkyRegion, PixelRegion, PolygonSkyRegion

    kind = type(region).__name__
    if isinstance(region, PixelRegion):
        raise ValueError(f"{kind}: expected celestial coordinates, got those of an image")
    if isinstance(region, PolygonSkyRegion):
        polygon = exclusion.Polygon(tuple((float(each.ra.deg), float(each.dec.deg)) for each in region.vertices.icrs))
        if not polygon.cap[1] < LARGEST_POLYGON_DEG:
            raise ValueError(f"{kind}: expected corners within {LARGEST_POLYGON_DEG:g} deg of their middle")
        return polygon
    is_annulus = "Annulus" in kind
    if not (is_annulus or hasattr(region, "width") or isinstance(region, CircleSkyRegion)):
        raise ValueError(f"{kind} has no area")
    center = region.center.icrs
    position = float(center.ra.deg), float(center.dec.deg)
    if isinstance(region, CircleSkyRegion):
        return exclusion.Disc(*position, _halves(2 * region.radius, 2 * region.radius)[0])
    if isinstance(region, CircleAnnulusSkyRegion):
        inner, outer = (_halves(2 * radius, 2 * radius) for radius in (region.inner_radius, region.outer_radius))
        return exclusion.Shape("ellipse", *position, outer, 0.0, inner)
    shape: Literal["ellipse", "rectangle"] = "rectangle" if "Rectangle" in kind else "ellipse"
    hole = _halves(region.inner_width, region.inner_height) if is_annulus else None
    size = (region.outer_width, region.outer_height) if is_annulus else (region.width, region.height)
    # Angles are counter-clockwise from west, in the frame of the region.
    tip = region.center.directional_offset_by(region.angle - Angle("90d"), Angle("1d"))
    return exclusion.Shape(shape, *position, _halves(*size), float(center.position_angle(tip.icrs).deg), hole)


def _halves(width: "Quantity", height: "Quantity") -> tuple[float, float]:
    """Half of two sizes, deg."""
    found = float(width.to_value("deg")) / 2, float(height.to_value("deg")) / 2
    if not all(0.0 < size <= 180.0 for size in found):
        raise ValueError(f"expected sizes above 0 and up to 180 deg, got {found}")
    return found


def _read_fits(hdus: Sequence[Hdu]) -> exclusion.Areas | exclusion.Image:
    """Read the first image, which holds at every energy or is a cube with a plane for each, else the first table."""
    from astropy.io import fits
    from astropy.table import Table
    from astropy.wcs import WCS

    for hdu in hdus:
        hdu.check_sums()
    content = fits.HDUList([hdu.hdu for hdu in hdus])
    found = next((hdu for hdu in content if hdu.is_image and hdu.data is not None), None)
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that are not those of FITS are judged later
            return _discs(Table.read(content, format="fits"))
    data, wcs = np.array(found.data), WCS(found.header).celestial
    while data.ndim > 2 and data.shape[0] == 1:
        data = data[0]
    if data.ndim not in (2, 3) or wcs.naxis != 2:
        raise ValueError(f"expected an image with two celestial axes and at most one of energy, got {data.shape}")
    ranges = (exclusion.EVERY_ENERGY,) if data.ndim == 2 else _read_energies(content, found.header, data.shape[0])
    wrong = ~((data == 0) | (data == 1))
    if wrong.any():
        raise ValueError(f"expected 1 (keep) or 0 (excluded), found {data[wrong][0]}")
    return exclusion.Image(data.reshape(len(ranges), *data.shape[-2:]) == 0, wcs, ranges)


def _read_energies(hdus: "HDUList", header: "Header", n_planes: int) -> tuple[exclusion.EnergyRange, ...]:
    """Energies of the planes of a cube, TeV: of the table that BANDSHDU names, else EBOUNDS; columns have a unit."""
    name = header.get("BANDSHDU", "EBOUNDS")
    if name not in hdus:
        raise ValueError(f"cube of {n_planes} planes: expected their energies in the table {name}, found none")
    columns = {column.name.upper(): column for column in hdus[name].columns}
    pair = next((pair for pair in EDGES if set(pair) <= set(columns)), None)
    if pair is None:
        raise ValueError(f"{name}: expected columns E_MIN and E_MAX, found {list(columns)}")
    edges = []
    for key in pair:
        scale = _unit_in(columns[key].unit, "TeV", f"{name}: {key}: expected a unit of energy")
        edges.append(np.asarray(hdus[name].data[key], dtype=float) * scale)
    if edges[0].shape != (n_planes,) or not np.all((edges[0] >= 0) & (edges[1] > edges[0]) & np.isfinite(edges[1])):
        raise ValueError(f"{name}: expected E_MIN below E_MAX for each of {n_planes} planes, got {edges}")
    return tuple(zip(edges[0].tolist(), edges[1].tolist(), strict=True))


def _discs(table: "Table") -> exclusion.Areas:
    """Discs of a catalogue, of sources or bright stars: positions without unit are in deg, a radius must have one."""
    columns = {name.upper(): table[name] for name in table.colnames}
    pair = next((pair for pair in POSITIONS if set(pair) <= set(columns)), None)
    if pair is None:
        raise ValueError(f"expected columns RA and DEC, or GLON and GLAT, found {list(columns)}")
    radius = next((columns[name] for name in RADII if name in columns), None)
    if radius is None:
        raise ValueError(f"expected a column RADIUS, found {table.colnames}")
    if radius.unit is None:
        raise ValueError("column RADIUS: expected a unit such as deg, got none")
    if not len(table):
        raise ValueError("no rows")
    lon, lat, size = (_degrees(column) for column in (*(columns[name] for name in pair), radius))
    sound = np.isfinite(lon) & (np.abs(lat) <= 90.0) & (size > 0.0) & (size <= 180.0)
    if not sound.all():
        row = int(np.argmin(sound))
        found = f"{lon[row]:g}, {lat[row]:g}, {size[row]:g}"
        raise ValueError(f"row {row + 1}: expected a position and a radius above 0, got {found} deg")
    ra, dec = sphere.lon_lat(sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), POSITIONS[pair]))
    discs = zip(ra.tolist(), dec.tolist(), size.tolist(), strict=True)
    return exclusion.Areas(tuple(exclusion.Disc(*disc) for disc in discs))


def _degrees(column: "Column") -> FloatArray:
    """Values of a column in deg; NaN where they are masked."""
    if column.dtype.kind not in "iuf":
        raise ValueError(f"column {column.name}: expected numbers, got {column.dtype}")
    scale = _unit_in(str(column.unit or "deg"), "deg", f"column {column.name}: expected a unit of angle")
    return np.asarray(np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)) * scale


def _unit_in(unit: str | None, target: str, expected: str) -> float:
    """Value of a unit in another; ValueError, which says what is expected, if it is none of that kind."""
    from astropy import units

    try:
        return float(units.Unit(unit or "").to(target))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{expected}, got {unit!r}") from error
