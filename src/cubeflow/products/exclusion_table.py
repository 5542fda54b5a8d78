"""Discs to exclude from a table: a catalogue of sources, or of bright stars, with a radius for each."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMATS = {".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".gz": "fits"}
POSITIONS = (("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("RA_ICRS", "DE_ICRS"), ("RA_J2000", "DEC_J2000"))
GALACTIC = (("GLON", "GLAT"), ("L", "B"))
RADII = ("RADIUS", "EXCLUSION_RADIUS", "RADIUS_DEG", "EXTENSION")


def read_discs(path: Path) -> list[tuple[float, float, float]]:
    """Discs of a table.

    Parameters
    ----------
    path : Path
        ECSV or FITS table with columns ``RA`` and ``DEC`` (also ``RAJ2000``, ``DEJ2000``) or ``GLON`` and
        ``GLAT``, and ``RADIUS``, in any case of letters. Positions without unit are in deg; the radius must
        have a unit. Further columns, such as names and magnitudes, are not looked at.

    Returns
    -------
    list of (float, float, float)
        Right ascension and declination, ICRS, and radius, deg, of each row.

    Raises
    ------
    ValueError
        If a column, the unit of the radius or a value is missing; the message says what was expected.
    """
    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units that are not those of FITS are judged here
        table = Table.read(path, format=FORMATS[path.suffix.lower()])
    columns = {name.upper(): table[name] for name in table.colnames}
    lon, lat, frame = _position(columns)
    radius = next((columns[name] for name in RADII if name in columns), None)
    if radius is None:
        raise ValueError(f"expected a column RADIUS, found {table.colnames}")
    if radius.unit is None:
        raise ValueError("column RADIUS: expected a unit such as deg, got none")
    values = np.stack([_degrees(lon), _degrees(lat), _degrees(radius)], axis=-1)
    _require_sound(values)
    return [(*_to_icrs(row[0], row[1], frame), row[2]) for row in values.tolist()]


def _position(columns: dict[str, Any]) -> tuple[Any, Any, str]:
    """Columns of a position and the frame they are in."""
    for frame, pairs in (("icrs", POSITIONS), ("galactic", GALACTIC)):
        for lon, lat in pairs:
            if lon in columns and lat in columns:
                return columns[lon], columns[lat], frame
    raise ValueError(f"expected columns RA and DEC, or GLON and GLAT, found {list(columns)}")


def _degrees(column: Any) -> NDArray[np.float64]:
    """Values of a column in deg; NaN where they are masked."""
    from astropy import units

    if column.dtype.kind not in "iuf":
        raise ValueError(f"column {column.name}: expected numbers, got {column.dtype}")
    values: NDArray[np.float64] = np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)
    try:
        scale = units.Unit(column.unit or "deg").to("deg")
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {column.name}: expected a unit of angle, got {str(column.unit)!r}") from error
    return np.asarray(values, dtype=float) * scale


def _require_sound(values: NDArray[np.float64]) -> None:
    """ValueError for rows that are no disc, and for no rows."""
    if not len(values):
        raise ValueError("no rows")
    lat, radius = values[:, 1], values[:, 2]
    wrong = ~(np.isfinite(values).all(axis=1) & (np.abs(lat) <= 90.0) & (radius > 0.0) & (radius <= 180.0))
    if wrong.any():
        row = int(np.argmax(wrong))
        found = ", ".join(f"{value:g}" for value in values[row])
        raise ValueError(f"row {row + 1}: expected a position and a radius above 0, got {found} deg")


def _to_icrs(lon_deg: float, lat_deg: float, frame: str) -> tuple[float, float]:
    """Right ascension and declination of a position in a frame."""
    from cubeflow.maps import sphere

    lon, lat = sphere.lon_lat(sphere.frame_to_icrs(sphere.unit_vectors(lon_deg, lat_deg), frame))
    return float(lon), float(lat)
