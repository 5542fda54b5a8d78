"""Draw events from response tables: Poisson processes thinned down from a simple envelope.

Thinning needs no integral of the model: candidates from an envelope that lies above the rate everywhere are kept with
probability rate / envelope, which leaves a Poisson process of exactly that rate. The rate is that of the tables; the
background is interpolated in the logarithm.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from cubeflow.maps.arrays import FloatArray, Pair
from cubeflow.maps.sphere import angular_distance_deg, local_basis, lon_lat
from cubeflow.simulate.array import Responses, RunPlan, SimulationOptions, centres, local_directions, make_responses

Columns = dict[str, tuple[NDArray[Any], str]]  # values with rows first, and unit, by name
Place = tuple[float, float]  # right ascension and declination, ICRS, deg
Sample = Pair  # energies in TeV, shape (n,), and ICRS unit vectors, shape (n, 3)

# Multilinear between bin centres, and on from the outermost.
_interpolator = partial(RegularGridInterpolator, bounds_error=False, fill_value=None)
SOURCE_AMPLITUDE = 3.45e-11  # TeV-1 cm-2 s-1 at 1 TeV, close to the Crab nebula
SOURCE_INDEX = 2.6
MEV_PER_TEV = 1.0e6
CM2_PER_M2 = 1.0e4


def draw_events(plan: RunPlan, options: SimulationOptions) -> Columns:
    """Columns of the event list, sorted in time; MC_ID is 1 for background, 2, 3, ... for the sources."""
    rng = np.random.default_rng([options.seed, plan.obs_id])
    table = make_responses(plan.zenith_deg, options.tiny, options.background_scale)
    pointing, livetime = (plan.ra_pnt_deg, plan.dec_pnt_deg), plan.ontime_s * plan.deadc
    samples = [draw_background(rng, table, pointing, plan.ontime_s, options.offset_max_deg)]
    samples += [draw_source(rng, table, pointing, source, livetime) for source in options.sources]
    energy, direction = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    ra, dec = lon_lat(direction)
    component = np.repeat(np.arange(1, len(samples) + 1, dtype=np.int32), [len(drawn) for drawn, _ in samples])
    length = plan.stop_s - plan.start_s
    elapsed = rng.random(len(energy)) * length.sum()  # uniform within the good time intervals
    before = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    interval = np.searchsorted(before, elapsed, side="right") - 1
    time = plan.start_s[interval] + (elapsed - before[interval])
    order = np.argsort(time, kind="stable")
    ra_single = ra[order].astype(np.float32)
    return {
        "EVENT_ID": (np.arange(1, len(energy) + 1, dtype=np.int64), ""),
        "TIME": (time[order], "s"),
        "RA": (np.where(ra_single >= 360.0, np.float32(0.0), ra_single), "deg"),
        "DEC": (dec[order].astype(np.float32), "deg"),
        "ENERGY": (energy[order].astype(np.float32), "TeV"),
        "MC_ID": (component[order], ""),
    }


def draw_background(
    rng: Generator, table: Responses, pointing: Place, ontime_s: float, offset_max_deg: float
) -> Sample:
    """Background events of one run, at a rate per **ontime**, within an offset inside the table."""
    knots, field = _log_knots(table.energy_edges_tev), centres(table.field_edges_deg)
    log_rate = _interpolator((knots[1:-1], field, field), np.log(table.background * MEV_PER_TEV))
    places = np.union1d(field, table.field_edges_deg[[0, -1]])
    envelope = log_rate(tuple(np.meshgrid(knots, places, places, indexing="ij"))).max(axis=(1, 2))
    cone_sr = 4.0 * np.pi * np.sin(0.5 * np.deg2rad(offset_max_deg)) ** 2
    log_energy = _draw_power_laws(rng, knots, envelope, cone_sr * ontime_s)
    n_candidates = len(log_energy)
    half_chord = np.sqrt(rng.random(n_candidates)) * np.sin(0.5 * np.deg2rad(offset_max_deg))  # uniform in solid angle
    offset, angle = np.rad2deg(2.0 * np.arcsin(half_chord)), rng.uniform(0.0, 2.0 * np.pi, n_candidates)
    local = local_directions(offset, angle)
    lon = np.rad2deg(np.arctan2(local[:, 1], local[:, 0]))
    log_value = log_rate((log_energy, lon, np.rad2deg(np.arcsin(local[:, 2]))))
    keep = np.log(rng.random(n_candidates)) < log_value - np.interp(log_energy, knots, envelope)
    return np.exp(log_energy[keep]), local[keep] @ local_basis(*pointing)


def draw_source(
    rng: Generator, table: Responses, pointing: Place, source: tuple[float, float, float], livetime_s: float
) -> Sample:
    """Events of one point source, (ra, dec, flux in units of `SOURCE_AMPLITUDE`); none outside the tables' offsets."""
    offset = float(angular_distance_deg(source[:2], pointing))
    if offset > table.offset_edges_deg[-1]:
        return np.empty(0), np.empty((0, 3))
    energy_true = _draw_true_energies(rng, table, offset, source[2] * livetime_s)
    energy = energy_true * _draw_migra(rng, table, energy_true, offset)
    shift, angle = _draw_psf(rng, table, energy_true, offset), rng.uniform(0.0, 2.0 * np.pi, len(energy))
    return energy, local_directions(shift, angle) @ local_basis(*source[:2])


def _draw_true_energies(rng: Generator, table: Responses, offset: float, time_s: float) -> FloatArray:
    """True energies of the detected events, shape (n,), in TeV."""
    knots = _log_knots(table.energy_true_edges_tev)
    area = np.maximum(_responses_at(table, table.area_m2, knots, offset), 0.0)
    low, high = table.energy_true_edges_tev[[0, -1]] ** (1.0 - SOURCE_INDEX)
    flux = SOURCE_AMPLITUDE * CM2_PER_M2 * (low - high) / (SOURCE_INDEX - 1.0)
    n_candidates = rng.poisson(flux * area.max() * time_s)
    energy = (low - rng.random(n_candidates) * (low - high)) ** (1.0 / (1.0 - SOURCE_INDEX))
    return energy[rng.random(n_candidates) * area.max() < np.interp(np.log(energy), knots, area)]


def _draw_migra(rng: Generator, table: Responses, energy_true: FloatArray, offset: float) -> FloatArray:
    """Reconstructed over true energy, shape (n,): uniform within the bins of the interpolated table."""
    density = _responses_at(table, np.moveaxis(table.migra_density, 2, 1), np.log(energy_true), offset)
    probability = np.maximum(density, 0.0) * np.diff(table.migra_edges)
    cumulative = np.cumsum(probability, axis=1)
    target = rng.random((len(energy_true), 1)) * cumulative[:, -1:]
    index = np.minimum((cumulative <= target).sum(axis=1), probability.shape[1] - 1)
    event = np.arange(len(energy_true))
    upper, inside = cumulative[event, index], probability[event, index]
    fraction = 1.0 - (upper - target[:, 0]) / inside
    return table.migra_edges[index] + fraction * np.diff(table.migra_edges)[index]


def _draw_psf(rng: Generator, table: Responses, energy_true: FloatArray, offset: float) -> FloatArray:
    """Distance from the true direction in deg, shape (n,), with the tables' interpolated widths and weights."""
    tables = (np.moveaxis(values, 0, 2) for values in (table.psf_sigma_deg, table.psf_fraction))
    sigma, weight = (_responses_at(table, values, np.log(energy_true), offset) for values in tables)
    chosen = (rng.random((len(energy_true), 1)) > np.cumsum(weight, axis=1)).sum(axis=1)
    chosen = np.minimum(chosen, sigma.shape[1] - 1)
    radius = np.sqrt(-2.0 * np.log1p(-rng.random(len(energy_true))))
    return radius * sigma[np.arange(len(energy_true)), chosen]


def _responses_at(table: Responses, values: FloatArray, log_energy: FloatArray, offset_deg: float) -> FloatArray:
    """Values of a table of shape (n_energy_true, n_offset, ...) at logarithms of n energies, shape (n, ...)."""
    axes = np.log(centres(table.energy_true_edges_tev, log=True)), centres(table.offset_edges_deg)
    return _interpolator(axes, values)((log_energy, offset_deg))


def _log_knots(edges: FloatArray) -> FloatArray:
    """Logarithms of the geometric bin centres and of the two outer edges, shape (n + 2,)."""
    return np.log(np.union1d(centres(edges, log=True), edges[[0, -1]]))


def _draw_power_laws(rng: Generator, log_energy: FloatArray, log_rate: FloatArray, exposure: float) -> FloatArray:
    """Logarithms of the energies of a Poisson process; its rate is linear in log-log between the knots."""
    log_value, width = log_rate + log_energy, np.diff(log_energy)  # E dN/dE: the integrand over ln E
    slope = np.diff(log_value)
    flat = np.abs(slope) < 1e-12
    integral = np.exp(log_value[:-1]) * np.where(flat, 1.0, np.expm1(slope) / np.where(flat, 1.0, slope)) * width
    size = rng.poisson(integral.sum() * exposure)
    piece = np.searchsorted(np.cumsum(integral), rng.random(size) * integral.sum(), side="right")
    piece = np.minimum(piece, len(integral) - 1)
    slope, flat, uniform = slope[piece], flat[piece], rng.random(size)
    along = np.where(flat, uniform, np.log1p(uniform * np.expm1(slope)) / np.where(flat, 1.0, slope))
    return log_energy[piece] + along * width[piece]
