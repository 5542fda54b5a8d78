"""Distribution of the significances of empty sky: a standard normal one if the background is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.products.cash import fit_log_linear
from cubeflow.products.convolve import Annulus

FloatArray = NDArray[np.float64]
BIN_WIDTH = 0.1


@dataclass(frozen=True, eq=False)
class OffSource:
    """Significances outside known sources.

    Parameters
    ----------
    n_pixels : int
        Pixels with a significance.
    n_trials : float
        How many of them are independent: their area over the area of a disc, at least 1 (0 without pixels).
    mean, mean_err, width, width_err : float
        Mean and standard deviation of all pixels; NaN with fewer than 2 pixels, errors for `n_trials` values.
    fit_mean, fit_mean_err, fit_width, fit_width_err : float
        Of a Gaussian fitted to the core of the histogram; NaN if none can be fitted.
    edges, histogram : array, shape (n_bins + 1,) and (n_bins,)
        Number of pixels per bin of significance; all pixels are inside.
    """

    n_pixels: int
    n_trials: float
    mean: float
    mean_err: float
    width: float
    width_err: float
    fit_mean: float
    fit_mean_err: float
    fit_width: float
    fit_width_err: float
    edges: FloatArray
    histogram: NDArray[np.int64]


def describe_off_source(significance: FloatArray, disc: Annulus, core: float = 3.0) -> OffSource:
    """Mean and width of a significance map, and of a Gaussian fitted to it.

    Parameters
    ----------
    significance : array, any shape
        NaN where there is none, and where sources are excluded.
    disc : Annulus
        Disc in which counts were summed.
    core : float
        Significances from -core to core are fitted, so that unknown sources matter little.
    """
    values = significance[np.isfinite(significance)]
    n_disc = _n_pixels(disc)
    n_trials = max(values.size / n_disc, 1.0) if values.size else 0.0
    mean = float(values.mean()) if values.size > 1 else np.nan
    width = float(values.std(ddof=1)) if values.size > 1 else np.nan
    extent = np.ceil(max(core, float(np.abs(values).max(initial=0.0))) / BIN_WIDTH)
    edges = BIN_WIDTH * np.arange(-extent, extent + 1)
    histogram = np.histogram(values, np.concatenate([[-np.inf], edges[1:-1], [np.inf]]))[0]
    inside = (edges[:-1] > -core - 0.5 * BIN_WIDTH) & (edges[1:] < core + 0.5 * BIN_WIDTH)
    fit = _fit_gaussian(edges[:-1][inside] + 0.5 * BIN_WIDTH, histogram[inside])
    inflation = np.sqrt(values.size / max(n_trials, 1.0))
    return OffSource(
        n_pixels=values.size,
        n_trials=n_trials,
        mean=mean,
        mean_err=width / np.sqrt(max(n_trials, 1.0)),
        width=width,
        width_err=width / np.sqrt(2.0 * max(n_trials - 1.0, 1.0)),
        fit_mean=fit[0],
        fit_mean_err=fit[1] * inflation,
        fit_width=fit[2],
        fit_width_err=fit[3] * inflation,
        edges=edges,
        histogram=histogram.astype(np.int64),
    )


def _n_pixels(disc: Annulus) -> int:
    """Number of pixels of a disc."""
    reach = np.arange(-int(disc.r_out) - 1, int(disc.r_out) + 2)
    return int(np.count_nonzero(disc.contains(reach[:, None], reach)))


def _fit_gaussian(x: FloatArray, counts: NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Mean, its error, width and its error of a Gaussian with Poisson errors; NaN if there is none.

    The logarithm of a Gaussian is a parabola b0 + b1 x + b2 x^2: mean -b1 / (2 b2), width (-2 b2)^-1/2.
    """
    nothing = np.nan, np.nan, np.nan, np.nan
    if np.count_nonzero(counts) < 3:
        return nothing
    design = np.stack([np.ones_like(x), x, x**2], axis=-1)
    start = np.array([np.log(counts.sum() * BIN_WIDTH / np.sqrt(2 * np.pi)), 0.0, -0.5])
    fit = fit_log_linear(counts.astype(np.float64), np.ones_like(x), np.zeros_like(x), design, start)
    b1, b2 = fit.parameters[1:]
    if not fit.converged or b2 >= 0:
        return nothing
    mean, width = -b1 / (2 * b2), (-2 * b2) ** -0.5
    jacobian = np.array([[-1 / (2 * b2), b1 / (2 * b2**2)], [0.0, width**3]])
    mean_err, width_err = np.sqrt(np.diag(jacobian @ fit.covariance[1:, 1:] @ jacobian.T))
    return float(mean), float(mean_err), float(width), float(width_err)
