"""Acceptance models from events: the background response that files do not carry, fitted to OFF runs.

Each OFF run gives counts and exposure (ontime x solid angle of what is in the good time intervals, safe and not
excluded) of the cells of its field of view. The model is fitted to their sums, with a norm for each run::

    expected[run, energy, cell] = norm[run] * exposure[run, energy, cell] * rate[energy, cell]

A run never models itself: what it gave is subtracted from the sums, and the shape is fitted again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np

from cubeflow.errors import FailedError
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.energy_chain import fill_log_rate, integrate_rate
from cubeflow.irf.table import Nodes, nodes_from_edges
from cubeflow.maps import Axis, make_geometry
from cubeflow.maps.arrays import FloatArray, IntArray
from cubeflow.maps.horizon import horizontal_offset
from cubeflow.maps.sphere import sky_offset, unit_vectors
from cubeflow.observation import Observation, RunRefused, RunSkipped, to_mjd
from cubeflow.products.acceptance import make_field_rotation
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exclusion import ExclusionMasks
from cubeflow.products.fov_background import merge_energy_groups
from cubeflow.products.profiles import OFFSET_WIDTH_DEG, SCATTERS, energy_bands, likelihood_of_scatter, scatter_by_ring
from cubeflow.products.safe_mask import SafeMaskOptions, make_mask_safe
from cubeflow.products.setting import Setting

FORMS: tuple[Literal["radial", "gradient", "smooth", "grid"], ...] = ("radial", "gradient", "smooth", "grid")
SUBCELLS = 8  # pixels of the sky along a cell
RADIAL, SMOOTH = 6, 8  # steps between splines: in the squared offset up to the rim, and across the field
FOLDS = 5  # parts of the runs that are held out in turn
MOST_ROUNDS, STEP = 30, 1e-6  # of norms and shape in turn
UNSETTLED = 1e-3  # relative change of the rate in the last round, above which a fit has not come to its end
WAY_OUT = "expected more of the field (offset_max, exclusion), smaller cells or another form of a named model"
LEAST_PENALTY, MOST_PENALTY = 1e-4, 1e7
BEYOND = "beyond-model-zenith"  # noted with the quirks of a run
BESIDE = 0.05  # of the cosine of the zenith angle: half a bin, of a model without bins


Parts = Sequence[tuple[FloatArray, FloatArray]]  # counts and exposure at each node, shape (run, energy, cell)


@dataclass(frozen=True)
class OffOptions:
    """What decides the counts and the exposure that an OFF run gives."""

    energy: Axis
    offset_max_deg: float
    safe_mask: SafeMaskOptions
    cell_deg: float
    alignment: Literal["RADEC", "ALTAZ"]
    duplicates: Literal["refuse", "drop"] = "refuse"
    time_mjd: tuple[tuple[float, float], ...] | None = None
    events_where: str | None = None  # condition on the columns of EVENTS

    @property
    def edges_deg(self) -> FloatArray:
        """Edges of the cells in longitude and in latitude: one row of cells lies beyond the rim of the field."""
        n_cells = int(np.ceil(self.offset_max_deg / self.cell_deg - 1e-9)) + 1
        return self.cell_deg * np.arange(-n_cells, n_cells + 1.0)


@dataclass(frozen=True)
class FitOptions:
    """How a model is fitted, and for which runs it holds."""

    form: Literal["auto", "radial", "gradient", "grid", "smooth"] = "auto"
    """Shape at each energy: a function of the offset; that times exp(gx x + gy y); a free grid; a smooth surface; auto
    is the one that describes runs best that it was not fitted to."""
    zenith_deg: Annotated[tuple[Annotated[float, Setting("deg", least=0, below=90)], ...], Setting(alone=True)] = ()
    """Edges of bins in zenith angle, between whose nodes the logarithm of the rate is linear in the cosine; null for
    one shape and rate."""
    min_counts: Annotated[int, Setting(least=1)] = 1000
    """Energies with fewer counts share one shape with their neighbours."""
    leave_out: Literal["run", "night", "target"] = "run"
    """What is taken out of the model for a run: itself, its night, or all runs on its object."""
    on_failure: Literal["drop", "keep", "error"] = "drop"
    """A run beyond the zenith angles of the model: leave it out, take the nearest node, or refuse it."""

    def __post_init__(self) -> None:
        if len(self.zenith_deg) == 1 or np.any(np.diff(self.zenith_deg) <= 0):
            raise ValueError(f"zenith_deg: expected two or more increasing angles, got {list(self.zenith_deg)} deg")


@dataclass(frozen=True)
class RunFacts:
    """What tells a run from others."""

    obs_id: int
    night: int  # MJD at local noon
    object: str
    instrument: str  # TELESCOP and INSTRUME
    cos_zenith: float | None  # of the zenith angle: as ALT_PNT says, else mean over the good time; None if not known

    @classmethod
    def of(cls, observation: Observation) -> RunFacts:
        """Those of an observation."""
        meta, site, pointing = observation.meta, observation.site, observation.pointing
        noon = 0.5 if site is None else 0.5 - site.lon_deg / 360.0
        night = int(np.floor(float(to_mjd(observation.gti.start_s)[0]) - noon))
        cosine = None
        if meta.get("zenith_deg") is not None:
            cosine = float(np.cos(np.deg2rad(meta["zenith_deg"])))
        elif site is not None:
            rotation = make_field_rotation(observation.gti, site, pointing)
            mean = float(rotation.share @ rotation.zenith @ unit_vectors(pointing.ra_deg, pointing.dec_deg))
            cosine = mean if mean > 0 else None  # below the horizon: the times of a simulation are made up
        instrument = " ".join(str(meta.get(key) or "") for key in ("telescope", "instrument"))
        return cls(observation.obs_id, night, str(meta.get("object") or ""), instrument, cosine)


@dataclass(frozen=True, eq=False)
class OffRun:
    """What an OFF run gives: counts and exposure (s sr), shape (energy, lon, lat)."""

    facts: RunFacts
    counts: IntArray
    exposure: FloatArray


@dataclass(frozen=True, eq=False)
class AcceptanceModel:
    """A fitted model."""

    off: OffOptions
    fit: FitOptions  # with the form that was chosen
    held_out: Mapping[str, float | None]  # ln L of runs that a form was not fitted to, by form; None if they cannot be
    runs: tuple[RunFacts, ...]  # OFF runs in order of their ids
    counts: IntArray  # of each, shape (n_runs, energy, lon, lat)
    exposure: FloatArray  # and of the same shape, s sr
    norms: FloatArray  # rate of each over that of the model, shape (n_runs,)
    node: IntArray  # of each in zenith angle, shape (n_runs,)
    cos_zenith: FloatArray  # of the nodes, increasing, shape (n_nodes,); NaN if not known
    limits: FloatArray  # cosines between which the model holds, shape (2,); NaN if not known
    rate: FloatArray  # s-1 sr-1, integrated over each energy bin, shape (n_nodes, energy, lon, lat)
    error: FloatArray  # relative error of the rate, of the same shape; infinite without counts
    # Relative error of what is predicted for a run, beyond counts and norm, and the error of that, in bands of energy
    # and rings of offset, from runs that it was not fitted to, shape (2, n_band, n_ring); NaN for no answer.
    systematic: FloatArray


def make_off_run(observation: Observation, options: OffOptions, exclusions: ExclusionMasks) -> OffRun:
    """Counts and exposure of a run in the cells of its field of view.

    Events and exposure go through the same pixels of the sky: one mask says of both what is safe and not excluded. For
    ``ALTAZ`` the field turns below the cells, in steps of at most one degree. RunRefused if a response that the safe
    mask needs is missing, or the position of the observatory for ``ALTAZ``.
    """
    pointing, edges, gti = observation.pointing, options.edges_deg, observation.gti
    position, n_cells = (pointing.ra_deg, pointing.dec_deg), len(edges) - 1
    width = 2 * float(edges[-1])
    geom = make_geometry("icrs", "TAN", *position, (width, width), options.cell_deg / SUBCELLS)
    vectors, energy = geom.center_vectors.reshape(-1, 3), options.energy
    if observation.point_like and observation.background is None:  # which is to be made, for the whole field
        anywhere = nodes_from_edges([0.0], [180.0], log=False)
        flat = Background2D(energy.edges_array, anywhere, np.ones((energy.n_bins, 1)))
        observation = replace(observation, background=flat)
    allowed = make_mask_safe(observation, geom, energy, options.offset_max_deg, options.safe_mask).data
    allowed = allowed & (geom.offset_deg(*position) < options.offset_max_deg) & ~exclusions.mask(geom, energy)
    solid_angle = (allowed * (geom.solid_angle_sr * observation.ontime_s)).reshape(energy.n_bins, -1)
    events = observation.events.select(gti.contains(observation.events.time_s))
    share, start_s, fields = np.ones(1), gti.start_s[:1], [sky_offset(vectors, *position)]
    if options.alignment == "ALTAZ":
        if observation.site is None:
            raise RunRefused(f"run {observation.obs_id}: alignment ALTAZ: expected GEOLON and GEOLAT in EVENTS")
        rotation = make_field_rotation(gti, observation.site, pointing)
        share, start_s, origin = rotation.share, rotation.start_s, unit_vectors(*position)
        fields = [horizontal_offset(vectors, origin, zenith) for zenith in rotation.zenith]
    step = np.searchsorted(start_s, events.time_s, side="right") - 1
    counts = np.zeros((energy.n_bins, n_cells**2))
    exposure = np.zeros_like(counts)
    for number, field in enumerate(fields):
        i, j = (np.searchsorted(edges, each, side="right") - 1 for each in field)
        inside = (i >= 0) & (i < n_cells) & (j >= 0) & (j < n_cells)
        cell = (i * n_cells + j)[inside]
        seen = make_map_counts(events.select(step == number), geom, energy).data * allowed
        for k, (found, area) in enumerate(zip(seen.reshape(energy.n_bins, -1), solid_angle, strict=True)):
            counts[k] += np.bincount(cell, found[inside], n_cells**2)
            exposure[k] += np.bincount(cell, share[number] * area[inside], n_cells**2)
    shape = energy.n_bins, n_cells, n_cells
    return OffRun(RunFacts.of(observation), counts.astype(np.int64).reshape(shape), exposure.reshape(shape))


class _Basis(NamedTuple):
    """Functions of the cells whose sum is ln(rate), shape (cells, p), and what roughness costs, (p, p)."""

    design: FloatArray
    penalty: FloatArray
    rank: int
    start: FloatArray  # coefficients of the function that is 1 everywhere


@lru_cache(8)
def _basis(form: str, options: OffOptions) -> _Basis:
    """Cubic B-splines with a penalty on differences of their coefficients, which leaves a Gaussian acceptance free.

    They are functions of the squared offset, or, for ``smooth``, products of those of longitude and latitude.

    References
    ----------
    Eilers & Marx 1996, Stat. Sci. 11, 89.
    """
    centers = options.edges_deg[:-1] + 0.5 * options.cell_deg
    lon, lat = (axis.ravel() for axis in np.meshgrid(centers, centers, indexing="ij"))
    if form == "smooth":
        line, rough = _splines(centers, options.edges_deg[0], -2 * options.edges_deg[0] / SMOOTH, 3)
        n = len(rough)
        penalty = np.kron(rough, np.eye(n)) + np.kron(np.eye(n), rough)
        return _Basis(np.kron(line, line).astype(float), penalty, n * n - 9, np.ones(n * n))
    design, rough = _splines((lon**2 + lat**2) / options.offset_max_deg**2, 0.0, 1.0 / RADIAL, 2)
    n, n_more = len(rough), 2 if form == "gradient" else 0
    design = np.column_stack([design, lon, lat][: 1 + n_more])
    return _Basis(design, np.pad(rough, (0, n_more)), n - 2, np.repeat([1.0, 0.0], [n, n_more]))


def _splines(x: FloatArray, first: float, step: float, order: int) -> tuple[FloatArray, FloatArray]:
    """Splines on knots from `first` on, shape (x, n), and the penalty on differences of an order, shape (n, n)."""
    from scipy.interpolate import BSpline

    n_steps = int(np.ceil((x.max() - first) / step))
    design = BSpline.design_matrix(x, first + step * np.arange(-3, n_steps + 4), 3).toarray()
    rough = np.diff(np.eye(design.shape[1]), order, axis=0)
    return design, rough.T @ rough


def _fit_surface(counts: FloatArray, exposure: FloatArray, basis: _Basis) -> tuple[FloatArray, FloatArray]:
    """Most likely rate of cells, shape (cells,), and the variance of its logarithm, with the most likely penalty.

    References
    ----------
    Wood & Fasiolo 2017, Biometrics 73, 1071 (update of the strength of the penalty).
    """
    used = exposure > 0
    if (n_used := np.count_nonzero(used)) < len(basis.start):
        raise FailedError(f"{n_used} cells with exposure for {len(basis.start)} coefficients; {WAY_OUT}")
    design, penalty, n, t = basis.design[used], basis.penalty, counts[used], exposure[used]
    theta, strength = basis.start * np.log(n.sum() / t.sum()), 1.0
    for _ in range(200):
        expected = t * np.exp(design @ theta)
        try:
            covariance = np.linalg.inv(design.T @ (expected[:, None] * design) + strength * penalty)
        except np.linalg.LinAlgError as error:
            raise FailedError(f"the cells with exposure do not decide the shape; {WAY_OUT}") from error
        step = covariance @ (design.T @ (n - expected) - strength * penalty @ theta)
        size = float(np.abs(design @ step).max())
        theta = theta + step * min(1.0, 2.0 / max(size, 1e-9))  # Newton, but no leaps
        free, cost = basis.rank - strength * float(np.sum(covariance * penalty)), float(theta @ penalty @ theta)
        previous, strength = strength, min(max(free / max(cost, 1e-9), LEAST_PENALTY), MOST_PENALTY)
        if size < 1e-7 and abs(strength / previous - 1.0) < 1e-4:
            break
    _require_settled(size)  # the strength alone may still drift where any is as good
    return np.exp(basis.design @ theta), np.einsum("cp,pq,cq->c", basis.design, covariance, basis.design)


def _require_settled(change: float) -> None:
    """FailedError if the last change of a fit was large, or no number."""
    if not change < UNSETTLED:
        raise FailedError(f"the fit does not settle: its last change is {change:.2g}, not below {UNSETTLED}; {WAY_OUT}")


def _fit_grid(counts: FloatArray, exposure: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `_fit_surface`, each cell by itself; one without exposure is as the nearest that has some."""
    from scipy.ndimage import distance_transform_edt

    n_cells = int(np.sqrt(len(counts)))
    empty = (exposure <= 0).reshape(n_cells, n_cells)
    i, j = distance_transform_edt(empty, return_distances=False, return_indices=True)
    near = (i * n_cells + j).ravel()
    with np.errstate(divide="ignore"):
        return counts[near] / exposure[near], 1.0 / counts[near]


def _fit_shape(
    counts: FloatArray, exposure: FloatArray, off: OffOptions, fit: FitOptions
) -> tuple[FloatArray, FloatArray]:
    """Rate and relative error, shape (energy, cells), of sums of that shape; energies with few counts share a shape."""
    total = counts.sum(axis=1)
    rate, variance = np.zeros(counts.shape), np.full(counts.shape, np.inf)
    seen = tuple((int(k),) for k in np.flatnonzero(total))
    for group in merge_energy_groups(seen, lambda some: total[list(some)].sum() >= fit.min_counts):
        bins = list(group)
        level = total[bins] / exposure[bins].sum(axis=1)
        for _ in range(MOST_ROUNDS):
            sums = counts[bins].sum(axis=0), level @ exposure[bins]
            shape, spread = _fit_grid(*sums) if fit.form == "grid" else _fit_surface(*sums, _basis(fit.form, off))
            previous, level = level, total[bins] / (exposure[bins] @ shape)
            if (change := np.abs(level / previous - 1.0).max()) < STEP:
                break
        _require_settled(change)
        rate[bins] = level[:, None] * shape
        variance[bins] = spread + (1.0 / total[bins] - 1.0 / total[bins].sum())[:, None]
    return rate, np.sqrt(variance)


def _fit_norms(
    counts: FloatArray, exposure: FloatArray, off: OffOptions, fit: FitOptions
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Norms of runs with the shape, in turn, so that ln L only grows; counts and exposure (run, energy, cell).

    Norms, rate and relative error; rates are such that the runs have as many counts as they predict with norms of 1.
    """
    n_run, n_sum, norms = counts.sum(axis=(1, 2)), counts.sum(axis=0), np.ones(len(counts))
    for _ in range(MOST_ROUNDS):
        rate, error = _fit_shape(n_sum, np.tensordot(norms, exposure, 1), off, fit)
        expected = np.tensordot(exposure, rate, 2)
        previous, norms = norms, n_run / expected
        if (change := np.abs(norms - previous).max()) < STEP:
            break
    _require_settled(change)
    level = n_run.sum() / expected.sum()
    return norms / level, rate * level, error


def fit_acceptance_model(key: str, runs: Sequence[OffRun], off: OffOptions, fit: FitOptions) -> AcceptanceModel:
    """Fit a model to OFF runs; their order does not matter. `key` of the configuration is for messages.

    Without bins in zenith angle, a run at an unknown one gives its shape and leaves the limits to the others.
    FailedError if no run, or only one where forms are to be compared, is left, nothing of the fields, or no count; if
    runs are of two instruments, the zenith angle of one lies in no bin, or the fit does not succeed.
    """
    # What has no counts says nothing of a shape, and its norm is 0.
    used = sorted((run for run in runs if run.counts.any()), key=lambda run: run.facts.obs_id)
    facts = tuple(run.facts for run in used)
    if not used:
        what = "no OFF run can be used" if not runs else "no OFF run has a count at these energies"
        if runs and not any(run.exposure.any() for run in runs):
            what = "all of the fields of the OFF runs is excluded or not safe"
        raise FailedError(f"{key}: {what}; expected other observations, energy, exclusion or safe_mask")
    if len(used) < 2 and fit.form == "auto":
        raise FailedError(f"{key}: run {facts[0].obs_id} alone is left; expected two, or a named model with a fit.form")
    if other := [run for run in facts if run.instrument != facts[0].instrument]:
        both = " and ".join(f"{run.obs_id} of {run.instrument!r}" for run in (facts[0], other[0]))
        raise FailedError(f"{key}: expected observations with one instrument, got {both}")
    cosine = np.array([np.nan if run.cos_zenith is None else run.cos_zenith for run in facts])
    edges = np.array([np.fmin.reduce(cosine) - BESIDE, np.fmax.reduce(cosine) + BESIDE])  # of those known
    if fit.zenith_deg:
        edges = np.cos(np.deg2rad(fit.zenith_deg))[::-1]
        beyond = np.flatnonzero(~((cosine >= edges[0]) & (cosine <= edges[-1])))
        for k in beyond[:1]:
            angle = "an unknown angle" if np.isnan(cosine[k]) else f"{np.rad2deg(np.arccos(cosine[k])):.1f} deg"
            found = f"run {facts[k].obs_id} at {angle}"
            raise FailedError(f"{key}.fit.zenith: {found}; expected bins for every run, or fewer runs by observations")
    place = np.searchsorted(edges[1:-1], cosine, side="right")
    node = np.unique(place, return_inverse=True)[1]
    counts, exposure = np.array([run.counts for run in used]), np.array([run.exposure for run in used])
    weight = exposure.sum(axis=(1, 2, 3)) * (np.isfinite(cosine) | np.isnan(edges[0]))
    cos_zenith = np.bincount(node, weight * np.where(weight > 0, cosine, 0.0)) / np.bincount(node, weight)
    n, t = (each.reshape(*each.shape[:2], -1).astype(float) for each in (counts, exposure))
    parts = [(n[node == z], t[node == z]) for z in range(len(cos_zenith))]
    held_out: dict[str, float | None] = {}
    if fit.form == "auto":
        held_out = {form: _held_out(parts, off, replace(fit, form=form)) for form in FORMS}
        known = {form: value for form, value in held_out.items() if value is not None}
        fit = replace(fit, form=max(FORMS, key=lambda form: known.get(form, -np.inf)))
    norms, (rate, error) = np.ones(len(used)), np.zeros((2, len(cos_zenith), *counts.shape[1:]))
    for z, part in enumerate(parts):
        try:
            norms[node == z], *fitted = _fit_norms(*part, off, fit)
        except FailedError as why:
            raise FailedError(f"{key}: form {fit.form}: {why}") from why
        rate[z], error[z] = (each.reshape(rate[z].shape) for each in fitted)
    zenith, fitted_to = (cos_zenith, edges[[place.min(), place.max() + 1]]), (rate, error, _systematic(parts, off, fit))
    return AcceptanceModel(off, fit, held_out, facts, counts, exposure, norms, node, *zenith, *fitted_to)


def _held_out(parts: Parts, off: OffOptions, fit: FitOptions) -> float | None:
    """ln L, up to a constant, of runs of a form that was fitted to the others; None if that cannot be."""
    total = 0.0
    with suppress(FailedError):
        for found, expected in _predictions(parts, off, fit):
            if np.any(expected[found > 0] <= 0):
                return None
            total += float(found[found > 0] @ np.log(expected[found > 0]))
        return total
    return None


def _systematic(parts: Parts, off: OffOptions, fit: FitOptions) -> FloatArray:
    """How much runs scatter about what a model of the others predicts, (2, n_band, n_ring); NaN if not known."""
    centers = off.edges_deg[:-1] + 0.5 * off.cell_deg
    ring = (np.hypot(*np.meshgrid(centers, centers, indexing="ij")) / OFFSET_WIDTH_DEG).astype(int).ravel()
    n_rings, bands = int(np.ceil(off.offset_max_deg / OFFSET_WIDTH_DEG - 1e-9)), energy_bands(off.energy)
    is_in = np.minimum(ring, n_rings - 1)[:, None] == np.arange(n_rings)  # cells across the rim are in the last
    likelihood = np.zeros((len(bands), n_rings, len(SCATTERS)))
    with suppress(FailedError):
        for runs in _predictions(parts, off, fit):
            for run in zip(*runs, strict=True):
                sums = ([each[band].sum(axis=0) @ is_in for band in bands] for each in run)
                likelihood += likelihood_of_scatter(*map(np.array, sums))
        return scatter_by_ring(likelihood)
    return np.full((2, *likelihood.shape[:2]), np.nan)


def _predictions(parts: Parts, off: OffOptions, fit: FitOptions) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Counts of some runs, and those that a fit to the others predicts with free norms, (run, energy, cell)."""
    for n, t in parts:
        norms, _, _ = _fit_norms(n, t, off, replace(fit, form="radial"))
        fold = np.arange(len(n)) % FOLDS
        for held in (fold == part for part in range(min(FOLDS, len(n)) if len(n) > 1 else 0)):
            rate, _ = _fit_shape(n[~held].sum(axis=0), np.tensordot(norms[~held], t[~held], 1), off, fit)
            found = n[held] * np.any(rate, axis=1, keepdims=True)  # no form knows of an energy without counts
            expected = t[held] * rate
            expected *= (found.sum(axis=(1, 2)) / np.maximum(expected.sum(axis=(1, 2)), 1e-300))[:, None, None]
            yield found, expected


def with_model(name: str, model: AcceptanceModel, observation: Observation) -> Observation:
    """Observation with the background of a model, without the runs that must not model it. `name` is for messages.

    RunRefused or RunSkipped if the run is of another instrument, beyond the zenith angles of the model, or nothing else
    is in the model.
    """
    run = RunFacts.of(observation)
    prefix = f"run {run.obs_id}: acceptance model {name}"
    if run.instrument != model.runs[0].instrument:
        raise RunRefused(f"{prefix}: of {model.runs[0].instrument!r}, expected one of {run.instrument!r}")
    kin = {"run": "obs_id", "night": "night", "target": "object"}[model.fit.leave_out]
    own = getattr(run, kin)  # an empty name of an object is that of none
    out = np.array([run.obs_id == each.obs_id or own == getattr(each, kin) != "" for each in model.runs])
    quirks, cosine, weights = observation.quirks, run.cos_zenith, np.ones(1)
    if np.isfinite(model.limits).all():
        if cosine is None:
            raise RunRefused(f"{prefix}: expected ALT_PNT, or GEOLON and GEOLAT, for the zenith angle")
        nodes = Nodes(model.cos_zenith, float(model.limits[0]), float(model.limits[1]), log=False)
        if not nodes.inside(cosine):
            here, lower, upper = np.rad2deg(np.arccos(np.clip([cosine, nodes.upper, nodes.lower], 0.0, 1.0)))
            reason = f"{prefix}: zenith angle {here:.1f} deg, expected {lower:.1f} to {upper:.1f} deg as of its runs"
            if model.fit.on_failure != "keep":
                raise (RunRefused if model.fit.on_failure == "error" else RunSkipped)(reason)
            cosine, quirks = float(np.clip(cosine, *nodes.values[[0, -1]])), (*quirks, BEYOND)
        weights = nodes.weights(cosine)
    rate = model.rate.copy()
    for z in set(model.node[out].tolist()).intersection(np.flatnonzero(weights).tolist()):
        kept = (model.node == z) & ~out
        counts = model.counts[kept].sum(axis=0, dtype=float)
        if not counts.any():
            raise RunRefused(f"{prefix}: no other run at its zenith angle, expected more: a run never models itself")
        exposure = np.tensordot(model.norms[kept], model.exposure[kept].astype(float), 1)
        n, t = (each.reshape(len(each), -1) for each in (counts, exposure))
        try:
            rate[z] = _fit_shape(n, t, model.off, model.fit)[0].reshape(rate[z].shape)
        except FailedError as error:
            raise RunRefused(f"{prefix}: of the other runs: {error}") from error
    known = (rate[weights != 0] > 0).all(axis=0)
    rate = np.where(known, np.exp(np.tensordot(weights, np.log(np.where(rate > 0, rate, 1.0)), 1)), 0.0)
    return replace(observation, background=model_background(model.off, rate), quirks=quirks)


def model_background(off: OffOptions, rate: FloatArray) -> Background3D:
    """Response of a rate, s-1 sr-1 in each energy bin, shape (energy, lon, lat), where energies have counts."""
    edges, seen = off.edges_deg, np.flatnonzero(rate.any(axis=(1, 2)))
    energy = off.energy.edges_array[seen[0] : seen[-1] + 2]
    centers = edges[:-1] + 0.5 * off.cell_deg
    # A position inside the rim lies between nodes of which the farthest is this far beyond it.
    near = np.hypot(*np.meshgrid(centers, centers)) < off.offset_max_deg + np.sqrt(2.0) * off.cell_deg
    whole = np.where(near, rate[seen[0] : seen[-1] + 1], 0.0)
    closed = close_energies(energy, whole.reshape(len(whole), -1)).reshape(whole.shape)
    return Background3D(energy, edges, edges, closed, off.alignment)


def close_energies(energy_edges_tev: FloatArray, whole: FloatArray) -> FloatArray:
    """Rates at the bin centres whose exact integrals over the bins are `whole`, shape (energy, p), per TeV.

    The mean over a bin is not the rate at its centre: +10 % at two bins a decade of a spectrum of index 2.7.
    """
    axis = nodes_from_edges(energy_edges_tev[:-1], energy_edges_tev[1:], log=True)
    rate = whole / np.diff(energy_edges_tev)[:, None]
    for _ in range(60):
        got = integrate_rate(axis, energy_edges_tev, fill_log_rate(rate).__getitem__)
        ratio = np.divide(whole, got, out=np.ones_like(whole), where=(whole > 0) & (got > 0))
        rate = rate * np.clip(ratio, 0.1, 10.0) ** 0.7  # less than a whole step: it goes to and fro where rates jump
    return rate
