"""Spectra that may be assumed for a source; only their shape matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps import FloatArray
from cubeflow.products.setting import Setting

# Nodes per energy bin of the Gauss-Legendre rule in ln E for spectra without a closed integral.
GAUSS_NODES = 32


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

        def dnde(energy: FloatArray) -> FloatArray:
            log_x = np.log(energy / self.reference_tev)
            return np.exp(-(self.alpha + self.beta * log_x) * log_x)

        return _gauss(dnde, edges_tev)


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
