"""FITS HDUs in the layout that gammapy reads: images with a celestial WCS and a table of their bands.

An image HDU ``X`` with non-spatial axes is followed by ``X_BANDS``: one row per plane, the last axis
of the array (the first of the FITS axes after the sky) running fastest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry

if TYPE_CHECKING:
    from astropy.io import fits

Keyword = str | int | float | bool
BLOCK = 2880
CTYPES = {"icrs": ("RA---{}", "DEC--{}"), "galactic": ("GLON-{}", "GLAT-{}")}


def image_hdus(name: str, cube: Cube, meta: Mapping[str, Any] | None = None, *, primary: bool = False) -> list[Any]:
    """Image HDU of a cube and the table of its bands.

    Parameters
    ----------
    name : str
        EXTNAME, upper case.
    cube : Cube
        Values of any kind; masks are written as 0 and 1 (uint8), integers as they are.
    meta : mapping, optional
        Plain content of the META keyword, for gammapy.
    primary : bool
        Put the image into the primary HDU, where image viewers look first.

    Returns
    -------
    list of astropy HDUs
        One, or two where the cube has non-spatial axes; with CHECKSUM and DATASUM, without dates.
    """
    from astropy.io import fits

    kind = np.dtype("u1") if cube.data.dtype == bool else cube.data.dtype
    # FITS byte order: astropy would swap other arrays value by value.
    data = np.ascontiguousarray(cube.data, kind.newbyteorder(">"))
    header = fits.Header(wcs_cards(cube.geom))
    header.update(axis_cards(cube.axes))
    sizes = (cube.geom.nx, cube.geom.ny, *(axis.n_bins for axis in reversed(cube.axes)))
    header["WCSSHAPE"] = f"({','.join(map(str, sizes))})"
    header["BUNIT"] = cube.unit
    header["META"] = json.dumps(dict(meta or {}), sort_keys=True)
    if cube.axes:
        header["BANDSHDU"] = f"{name}_BANDS"
    image = fits.PrimaryHDU(data, header) if primary else fits.ImageHDU(data, header)
    image.header["EXTNAME"] = name
    return [_checksummed(hdu) for hdu in ([image, bands_hdu(name, cube.axes)] if cube.axes else [image])]


def bands_hdu(name: str, axes: tuple[Axis, ...]) -> fits.BinTableHDU:
    """Table ``<name>_BANDS``: CHANNEL, then centre, lower and upper edge of each axis, first FITS axis first."""
    from astropy.io import fits

    shape = tuple(axis.n_bins for axis in axes)
    columns = [fits.Column("CHANNEL", "K", array=np.arange(np.prod(shape)))]
    for position, axis in reversed(list(enumerate(axes))):
        index = np.indices(shape)[position].ravel()
        values = (axis.centers, axis.edges_array[:-1], axis.edges_array[1:])
        names = (axis.name.upper(), *edge_columns(axis))
        columns += [
            fits.Column(column, "D", unit=axis.unit, array=array[index])
            for column, array in zip(names, values, strict=True)
        ]
    table = fits.BinTableHDU.from_columns(columns, name=f"{name}_BANDS")
    table.header.update(axis_cards(axes))
    return table


def gti_hdu(start_s: NDArray[np.float64], stop_s: NDArray[np.float64], reference_mjd: float) -> fits.BinTableHDU:
    """GTI table of TT seconds since an MJD on the TT scale."""
    from astropy.io import fits

    arrays = {"START": start_s, "STOP": stop_s}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "D", unit="s", array=np.asarray(array, float)) for name, array in arrays.items()], name="GTI"
    )
    day = int(np.floor(reference_mjd))
    cards = {"MJDREFI": day, "MJDREFF": float(reference_mjd - day), "TIMESYS": "TT", "TIMEUNIT": "s"}
    table.header.update({**cards, "HDUCLASS": "GADF", "HDUCLAS1": "GTI"})
    return _checksummed(table)


def primary_hdu(keywords: Mapping[str, Keyword]) -> fits.PrimaryHDU:
    """Primary HDU without an image."""
    from astropy.io import fits

    hdu = fits.PrimaryHDU()
    hdu.header.update({"CREATOR": "cubeflow", **keywords})
    return _checksummed(hdu)


def hdu_bytes(hdu: Any, *, first: bool) -> bytes:
    """Bytes of one HDU of a file; `first` for the primary HDU."""
    from astropy.io import fits

    buffer = BytesIO()
    if first:
        fits.HDUList([hdu]).writeto(buffer)
        return buffer.getvalue()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()[BLOCK:]


def wcs_cards(geom: Geometry) -> dict[str, Keyword]:
    """Keywords of the celestial WCS, with every digit of its numbers (astropy's own writer rounds them)."""
    cards: dict[str, Keyword] = {"WCSAXES": 2}
    numbers = (geom.crpix_x, geom.crpix_y), (-geom.pixel_deg, geom.pixel_deg), (geom.lon_deg, geom.lat_deg)
    for key, pair in zip(("CRPIX", "CDELT", "CRVAL"), numbers, strict=True):
        cards |= {f"{key}{axis}": float(number) for axis, number in enumerate(pair, 1)}
    for axis, ctype in enumerate(CTYPES[geom.frame], 1):
        cards |= {f"CTYPE{axis}": ctype.format(geom.projection), f"CUNIT{axis}": "deg"}
    return cards | ({"RADESYS": "ICRS"} if geom.frame == "icrs" else {})


def axis_cards(axes: tuple[Axis, ...]) -> dict[str, Keyword]:
    """Keywords that name the columns and the spacing of each axis, first FITS axis first."""
    cards: dict[str, Keyword] = {}
    for number, axis in enumerate(reversed(axes), 1):
        cards |= {f"AXCOLS{number}": ",".join(edge_columns(axis)), f"INTERP{number}": axis.interp}
    return cards


def edge_columns(axis: Axis) -> tuple[str, str]:
    """Names of the columns of lower and upper edges."""
    stem = "E" if axis.name == "energy" else axis.name.upper()
    return f"{stem}_MIN", f"{stem}_MAX"


def _checksummed(hdu: Any) -> Any:
    """Add DATASUM and CHECKSUM, whose comments would tell the time of writing by default."""
    hdu.add_checksum(when="")
    return hdu
