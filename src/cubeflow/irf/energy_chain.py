"""Rates that are chains of power laws in energy, and their integrals, which are exact.

Between two energies with rates y1, y2 the integral over a power law is ``ln(E2 / E1)`` times the logarithmic mean of
``y1 E1`` and ``y2 E2``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.table import Nodes

FloatArray = NDArray[np.float64]

# Stand-in for a rate of zero where logarithms are interpolated: the smallest normal float32, per MeV.
FLOOR_PER_TEV = float(np.finfo(np.float32).tiny) * 1e6
LOG_ZERO = float(np.log(2.0 * FLOOR_PER_TEV))  # what interpolation gives below this is no rate


def fill_log_rate(rate: FloatArray) -> FloatArray:
    """Logarithm of the rate; zeros between valid energies are filled over the bin index, others are at the floor."""
    log_rate = np.log(np.maximum(rate, FLOOR_PER_TEV)).reshape(len(rate), -1)
    valid = (rate > 0).reshape(len(rate), -1)
    gap = ~valid & np.logical_or.accumulate(valid) & np.logical_or.accumulate(valid[::-1])[::-1]
    bins = np.arange(len(rate))
    for column in np.flatnonzero(gap.any(axis=0)):
        known = valid[:, column]
        log_rate[gap[:, column], column] = np.interp(bins[gap[:, column]], bins[known], log_rate[known, column])
    return log_rate.reshape(rate.shape)


def energy_breaks(energy: Nodes, edges: FloatArray) -> FloatArray:
    """Energies between which the rate is a power law: bin edges and table nodes, inside the table."""
    lower, upper = max(edges[0], energy.lower), min(edges[-1], energy.upper)
    if lower >= upper:
        return np.zeros(0)
    breaks = np.concatenate([edges, energy.values, [lower, upper]])
    return np.unique(breaks[(breaks >= lower) & (breaks <= upper)])


def integrate_chain(planes: Iterator[FloatArray], breaks: FloatArray, edges: FloatArray, size: int) -> FloatArray:
    """Integrate chains of power laws, given as planes of ln(rate) at the breaks, over bins; shape (r, size)."""
    out = np.zeros((len(edges) - 1, size))
    below: tuple[FloatArray, FloatArray] | None = None
    for k, log_rate in enumerate(planes):
        log_flux = log_rate + np.log(breaks[k])
        flux = np.exp(log_flux)
        flux[log_rate <= LOG_ZERO] = 0.0
        if below is not None:
            target = int(np.searchsorted(edges, breaks[k - 1], side="right")) - 1
            out[target] += np.log(breaks[k] / breaks[k - 1]) * _log_mean(*below, log_flux, flux)
        below = log_flux, flux
    return out


def _log_mean(log_a: FloatArray, a: FloatArray, log_b: FloatArray, b: FloatArray) -> FloatArray:
    """Logarithmic mean (b - a) / (ln b - ln a), the plain mean where both are nearly equal."""
    step = log_b - log_a
    near = np.flatnonzero(np.abs(step) < 1e-5)
    step[near] = 1.0
    mean = (b - a) / step
    mean[near] = 0.5 * (a + b)[near]
    return mean
