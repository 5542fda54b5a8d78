"""Exact integral over energy bins of a rate whose logarithm is linear in ln E between the nodes of a table.

Between two energies of one interval of nodes the rate is a power law, E times the rate is
``f = exp(a + s ln E)``, and its integral over ln E is ``(f2 - f1) / s``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.irf.table import Nodes

FloatArray = NDArray[np.float64]

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


@dataclass(frozen=True)
class _Piece:
    """Part of an energy bin between two nodes: the lower node, both ends as ln(E / TeV), and the bin."""

    node: int
    lower: float
    upper: float
    target: int


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
    flat: NDArray[np.int64]

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


@dataclass(frozen=True, eq=False)
class EnergyIntegral:
    """How the integrals over energy bins are put together from a table.

    Parameters
    ----------
    log_nodes : array, shape (n,)
        Nodes of the table, ln(E / TeV).
    pieces : tuple
        Parts of the bins between nodes, in order of energy.
    n_bins : int
        Number of energy bins.
    """

    log_nodes: FloatArray
    pieces: tuple[_Piece, ...]
    n_bins: int

    @classmethod
    def of(cls, energy: Nodes, edges_tev: ArrayLike) -> EnergyIntegral:
        """Cut bins with edges in TeV, shape (r + 1,), at the nodes; what lies outside the table is left out."""
        edges = np.asarray(edges_tev, dtype=float)
        lower, upper = max(edges[0], energy.lower), min(edges[-1], energy.upper)
        breaks = np.concatenate([edges, energy.values, [lower, upper]])
        breaks = np.unique(breaks[(breaks >= lower) & (breaks <= upper)]) if lower < upper else breaks[:0]
        last = max(len(energy) - 2, 0)
        node = np.clip(np.searchsorted(energy.values, breaks[:-1], side="right") - 1, 0, last)
        target = np.searchsorted(edges, breaks[:-1], side="right") - 1
        log_e = np.log(breaks)
        pieces = zip(node.tolist(), log_e[:-1].tolist(), log_e[1:].tolist(), target.tolist(), strict=True)
        return cls(np.log(energy.values), tuple(_Piece(*piece) for piece in pieces), len(edges) - 1)

    def evaluate(self, log_rate: Callable[[int], FloatArray], size: int) -> FloatArray:
        """Integrals of a rate over the bins, shape (n_bins, size); see `add`."""
        out = np.zeros((self.n_bins, size))
        self.add(out, log_rate)
        return out

    def add(self, out: FloatArray, log_rate: Callable[[int], FloatArray]) -> None:
        """Add the integrals of a rate over the bins to `out`.

        Parameters
        ----------
        out : array, shape (n_bins, p)
            In the unit of the rate times TeV; changed in place.
        log_rate : callable
            Gives ln(rate / TeV-1) at a node for all positions, shape (p,).
        """
        node, upper, below = -1, np.empty(0), None
        widths = np.diff(self.log_nodes, append=self.log_nodes[-1] + 1.0).tolist()  # any for the only node
        for piece in self.pieces:
            if piece.node != node:
                lower = upper if piece.node == node + 1 and node >= 0 else log_rate(piece.node)
                node, upper = piece.node, log_rate(min(piece.node + 1, len(self.log_nodes) - 1))
                law = _PowerLaw.between((lower, upper), self.log_nodes[node], widths[node])
            below = law.flux(piece.lower) if below is None else below
            above = law.flux(piece.upper)
            row = out[piece.target]
            row += law.integral(below, above, piece.upper - piece.lower)
            below = above
