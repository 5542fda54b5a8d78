"""Exposure: effective area times livetime, in true or in reconstructed energy."""

from __future__ import annotations

from dataclasses import replace

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
    if offset_max_deg is not None:
        offset = np.where(offset < offset_max_deg, offset, np.nan)
    # Livetime goes into the small table, not into the large map; NaN offsets have no area.
    exposure = replace(aeff, area_m2=aeff.area_m2 * livetime_s).evaluate(energy_true.centers, offset)
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
    by_pixel = exposure.data.reshape(energy_true.n_bins, -1)
    pixels = np.flatnonzero(by_pixel.any(axis=0) & edisp.offset.inside(offset))
    pixels = pixels[np.argsort(edisp.offset.bracket(offset[pixels])[0], kind="stable")]  # interval after interval
    reco = np.zeros((energy.n_bins, offset.size))
    values = by_pixel[:, pixels] * flux[:, None]
    folded = _disperse(values, edisp, energy_true.centers, energy.edges_array, offset[pixels])
    reco[:, pixels] = folded / flux_reco[:, None]
    return Cube(reco.reshape(energy.n_bins, *exposure.geom.shape), "m2 s", exposure.geom, (energy,))


def _disperse(
    values: FloatArray, edisp: EnergyDispersion, energy_true: FloatArray, edges: FloatArray, offset: FloatArray
) -> FloatArray:
    """Fold values, shape (k, p), with the energy dispersion at offsets, shape (p,); returns (r, p).

    Offsets are sorted by the interval of nodes they lie in; within one the kernel is linear in the offset.
    """
    kernel, norm = edisp.node_kernels(energy_true, edges)  # (k, r, n_offset), (k, n_offset)
    index, fraction = edisp.offset.bracket(offset)
    out = np.zeros((len(edges) - 1, offset.size))
    for node in range(len(edisp.offset)):
        part = slice(*np.searchsorted(index, [node, node + 1]))
        upper = min(node + 1, len(edisp.offset) - 1)
        f = fraction[part]
        share = norm[:, node, None] * (1.0 - f) + norm[:, upper, None] * f
        normed = np.divide(values[:, part], share, out=np.zeros_like(share), where=share > 0)
        out[:, part] = (kernel[..., node].T @ normed) * (1.0 - f) + (kernel[..., upper].T @ normed) * f
    beyond = np.flatnonzero((fraction < 0) | (fraction > 1))
    for chunk in np.array_split(beyond, len(beyond) // CHUNK + 1):
        # Beyond the outermost nodes the density is clipped, and no longer linear in the offset.
        out[:, chunk] = np.einsum("krp,kp->rp", edisp.kernel(energy_true, edges, offset[chunk]), values[:, chunk])
    return out
