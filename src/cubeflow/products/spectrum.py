"""Spectra that may be assumed for a source, and responses averaged with them; only their shape matters.

As long as bins of true energy are as fine as the energy resolution, what holds at the centre of one holds for all of
it. Within wider ones the effective area rises and the dispersion moves on: there responses are means, weighted with the
counts that the assumed spectrum gives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.table import EDGE_TOLERANCE
from cubeflow.maps import Axis, FloatArray, IntArray, log_edges
from cubeflow.products.setting import Setting

# Nodes per energy bin of the Gauss-Legendre rule in ln E for spectra without a closed integral.
GAUSS_NODES = 32
DECADE = np.log(10.0)
WIDE = 0.11 * DECADE  # in ln E: a bin that is wider is cut into parts
PART = 0.025 * DECADE  # width of a part, at most: a fraction of the best energy resolution
PSF_PART = 0.1 * DECADE  # the same for the PSF, which changes slowly with the energy
LEAST_MIGRA = 0.01  # reconstructed over true energy that is taken into account


@dataclass(frozen=True)
class PowerLaw:
    """``E^-index``, E in TeV."""

    type: Literal["power-law"] = field(default="power-law", kw_only=True)
    """Power law."""
    index: float = 2.0
    """Index; positive falls."""

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV; exact."""
        edges = np.asarray(edges_tev, dtype=float)
        return _power_law(edges[:-1], edges[1:], edges[:-1] ** -self.index, -self.index)


@dataclass(frozen=True)
class LogParabola:
    """``x^-(alpha + beta ln x)`` with x = E / reference."""

    type: Literal["log-parabola"] = field(default="log-parabola", kw_only=True)
    """Log parabola, natural logarithm."""
    alpha: float
    """Index at the reference energy; positive falls."""
    beta: float
    """Curvature."""
    reference_tev: float = 1.0
    """Reference energy."""

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV."""
        parabola = self.beta, self.alpha, 0.0
        return _gauss(lambda energy: np.exp(-np.polyval(parabola, np.log(energy / self.reference_tev))), edges_tev)


@dataclass(frozen=True)
class ExponentialCutoff:
    """``E^-index exp(-E / cutoff)``, E in TeV."""

    type: Literal["exp-cutoff"] = field(default="exp-cutoff", kw_only=True)
    """Power law with exponential cut-off."""
    index: float
    """Index; positive falls."""
    cutoff_tev: float
    """Cut-off energy."""

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV."""
        return _gauss(lambda energy: energy**-self.index * np.exp(-energy / self.cutoff_tev), edges_tev)


@dataclass(frozen=True)
class TableSpectrum:
    """A chain of power laws through points; the outermost go on beyond them."""

    type: Literal["table"] = field(default="table", kw_only=True)
    """Table."""
    energy_tev: tuple[float, ...]
    """Energies, two or more, increasing."""
    dnde: Annotated[tuple[float, ...], Setting(above=0)]
    """Differential flux at each energy, in any unit."""

    def __post_init__(self) -> None:
        if len(self.energy_tev) < 2 or np.any(np.diff(self.energy_tev) <= 0):
            raise ValueError(f"energy_tev: expected two or more increasing energies, got {list(self.energy_tev)} TeV")
        if len(self.dnde) != len(self.energy_tev) or min(self.dnde) <= 0:
            raise ValueError(f"dnde: expected a value above 0 for each of {len(self.energy_tev)} energies")

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV; exact."""
        edges, points = np.asarray(edges_tev, dtype=float), np.array(self.energy_tev)
        inner = points[(points > edges[0]) & (points < edges[-1])]
        breaks = np.unique(np.concatenate([edges, inner]))
        log_energy, log_flux = np.log(points), np.log(self.dnde)
        slopes = np.diff(log_flux) / np.diff(log_energy)
        segment = np.clip(np.searchsorted(points, breaks[:-1], side="right") - 1, 0, len(slopes) - 1)
        flux = np.exp(log_flux[segment] + slopes[segment] * (np.log(breaks[:-1]) - log_energy[segment]))
        parts = _power_law(breaks[:-1], breaks[1:], flux, slopes[segment])
        return np.add.reduceat(parts, np.searchsorted(breaks, edges[:-1]))


Spectrum = PowerLaw | LogParabola | ExponentialCutoff | TableSpectrum
INDEX_2 = PowerLaw()  # assumed where nothing else is said


def _power_law(lower: FloatArray, upper: FloatArray, flux: FloatArray, slope: float | FloatArray) -> FloatArray:
    """Integral from lower to upper of the power law that is `flux` at lower; shape (n,)."""
    power = np.asarray(slope, dtype=float) + 1.0
    log_ratio = np.log(upper / lower)
    exponent = power * log_ratio
    near = np.abs(exponent) < 1e-12
    return flux * lower * log_ratio * np.where(near, 1.0, np.expm1(exponent) / np.where(near, 1.0, exponent))


def _gauss(dnde: Callable[[FloatArray], FloatArray], edges_tev: ArrayLike) -> FloatArray:
    """Integral of a smooth spectrum over each bin, by Gauss-Legendre in ln E; shape (n,)."""
    log_edges = np.log(np.asarray(edges_tev, dtype=float))
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS_NODES)
    half = 0.5 * np.diff(log_edges)[:, None]
    energy = np.exp(log_edges[:-1, None] + half * (1.0 + nodes))
    return (half * dnde(energy) * energy) @ weights


@dataclass(frozen=True, eq=False)
class TrueEnergies:
    """True energies at which a response is taken: the centre of each bin, or of each part of a wide one."""

    edges_tev: FloatArray  # of the parts, shape (s + 1,)
    share: FloatArray  # part of the flux in its bin, shape (s,)
    starts: IntArray  # first part of each bin, shape (n_bins,)

    @classmethod
    def of(cls, energy_true: Axis, spectrum: Spectrum, part: float = PART) -> "TrueEnergies":
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
        mean = np.empty((len(self.starts), *values.shape[1:]))
        for out, start, end in zip(mean, self.starts, np.append(self.starts[1:], len(self.share)), strict=True):
            np.multiply(values[start], weight[start], out=out)
            for part in range(start + 1, end):  # one by one they stay in the cache
                out += values[part] * weight[part]
        return mean


def share_beyond(
    aeff: EffectiveArea, edisp: EnergyDispersion, energy_true: Axis, energy: Axis, spectrum: Spectrum, offset_max: float
) -> FloatArray:
    """Share of the counts in each energy bin, shape (n_energy,), that come from outside `energy_true`.

    It is that for the spectrum and over all offset nodes of the dispersion below `offset_max`; 0 without any counts.
    """
    tables, true = (aeff.energy_true, edisp.energy_true), energy_true.edges
    lower = max(energy.edges[0] / edisp.migra_edges[-1], *(table.lower for table in tables))
    upper = min(energy.edges[-1] / max(edisp.migra_edges[0], LEAST_MIGRA), *(table.upper for table in tables))
    below, above = lower < true[0] * (1.0 - EDGE_TOLERANCE), upper > true[-1] * (1.0 + EDGE_TOLERANCE)
    reach = (*((lower,) if below else ()), *true, *((upper,) if above else ()))
    bins = TrueEnergies.of(Axis(energy_true.name, reach, energy_true.unit), spectrum)
    offset = edisp.offset.values[: max(1, int(np.searchsorted(edisp.offset.values, offset_max)))]
    kernel = edisp.kernel(bins.energy_tev, energy.edges_array, offset)  # (s, r, o)
    weight = aeff.evaluate(bins.energy_tev, offset) * spectrum.integral(bins.edges_tev)[:, None]
    counts = np.einsum("sro,so->sr", kernel, weight)
    total, outside = counts.sum(axis=0), counts[energy_true.index(bins.energy_tev) < 0].sum(axis=0)
    return np.divide(outside, total, out=np.zeros(energy.n_bins), where=total > 0)
