"""Exclusion masks on a pixel grid of their own: FITS images, and cubes with an energy axis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.geom import Geometry
from cubeflow.products.image_frame import frame_lon_lat

if TYPE_CHECKING:
    from astropy.io.fits import HDUList
    from astropy.wcs import WCS

BoolArray = NDArray[np.bool_]
EnergyRange = tuple[float, float]
EVERY_ENERGY: EnergyRange = (0.0, float("inf"))
EDGES = (("E_MIN", "E_MAX"), ("ENERGY_MIN", "ENERGY_MAX"), ("ENERG_LO", "ENERG_HI"))
SAME_ENERGY = 1e-6


@dataclass(frozen=True, eq=False)
class Image:
    """Mask on a pixel grid of its own.

    Parameters
    ----------
    keep : array of bool, shape (n, ny, nx)
        True = keep; one plane, or one for each range of energy.
    wcs : WCS
        Celestial WCS of the image, in any frame and projection.
    energy_tev : tuple of (float, float)
        Reconstructed energies of each plane, TeV.
    """

    keep: BoolArray
    wcs: WCS
    energy_tev: tuple[EnergyRange, ...] = (EVERY_ENERGY,)


def overlapping(energy: Axis, lower_tev: float, upper_tev: float) -> BoolArray:
    """Whether each bin of an axis holds any energy of a range, shape (n_energy,); edges are equal to 1e-6."""
    lower, upper = np.maximum(energy.edges_array[:-1], lower_tev), np.minimum(energy.edges_array[1:], upper_tev)
    inside: BoolArray = upper > lower * (1 + SAME_ENERGY)
    return inside


def inside_image(image: Image, geom: Geometry) -> BoolArray:
    """Whether the nearest pixel of an exclusion image is excluded, shape (n, ny, nx); False outside the image."""
    lon, lat = frame_lon_lat(image.wcs, geom.center_vectors.reshape(-1, 3))
    x, y = image.wcs.wcs_world2pix(lon, lat, 0)
    n_planes, n_y, n_x = image.keep.shape
    with np.errstate(invalid="ignore"):
        ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
        found = (ix >= 0) & (ix < n_x) & (iy >= 0) & (iy < n_y)
    inside = np.zeros((n_planes, found.size), dtype=bool)
    inside[:, found] = ~image.keep[:, iy[found].astype(int), ix[found].astype(int)]
    return inside.reshape(n_planes, *geom.shape)


def read_image(path: Path) -> Image | None:
    """Read the first image of a FITS file; None if it holds none.

    Parameters
    ----------
    path : Path
        Image with two celestial axes, or a cube with an energy axis as its third. The energies of a cube stand in the
        table which ``BANDSHDU`` names, or in ``EBOUNDS``: columns ``E_MIN`` and ``E_MAX`` with a unit. A cube with
        one plane is an image, which holds at every energy.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, has other axes, no energies, or values other than 0 and 1.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path, memmap=False) as hdus:
        found = next((hdu for hdu in hdus if hdu.is_image and hdu.data is not None), None)
        if found is None:
            return None
        data, wcs = np.array(found.data), WCS(found.header).celestial
        while data.ndim > 2 and data.shape[0] == 1:
            data = data[0]
        if data.ndim not in (2, 3) or wcs.naxis != 2:
            raise ValueError(f"expected an image with two celestial axes and at most one of energy, got {data.shape}")
        ranges = (EVERY_ENERGY,) if data.ndim == 2 else _energies(hdus, found.header, data.shape[0])
    wrong = ~((data == 0) | (data == 1))
    if wrong.any():
        raise ValueError(f"expected 1 (keep) or 0 (excluded), found {data[wrong][0]}")
    return Image(data.astype(bool).reshape(len(ranges), *data.shape[-2:]), wcs, ranges)


def _energies(hdus: HDUList, header: Any, n_planes: int) -> tuple[EnergyRange, ...]:
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
