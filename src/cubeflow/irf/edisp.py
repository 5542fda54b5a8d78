"""Energy dispersion (EDISP_2D)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.table import Nodes, check_shape
from cubeflow.maps.arrays import FloatArray, Pair


@dataclass(frozen=True, eq=False)
class EnergyDispersion:
    """Distribution of reconstructed over true energy (``migra``).

    https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/edisp/
    """

    energy_true: Nodes  #: TeV, logarithmic
    offset: Nodes  #: deg
    migra_edges: FloatArray  #: shape (m + 1,), of the bins in reconstructed over true energy
    density: FloatArray  #: shape (n_energy, m, n_offset), per unit migra, not negative; its integral is 1 or 0

    def __post_init__(self) -> None:
        lengths = len(self.energy_true), len(self.migra_edges) - 1, len(self.offset)
        check_shape("EDISP: table", self.density, *lengths)

    def node_kernels(self, energy_true_tev: ArrayLike, energy_edges_tev: ArrayLike) -> Pair:
        """Integrals of the density at the offset nodes: over each energy bin, (k, r, n_offset), and all, (k, n_offset).

        With offset weights w the kernel between them is ``kernel @ w / (norm @ w)``; arguments as for `kernel`.
        """
        density, overlap = self._on_nodes(energy_true_tev, energy_edges_tev)
        return overlap @ density, np.diff(self.migra_edges) @ density

    def kernel(self, energy_true_tev: ArrayLike, energy_edges_tev: ArrayLike, offset_deg: ArrayLike) -> FloatArray:
        """Probability, shape (k, r, ...), of energy bins with edges (r + 1,) at true energies (k,) and offsets (...).

        Energies are in TeV, true ones bin centres, offsets in deg. The density, interpolated between nodes and clipped
        at zero, is normalised over migra and summed over the part of each migra bin that lies in the energy bin. Rows
        sum to the probability of being reconstructed inside the energy range; zero outside the table.
        """
        weights = self.offset.weights(np.ravel(np.asarray(offset_deg, dtype=float))).T  # (n_offset, p)
        nodes, overlap = self._on_nodes(energy_true_tev, energy_edges_tev)
        widths = np.diff(self.migra_edges)
        kernel, norm = overlap @ nodes @ weights, widths @ nodes @ weights
        beyond = np.flatnonzero(np.any(weights < 0, axis=0))
        for k in range(len(nodes)) if beyond.size else ():  # the density at all of them is large
            filled = nodes[k].any(axis=1)  # most of migra is empty
            density = np.maximum(nodes[k][filled] @ weights[:, beyond], 0.0)
            kernel[k][:, beyond], norm[k, beyond] = overlap[k][:, filled] @ density, widths[filled] @ density
        norm = norm[:, None, :]
        np.divide(kernel, norm, out=kernel, where=norm > 0)
        return kernel.reshape(*kernel.shape[:2], *np.shape(offset_deg))

    def _on_nodes(self, energy_true_tev: ArrayLike, energy_edges_tev: ArrayLike) -> Pair:
        """As `_at_energies`, which several products of a run, and runs with common responses, ask for."""
        energies = np.ravel(np.asarray(energy_true_tev, float)), np.asarray(energy_edges_tev, float)
        return _at_energies(self, *(tuple(each.tolist()) for each in energies))


@lru_cache(maxsize=2)
def _at_energies(
    edisp: EnergyDispersion, energy_true_tev: tuple[float, ...], energy_edges_tev: tuple[float, ...]
) -> Pair:
    """Density at true energies, not negative, shape (k, m, n_offset), and what bins of energy and migra share.

    That is the length in migra of each energy bin within each migra bin, shape (k, r, m).
    """
    density = np.maximum(np.tensordot(edisp.energy_true.weights(energy_true_tev), edisp.density, axes=1), 0.0)
    migra = np.array(energy_edges_tev) / np.array(energy_true_tev)[:, None]  # (k, r + 1)
    upper = np.minimum(migra[:, 1:, None], edisp.migra_edges[1:])
    lower = np.maximum(migra[:, :-1, None], edisp.migra_edges[:-1])
    return density, np.maximum(upper - lower, 0.0)
