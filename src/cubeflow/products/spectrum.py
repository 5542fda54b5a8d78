"""Spectra that may be assumed for a source; only their shape matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Nodes per energy bin of the Gauss-Legendre rule in ln E for spectra without a closed integral.
GAUSS_NODES = 32


class Spectrum(Protocol):
    """Any spectrum."""

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV; arbitrary norm."""
        ...


@dataclass(frozen=True)
class PowerLaw:
    """``E^-index``, E in TeV."""

    index: float = 2.0

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV; exact."""
        edges = np.asarray(edges_tev, dtype=float)
        return _power_law(edges[:-1], edges[1:], edges[:-1] ** -self.index, -self.index)


@dataclass(frozen=True)
class LogParabola:
    """``x^-(alpha + beta ln x)`` with x = E / reference."""

    alpha: float
    beta: float
    reference_tev: float = 1.0

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV."""
        return _gauss(lambda energy: self._dnde(energy / self.reference_tev), edges_tev)

    def _dnde(self, x: FloatArray) -> FloatArray:
        log_x = np.log(x)
        return np.exp(-(self.alpha + self.beta * log_x) * log_x)


@dataclass(frozen=True)
class ExponentialCutoff:
    """``E^-index exp(-E / cutoff)``, E in TeV."""

    index: float
    cutoff_tev: float

    def integral(self, edges_tev: ArrayLike) -> FloatArray:
        """Integral over each bin, shape (n,), for edges (n + 1,) in TeV."""
        return _gauss(lambda energy: energy**-self.index * np.exp(-energy / self.cutoff_tev), edges_tev)


@dataclass(frozen=True)
class TableSpectrum:
    """A chain of power laws through points; the outermost go on beyond them.

    Parameters
    ----------
    energy_tev : tuple of float
        Energies, increasing, at least two.
    dnde : tuple of float
        Differential flux at each, above 0, in any unit.

    Raises
    ------
    ValueError
        If there are fewer than two points, they do not increase, or a flux is not above 0.
    """

    energy_tev: tuple[float, ...]
    dnde: tuple[float, ...]

    def __post_init__(self) -> None:
        energy, dnde = np.array(self.energy_tev), np.array(self.dnde)
        if energy.size < 2 or energy.shape != dnde.shape or np.any(np.diff(energy) <= 0) or not np.all(dnde > 0):
            raise ValueError("table spectrum: expected two or more increasing energies, each with a flux above 0")

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


TYPES: Mapping[str, type] = {
    "power-law": PowerLaw,
    "log-parabola": LogParabola,
    "exp-cutoff": ExponentialCutoff,
    "table": TableSpectrum,
}


def make_spectrum(plain: Mapping[str, Any]) -> Spectrum:
    """Spectrum from plain numbers: ``type`` names it, the other keys are its parameters.

    Raises
    ------
    ValueError
        If there is no such type.
    """
    parameters = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    kind = str(parameters.pop("type", "power-law"))
    if kind not in TYPES:
        raise ValueError(f"spectrum: expected one of {', '.join(TYPES)}, got {kind!r}")
    return TYPES[kind](**parameters)


def _power_law(lower: FloatArray, upper: FloatArray, flux: FloatArray, slope: float | FloatArray) -> FloatArray:
    """Integral from lower to upper of the power law that is `flux` at lower; shape (n,)."""
    power = np.asarray(slope, dtype=float) + 1.0
    log_ratio = np.log(upper / lower)
    exponent = power * log_ratio
    near = np.abs(exponent) < 1e-12
    return flux * lower * log_ratio * np.where(near, 1.0, np.expm1(exponent) / np.where(near, 1.0, exponent))


def _gauss(dnde: Any, edges_tev: ArrayLike) -> FloatArray:
    """Integral of a smooth spectrum over each bin, by Gauss-Legendre in ln E; shape (n,)."""
    log_edges = np.log(np.asarray(edges_tev, dtype=float))
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS_NODES)
    half = 0.5 * np.diff(log_edges)[:, None]
    energy = np.exp(log_edges[:-1, None] + half * (1.0 + nodes))
    return (half * dnde(energy) * energy) @ weights
