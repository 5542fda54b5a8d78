"""Effective area (AEFF_2D)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cubeflow.irf.table import Nodes, check_shape
from cubeflow.maps.arrays import FloatArray

CHUNK = 4096  # offsets at a time: what is computed in between stays in the cache


@dataclass(frozen=True, eq=False)
class EffectiveArea:
    """Effective area as a function of true energy and offset.

    https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/aeff/
    """

    energy_true: Nodes  #: TeV, logarithmic
    offset: Nodes  #: deg
    area_m2: FloatArray  #: shape (n_energy, n_offset)
    lo_thres_tev: float | None = None  #: LO_THRES, where the safe energies begin, if the file has it
    hi_thres_tev: float | None = None  #: HI_THRES, where they end

    def __post_init__(self) -> None:
        check_shape("AEFF: table", self.area_m2, len(self.energy_true), len(self.offset))

    def evaluate(
        self, energy_tev: ArrayLike, offset_deg: ArrayLike, dtype: DTypeLike = np.float64
    ) -> NDArray[np.floating]:
        """Effective area in m2, shape (k, ...), at true energies (k,) and offsets (...); zero outside, never negative.

        Values are computed in float64, whatever their `dtype`.
        """
        weights = self.offset.weights(np.ravel(offset_deg))  # (pixels, n_offset)
        on_nodes = self.energy_true.weights(np.atleast_1d(energy_tev)) @ self.area_m2
        can_be_negative = on_nodes.min() < 0 or weights.min(initial=0.0) < 0
        area = np.empty((len(on_nodes), len(weights)), dtype)
        for start in range(0, len(weights), CHUNK):
            part = on_nodes @ weights[start : start + CHUNK].T
            area[:, start : start + CHUNK] = np.maximum(part, 0.0, out=part) if can_be_negative else part
        return area.reshape(-1, *np.shape(offset_deg))
