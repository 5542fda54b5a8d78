"""Exposure: effective area times livetime, in true or in reconstructed energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Pointing

FloatArray = NDArray[np.float64]


def make_map_exposure_true_energy(
    pointing: Pointing,
    livetime_s: float,
    aeff: EffectiveArea,
    geom: Geometry,
    energy_true: Axis,
    offset_max_deg: float | None = None,
) -> Cube:
    """Exposure in true energy: effective area at the bin centre and pixel centre, times livetime.

    Parameters
    ----------
    pointing : Pointing
        Direction of the telescopes.
    livetime_s : float
        Sum of the good time intervals times the dead-time correction, s.
    aeff : EffectiveArea
        Effective area.
    geom : Geometry
        Pixel grid.
    energy_true : Axis
        True energy, TeV.
    offset_max_deg : float, optional
        Pixels at or beyond this offset get no exposure, deg.

    Returns
    -------
    exposure : Cube, (energy_true, lat, lon)
        In m2 s; zero outside the table's edges.
    """
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    exposure = aeff.evaluate(energy_true.centers, offset)
    exposure *= livetime_s
    if offset_max_deg is not None:
        exposure *= offset < offset_max_deg
    return Cube(exposure, "m2 s", geom, (energy_true,))
