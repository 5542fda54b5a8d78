"""Point spread function and energy dispersion on the coarse grid of a map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import PSF
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Pointing

FloatArray = NDArray[np.float64]


def make_psf_map(pointing: Pointing, psf: PSF, geom_irf: Geometry, energy_true: Axis, rad: Axis) -> Cube:
    """Point spread function at every pixel of the coarse grid.

    Parameters
    ----------
    pointing : Pointing
        Direction of the telescopes.
    psf : PSF
        Point spread function.
    geom_irf : Geometry
        Coarse pixel grid.
    energy_true, rad : Axis
        True energy in TeV and separation from the source in deg.

    Returns
    -------
    psf : Cube, (energy_true, rad, lat, lon)
        In sr-1 at the bin centres, normalised so that the sum over rad of ``psf 2 pi rad d(rad)`` is 1;
        zero where the responses give no PSF.
    """
    offset = geom_irf.offset_deg(pointing.ra_deg, pointing.dec_deg).ravel()
    density = psf.evaluate(energy_true.centers, offset, rad.centers)  # (energy_true, pixel, rad)
    rad_width_sr = 2.0 * np.pi * np.deg2rad(rad.centers) * np.deg2rad(rad.widths)
    norm = (density @ rad_width_sr)[..., None]
    np.divide(density, norm, out=density, where=norm > 0)
    by_rad = np.ascontiguousarray(density.transpose(0, 2, 1))  # pixels last
    return Cube(by_rad.reshape(energy_true.n_bins, rad.n_bins, *geom_irf.shape), "sr-1", geom_irf, (energy_true, rad))


def make_edisp_map(
    pointing: Pointing, edisp: EnergyDispersion, geom_irf: Geometry, energy_true: Axis, energy: Axis
) -> Cube:
    """Energy-dispersion kernel at every pixel of the coarse grid.

    Parameters
    ----------
    pointing : Pointing
        Direction of the telescopes.
    edisp : EnergyDispersion
        Energy dispersion.
    geom_irf : Geometry
        Coarse pixel grid.
    energy_true, energy : Axis
        True and reconstructed energy in TeV.

    Returns
    -------
    edisp : Cube, (energy_true, energy, lat, lon)
        Probability of each reconstructed energy bin, not renormalised to the energy range; zero where the
        responses give no dispersion.
    """
    offset = geom_irf.offset_deg(pointing.ra_deg, pointing.dec_deg)
    kernel = edisp.kernel(energy_true.centers, energy.edges_array, offset)
    return Cube(kernel, "", geom_irf, (energy_true, energy))
