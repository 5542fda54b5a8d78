"""Point spread function and energy dispersion: on the coarse grid of a map, and as kernels at a position."""

import numpy as np
from numpy.typing import DTypeLike

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import PSF
from cubeflow.irf.table import Nodes
from cubeflow.maps import Axis, Cube, FloatArray, Geometry, make_geometry, sphere
from cubeflow.observation import Pointing
from cubeflow.products.spectrum import INDEX_2, PSF_PART, Spectrum, TrueEnergies

SUB_PIXELS_PER_RAD_BIN = 4  # the PSF is linear within a radial bin: finer sub-pixels add nothing
MAX_SUB_PIXELS = 63
CHUNK = 2**21  # values of densities at a time


def make_psf_map(
    pointing: Pointing,
    psf: PSF,
    geom_irf: Geometry,
    energy_true: Axis,
    rad: Axis,
    aeff: EffectiveArea | None = None,
    spectrum: Spectrum = INDEX_2,
    dtype: DTypeLike = np.float64,
) -> Cube:
    """Point spread function at every pixel of the coarse grid, (energy_true, rad, lat, lon), sr-1.

    It is taken at the bin centres, or averaged over wide bins with the spectrum and the area (see `TrueEnergies`), and
    normalised so that the sum over rad of ``psf 2 pi rad d(rad)`` is 1; zero where the responses give no PSF. Values
    are computed in float64, whatever their `dtype`.
    """
    offset = geom_irf.offset_deg(pointing.ra_deg, pointing.dec_deg).ravel()
    bins = TrueEnergies.of(energy_true, spectrum, PSF_PART)
    by_rad = np.empty((energy_true.n_bins, rad.n_bins, offset.size), dtype)
    step = max(1, CHUNK // (bins.energy_tev.size * rad.n_bins))
    for start in range(0, offset.size, step):
        part = offset[start : start + step]
        density = psf.evaluate(bins.energy_tev, part, rad.centers).swapaxes(1, 2)  # (s, rad, pixel)
        mean = bins.mean(density, aeff, part)
        norm = (_ring_sr(rad) @ mean)[:, None]
        scale = np.divide(1.0, norm, out=np.ones_like(norm), where=norm > 0)
        np.multiply(mean, scale, out=by_rad[..., start : start + step], casting="same_kind")
    return Cube(by_rad.reshape(energy_true.n_bins, rad.n_bins, *geom_irf.shape), "sr-1", geom_irf, (energy_true, rad))


def make_edisp_map(
    pointing: Pointing,
    edisp: EnergyDispersion,
    geom_irf: Geometry,
    energy_true: Axis,
    energy: Axis,
    aeff: EffectiveArea | None = None,
    spectrum: Spectrum = INDEX_2,
) -> Cube:
    """Energy-dispersion kernel at every pixel of the coarse grid, (energy_true, energy, lat, lon).

    It is the probability of each reconstructed energy bin, not renormalised to the energy range, at the bin centres, or
    averaged over wide bins with the spectrum and the area; zero where the responses give no dispersion.
    """
    offset = geom_irf.offset_deg(pointing.ra_deg, pointing.dec_deg)
    bins = TrueEnergies.of(energy_true, spectrum)
    kernel = bins.mean(edisp.kernel(bins.energy_tev, energy.edges_array, offset), aeff, offset)
    return Cube(kernel, "", geom_irf, (energy_true, energy))


def make_psf_kernel(
    psf: Cube, ra_deg: float, dec_deg: float, pixel_deg: float, max_radius_deg: float | None = None
) -> Cube:
    """Image of a point source at an ICRS position, (energy_true, lat, lon), to convolve a model with.

    It is the average of the PSF over each pixel, on an odd number of pixels; each energy sums to 1, or is 0 where there
    is no PSF. `psf`, (energy_true, rad, lat, lon), is the map of a run (`make_psf_map`) or a stack, `pixel_deg` that of
    the maps to be convolved, and `max_radius_deg` the half width of the kernel: the whole radial axis if not given.
    ValueError if the position lies outside the PSF map, or nothing is known there.
    """
    energy_true, rad = psf.axes
    profile = _at_position(psf, ra_deg, dec_deg, _ring_sr(rad))  # (energy_true, rad)
    radius = rad.edges[-1] if max_radius_deg is None else min(max_radius_deg, rad.edges[-1])
    half = int(np.ceil(radius / pixel_deg - 0.5 - 1e-9))
    # Averages over sub-pixels of the quadrant with the centre at [0, 0].
    factor = int(np.clip(np.ceil(SUB_PIXELS_PER_RAD_BIN * pixel_deg / rad.widths.min()), 3, MAX_SUB_PIXELS)) | 1
    sub = (np.arange(factor * (half + 1)) - factor // 2) / factor * pixel_deg
    distance = np.hypot(sub[:, None], sub)
    nodes = Nodes(rad.centers, rad.edges[0], rad.edges[-1], log=False)
    index, fraction = nodes.bracket(distance)
    inside = nodes.inside(distance) & (distance <= radius)
    step = np.diff(profile, axis=1, append=profile[:, -1:])
    n = half + 1
    quadrant = np.empty((len(profile), n, n))
    for k in range(len(profile)):
        value = np.where(inside, profile[k][index] + fraction * step[k][index], 0.0)
        quadrant[k] = np.maximum(value, 0.0).reshape(n, factor, n, factor).mean(axis=(1, 3))
    right = np.concatenate([quadrant[..., :0:-1], quadrant], axis=-1)
    kernel = np.concatenate([right[:, :0:-1], right], axis=-2)  # (energy_true, 2 half + 1, 2 half + 1)
    total = kernel.sum(axis=(1, 2), keepdims=True)
    np.divide(kernel, total, out=kernel, where=total > 0)
    width = (2 * half + 1) * pixel_deg
    return Cube(kernel, "", make_geometry("icrs", "TAN", ra_deg, dec_deg, (width, width), pixel_deg), (energy_true,))


def make_edisp_kernel(edisp: Cube, ra_deg: float, dec_deg: float) -> Cube:
    """Probability of each reconstructed energy bin at an ICRS position, (energy_true, energy, 1, 1).

    `edisp`, (energy_true, energy, lat, lon), is the map of a run (`make_edisp_map`) or a stack. ValueError if the
    position lies outside it, or nothing is known there.
    """
    kernel = _at_position(edisp, ra_deg, dec_deg, np.ones(edisp.axes[1].n_bins))
    pixel = edisp.geom.pixel_deg
    geom = make_geometry("icrs", "TAN", ra_deg, dec_deg, (pixel, pixel), pixel)
    return Cube(kernel[..., None, None], "", geom, edisp.axes)


def bilinear_weights(geom: Geometry, ra_deg: float, dec_deg: float) -> FloatArray:
    """Share of each pixel, shape (ny, nx), in an ICRS position, linear in the distance from the pixel centres."""
    x, y = geom.vectors_to_pixel(sphere.unit_vectors(ra_deg, dec_deg))
    along_y, along_x = (np.fmax(0.0, 1.0 - np.abs(np.arange(n) - v)) for n, v in ((geom.ny, y), (geom.nx, x)))
    return np.outer(along_y, along_x)


def _ring_sr(rad: Axis) -> FloatArray:
    """Solid angle of each radial bin as used for the norm, shape (n_rad,), sr."""
    return 2.0 * np.pi * np.deg2rad(rad.centers) * np.deg2rad(rad.widths)


def _at_position(cube: Cube, ra_deg: float, dec_deg: float, measure: FloatArray) -> FloatArray:
    """Bilinear value, shape of the axes, among the pixels that have a response at that true energy.

    `measure`, shape of the second axis, is the weight with which a response sums to more than 0.
    """
    if cube.geom.pixel_index(ra_deg, dec_deg)[0] < 0:
        raise ValueError(f"position ({ra_deg:.4f}, {dec_deg:.4f}) lies outside the map of the responses")
    weight = bilinear_weights(cube.geom, ra_deg, dec_deg)
    rows, columns = np.nonzero(weight)
    values = cube.data[:, :, rows, columns].astype(float)  # (energy_true, second axis, pixels)
    known = (np.einsum("krp,r->kp", values, measure) > 0) * weight[rows, columns]
    share = known.sum(axis=1)
    if not np.any(share > 0):
        raise ValueError(f"no response is known at position ({ra_deg:.4f}, {dec_deg:.4f})")
    mean = np.einsum("krp,kp->kr", values, known)
    return np.divide(mean, share[:, None], out=np.zeros_like(mean), where=share[:, None] > 0)
