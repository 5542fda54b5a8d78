"""Acceptance models from events: the background response that files do not carry, fitted to OFF runs.

Each OFF run gives counts and exposure (ontime x solid angle of what is in the good time intervals, safe and not
excluded) of the cells of its field of view. The model is fitted to their sums, with a norm for each run::

    expected[run, energy, cell] = norm[run] * exposure[run, energy, cell] * rate[energy, cell]

A run never models itself: what it gave is subtracted from the sums, and the shape is fitted again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from cubeflow.errors import FailedError
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.energy_chain import close_energies
from cubeflow.irf.table import Nodes, nodes_from_edges
from cubeflow.maps import BoolArray, FloatArray, IntArray, Pair, make_geometry
from cubeflow.maps.horizon import horizontal_offset
from cubeflow.maps.sphere import sky_offset, unit_vectors
from cubeflow.observation import Observation, RunRefused, RunSkipped, to_mjd
from cubeflow.products.acceptance import make_field_rotation
from cubeflow.products.acceptance_fit import FORMS, FitOptions, OffOptions, fit_norms, fit_shape
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exclusion import ExclusionMasks
from cubeflow.products.profiles import OFFSET_WIDTH_DEG, SCATTERS, energy_bands, likelihood_of_scatter, scatter_by_ring
from cubeflow.products.safe_mask import make_mask_safe

SUBCELLS = 8  # pixels of the sky along a cell
FOLDS = 5  # parts of the runs that are held out in turn
BEYOND, UNMATCHED = "beyond-model-zenith", "no-matching-off-run"  # noted with the quirks of a run
BESIDE = 0.05  # of the cosine of the zenith angle: half a bin, of a model without bins

Parts = Sequence[Pair]  # counts and exposure at each node, shape (run, energy, cell)
# ln L up to a constant, scatter, and counts and prediction, shape (2, n_band, n_ring); None and NaN without a fit.
HeldOut = tuple[float | None, FloatArray, FloatArray]


@dataclass(frozen=True)
class RunFacts:
    """What tells a run from others."""

    obs_id: int
    night: int  # MJD at local noon
    object: str
    instrument: str  # TELESCOP and INSTRUME
    cos_zenith: float | None  # of the zenith angle: as ALT_PNT says, else mean over the good time; None if not known
    is_west: bool | None  # of the meridian, as AZ_PNT says or in the mean
    livetime_s: float

    @classmethod
    def of(cls, observation: Observation) -> "RunFacts":
        """Those of an observation."""
        meta, site, pointing = observation.meta, observation.site, observation.pointing
        noon = 0.5 if site is None else 0.5 - site.lon_deg / 360.0
        night = int(np.floor(float(to_mjd(observation.gti.start_s)[0]) - noon))
        cosine, is_west = None, None if (azimuth_deg := meta.get("azimuth_deg")) is None else azimuth_deg % 360 >= 180
        if meta.get("zenith_deg") is not None:
            cosine = float(np.cos(np.deg2rad(meta["zenith_deg"])))
        if site is not None and (cosine is None or is_west is None):
            rotation = make_field_rotation(observation.gti, site, pointing)
            zenith, target = rotation.share @ rotation.zenith, unit_vectors(pointing.ra_deg, pointing.dec_deg)
            if (mean := float(zenith @ target)) > 0:  # below the horizon: the times of a simulation are made up
                cosine = mean if cosine is None else cosine
                is_west = bool(np.cross(zenith, target)[2] < 0) if is_west is None else is_west
        instrument = " ".join(str(meta.get(key) or "") for key in ("telescope", "instrument"))
        named = str(meta.get("object") or ""), instrument
        return cls(observation.obs_id, night, *named, cosine, is_west, observation.livetime_s)


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
    fit: FitOptions  # with what was chosen
    held_out: Mapping[str, float | None]  # ln L of runs that it was not fitted to, by what was tried; None if not known
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
    residuals: FloatArray  # their counts, and what is predicted for them, of the same shape


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
    if fit.azimuth != "none" and (blind := [run.obs_id for run in facts if run.is_west is None]):
        found = f"run {blind[0]} at an unknown azimuth"
        raise FailedError(f"{key}.fit.azimuth: {found}; expected none, or other observations")
    place = np.searchsorted(edges[1:-1], cosine, side="right")
    counts, exposure = np.array([run.counts for run in used]), np.array([run.exposure for run in used])
    n, t = (each.reshape(*each.shape[:2], -1).astype(float) for each in (counts, exposure))
    node, west = np.unique(place, return_inverse=True)[1], np.array([bool(run.is_west) for run in facts])
    weight = exposure.sum(axis=(1, 2, 3)) * (np.isfinite(cosine) | np.isnan(edges[0]))
    cos_zenith = np.bincount(node, weight * np.where(weight > 0, cosine, 0.0)) / np.bincount(node, weight)
    parts = [(n[node == z], t[node == z]) for z in range(len(cos_zenith))]
    sides = [at for z in range(len(cos_zenith)) for at in ((node == z) & west, (node == z) & ~west) if at.any()]
    fit, held_out, *scatter = _choose(parts, [(n[at], t[at]) for at in sides], off, fit)
    norms, (rate, error) = np.ones(len(used)), np.zeros((2, len(cos_zenith), *counts.shape[1:]))
    for z, part in enumerate(parts):
        try:
            norms[node == z], *fitted = fit_norms(*part, off, fit)
        except FailedError as why:
            raise FailedError(f"{key}: form {fit.form}: {why}") from why
        rate[z], error[z] = (each.reshape(rate[z].shape) for each in fitted)
    zenith, fitted_to = (cos_zenith, edges[[place.min(), place.max() + 1]]), (rate, error, *scatter)
    return AcceptanceModel(off, fit, held_out, facts, counts, exposure, norms, node, *zenith, *fitted_to)


def _choose(
    parts: Parts, sides: Parts, off: OffOptions, fit: FitOptions
) -> tuple[FitOptions, dict[str, float | None], FloatArray, FloatArray]:
    """Form with the largest ln L of held-out runs (the grid if none can be fitted: None), all of these, the scatter."""
    forms = FORMS if fit.form == "auto" else ()
    tried: dict[str, HeldOut] = {form: _held_out(parts, off, replace(fit, form=form)) for form in forms}
    held_out = {form: likelihood for form, (likelihood, _, _) in tried.items()}
    known = {form: likelihood for form, likelihood in held_out.items() if likelihood is not None}
    if fit.form == "auto":
        fit = replace(fit, form=max(FORMS, key=lambda form: known.get(form, -np.inf)) if known else "grid")
    found = _held_out(sides, off, fit) if fit.azimuth != "none" else tried.get(fit.form) or _held_out(parts, off, fit)
    return fit, held_out, *found[1:]


def _held_out(parts: Parts, off: OffOptions, fit: FitOptions) -> HeldOut:
    """What is found of runs about a fit to others; no ln L where a count is and none is predicted, either."""
    bands, is_in = energy_bands(off.energy), _rings(off)
    total, value = np.zeros((2, len(bands), is_in.shape[1])), 0.0
    likelihood = np.zeros((*total.shape[1:], len(SCATTERS)))
    with suppress(FailedError):
        for found, expected in _predictions(parts, off, fit):
            for run in zip(found, expected, strict=True):
                sums = np.array([[each[band].sum(axis=0) @ is_in for band in bands] for each in run])
                likelihood, total = likelihood + likelihood_of_scatter(*sums), total + sums
            with np.errstate(divide="ignore"):
                value += float(found[found > 0] @ np.log(expected[found > 0]))
        return value if np.isfinite(value) else None, scatter_by_ring(likelihood), total
    return None, np.full(total.shape, np.nan), np.full(total.shape, np.nan)


def _rings(off: OffOptions) -> BoolArray:
    """Whether each cell lies in each ring of offset, shape (cells, n_ring)."""
    centers = off.edges_deg[:-1] + 0.5 * off.cell_deg
    ring = (np.hypot(*np.meshgrid(centers, centers, indexing="ij")) / OFFSET_WIDTH_DEG).astype(int).ravel()
    n_rings = int(np.ceil(off.offset_max_deg / OFFSET_WIDTH_DEG - 1e-9))
    is_in: BoolArray = np.minimum(ring, n_rings - 1)[:, None] == np.arange(n_rings)  # those across the rim in the last
    return is_in


def _predictions(parts: Parts, off: OffOptions, fit: FitOptions) -> Iterator[Pair]:
    """Counts of some runs, and those that a fit to the others predicts with free norms, (run, energy, cell)."""
    for n, t in parts:
        norms, _, _ = fit_norms(n, t, off, fit)
        fold = np.arange(len(n)) % FOLDS
        for held in (fold == part for part in range(min(FOLDS, len(n)) if len(n) > 1 else 0)):
            rate, _ = fit_shape(n[~held].sum(axis=0), np.tensordot(norms[~held], t[~held], 1), off, fit)
            found = n[held] * np.any(rate, axis=1, keepdims=True)  # no form knows of an energy without counts
            expected = t[held] * rate
            expected *= (found.sum(axis=(1, 2)) / np.maximum(expected.sum(axis=(1, 2)), 1e-300))[:, None, None]
            yield found, expected


def with_model(
    name: str,
    model: AcceptanceModel,
    observation: Observation,
    near: Sequence[int] | None = None,
    livetime_s: float = np.inf,
) -> Observation:
    """Observation with the background of a model, without the runs that must not model it. `name` is for messages.

    `near` are the OFF runs that match it, the best first, of which come those that have a livetime together; None for
    all. The runs that were matched and the error of the model, by energy band, are in `Observation.meta`. RunRefused or
    RunSkipped if the run is of another instrument, beyond the zenith angles of the model, like no OFF run, or nothing
    else is in the model.
    """
    run = RunFacts.of(observation)
    prefix = f"run {run.obs_id}: acceptance model {name}"
    if run.instrument != model.runs[0].instrument:
        raise RunRefused(f"{prefix}: of {model.runs[0].instrument!r}, expected one of {run.instrument!r}")
    out = np.array([_is_kin(run, each, model.fit) for each in model.runs])
    if model.fit.azimuth == "east-west":
        if run.is_west is None:
            raise RunRefused(f"{prefix}: expected AZ_PNT, or GEOLON and GEOLAT, for the azimuth")
        out |= [each.is_west != run.is_west for each in model.runs]
    if out.all():
        raise RunRefused(f"{prefix}: no other run may model it, expected more: a run never models itself")
    quirks, cosine, weights, meta = observation.quirks, run.cos_zenith, np.ones(1), dict(observation.meta)
    if near is not None:
        number = {model.runs[k].obs_id: k for k in np.flatnonzero(~out)}
        found = [number[obs_id] for obs_id in near if obs_id in number]
        before_s = np.cumsum([0.0, *(model.runs[k].livetime_s for k in found)])[:-1]
        if not found:
            _refuse(model, f"{prefix}: no OFF run is like it, expected more of them, or wider limits in match")
            found, before_s, quirks = list(number.values()), np.zeros(len(number)), (*quirks, UNMATCHED)
        out[:] = True
        out[[k for k, before in zip(found, before_s, strict=True) if before < livetime_s]] = False
        meta["off_runs"] = " ".join(str(model.runs[k].obs_id) for k in np.flatnonzero(~out))
    if np.isfinite(model.limits).all():
        if cosine is None:
            raise RunRefused(f"{prefix}: expected ALT_PNT, or GEOLON and GEOLAT, for the zenith angle")
        nodes = Nodes(model.cos_zenith, float(model.limits[0]), float(model.limits[1]), log=False)
        if not nodes.inside(cosine):
            here, lower, upper = np.rad2deg(np.arccos(np.clip([cosine, nodes.upper, nodes.lower], 0.0, 1.0)))
            expected = f"expected {lower:.1f} to {upper:.1f} deg as of its runs"
            _refuse(model, f"{prefix}: zenith angle {here:.1f} deg, {expected}")
            cosine, quirks = float(np.clip(cosine, *nodes.values[[0, -1]])), (*quirks, BEYOND)
        weights = nodes.weights(cosine)
    rate = model.rate.copy()
    for z in set(model.node[out].tolist()).intersection(np.flatnonzero(weights).tolist()):
        kept = (model.node == z) & ~out
        counts = model.counts[kept].sum(axis=0, dtype=float)
        if not counts.any():
            raise RunRefused(f"{prefix}: no other run at its zenith angle, expected more: a run never models itself")
        n_run = model.counts[kept].sum(axis=(1, 2, 3))
        level = n_run.sum() / (n_run / model.norms[kept]).sum()  # mean norm: the rate is to be that of these runs
        exposure = np.tensordot(model.norms[kept] / level, model.exposure[kept].astype(float), 1)
        n, t = (each.reshape(len(each), -1) for each in (counts, exposure))
        try:
            rate[z] = fit_shape(n, t, model.off, model.fit)[0].reshape(rate[z].shape)
        except FailedError as error:
            raise RunRefused(f"{prefix}: of the other runs: {error}") from error
    known = (rate[weights != 0] > 0).all(axis=0)
    rate = np.where(known, np.exp(np.tensordot(weights, np.log(np.where(rate > 0, rate, 1.0)), 1)), 0.0)
    meta |= {f"acceptance_systematic_{k}": error for k, error in _errors(model, rate) if np.isfinite(error)}
    return replace(observation, background=model_background(model.off, rate), quirks=quirks, meta=meta)


def _is_kin(run: RunFacts, other: RunFacts, fit: FitOptions) -> bool:
    """Whether one must not model the other; an empty name of an object is that of none."""
    name = {"run": "obs_id", "night": "night", "target": "object"}[fit.leave_out]
    return run.obs_id == other.obs_id or getattr(run, name) == getattr(other, name) != ""


def _errors(model: AcceptanceModel, rate: FloatArray) -> Iterator[tuple[int, float]]:
    """Relative error of a rate in each band of energy, beyond counts and norm: root mean square over the field."""
    for k, band in enumerate(energy_bands(model.off.energy)):
        share = rate[band].sum(axis=0).ravel() @ _rings(model.off)
        yield k, float(np.sqrt(share @ model.systematic[0, k] ** 2 / max(share.sum(), 1e-300)))


def _refuse(model: AcceptanceModel, reason: str) -> None:
    """RunRefused or RunSkipped as the policy of a model says, or nothing."""
    if model.fit.on_failure != "keep":
        raise (RunRefused if model.fit.on_failure == "error" else RunSkipped)(reason)


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
