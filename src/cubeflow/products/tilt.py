"""Fit of a factor and a power law in energy to the acceptance of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.products.cash import fit_log_linear

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cells:
    """Bins of a Poisson likelihood, each of shape (n_cells,).

    Parameters
    ----------
    counts : array
        Counts.
    acceptance : array
        Acceptance, which norm and tilt scale.
    model : array
        Counts of a sky model, which they do not.
    log_energy : array
        Logarithm of the energy over the reference energy.
    """

    counts: FloatArray
    acceptance: FloatArray
    model: FloatArray
    log_energy: FloatArray


@dataclass(frozen=True, eq=False)
class TiltFit:
    """Best norm and tilt.

    Parameters
    ----------
    norm, tilt : float
        Background is acceptance x norm x (E / reference)^-tilt.
    covariance : array, shape (2, 2)
        Of norm and tilt.
    converged : bool
        False if there is no best fit.
    """

    norm: float
    tilt: float
    covariance: FloatArray
    converged: bool


def make_pixel_cells(
    counts: NDArray[Any], acceptance: FloatArray, model: FloatArray, allowed: BoolArray, log_energy: FloatArray
) -> Cells:
    """Cells for a fit beside a sky model, which differs from pixel to pixel.

    Parameters
    ----------
    counts, acceptance, model, allowed : array, shape (n_energy, ny, nx)
        Maps and the bins to be used.
    log_energy : array, shape (n_energy,)
        Logarithm of the energy over the reference energy.

    Returns
    -------
    Cells
        Every pixel with counts is a cell. Those without have a likelihood linear in the prediction: at each energy
        they make one cell, and their sky model, which is a constant then, is left out.
    """
    filled = allowed & (counts > 0)
    empty = np.sum(acceptance, axis=(1, 2), where=allowed & ~filled)
    nothing = np.zeros_like(empty)
    return Cells(
        counts=np.concatenate([nothing, counts[filled].astype(np.float64)]),
        acceptance=np.concatenate([empty, acceptance[filled]]),
        model=np.concatenate([nothing, model[filled]]),
        log_energy=np.concatenate([log_energy, log_energy[np.nonzero(filled)[0]]]),
    )


def fit_tilt(cells: Cells) -> TiltFit:
    """Norm and tilt that minimise the Cash statistic."""
    used = cells.acceptance > 0
    counts, acceptance = float(cells.counts[used].sum()), float(cells.acceptance[used].sum())
    background = max(counts - float(cells.model[used].sum()), 0.1 * counts)
    design = np.stack([np.ones_like(cells.log_energy), -cells.log_energy], axis=-1)
    if not (background > 0 and acceptance > 0):
        return TiltFit(np.nan, np.nan, np.full((2, 2), np.nan), False)
    start = np.array([np.log(background / acceptance), 0.0])
    fit = fit_log_linear(cells.counts, cells.acceptance, cells.model, design, start)
    norm = float(np.exp(fit.parameters[0]))
    # The fit is in the logarithm of the norm.
    jacobian = np.array([norm, 1.0])
    return TiltFit(norm, float(fit.parameters[1]), fit.covariance * np.outer(jacobian, jacobian), fit.converged)
