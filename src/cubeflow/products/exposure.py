"""Exposure: effective area times livetime, in true or in reconstructed energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Pointing
from cubeflow.products.spectrum import Spectrum

FloatArray = NDArray[np.float64]

CHUNK = 4096  # pixels whose kernels are held at once


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


def make_map_exposure_reco_energy(
    exposure: Cube, pointing: Pointing, edisp: EnergyDispersion, energy: Axis, spectrum: Spectrum
) -> Cube:
    """Exposure in reconstructed energy for a source of a given spectrum.

    ``sum_j R[j, k] exposure[j] F[j] / F_reco[k]`` with the energy dispersion R at each pixel's own offset and
    the integrals F of the spectrum over the bins: times a flux in a bin it gives predicted counts.

    Parameters
    ----------
    exposure : Cube, (energy_true, lat, lon)
        Exposure in true energy, m2 s.
    pointing : Pointing
        Direction of the telescopes.
    edisp : EnergyDispersion
        Energy dispersion.
    energy : Axis
        Reconstructed energy, TeV.
    spectrum : Spectrum
        Assumed spectrum.

    Returns
    -------
    exposure_reco : Cube, (energy, lat, lon)
        In m2 s; zero where there is no exposure or no energy dispersion.
    """
    energy_true = exposure.axis("energy_true")
    flux, flux_reco = spectrum.integral(energy_true.edges_array), spectrum.integral(energy.edges_array)
    offset = exposure.geom.offset_deg(pointing.ra_deg, pointing.dec_deg).ravel()
    seen = np.any(exposure.data > 0, axis=0).ravel() & edisp.offset.inside(offset)
    flux_exposure = exposure.data.reshape(energy_true.n_bins, -1)[:, seen] * flux[:, None]  # (energy_true, pixels)
    reco = np.zeros((energy.n_bins, offset.size))
    reco[:, seen] = _disperse(flux_exposure, edisp, energy_true.centers, energy.edges_array, offset[seen])
    reco /= flux_reco[:, None]
    return Cube(reco.reshape(energy.n_bins, *exposure.geom.shape), "m2 s", exposure.geom, (energy,))


def _disperse(
    values: FloatArray, edisp: EnergyDispersion, energy_true: FloatArray, edges: FloatArray, offset: FloatArray
) -> FloatArray:
    """Fold values, shape (k, p), with the energy dispersion at offsets, shape (p,); returns (r, p)."""
    kernel, norm = edisp.node_kernels(energy_true, edges)  # (k, r, n_offset), (k, n_offset)
    weights = edisp.offset.weights(offset).T  # (n_offset, p)
    between = np.all(weights >= 0, axis=0)
    out = np.zeros((len(edges) - 1, offset.size))
    share = norm @ weights
    normed = np.divide(values, share, out=np.zeros_like(values), where=share > 0)
    for node, weight in enumerate(weights):
        near = np.flatnonzero(between & (weight > 0))
        out[:, near] += (kernel[..., node].T @ normed[:, near]) * weight[near]
    beyond = np.flatnonzero(~between)
    for part in np.array_split(beyond, len(beyond) // CHUNK + 1):
        # Beyond the outermost nodes the density is clipped, and no longer linear in the weights.
        exact = edisp.kernel(energy_true, edges, offset[part])
        out[:, part] = np.einsum("krp,kp->rp", exact, values[:, part])
    return out
