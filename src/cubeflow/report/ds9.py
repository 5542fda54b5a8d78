"""DS9 region files of exclusions and pointings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Geometry, sphere
from cubeflow.products.exclusion import Disc, Exclusion, Image, Shape
from cubeflow.products.exclusion_image import EVERY_ENERGY

HEADER = "# Region file format: DS9\n"
STATUS_COLOURS = {"ok": "green", "dropped": "yellow", "skipped": "white", "refused": "red"}


def exclusion_regions(exclusions: Iterable[Exclusion], keep: NDArray[np.bool_], geom: Geometry) -> str:
    """Text of a DS9 file with the excluded areas.

    Parameters
    ----------
    exclusions : iterable of Exclusion
        Discs and shapes are written as they are.
    keep : array of bool, shape (ny, nx)
        The mask on `geom`: an exclusion image is written as the outlines of what is excluded there.
    geom : Geometry
        Final geometry.
    """
    lines: list[str] = []
    is_image = False
    for exclusion in exclusions:
        is_image |= any(isinstance(area, Image) for area in exclusion.areas)
        label = _energies(exclusion)
        lines += [_line(area) + label for area in exclusion.areas if not isinstance(area, Image)]
        lines += [f"-{_line(hole)}{label}" for hole in exclusion.holes]
    if is_image:
        lines = outlines(keep, geom)
    return f"{HEADER}icrs\n" + "".join(f"{line}\n" for line in lines)


def _energies(exclusion: Exclusion) -> str:
    """Label that says at which energies an exclusion holds; empty if at every one."""
    lower, upper = exclusion.energy_tev
    return "" if exclusion.energy_tev == EVERY_ENERGY else f" # text={{{lower:g} to {upper:g} TeV}}"


def _line(area: Disc | Shape) -> str:
    if isinstance(area, Disc):
        return f'circle({area.ra_deg:.6f},{area.dec_deg:.6f},{area.radius_deg * 3600:.2f}")'
    from regions import Regions

    frame, shape = Regions([area.sky_region]).serialize(format="ds9", precision=8).strip().splitlines()[-2:]
    return f"{frame};{shape}"


def outlines(keep: NDArray[np.bool_], geom: Geometry) -> list[str]:
    """Polygons, ICRS deg, around the excluded pixels of a mask of shape (ny, nx)."""
    from contourpy import contour_generator

    padded = np.pad(~keep, 1).astype(float)
    found: Any = contour_generator(z=padded).lines(0.5)
    polygons = []
    for line in found:
        vectors = geom.pixel_to_vectors(line[:-1, 0] - 1.0, line[:-1, 1] - 1.0)
        ra, dec = sphere.lon_lat(vectors[np.isfinite(vectors[:, 0])])
        numbers = ",".join(f"{value:.6f}" for pair in zip(ra, dec, strict=True) for value in pair)
        if ra.size > 2:
            polygons.append(f"polygon({numbers})")
    return polygons


def pointing_regions(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a DS9 file with a cross at each pointing; rows as in the run table."""
    yield f"{HEADER}icrs\n"
    for row in rows:
        if row.get("ra_pnt_deg") is not None and row.get("dec_pnt_deg") is not None:
            yield (
                f"point({row['ra_pnt_deg']:.6f},{row['dec_pnt_deg']:.6f}) # point=cross "
                f"color={STATUS_COLOURS[str(row['status'])]} text={{{row['obs_id']}}}\n"
            )
