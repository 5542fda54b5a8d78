"""Responses averaged over wide bins of true energy, and what lies beyond the bins.

As long as bins are as fine as the energy resolution, what holds at the centre of one holds for all of it. Within wider
ones the effective area rises and the dispersion moves on: there responses are means, weighted with the counts that the
assumed spectrum gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.table import Nodes
from cubeflow.maps import Axis, FloatArray, IntArray, log_edges
from cubeflow.products.spectrum import Spectrum

DECADE = np.log(10.0)
WIDE = 0.11 * DECADE  # in ln E: a bin that is wider is cut into parts
PART = 0.025 * DECADE  # width of a part, at most: a fraction of the best energy resolution
PSF_PART = 0.1 * DECADE  # the same for the PSF, which changes slowly with the energy
LEAST_MIGRA = 0.01  # reconstructed over true energy that is taken into account


@dataclass(frozen=True, eq=False)
class TrueEnergies:
    """True energies at which a response is taken: the centre of each bin, or of each part of a wide one."""

    edges_tev: FloatArray  # of the parts, shape (s + 1,)
    share: FloatArray  # part of the flux in its bin, shape (s,)
    starts: IntArray  # first part of each bin, shape (n_bins,)

    @classmethod
    def of(cls, energy_true: Axis, spectrum: Spectrum, part: float = PART) -> TrueEnergies:
        """Cut the bins that are wide into parts of at most `part` in ln E."""
        edges = energy_true.edges_array
        widths = np.diff(np.log(edges))
        n_parts = np.where(widths > WIDE, np.ceil(widths / part), 1).astype(int)
        starts = np.cumsum(n_parts) - n_parts
        parts = [log_edges(*each)[:-1] for each in zip(edges[:-1], edges[1:], n_parts.tolist(), strict=True)]
        cut = np.append(np.concatenate(parts), edges[-1])
        flux = spectrum.integral(cut)
        total = np.repeat(np.add.reduceat(flux, starts), n_parts)
        # Without a flux that a number can hold, the parts of a bin count the same.
        share = np.divide(flux, total, out=1.0 / np.repeat(n_parts, n_parts), where=(total > 0) & np.isfinite(total))
        return cls(cut, share, starts)

    @cached_property
    def energy_tev(self) -> FloatArray:
        """Centres of the parts, shape (s,)."""
        return np.sqrt(self.edges_tev[:-1] * self.edges_tev[1:])

    def mean(
        self, values: FloatArray, aeff: EffectiveArea | None = None, offset_deg: FloatArray | None = None
    ) -> FloatArray:
        """Mean over each bin, shape (n_bins, ...), of values of shape (s, ...), weighted with the flux.

        With an effective area the flux times the area at each offset is the weight; `offset_deg` is of the shape in
        which that of the values ends. Where a bin has no area, the flux alone counts.
        """
        if len(self.starts) == len(self.share):
            return values
        weight = self.share.reshape(-1, *(1,) * (values.ndim - 1))
        if aeff is not None and offset_deg is not None:
            shape = *weight.shape[: -offset_deg.ndim], *offset_deg.shape
            area = aeff.evaluate(self.energy_tev, offset_deg).reshape(shape)
            total = np.add.reduceat(weight * area, self.starts)
            total = np.repeat(total, np.diff(self.starts, append=len(self.share)), axis=0)
            weight = np.divide(weight * area, total, out=weight + 0.0 * total, where=total > 0)
        return np.add.reduceat(values * weight, self.starts)


def average_area(aeff: EffectiveArea, energy_true: Axis, spectrum: Spectrum) -> EffectiveArea:
    """Effective area with nodes at the centres of the bins, which hold its mean over each wide one."""
    bins = TrueEnergies.of(energy_true, spectrum)
    nodes = Nodes(energy_true.centers, energy_true.edges[0], energy_true.edges[-1], log=True)
    area = bins.mean(aeff.energy_true.weights(bins.energy_tev) @ aeff.area_m2)
    return replace(aeff, energy_true=nodes, area_m2=area)


def share_beyond(
    aeff: EffectiveArea, edisp: EnergyDispersion, energy_true: Axis, energy: Axis, spectrum: Spectrum, offset_max: float
) -> FloatArray:
    """Share of the counts in each energy bin, shape (n_energy,), that come from outside `energy_true`.

    It is that for the spectrum and over all offset nodes of the dispersion below `offset_max`; 0 without any counts.
    """
    tables, true = (aeff.energy_true, edisp.energy_true), energy_true.edges
    lower = max(energy.edges[0] / edisp.migra_edges[-1], *(table.lower for table in tables))
    upper = min(energy.edges[-1] / max(edisp.migra_edges[0], LEAST_MIGRA), *(table.upper for table in tables))
    reach = (*((lower,) if lower < true[0] else ()), *true, *((upper,) if upper > true[-1] else ()))
    bins = TrueEnergies.of(Axis(energy_true.name, reach, energy_true.unit), spectrum)
    offset = edisp.offset.values[: max(1, int(np.searchsorted(edisp.offset.values, offset_max)))]
    kernel = edisp.kernel(bins.energy_tev, energy.edges_array, offset)  # (s, r, o)
    weight = aeff.evaluate(bins.energy_tev, offset) * spectrum.integral(bins.edges_tev)[:, None]
    counts = np.einsum("sro,so->sr", kernel, weight)
    total, outside = counts.sum(axis=0), counts[energy_true.index(bins.energy_tev) < 0].sum(axis=0)
    return np.divide(outside, total, out=np.zeros(energy.n_bins), where=total > 0)
