"""Exact integral over energy bins of a rate whose logarithm is linear in ln E between the nodes of a table.

Between two energies of one interval of nodes the rate is a power law, E times the rate is
``f = exp(a + s ln E)``, and its integral over ln E is ``(f2 - f1) / s``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.table import Nodes
from cubeflow.maps.arrays import FloatArray, IntArray

# Stand-in for a rate of zero where logarithms are interpolated: the smallest normal float32, per MeV.
FLOOR_PER_TEV = float(np.finfo(np.float32).tiny) * 1e6
LOG_ZERO = float(np.log(2.0 * FLOOR_PER_TEV))  # what interpolation gives below this is no rate
FLAT = 1e-5  # a step in the logarithm below which a power law is a straight line


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


@dataclass(frozen=True, eq=False)
class _PowerLaw:
    """E times rate of p positions between two nodes.

    Parameters
    ----------
    log_node : float
        ln(E / TeV) of the lower node.
    log_flux, slope, inverse : array, shape (p,)
        Logarithm of E times rate there, its slope in ln E, and one over the slope.
    flat : array of int
        Positions at which the slope is next to nothing.
    """

    log_node: float
    log_flux: FloatArray
    slope: FloatArray
    inverse: FloatArray
    flat: IntArray

    @classmethod
    def between(cls, log_rates: tuple[FloatArray, FloatArray], log_node: float, width: float) -> _PowerLaw:
        """Power laws through ln(rate) at two nodes, `width` apart in ln E."""
        lower, upper = log_rates
        slope = upper - lower
        slope *= 1.0 / width
        slope += 1.0
        flat = np.flatnonzero(np.abs(slope) < FLAT / width)
        divisor = slope.copy() if flat.size else slope
        divisor[flat] = 1.0
        return cls(log_node, lower + log_node, slope, 1.0 / divisor, flat)

    def flux(self, log_energy: float) -> FloatArray:
        """E times rate, shape (p,); zero where the rate is at the floor."""
        log_flux = self.slope * (log_energy - self.log_node)
        log_flux += self.log_flux
        floor = LOG_ZERO + log_energy
        flux = np.exp(log_flux)
        if log_flux.min(initial=np.inf) <= floor:
            flux[log_flux <= floor] = 0.0
        return flux

    def integral(self, below: FloatArray, above: FloatArray, width: float) -> FloatArray:
        """Integral of the rate between two energies, `width` apart in ln E, with these values of `flux`."""
        integral = above - below
        integral *= self.inverse
        if self.flat.size:
            integral[self.flat] = 0.5 * width * (below + above)[self.flat]
        return integral


def integrate_rate(energy: Nodes, edges_tev: ArrayLike, log_rate: Callable[[int], FloatArray]) -> FloatArray:
    """Integrals of a rate over energy bins, shape (r, p), in its unit times TeV; outside the table nothing is added.

    `energy` are those of the table, TeV, `edges_tev`, shape (r + 1,), those of the bins, and `log_rate` gives
    ln(rate / TeV-1) at a node for all positions, shape (p,).
    """
    edges = np.asarray(edges_tev, dtype=float)
    lower, upper = max(edges[0], energy.lower), min(edges[-1], energy.upper)
    breaks = np.concatenate([edges, energy.values, [lower, upper]])
    breaks = np.unique(breaks[(breaks >= lower) & (breaks <= upper)]) if lower < upper else breaks[:0]
    last = max(len(energy) - 2, 0)
    nodes = np.clip(np.searchsorted(energy.values, breaks[:-1], side="right") - 1, 0, last).tolist()
    targets = (np.searchsorted(edges, breaks[:-1], side="right") - 1).tolist()
    log_nodes, log_breaks = np.log(energy.values), np.log(breaks).tolist()
    widths = np.diff(log_nodes, append=log_nodes[-1] + 1.0).tolist()  # any for the only node
    node, above = -1, log_rate(0)
    out = np.zeros((len(edges) - 1, len(above)))
    below = None
    # Parts of the bins between nodes, in order of energy: each ends where the next begins.
    for here, target, start, stop in zip(nodes, targets, log_breaks[:-1], log_breaks[1:], strict=True):
        if here != node:
            before = above if here == node + 1 else log_rate(here)
            node, above = here, log_rate(min(here + 1, len(energy) - 1))
            law = _PowerLaw.between((before, above), log_nodes[node], widths[node])
        below = law.flux(start) if below is None else below
        flux = law.flux(stop)
        out[target] += law.integral(below, flux, stop - start)
        below = flux
    return out
