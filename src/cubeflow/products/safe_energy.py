"""Energy thresholds that follow from the responses themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import BackgroundRate
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps.axis import Axis

FloatArray = NDArray[np.float64]

FIELD_STEP_DEG = 0.1  # grid on which the background rate is summed over the field of view


def threshold_aeff_max(aeff: EffectiveArea, percent: float, offset_deg: ArrayLike) -> FloatArray:
    """Energy above which the effective area is at least a fraction of its maximum.

    Going down from the maximum over energy, it is where the area, linear in ln E between the nodes of the
    table, falls below the fraction for the first time.

    Parameters
    ----------
    aeff : EffectiveArea
        Effective area.
    percent : float
        Fraction of the maximum in percent.
    offset_deg : array, shape (o,)
        Offsets in deg.

    Returns
    -------
    threshold : array, shape (o,)
        In TeV; infinity where there is no area at all, the table's lower edge where it never falls below.
    """
    nodes = aeff.energy_true.values
    area = aeff.evaluate(nodes, np.atleast_1d(offset_deg))  # (n_energy, o)
    return np.array([_last_rise(nodes, column, percent / 100, aeff.energy_true.lower) for column in area.T])


def threshold_edisp_bias(edisp: EnergyDispersion, percent: float, offset_deg: ArrayLike) -> FloatArray:
    """Reconstructed energy above which the energy bias is at most a given value.

    The bias is the mean of reconstructed over true energy, minus one, at the nodes of the table and linear in
    ln E between. Going up from its maximum, it is the first energy where the bias is down at the value.

    Parameters
    ----------
    edisp : EnergyDispersion
        Energy dispersion.
    percent : float
        Largest bias in percent.
    offset_deg : array, shape (o,)
        Offsets in deg.

    Returns
    -------
    threshold : array, shape (o,)
        In TeV; infinity where there is no energy dispersion or the bias never comes down. Where the bias is
        never larger, the lowest energy with a dispersion.
    """
    nodes = edisp.energy_true.values
    centers = 0.5 * (edisp.migra_edges[1:] + edisp.migra_edges[:-1])
    widths = np.diff(edisp.migra_edges)
    weights = edisp.offset.weights(np.atleast_1d(offset_deg)).T  # (n_offset, o)
    norm = (widths @ edisp.density) @ weights  # (n_energy, o)
    mean = ((widths * centers) @ edisp.density) @ weights
    bias = np.divide(mean, norm, out=np.full_like(mean, np.nan), where=norm > 1e-9) - 1.0
    return np.array([_bias_down(nodes, column, percent / 100) for column in bias.T])


def threshold_bkg_peak(background: BackgroundRate, energy: Axis, offset_max_deg: float) -> float:
    """Lower edge, in TeV, of the energy bin with the most background per logarithm of the energy.

    The rate is summed over the field of view within `offset_max_deg`; infinity where there is no background.
    """
    axis = np.arange(-offset_max_deg, offset_max_deg + FIELD_STEP_DEG / 2, FIELD_STEP_DEG)
    lon, lat = np.meshgrid(axis, axis)
    within = np.hypot(lon, lat) < offset_max_deg
    rate = background.integrate(energy.edges_array, lon[within], lat[within])  # (energy, positions)
    rate = (rate @ np.cos(np.deg2rad(lat[within]))) / np.diff(np.log(energy.edges_array))
    return float(energy.edges_array[int(np.argmax(rate))]) if np.any(rate > 0) else float("inf")


def _last_rise(energy: FloatArray, value: FloatArray, fraction: float, lowest: float) -> float:
    """Energy at which `value` rises through a fraction of its maximum for the last time before it."""
    peak = int(np.argmax(value))
    level = fraction * value[peak]
    if not value[peak] > 0:
        return float("inf")
    below = np.flatnonzero(value[:peak] < level)
    return lowest if not below.size else _crossing(energy, value, int(below[-1]), level)


def _bias_down(energy: FloatArray, bias: FloatArray, limit: float) -> float:
    """Reconstructed energy at which the bias comes down to the limit after its maximum."""
    known = np.isfinite(bias)
    if not known.any():
        return float("inf")
    energy, bias = energy[known], bias[known]
    peak = int(np.argmax(bias))
    if bias[peak] <= limit:
        return float(energy[0])
    down = np.flatnonzero(bias[peak:] <= limit)
    return float("inf") if not down.size else _crossing(energy, bias, peak + int(down[0]) - 1, limit) * (1 + limit)


def _crossing(energy: FloatArray, value: FloatArray, index: int, level: float) -> float:
    """Energy between nodes `index` and the next at which `value`, linear in ln E, is at the level."""
    fraction = (level - value[index]) / (value[index + 1] - value[index])
    return float(energy[index] * (energy[index + 1] / energy[index]) ** fraction)
