"""Maps as objects of gammapy, which must be installed for this and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube
from cubeflow.observation import TIME_REFERENCE_MJD

if TYPE_CHECKING:
    from gammapy.datasets import MapDataset
    from gammapy.maps import WcsNDMap


def to_map(cube: Cube) -> WcsNDMap:
    """Map of gammapy with the values of a cube.

    Parameters
    ----------
    cube : Cube, (axes..., lat, lon)
        Any cube; truth values stay so, integers become float64.

    Returns
    -------
    WcsNDMap
        Its axes are in gammapy's order, the fastest first: that of the cube reversed.
    """
    from gammapy.maps import MapAxis, WcsGeom, WcsNDMap

    axes = [
        MapAxis.from_edges(np.array(axis.edges), unit=axis.unit, name=axis.name, interp=axis.interp)
        for axis in reversed(cube.axes)
    ]
    geom = WcsGeom(cube.geom.wcs(), (cube.geom.nx, cube.geom.ny), cdelt=(cube.geom.pixel_deg,) * 2, axes=axes)
    data = cube.data.astype(float) if cube.data.dtype.kind in "iu" else cube.data
    return WcsNDMap(geom, data=data, unit=cube.unit)


def to_dataset(maps: Mapping[str, Cube], gti_s: NDArray[np.float64], name: str | None = None) -> MapDataset:
    """Dataset of gammapy from the maps of a dataset for FITS.

    Parameters
    ----------
    maps : mapping of str to Cube
        As in `cubeflow.storage.fits.FitsDataset`.
    gti_s : array, shape (n, 2)
        Good time intervals, TT s since the time reference.
    name : str, optional
        Name of the dataset.

    Returns
    -------
    MapDataset
        A ``MapDatasetOnOff`` if there are OFF counts.
    """
    from gammapy.datasets import MapDataset, MapDatasetOnOff
    from gammapy.irf import EDispKernelMap, PSFMap

    made: dict[str, Any] = {
        key: to_map(cube) for key, cube in maps.items() if key not in ("psf", "edisp", "irf_exposure")
    }
    if "psf" in maps:
        made["psf"] = PSFMap(to_map(maps["psf"]), _irf_exposure(maps, "psf"))
    if "edisp" in maps:
        made["edisp"] = EDispKernelMap(to_map(maps["edisp"]), _irf_exposure(maps, "edisp"))
    kind = MapDatasetOnOff if "counts_off" in maps else MapDataset
    return kind(**made, gti=_to_gti(gti_s), name=name)


def _irf_exposure(maps: Mapping[str, Cube], response: str) -> WcsNDMap:
    """Exposure on the IRF grid with one bin along the second axis of the response."""
    exposure, second = maps["irf_exposure"], maps[response].axes[1]
    whole = type(second)(second.name, (second.edges[0], second.edges[-1]), second.unit, second.interp)
    return to_map(Cube(exposure.data[:, None], exposure.unit, exposure.geom, (exposure.axes[0], whole)))


def _to_gti(gti_s: NDArray[np.float64]) -> Any:
    from astropy import units
    from astropy.time import Time
    from gammapy.data import GTI

    start, stop = (units.Quantity(gti_s[:, k], "s") for k in (0, 1))
    return GTI.create(start, stop, reference_time=Time(TIME_REFERENCE_MJD, format="mjd", scale="tt"))
