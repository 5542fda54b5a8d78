"""Safe masks: where and at which reconstructed energies the responses can be trusted.

A bin is safe only if the whole bin is: a threshold in energy must not lie above its lower edge. Thresholds
that are found in true energy (effective area) are applied in reconstructed energy as they are. Nothing is safe at
offsets that a response of the run does not cover.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import BackgroundRate
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps import Axis, BoolArray, Cube, FloatArray, Geometry
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.observation import EventList, Observation, RunRefused
from cubeflow.products.setting import Setting

SafeMaskMethod = Literal["offset-max", "aeff-default", "aeff-max", "edisp-bias", "bkg-peak"]
METHODS = get_args(SafeMaskMethod)
NEEDED = {"aeff-default": "aeff", "bkg-peak": "background", "aeff-max": "aeff", "edisp-bias": "edisp"}
# Relative slack with which a bin edge may lie beyond a threshold: rounding of the edges, not physics.
EDGE_TOLERANCE = 1e-9
FIELD_STEP_DEG = 0.1  # grid on which the background rate is summed over the field of view
OFFSET_STEP_DEG = 0.01  # thresholds at each pixel's own offset are linear between such steps


@dataclass(frozen=True)
class SafeMaskOptions:
    """Where the data of a run may be used."""

    methods: tuple[SafeMaskMethod, ...] = ("offset-max", "aeff-default")
    """Conditions that must all hold. offset-max: offset below the largest; aeff-default: LO_THRES and HI_THRES of the
    effective area; aeff-max: effective area of at least aeff_percent of its largest; edisp-bias: energy bias of at
    most bias_percent; bkg-peak: from the peak of the background per logarithm of the energy on."""
    aeff_percent: Annotated[float, Setting(above=0, below=100)] = 10.0
    """aeff-max: least effective area, in percent of the largest."""
    bias_percent: Annotated[float, Setting(above=0, below=100)] = 10.0
    """edisp-bias: largest energy bias, in percent."""
    position: Literal["own", "target"] = "own"
    """Offset at which aeff-max and edisp-bias find the energy: each pixel's own, or the target's."""

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"methods: expected some of {', '.join(METHODS)}, got {method!r}")


def make_mask_safe(
    observation: Observation,
    geom: Geometry,
    energy: Axis,
    offset_max_deg: float,
    options: SafeMaskOptions,
    target_deg: tuple[float, float] | None = None,
) -> Cube:
    """Safe mask of a run, (energy, lat, lon), bool: True where all conditions hold.

    The largest offset is that of ``offset-max`` (pixel centres below it) and ``bkg-peak``; `target_deg`, the ICRS
    position of the target, is needed for ``position: target``. RunRefused if a condition needs a response that the run
    does not have, ValueError if the target is needed and not given.
    """
    pointing = observation.pointing
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    lower, upper = _energy_range(observation, offset, energy, offset_max_deg, options, target_deg)
    edges = energy.edges_array[:, None, None]
    mask = (edges[:-1] >= lower * (1 - EDGE_TOLERANCE)) & (edges[1:] <= upper * (1 + EDGE_TOLERANCE))
    mask = mask & _is_covered(observation, offset)
    if "offset-max" in options.methods:
        mask &= offset < offset_max_deg
    return Cube(mask, "", geom, (energy,))


def count_cut(
    observation: Observation,
    events: EventList,
    mask: Cube,
    offset_max_deg: float,
    options: SafeMaskOptions,
    target_deg: tuple[float, float] | None = None,
) -> int:
    """Events whose energy is within the thresholds, but not the whole of their bin, which so is not safe.

    They are lost between a threshold and the first whole bin; arguments as for `make_mask_safe`, which made `mask`.
    """
    energy, pointing_deg, total = mask.axis("energy"), (observation.pointing.ra_deg, observation.pointing.dec_deg), 0
    for part in events.blocks():
        offset = angular_distance_deg((part.ra_deg, part.dec_deg), pointing_deg)
        lower, upper = _energy_range(observation, offset, energy, offset_max_deg, options, target_deg)
        part = part.select((part.energy_tev >= lower) & (part.energy_tev < upper))
        index, (ix, iy) = energy.index(part.energy_tev), mask.geom.pixel_index(part.ra_deg, part.dec_deg)
        on_map = (index >= 0) & (ix >= 0)
        index, ix, iy = index[on_map], ix[on_map], iy[on_map]
        offset = mask.geom.offset_deg(*pointing_deg)[iy, ix]
        in_field = (offset < offset_max_deg) & _is_covered(observation, offset)
        total += int(np.count_nonzero(in_field & ~mask.data[index, iy, ix]))
    return total


def is_of_source(observation: Observation) -> bool:
    """Whether responses hold at one offset, of a source, while the background of the field about it is known."""
    aeff = observation.aeff
    at_one_offset = aeff is not None and len(aeff.offset) == 1
    return at_one_offset and observation.point_like and observation.background is not None


def _is_covered(observation: Observation, offset_deg: FloatArray) -> BoolArray:
    """Whether all responses of a run that speak of its field reach to offsets of shape (...); False for NaN."""
    covered = np.isfinite(offset_deg)
    for response in (getattr(observation, name, None) for name in ("aeff", "edisp", "psf")):
        if response is not None and not (len(response.offset) == 1 and is_of_source(observation)):
            covered &= response.offset.inside(offset_deg)
    return covered


def _energy_range(
    observation: Observation,
    offset_deg: FloatArray,
    energy: Axis,
    offset_max_deg: float,
    options: SafeMaskOptions,
    target_deg: tuple[float, float] | None,
) -> tuple[float | FloatArray, float]:
    """Lower threshold at offsets of shape (...), or one for all, and upper one, TeV.

    LO_THRES and HI_THRES that are missing or zero do not cut.
    """
    for method, name in NEEDED.items():
        if method in options.methods and getattr(observation, name) is None:
            raise RunRefused(f"run {observation.obs_id}: safe mask {method} needs {name}, which the run does not have")
    found: list[Any] = [observation.aeff, observation.edisp, observation.background]
    (aeff, edisp, background), pointing, lower, upper = found, observation.pointing, 0.0, float("inf")
    if "aeff-default" in options.methods:
        lower, upper = aeff.lo_thres_tev or lower, aeff.hi_thres_tev or upper
    if "bkg-peak" in options.methods:
        lower = max(lower, threshold_bkg_peak(background, energy, offset_max_deg))
    thresholds: list[Callable[[FloatArray], FloatArray]] = []  # at offsets, shape (o,)
    if "aeff-max" in options.methods:
        thresholds.append(partial(threshold_aeff_max, aeff, options.aeff_percent))
    if "edisp-bias" in options.methods:
        thresholds.append(partial(threshold_edisp_bias, edisp, options.bias_percent))
    if options.position == "own":
        own = [_at_own_offset(threshold, offset_deg) for threshold in thresholds if offset_deg.size]
        return np.max([np.full(offset_deg.shape, lower), *own], axis=0) if own else lower, upper
    for threshold in thresholds:
        if target_deg is None:
            raise ValueError("safe_mask: position target needs the position of the target")
        distance = angular_distance_deg((pointing.ra_deg, pointing.dec_deg), target_deg)
        lower = max(lower, float(threshold(np.atleast_1d(distance))[0]))
    return lower, upper


def _at_own_offset(threshold: Callable[[FloatArray], FloatArray], offset_deg: FloatArray) -> FloatArray:
    """Threshold at each pixel's offset, shape (ny, nx); infinity where there is none beside it."""
    farthest = float(np.nanmax(offset_deg))
    steps = np.arange(0.0, farthest + 2 * OFFSET_STEP_DEG, OFFSET_STEP_DEG)
    values = threshold(steps)
    index = np.nan_to_num(offset_deg / OFFSET_STEP_DEG).astype(np.int64)
    fraction = offset_deg / OFFSET_STEP_DEG - index
    with np.errstate(invalid="ignore"):
        own = values[index] + fraction * (values[index + 1] - values[index])
    return np.where(np.isfinite(own), own, np.inf)


def threshold_aeff_max(aeff: EffectiveArea, percent: float, offset_deg: ArrayLike) -> FloatArray:
    """Energy in TeV, shape (o,), above which the effective area is at least a percentage of its maximum.

    Going down from the maximum over energy, it is where the area, linear in ln E between the nodes of the table, falls
    below it for the first time; infinity without any area, the table's lower edge where it never falls below.
    """
    nodes = aeff.energy_true.values
    area = aeff.evaluate(nodes, np.atleast_1d(offset_deg))  # (n_energy, o)
    return np.array([_last_rise(nodes, column, percent / 100, aeff.energy_true.lower) for column in area.T])


def threshold_edisp_bias(edisp: EnergyDispersion, percent: float, offset_deg: ArrayLike) -> FloatArray:
    """Reconstructed energy in TeV, shape (o,), above which the energy bias is at most a percentage.

    The bias is the mean of reconstructed over true energy, minus one, at the nodes of the table and linear in ln E
    between. Going up from its maximum, it is the first energy where the bias is down at the value; infinity without
    energy dispersion or if it never comes down, the lowest energy with a dispersion if it is never larger.
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
