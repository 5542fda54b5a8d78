"""Directional cut of point-like responses (RAD_MAX_2D, or one number)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.table import Nodes, check_shape
from cubeflow.maps.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class RadMax:
    """Radius within which events were counted when point-like responses were made.

    https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/point_like/
    """

    energy: Nodes  #: reconstructed, TeV, logarithmic; one node from a key RAD_MAX, as the offset
    offset: Nodes  #: deg
    rad_max_deg: FloatArray  #: shape (n_energy, n_offset)

    def __post_init__(self) -> None:
        check_shape("RAD_MAX: table", self.rad_max_deg, len(self.energy), len(self.offset))

    def evaluate(self, energy_tev: ArrayLike, offset_deg: ArrayLike) -> FloatArray:
        """Radius in deg, shape (k, ...), for energies (k,) in TeV and offsets (...) in deg; zero outside the table."""
        weights = self.offset.weights(offset_deg)
        on_nodes = self.energy.weights(np.atleast_1d(energy_tev)) @ self.rad_max_deg
        radius = on_nodes @ weights.reshape(-1, len(self.offset)).T  # (k, pixels)
        return np.maximum(radius, 0.0).reshape(-1, *weights.shape[:-1])
