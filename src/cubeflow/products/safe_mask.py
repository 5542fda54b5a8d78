"""Safe masks: where and at which reconstructed energies the responses can be trusted.

Every rule is an interval of reconstructed energy or a part of the image; a bin is safe only if the whole
bin is. A threshold that is found in true energy is applied in reconstructed energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Pointing

BoolArray = NDArray[np.bool_]

# Relative slack with which a bin edge may lie beyond a threshold: rounding of the edges, not physics.
EDGE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class EnergyRange:
    """Interval of reconstructed energy, TeV."""

    lower_tev: float = 0.0
    upper_tev: float = float("inf")

    def bins(self, energy: Axis) -> BoolArray:
        """Bins of the axis that lie inside as a whole, shape (n_bins,)."""
        edges = energy.edges_array
        above = edges[:-1] >= self.lower_tev * (1 - EDGE_TOLERANCE)
        return above & (edges[1:] <= self.upper_tev * (1 + EDGE_TOLERANCE))

    def intersect(self, other: EnergyRange) -> EnergyRange:
        """Energies in both ranges."""
        return EnergyRange(max(self.lower_tev, other.lower_tev), min(self.upper_tev, other.upper_tev))


def range_aeff_default(aeff: EffectiveArea) -> EnergyRange:
    """Range from LO_THRES to HI_THRES; a threshold the file does not have, or that is zero, does not cut."""
    return EnergyRange(aeff.lo_thres_tev or 0.0, aeff.hi_thres_tev or float("inf"))


def make_mask_safe(
    pointing: Pointing, geom: Geometry, energy: Axis, ranges: tuple[EnergyRange, ...], offset_max_deg: float | None
) -> Cube:
    """Safe mask of a run: inside the field of view and inside all energy ranges.

    Parameters
    ----------
    pointing : Pointing
        Direction of the telescopes.
    geom : Geometry
        Pixel grid.
    energy : Axis
        Reconstructed energy, TeV.
    ranges : tuple of EnergyRange
        Safe energies of each method in use; none for no cut in energy.
    offset_max_deg : float or None
        Pixels whose centre has a smaller offset are safe; None for no cut.

    Returns
    -------
    mask : Cube of bool, (energy, lat, lon)
        True where safe.
    """
    bins = np.ones(energy.n_bins, dtype=bool)
    for energy_range in ranges:
        bins &= energy_range.bins(energy)
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    image = offset < offset_max_deg if offset_max_deg is not None else np.isfinite(offset)
    return Cube(bins[:, None, None] & image, "", geom, (energy,))
