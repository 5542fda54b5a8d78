"""Energy dispersion (EDISP_2D)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.irf.table import Nodes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EnergyDispersion:
    """Distribution of reconstructed over true energy (``migra``).

    Parameters
    ----------
    energy_true, offset : Nodes
        Axes in TeV (logarithmic) and deg.
    migra_edges : array, shape (m + 1,)
        Edges of the bins in reconstructed over true energy.
    density : array, shape (n_energy, m, n_offset)
        Probability per unit migra, not negative; each column sums to 1 over migra or is zero.

    Raises
    ------
    ValueError
        If the table does not have the shape of its axes.

    References
    ----------
    https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/edisp/
    """

    energy_true: Nodes
    offset: Nodes
    migra_edges: FloatArray
    density: FloatArray

    def __post_init__(self) -> None:
        expected = len(self.energy_true), len(self.migra_edges) - 1, len(self.offset)
        if self.density.shape != expected:
            raise ValueError(f"EDISP: table of shape {self.density.shape}, axes of shape {expected}")

    def kernel(self, energy_true_tev: ArrayLike, energy_edges_tev: ArrayLike, offset_deg: ArrayLike) -> FloatArray:
        """Probability of each reconstructed energy bin at given true energies and offsets.

        The density, interpolated between nodes and clipped at zero, is normalised over migra and summed over
        the part of each migra bin that lies in the energy bin.

        Parameters
        ----------
        energy_true_tev : array, shape (k,)
            True energies in TeV (bin centres).
        energy_edges_tev : array, shape (r + 1,)
            Edges of the reconstructed energy bins in TeV.
        offset_deg : array, shape (...)
            Offsets in deg.

        Returns
        -------
        kernel : array, shape (k, r, ...)
            Rows sum to the probability of being reconstructed inside the energy range; zero outside the table.
        """
        energy_true_tev = np.atleast_1d(np.asarray(energy_true_tev, dtype=float))
        shape = np.shape(offset_deg)
        offset = np.ravel(np.asarray(offset_deg, dtype=float))
        kernel = np.zeros((energy_true_tev.size, len(np.asarray(energy_edges_tev)) - 1, offset.size))
        inside = self.offset.inside(offset)
        kernel[..., inside] = self._kernel(energy_true_tev, np.asarray(energy_edges_tev, float), offset[inside])
        return kernel.reshape(*kernel.shape[:2], *shape)

    def _kernel(self, energy_true: FloatArray, edges: FloatArray, offset: FloatArray) -> FloatArray:
        """Kernel, shape (k, r, p), at offsets, shape (p,), inside the table."""
        on_nodes = np.tensordot(self.energy_true.weights(energy_true), self.density, axes=1)  # (k, m, n_offset)
        density = on_nodes @ self.offset.weights(offset).T  # (k, m, p)
        np.maximum(density, 0.0, out=density)
        kernel = self._overlap(energy_true, edges) @ density  # (k, r, m) @ (k, m, p)
        norm = np.diff(self.migra_edges) @ density  # (k, p)
        np.divide(kernel, norm[:, None, :], out=kernel, where=norm[:, None, :] > 0)
        return kernel

    def _overlap(self, energy_true: FloatArray, edges: FloatArray) -> FloatArray:
        """Length in migra shared by each energy bin and migra bin at each true energy, shape (k, r, m)."""
        migra = edges / energy_true[:, None]  # (k, r + 1)
        upper = np.minimum(migra[:, 1:, None], self.migra_edges[1:])
        lower = np.maximum(migra[:, :-1, None], self.migra_edges[:-1])
        return np.maximum(upper - lower, 0.0)
