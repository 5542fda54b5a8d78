"""DS9 region files of exclusions and pointings."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.maps import Geometry, sphere
from cubeflow.pipeline.tasks import FOUND
from cubeflow.products.exclusion import EVERY_ENERGY, Area, Disc, Exclusion, ExclusionMasks, Image, Polygon
from cubeflow.report.runs import Runs, numbers
from cubeflow.store.atomic import write_atomic

HEADER = "# Region file format: DS9\n"
STATUS_COLOURS = {"ok": "green", "dropped": "yellow", "skipped": "white", "refused": "red"}


def write_outlines(mask: Path, geom: Geometry) -> Path:
    """Write the outlines of a FITS mask that was found beside it, and give their path; holes in it are filled."""
    path, found = mask.with_name(FOUND[1]), [read_exclusion(mask)]
    write_atomic(path, exclusion_regions(found, ExclusionMasks(found).mask(geom), geom).encode())
    return path


def exclusion_regions(exclusions: Iterable[Exclusion], excluded: NDArray[np.bool_], geom: Geometry) -> str:
    """Text of a DS9 file with the excluded areas: discs and shapes as they are, an image as outlines of the mask.

    The mask `excluded` has shape (ny, nx), on `geom`.
    """
    lines: list[str] = []
    for exclusion in exclusions:
        content = exclusion.content
        if isinstance(content, Image):
            lines = outlines(excluded, geom)
            break
        lower, upper = exclusion.energy_tev
        label = "" if exclusion.energy_tev == EVERY_ENERGY else f" # text={{{lower:g} to {upper:g} TeV}}"
        lines += [_line(area) + label for area in content.areas]
        lines += [f"-{_line(hole)}{label}" for hole in content.holes]
    return f"{HEADER}icrs\n" + "".join(f"{line}\n" for line in lines)


def _line(area: Area) -> str:
    """DS9 region; angles there are counter-clockwise from west."""
    if isinstance(area, Polygon):
        return f"polygon({','.join(f'{value:.6f}' for corner in area.corners_deg for value in corner)})"
    if isinstance(area, Disc):
        return f'circle({area.ra_deg:.6f},{area.dec_deg:.6f},{area.radius_deg * 3600:.2f}")'
    factor, name = (3600.0, "ellipse") if area.kind == "ellipse" else (7200.0, "box")
    sizes = ",".join(f'{size * factor:.2f}"' for size in (*(area.inner_deg or ()), *area.semi_deg))
    return f"{name}({area.ra_deg:.6f},{area.dec_deg:.6f},{sizes},{(area.angle_deg + 90.0) % 360.0:.6f})"


def contours(values: NDArray[Any], level: float) -> list[NDArray[np.float64]]:
    """Lines in pixels, shape (2, n) each, along which an image of shape (ny, nx) has a value; NaN is no value."""
    from contourpy import contour_generator

    lines: Any = contour_generator(z=np.ma.masked_invalid(values)).lines(level)
    return [line.T for line in lines]


def outlines(excluded: NDArray[np.bool_], geom: Geometry) -> list[str]:
    """Polygons, ICRS deg, around the excluded pixels of a mask of shape (ny, nx)."""
    polygons = []
    for x, y in contours(np.pad(excluded, 1).astype(float), 0.5):
        vectors = geom.pixel_to_vectors(x[:-1] - 1.0, y[:-1] - 1.0)
        ra, dec = sphere.lon_lat(vectors[np.isfinite(vectors[:, 0])])
        numbers_deg = ",".join(f"{value:.6f}" for pair in zip(ra, dec, strict=True) for value in pair)
        if ra.size > 2:
            polygons.append(f"polygon({numbers_deg})")
    return polygons


def pointing_regions(runs: Runs) -> str:
    """Text of a DS9 file with a cross at each pointing of a run table."""
    lines = [f"{HEADER}icrs\n"]
    ra_deg, dec_deg = numbers(runs, "ra_pnt"), numbers(runs, "dec_pnt")
    for ra, dec, status, name in zip(ra_deg, dec_deg, runs.column("status"), runs.column("obs_id"), strict=True):
        if np.isfinite(ra + dec):
            lines += [f"point({ra:.6f},{dec:.6f}) # point=cross color={STATUS_COLOURS[str(status)]} text={{{name}}}\n"]
    return "".join(lines)
