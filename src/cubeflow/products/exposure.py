"""Exposure: effective area times livetime, in true or in reconstructed energy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Pointing
from cubeflow.products.spectrum import Spectrum

FloatArray = NDArray[np.float64]

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
    dtype : dtype
        Type of the values; they are computed in float64.

    Returns
    -------
    exposure : Cube, (energy_true, lat, lon)
        In m2 s; zero outside the table's edges.
    """
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    if offset_max_deg is not None:
        offset = np.where(offset < offset_max_deg, offset, np.nan)
    # Livetime goes into the small table, not into the large map; NaN offsets have no area.
    exposure = replace(aeff, area_m2=aeff.area_m2 * livetime_s).evaluate(energy_true.centers, offset, dtype)
    return Cube(exposure, "m2 s", geom, (energy_true,))


def make_map_exposure_reco_energy(
    exposure: Cube,
    pointing: Pointing,
    edisp: EnergyDispersion,
    energy: Axis,
    spectrum: Spectrum,
    dtype: DTypeLike = np.float64,
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
    dtype : dtype
        Type of the values; they are computed in float64.

    Returns
    -------
    exposure_reco : Cube, (energy, lat, lon)
        In m2 s; zero where there is no exposure or no energy dispersion.
    """
    energy_true = exposure.axis("energy_true")
    flux, flux_reco = spectrum.integral(energy_true.edges_array), spectrum.integral(energy.edges_array)
    by_pixel = exposure.data.reshape(energy_true.n_bins, -1)
    offset = exposure.geom.offset_deg(pointing.ra_deg, pointing.dec_deg).ravel()
    pixels = np.flatnonzero((by_pixel.sum(axis=0) > 0) & edisp.offset.inside(offset))
    kernels = _NodeKernels.of(edisp, energy_true, energy, flux[:, None] / flux_reco)
    index, fraction = edisp.offset.bracket(offset[pixels])
    reco = np.zeros((energy.n_bins, offset.size), dtype)
    for node in range(len(edisp.offset)):
        here = (index == node) & (fraction >= 0) & (fraction <= 1)
        for part in _chunks(np.flatnonzero(here)):
            reco[:, pixels[part]] = kernels.fold(node, by_pixel.take(pixels[part], axis=1), fraction[part])
    for part in _chunks(pixels[(fraction < 0) | (fraction > 1)]):
        # Beyond the outermost nodes the density is clipped, and no longer linear in the offset.
        kernel = edisp.kernel(energy_true.centers, energy.edges_array, offset[part])
        reco[:, part] = np.einsum("krp,kp->rp", kernel, by_pixel[:, part] * flux[:, None]) / flux_reco[:, None]
    return Cube(reco.reshape(energy.n_bins, *exposure.geom.shape), "m2 s", exposure.geom, (energy,))


def _chunks(pixels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut into parts that stay in the cache."""
    return np.array_split(pixels, len(pixels) // CHUNK + 1) if pixels.size else []


@dataclass(frozen=True, eq=False)
class _NodeKernels:
    """Kernels at the offset nodes of an energy dispersion, times weights; between two nodes they are linear.

    Parameters
    ----------
    kernel : array, shape (n_offset, r, k)
        Integral of the density over each energy bin, times the weights.
    norm : array, shape (n_offset, k)
        Integral of the density over migra.
    """

    kernel: FloatArray
    norm: FloatArray

    @classmethod
    def of(cls, edisp: EnergyDispersion, energy_true: Axis, energy: Axis, weights: FloatArray) -> _NodeKernels:
        """Kernels of a response between two axes, with weights of shape (k, r)."""
        kernel, norm = edisp.node_kernels(energy_true.centers, energy.edges_array)  # (k, r, n_offset), (k, n_offset)
        return cls(np.ascontiguousarray((kernel * weights[..., None]).transpose(2, 1, 0)), norm.T)

    def fold(self, node: int, values: FloatArray, fraction: FloatArray) -> FloatArray:
        """Fold values, shape (k, p), at fractions, shape (p,), of the way to the next node; returns (r, p)."""
        upper = min(node + 1, len(self.norm) - 1)
        lower_norm, upper_norm = self.norm[node], self.norm[upper]
        lower, rise = self.kernel[node], self.kernel[upper] - self.kernel[node]
        if np.allclose(lower_norm, upper_norm, rtol=SAME_NORM, atol=0.0):
            # The usual case: every column is normalised, and the norm need not be formed at each pixel.
            share = np.divide(1.0, lower_norm, out=np.zeros_like(lower_norm), where=lower_norm > 0)
            both = np.concatenate([lower, rise]) * share
        else:
            norm = lower_norm[:, None] * (1.0 - fraction) + upper_norm[:, None] * fraction
            values = np.divide(values, norm, out=np.zeros(values.shape), where=norm > 0)
            both = np.concatenate([lower, rise])
        folded = both @ values
        return folded[: len(lower)] + folded[len(lower) :] * fraction
