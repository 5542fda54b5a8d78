"""Fold a model with the responses: what a source model predicts to be counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.cube import Cube
from cubeflow.products.convolve import good_length

FloatArray = NDArray[np.float64]


def fold_model(
    model: Cube,
    exposure: Cube,
    psf_kernel: Cube | None,
    edisp_kernel: Cube | None,
    *,
    exposure_after_psf: bool = False,
) -> Cube:
    """Predicted counts of a model cube.

    The flux of each pixel and true-energy bin times the exposure there, smeared with the PSF and moved to
    reconstructed energy.

    Parameters
    ----------
    model : Cube, (energy_true, lat, lon)
        Flux integrated over each pixel and energy bin, m-2 s-1.
    exposure : Cube, (energy_true, lat, lon)
        Exposure on the same grid, m2 s.
    psf_kernel : Cube, (energy_true, lat, lon), or None
        As of `make_psf_kernel`, on pixels of the same size; None for no smearing.
    edisp_kernel : Cube, (energy_true, energy, 1, 1), or None
        As of `make_edisp_kernel`; None for reconstructed equal to true energy.
    exposure_after_psf : bool
        Take the exposure where an event is seen instead of where it comes from, as gammapy 2.1 does. The effective
        area belongs to the true direction; the difference is the change of the exposure within the PSF.

    Returns
    -------
    npred : Cube, (energy, lat, lon)
        Expected counts; what the PSF moves beyond the border of the map is lost.

    Raises
    ------
    ValueError
        If model, exposure and kernels are not on one grid and one set of energies.
    """
    if model.geom != exposure.geom or model.axes != exposure.axes:
        raise ValueError("fold: model and exposure lie on different grids or energies")
    counts = model.data if exposure_after_psf else model.data * exposure.data
    if psf_kernel is not None:
        if psf_kernel.axes != model.axes or psf_kernel.geom.pixel_deg != model.geom.pixel_deg:
            raise ValueError("fold: the PSF kernel has other energies or pixels than the model")
        counts = _convolve(counts, psf_kernel.data)
    if exposure_after_psf:
        counts = counts * exposure.data
    if edisp_kernel is None:
        return Cube(counts, "", model.geom, model.axes)
    if edisp_kernel.axes[0] != model.axes[0]:
        raise ValueError("fold: the energy-dispersion kernel has other true energies than the model")
    folded = np.tensordot(edisp_kernel.data[..., 0, 0].T, counts, axes=1)  # (energy, lat, lon)
    return Cube(folded, "", model.geom, edisp_kernel.axes[1:])


def _convolve(images: FloatArray, kernels: FloatArray) -> FloatArray:
    """Convolve images, shape (k, ny, nx), with odd kernels, shape (k, my, mx); zeros beyond the border."""
    shape = [good_length(n + m - 1) for n, m in zip(images.shape[1:], kernels.shape[1:], strict=True)]
    out = np.empty_like(images)
    low_y, low_x = kernels.shape[1] // 2, kernels.shape[2] // 2
    for k, (image, kernel) in enumerate(zip(images, kernels, strict=True)):
        full = np.fft.irfft2(np.fft.rfft2(image, shape) * np.fft.rfft2(kernel, shape), shape)
        out[k] = full[low_y : low_y + image.shape[0], low_x : low_x + image.shape[1]]
    # Rounding of the transform must not make counts negative.
    return np.maximum(out, 0.0, out=out)
