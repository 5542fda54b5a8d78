"""FITS HDUs in the layout that gammapy reads: images with a celestial WCS and a table of their bands.

An image HDU ``X`` with non-spatial axes is followed by ``X_BANDS``: one row per plane, the last axis
of the array (the first of the FITS axes after the sky) running fastest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.fits_bytes import Column, Header, image_hdu, image_parts, table_hdu
from cubeflow.maps import Axis, Cube, Geometry
from cubeflow.storage.slabs import Map, Slabs, grid_of

CTYPES = {"icrs": ("RA---{}", "DEC--{}"), "galactic": ("GLON-{}", "GLAT-{}")}


def image_hdus(
    name: str,
    cube: Map,
    meta: Mapping[str, Any] | None = None,
    keywords: Header | None = None,
    *,
    primary: bool = False,
) -> Iterator[bytes | memoryview]:
    """Image HDU of a cube and the table of its bands.

    Parameters
    ----------
    name : str
        EXTNAME, upper case.
    cube : Cube or CubeStream
        Values of any kind; masks are written as 0 and 1 (uint8), integers as they are.
    meta : mapping, optional
        Plain content of the META keyword, for gammapy.
    keywords : dict, optional
        Further cards of the image.
    primary : bool
        Put the image into the primary HDU, where image viewers look first.

    Yields
    ------
    bytes-like
        Parts of one HDU, or two where the cube has non-spatial axes; with CHECKSUM and DATASUM, without dates.
    """
    sizes = (cube.geom.nx, cube.geom.ny, *(axis.n_bins for axis in reversed(cube.axes)))
    header: Header = wcs_cards(cube.geom) | axis_cards(cube.axes) | {"WCSSHAPE": f"({','.join(map(str, sizes))})"}
    header |= {"BUNIT": cube.unit, "META": json.dumps(dict(meta or {}), sort_keys=True)}
    if cube.axes:
        header["BANDSHDU"] = f"{name}_BANDS"
    if isinstance(cube, Cube):
        yield from image_hdu(_plain(cube.data), name, header | (keywords or {}), primary=primary)
    else:
        slabs = Slabs(lambda: map(_plain, cube.slabs))
        yield from image_parts(slabs, grid_of(cube).shape, name, header | (keywords or {}), primary=primary)
    if cube.axes:
        yield bands_hdu(name, cube.axes)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Truth values as numbers."""
    return values.view(np.uint8) if values.dtype == bool else values


def bands_hdu(name: str, axes: tuple[Axis, ...]) -> bytes:
    """Table ``<name>_BANDS``: CHANNEL, then centre, lower and upper edge of each axis, first FITS axis first."""
    shape = tuple(axis.n_bins for axis in axes)
    columns = [Column("CHANNEL", np.arange(np.prod(shape)))]
    for position, axis in reversed(list(enumerate(axes))):
        index = np.indices(shape)[position].ravel()
        values = (axis.centers, axis.edges_array[:-1], axis.edges_array[1:])
        names = (axis.name.upper(), *edge_columns(axis))
        columns += [Column(column, array[index], axis.unit) for column, array in zip(names, values, strict=True)]
    return table_hdu(columns, f"{name}_BANDS", axis_cards(axes))


def gti_hdu(start_s: NDArray[np.float64], stop_s: NDArray[np.float64], reference_mjd: float) -> bytes:
    """GTI table of TT seconds since an MJD on the TT scale."""
    columns = [Column(name, np.asarray(array, float), "s") for name, array in (("START", start_s), ("STOP", stop_s))]
    day = int(np.floor(reference_mjd))
    cards: Header = {"MJDREFI": day, "MJDREFF": float(reference_mjd - day), "TIMESYS": "TT", "TIMEUNIT": "s"}
    return table_hdu(columns, "GTI", {**cards, "HDUCLASS": "GADF", "HDUCLAS1": "GTI"})


def wcs_cards(geom: Geometry) -> Header:
    """Keywords of the celestial WCS, with every digit of its numbers (astropy's own writer rounds them)."""
    cards: Header = {"WCSAXES": 2}
    numbers = (geom.crpix_x, geom.crpix_y), (-geom.pixel_deg, geom.pixel_deg), (geom.lon_deg, geom.lat_deg)
    for key, pair in zip(("CRPIX", "CDELT", "CRVAL"), numbers, strict=True):
        cards |= {f"{key}{axis}": float(number) for axis, number in enumerate(pair, 1)}
    for axis, ctype in enumerate(CTYPES[geom.frame], 1):
        cards |= {f"CTYPE{axis}": ctype.format(geom.projection), f"CUNIT{axis}": "deg"}
    return cards | ({"RADESYS": "ICRS"} if geom.frame == "icrs" else {})


def axis_cards(axes: tuple[Axis, ...]) -> Header:
    """Keywords that name the columns and the spacing of each axis, first FITS axis first."""
    cards: Header = {}
    for number, axis in enumerate(reversed(axes), 1):
        cards |= {f"AXCOLS{number}": ",".join(edge_columns(axis)), f"INTERP{number}": axis.interp}
    return cards


def edge_columns(axis: Axis) -> tuple[str, str]:
    """Names of the columns of lower and upper edges."""
    stem = "E" if axis.name == "energy" else axis.name.upper()
    return f"{stem}_MIN", f"{stem}_MAX"
