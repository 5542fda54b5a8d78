"""Acceptance: the number of background events that the background model predicts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.background import BackgroundRate
from cubeflow.maps import sphere
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Pointing

FloatArray = NDArray[np.float64]


def make_map_hadron_acceptance(
    pointing: Pointing,
    ontime_s: float,
    background: BackgroundRate,
    geom: Geometry,
    energy: Axis,
    offset_max_deg: float | None = None,
) -> Cube:
    """Predict the background counts of an observation.

    Parameters
    ----------
    pointing : Pointing
        Direction of the telescopes.
    ontime_s : float
        Sum of the good time intervals, s. Background rates are per ontime, so it is not the livetime.
    background : BackgroundRate
        Background model.
    geom : Geometry
        Pixel grid.
    energy : Axis
        Reconstructed energy, TeV.
    offset_max_deg : float, optional
        Pixels at or beyond this offset get no acceptance, deg.

    Returns
    -------
    acceptance : Cube, (energy, lat, lon)
        Expected counts; zero outside the table.
    """
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    disc = offset < (180.0 if offset_max_deg is None else offset_max_deg)
    lon, lat = sphere.sky_offset(geom.center_vectors[disc], pointing.ra_deg, pointing.dec_deg)
    rate = background.integrate(energy.edges_array, lon, lat)  # (energy, pixels of the disc)
    rate *= geom.solid_angle_sr[disc] * ontime_s
    acceptance = np.zeros((energy.n_bins, *geom.shape))
    acceptance[:, disc] = rate
    return Cube(acceptance, "", geom, (energy,))
