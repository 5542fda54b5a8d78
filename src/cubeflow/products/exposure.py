"""Exposure: effective area times livetime, in true or in reconstructed energy."""

from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.table import Nodes
from cubeflow.maps import Axis, Cube, FloatArray, Geometry, IntArray
from cubeflow.observation import Pointing
from cubeflow.products.spectrum import INDEX_2, Spectrum, TrueEnergies

CHUNK = 4096  # pixels at a time: their arrays stay in the cache
SAME_NORM = 1e-13  # relative difference of norms that is rounding


def make_map_exposure_true_energy(
    pointing: Pointing,
    livetime_s: float,
    aeff: EffectiveArea,
    geom: Geometry,
    energy_true: Axis,
    offset_max_deg: float | None = None,
    dtype: DTypeLike = np.float64,
    spectrum: Spectrum = INDEX_2,
) -> Cube:
    """Exposure in true energy, (energy_true, lat, lon), m2 s: effective area at bin and pixel centre, times livetime.

    It is zero outside the table's edges, and in pixels at or beyond `offset_max_deg`. Over a wide bin the area is
    averaged, weighted with the spectrum (see `TrueEnergies`). Values are computed in float64, whatever their `dtype`.
    """
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    if offset_max_deg is not None:
        offset = np.where(offset < offset_max_deg, offset, np.nan)
    bins = TrueEnergies.of(energy_true, spectrum)
    # Livetime goes into the small table, not into the large map; NaN offsets have no area.
    averaged = bins.mean(aeff.energy_true.weights(bins.energy_tev) @ (aeff.area_m2 * livetime_s))
    nodes = Nodes(energy_true.centers, energy_true.edges[0], energy_true.edges[-1], log=True)
    exposure = replace(aeff, energy_true=nodes, area_m2=averaged).evaluate(energy_true.centers, offset, dtype)
    return Cube(exposure, "m2 s", geom, (energy_true,))


def make_map_exposure_reco_energy(
    exposure: Cube,
    pointing: Pointing,
    edisp: EnergyDispersion,
    energy: Axis,
    spectrum: Spectrum,
    dtype: DTypeLike = np.float64,
    aeff: EffectiveArea | None = None,
) -> Cube:
    """Exposure in reconstructed energy for a source of a given spectrum.

    ``sum_j R[j, k] exposure[j] F[j] / F_reco[k]`` with the energy dispersion R at each pixel's own offset and
    the integrals F of the spectrum over the bins: times a flux in a bin it gives predicted counts. From the exposure in
    true energy, (energy_true, lat, lon), m2 s, it is (energy, lat, lon), m2 s; zero where there is no exposure or no
    energy dispersion. Values are computed in float64, whatever their `dtype`; `aeff` weights the energy dispersion
    within a wide bin of true energy, beside the spectrum.
    """
    energy_true = exposure.axis("energy_true")
    flux, flux_reco = spectrum.integral(energy_true.edges_array), spectrum.integral(energy.edges_array)
    by_pixel = exposure.data.reshape(energy_true.n_bins, -1)
    offset = exposure.geom.offset_deg(pointing.ra_deg, pointing.dec_deg).ravel()
    pixels = np.flatnonzero((by_pixel.sum(axis=0) > 0) & edisp.offset.inside(offset))
    bins = TrueEnergies.of(energy_true, spectrum)
    parts = edisp.node_kernels(bins.energy_tev, energy.edges_array)
    kernel, norm = (bins.mean(part, aeff, edisp.offset.values) for part in parts)  # (k, r, n_offset), (k, n_offset)
    kernel = np.ascontiguousarray((kernel * (flux[:, None] / flux_reco)[..., None]).transpose(2, 1, 0))
    index, fraction = edisp.offset.bracket(offset[pixels])
    reco = np.zeros((energy.n_bins, offset.size), dtype)
    for node in range(len(edisp.offset)):
        ends = [node, min(node + 1, len(edisp.offset) - 1)]
        here = (index == node) & (fraction >= 0) & (fraction <= 1)
        for part in _chunks(np.flatnonzero(here)):
            values = by_pixel.take(pixels[part], axis=1)
            reco[:, pixels[part]] = _fold(kernel[ends], norm.T[ends], values, fraction[part])
    for part in _chunks(pixels[(fraction < 0) | (fraction > 1)]):
        # Beyond the outermost nodes the density is clipped, and no longer linear in the offset.
        beyond = bins.mean(edisp.kernel(bins.energy_tev, energy.edges_array, offset[part]), aeff, offset[part])
        reco[:, part] = np.einsum("krp,kp->rp", beyond, by_pixel[:, part] * flux[:, None]) / flux_reco[:, None]
    return Cube(reco.reshape(energy.n_bins, *exposure.geom.shape), "m2 s", exposure.geom, (energy,))


def _chunks(pixels: IntArray) -> list[IntArray]:
    """Cut into parts that stay in the cache."""
    return np.array_split(pixels, len(pixels) // CHUNK + 1) if pixels.size else []


def _fold(kernels: FloatArray, norms: FloatArray, values: FloatArray, fraction: FloatArray) -> FloatArray:
    """Fold values, shape (k, p), at fractions, shape (p,), of the way between two offset nodes; shape (r, p).

    `kernels`, shape (2, r, k), and `norms`, shape (2, k), are those of the nodes, between which they are linear.
    """
    both = np.concatenate([kernels[0], kernels[1] - kernels[0]])
    if np.allclose(norms[0], norms[1], rtol=SAME_NORM, atol=0.0):
        # The usual case: every column is normalised, and the norm need not be formed at each pixel.
        both = both * np.divide(1.0, norms[0], out=np.zeros_like(norms[0]), where=norms[0] > 0)
    else:
        norm = norms[0][:, None] * (1.0 - fraction) + norms[1][:, None] * fraction
        values = np.divide(values, norm, out=np.zeros(values.shape), where=norm > 0)
    lower, rise = np.split(both @ values, 2)
    return lower + rise * fraction
