"""Draw events from response tables: Poisson processes thinned down from a simple envelope.

Thinning needs no integral of the model: candidates from an envelope that lies above the rate
everywhere are kept with probability rate / envelope, which leaves a Poisson process of exactly that
rate. The rate is the tables' own: multilinear (in the logarithm, for the background) between bin
centres, linear in the outermost half bins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.arrays import FloatArray
from cubeflow.maps.sphere import angular_distance_deg, local_basis, lon_lat
from cubeflow.simulate.options import RunPlan, SimulationOptions
from cubeflow.simulate.responses import Responses, centres, log_centres, make_responses

Columns = dict[str, tuple[NDArray[Any], str]]  # values with rows first, and unit, by name

SOURCE_AMPLITUDE = 3.45e-11  # TeV-1 cm-2 s-1 at 1 TeV, close to the Crab nebula
SOURCE_INDEX = 2.6
MEV_PER_TEV = 1.0e6
CM2_PER_M2 = 1.0e4


class Sample(NamedTuple):
    """Energies in TeV and ICRS unit vectors of drawn events; shapes (n,) and (n, 3)."""

    energy_tev: FloatArray
    direction: FloatArray


def draw_events(plan: RunPlan, options: SimulationOptions) -> Columns:
    """Columns of the event list, sorted in time; MC_ID is 1 for background, 2, 3, ... for the sources."""
    rng = np.random.default_rng([options.seed, plan.obs_id])
    table = make_responses(plan.zenith_deg, options.sizes, options.background_scale)
    pointing = (plan.ra_pnt_deg, plan.dec_pnt_deg)
    samples = [draw_background(rng, table, pointing, plan.ontime_s, options.offset_max_deg)]
    livetime = plan.ontime_s * plan.deadc
    samples += [draw_source(rng, table, pointing, source, livetime) for source in options.sources]
    energy = np.concatenate([sample.energy_tev for sample in samples])
    ra, dec = lon_lat(np.concatenate([sample.direction for sample in samples]))
    component = np.repeat(np.arange(1, len(samples) + 1, dtype=np.int32), [len(s.energy_tev) for s in samples])
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
    rng: np.random.Generator, table: Responses, pointing: tuple[float, float], ontime_s: float, offset_max_deg: float
) -> Sample:
    """Background events of one run, at a rate per **ontime**, within an offset inside the table."""
    knots, field = _log_knots(table.energy_edges_tev), _knots(table.field_edges_deg)
    log_rate = _extend(np.log(table.background * MEV_PER_TEV), (0, 1, 2))
    envelope = log_rate.max(axis=(1, 2))
    cone_sr = 4.0 * np.pi * np.sin(0.5 * np.deg2rad(offset_max_deg)) ** 2
    integral = _power_law_integrals(knots, envelope)
    n_candidates = rng.poisson(integral.sum() * cone_sr * ontime_s)
    log_energy = _draw_power_laws(rng, knots, envelope, integral, n_candidates)
    half_chord = np.sqrt(rng.random(n_candidates)) * np.sin(0.5 * np.deg2rad(offset_max_deg))  # uniform in solid angle
    offset, angle = np.rad2deg(2.0 * np.arcsin(half_chord)), rng.uniform(0.0, 2.0 * np.pi, n_candidates)
    local = _local_directions(offset, angle)
    lon = np.rad2deg(np.arctan2(local[:, 1], local[:, 0]))
    log_value = multilinear(log_rate, (knots, field, field), (log_energy, lon, np.rad2deg(np.arcsin(local[:, 2]))))
    keep = np.log(rng.random(n_candidates)) < log_value - np.interp(log_energy, knots, envelope)
    return Sample(np.exp(log_energy[keep]), local[keep] @ local_basis(*pointing))


def draw_source(
    rng: np.random.Generator,
    table: Responses,
    pointing: tuple[float, float],
    source: tuple[float, float, float],
    livetime_s: float,
) -> Sample:
    """Events of one point source, (ra, dec, flux in units of `SOURCE_AMPLITUDE`); none outside the tables' offsets."""
    offset = float(angular_distance_deg(source[:2], pointing))
    if offset > table.offset_edges_deg[-1]:
        return Sample(np.empty(0), np.empty((0, 3)))
    energy_true = _draw_true_energies(rng, table, offset, source[2] * livetime_s)
    energy = energy_true * _draw_migra(rng, table, energy_true, offset)
    shift, angle = _draw_psf(rng, table, energy_true, offset), rng.uniform(0.0, 2.0 * np.pi, len(energy))
    return Sample(energy, _local_directions(shift, angle) @ local_basis(source[0], source[1]))


def _draw_true_energies(rng: np.random.Generator, table: Responses, offset: float, time_s: float) -> FloatArray:
    """True energies of the detected events, shape (n,), in TeV."""
    area = np.maximum(_at_offset(table, table.area_m2, offset), 0.0)
    low, high = table.energy_true_edges_tev[[0, -1]] ** (1.0 - SOURCE_INDEX)
    flux = SOURCE_AMPLITUDE * CM2_PER_M2 * (low - high) / (SOURCE_INDEX - 1.0)
    n_candidates = rng.poisson(flux * area.max() * time_s)
    energy = (low - rng.random(n_candidates) * (low - high)) ** (1.0 / (1.0 - SOURCE_INDEX))
    knots = _log_knots(table.energy_true_edges_tev)
    return energy[rng.random(n_candidates) * area.max() < np.interp(np.log(energy), knots, area)]


def _draw_migra(rng: np.random.Generator, table: Responses, energy_true: FloatArray, offset: float) -> FloatArray:
    """Reconstructed over true energy, shape (n,): uniform within the bins of the interpolated table."""
    density = _at_energies(table, _at_offset(table, table.migra_density, offset), energy_true)
    probability = np.maximum(density, 0.0) * np.diff(table.migra_edges)
    cumulative = np.cumsum(probability, axis=1)
    target = rng.random((len(energy_true), 1)) * cumulative[:, -1:]
    index = np.minimum((cumulative <= target).sum(axis=1), probability.shape[1] - 1)
    event = np.arange(len(energy_true))
    upper, inside = cumulative[event, index], probability[event, index]
    fraction = 1.0 - (upper - target[:, 0]) / inside
    return table.migra_edges[index] + fraction * np.diff(table.migra_edges)[index]


def _draw_psf(rng: np.random.Generator, table: Responses, energy_true: FloatArray, offset: float) -> FloatArray:
    """Distance from the true direction in deg, shape (n,), with the tables' interpolated widths and weights."""
    sigma = _at_energies(table, _at_offset(table, np.moveaxis(table.psf_sigma_deg, 0, 1), offset), energy_true)
    weight = _at_energies(table, _at_offset(table, np.moveaxis(table.psf_fraction, 0, 1), offset), energy_true)
    chosen = (rng.random((len(energy_true), 1)) > np.cumsum(weight, axis=1)).sum(axis=1)
    chosen = np.minimum(chosen, sigma.shape[1] - 1)
    radius = np.sqrt(-2.0 * np.log1p(-rng.random(len(energy_true))))
    return radius * sigma[np.arange(len(energy_true)), chosen]


def _at_offset(table: Responses, values: FloatArray, offset: float) -> FloatArray:
    """Table of shape (n_energy, ..., n_offset) at one offset, with the energy edges added: (n_energy + 2, ...)."""
    extended = _extend(values, (0, values.ndim - 1))
    index, fraction = _cells(_knots(table.offset_edges_deg), np.array([offset]))
    return extended[..., index[0]] * (1.0 - fraction[0]) + extended[..., index[0] + 1] * fraction[0]


def _at_energies(table: Responses, values: FloatArray, energy_tev: FloatArray) -> FloatArray:
    """Rows of shape (n, ...) of a table over the true-energy knots at n energies."""
    index, fraction = _cells(_log_knots(table.energy_true_edges_tev), np.log(energy_tev))
    return values[index] * (1.0 - fraction[:, np.newaxis]) + values[index + 1] * fraction[:, np.newaxis]


def multilinear(values: FloatArray, knots: tuple[FloatArray, ...], points: tuple[FloatArray, ...]) -> FloatArray:
    """Multilinear interpolation of `values` on `knots` at n points; shape (n,)."""
    located = [_cells(knot, point) for knot, point in zip(knots, points, strict=True)]
    result = np.zeros(len(points[0]))
    for corner in np.ndindex(*(2,) * len(knots)):
        weight = np.prod([f if up else 1.0 - f for (_, f), up in zip(located, corner, strict=True)], axis=0)
        result += weight * values[tuple(i + up for (i, _), up in zip(located, corner, strict=True))]
    return result


def _cells(knots: FloatArray, points: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Cell of each point and how far along it lies in that cell."""
    index = np.clip(np.searchsorted(knots, points, side="right") - 1, 0, len(knots) - 2)
    return index, (points - knots[index]) / (knots[index + 1] - knots[index])


def _knots(edges: FloatArray) -> FloatArray:
    """Bin centres with the two outer edges, shape (n + 2,)."""
    return np.concatenate([edges[:1], centres(edges), edges[-1:]])


def _log_knots(edges: FloatArray) -> FloatArray:
    """Logarithms of the geometric bin centres and of the two outer edges, shape (n + 2,)."""
    return np.log(np.concatenate([edges[:1], log_centres(edges), edges[-1:]]))


def _extend(values: FloatArray, axes: tuple[int, ...]) -> FloatArray:
    """Table with its linear extrapolation to the outer edges added along `axes`: half a (regular) bin."""
    for axis in axes:
        table = np.moveaxis(values, axis, 0)
        first, last = 1.5 * table[0] - 0.5 * table[1], 1.5 * table[-1] - 0.5 * table[-2]
        values = np.moveaxis(np.concatenate([first[np.newaxis], table, last[np.newaxis]]), 0, axis)
    return values


def _power_law_integrals(log_energy: FloatArray, log_rate: FloatArray) -> FloatArray:
    """Integral over energy of each piece of a function that is linear in log-log; shape (n - 1,)."""
    log_value = log_rate + log_energy  # E dN/dE: the integrand over ln E
    slope = np.diff(log_value)
    mean = np.where(np.abs(slope) < 1e-12, 1.0, np.expm1(slope) / np.where(slope == 0.0, 1.0, slope))
    return np.exp(log_value[:-1]) * mean * np.diff(log_energy)


def _draw_power_laws(
    rng: np.random.Generator, log_energy: FloatArray, log_rate: FloatArray, integral: FloatArray, size: int
) -> FloatArray:
    """Logarithms of n energies from a function that is linear in log-log between the knots."""
    piece = np.searchsorted(np.cumsum(integral), rng.random(size) * integral.sum(), side="right")
    piece = np.minimum(piece, len(integral) - 1)
    slope = np.diff(log_rate + log_energy)[piece]
    uniform = rng.random(size)
    flat = np.abs(slope) < 1e-12
    along = np.where(flat, uniform, np.log1p(uniform * np.expm1(slope)) / np.where(flat, 1.0, slope))
    return log_energy[piece] + along * np.diff(log_energy)[piece]


def _local_directions(distance_deg: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """Vectors (outward, east, north) at a distance and a position angle east of north; shape (n, 3)."""
    distance = np.deg2rad(distance_deg)
    sine = np.sin(distance)
    return np.stack([np.cos(distance), sine * np.sin(angle_rad), sine * np.cos(angle_rad)], axis=-1)
