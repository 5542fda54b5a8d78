"""Exact integral over energy bins of a rate whose logarithm is linear in ln E between the nodes of a table.

Between two energies of one interval of nodes the rate is a power law, E times the rate is
``f = exp(a + s ln E)``, and its integral over ln E is ``(f2 - f1) / s``.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.table import Nodes, nodes_from_edges
from cubeflow.maps.arrays import FloatArray

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
    node, after = -1, log_rate(0)
    out = np.zeros((len(edges) - 1, len(after)))
    below = None
    # Parts of the bins between nodes, in order of energy: each ends where the next begins.
    for here, target, start, stop in zip(nodes, targets, log_breaks[:-1], log_breaks[1:], strict=True):
        if here != node:
            before = after if here == node + 1 else log_rate(here)
            node, after = here, log_rate(min(here + 1, len(energy) - 1))
            slope = after - before  # of ln(E times rate) in ln E
            slope *= 1.0 / widths[node]
            slope += 1.0
            log_flux = before + log_nodes[node]
            flat = np.flatnonzero(np.abs(slope) < FLAT / widths[node])
            divisor = slope.copy() if flat.size else slope
            divisor[flat] = 1.0
            inverse = 1.0 / divisor
        if below is None:
            below = _flux(log_flux, slope, start - log_nodes[node], LOG_ZERO + start)
        above = _flux(log_flux, slope, stop - log_nodes[node], LOG_ZERO + stop)
        integral = above - below
        integral *= inverse
        if flat.size:
            integral[flat] = 0.5 * (stop - start) * (below + above)[flat]
        out[target] += integral
        below = above
    return out


def _flux(log_node_flux: FloatArray, slope: FloatArray, step: float, floor: float) -> FloatArray:
    """E times rate, shape (p,), a step in ln E beyond a node; zero where its logarithm is at the floor."""
    log_flux = slope * step
    log_flux += log_node_flux
    flux = np.exp(log_flux)
    if log_flux.min(initial=np.inf) <= floor:
        flux[log_flux <= floor] = 0.0
    return flux


def close_energies(energy_edges_tev: FloatArray, whole: FloatArray) -> FloatArray:
    """Rates at the bin centres whose exact integrals over the bins are `whole`, shape (energy, p), per TeV.

    The mean over a bin is not the rate at its centre: +10 % at two bins a decade of a spectrum of index 2.7.
    """
    axis = nodes_from_edges(energy_edges_tev[:-1], energy_edges_tev[1:], log=True)
    rate = whole / np.diff(energy_edges_tev)[:, None]
    for _ in range(60):
        got = integrate_rate(axis, energy_edges_tev, fill_log_rate(rate).__getitem__)
        ratio = np.divide(whole, got, out=np.ones_like(whole), where=(whole > 0) & (got > 0))
        rate = rate * np.clip(ratio, 0.1, 10.0) ** 0.7  # less than a whole step: it goes to and fro where rates jump
    return rate
