"""Effective area (AEFF_2D)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.irf.table import Nodes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EffectiveArea:
    """Effective area as a function of true energy and offset.

    Parameters
    ----------
    energy_true, offset : Nodes
        Axes in TeV (logarithmic) and deg.
    area_m2 : array, shape (n_energy, n_offset)
        Effective area in m2.
    lo_thres_tev, hi_thres_tev : float or None
        Safe energy range in TeV (LO_THRES, HI_THRES), where the file has one.

    Raises
    ------
    ValueError
        If the table does not have the shape of its axes.

    References
    ----------
    https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/aeff/
    """

    energy_true: Nodes
    offset: Nodes
    area_m2: FloatArray
    lo_thres_tev: float | None = None
    hi_thres_tev: float | None = None

    def __post_init__(self) -> None:
        expected = len(self.energy_true), len(self.offset)
        if self.area_m2.shape != expected:
            raise ValueError(f"AEFF: table of shape {self.area_m2.shape}, axes of shape {expected}")

    def evaluate(self, energy_tev: ArrayLike, offset_deg: ArrayLike) -> FloatArray:
        """Effective area in m2.

        Parameters
        ----------
        energy_tev : array, shape (k,)
            True energies in TeV.
        offset_deg : array, shape (...)
            Offsets in deg.

        Returns
        -------
        area : array, shape (k, ...)
            Not negative; zero outside the table's edges.
        """
        weights = self.offset.weights(offset_deg)
        on_nodes = self.energy_true.weights(np.atleast_1d(energy_tev)) @ self.area_m2
        area = on_nodes @ weights.reshape(-1, len(self.offset)).T  # (k, pixels)
        if on_nodes.min() < 0 or weights.min(initial=0.0) < 0:
            np.maximum(area, 0.0, out=area)
        return area.reshape(-1, *weights.shape[:-1])
