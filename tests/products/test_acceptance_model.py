"""Acceptance models against fields whose shape, gradient, zenith law and rates are known."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.errors import FailedError
from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.energy_chain import close_energies, fill_log_rate, integrate_rate
from cubeflow.irf.table import Nodes, nodes_from_edges
from cubeflow.maps import energy_axis, make_geometry, sphere
from cubeflow.maps.horizon import horizontal_offset, zenith_vectors
from cubeflow.observation import EventList, Gti, Observation, Pointing, RunRefused, RunSkipped, Site, to_mjd
from cubeflow.products import acceptance_fit, acceptance_model
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.acceptance_fit import FitOptions, OffOptions
from cubeflow.products.acceptance_model import (
    BEYOND,
    UNMATCHED,
    OffRun,
    RunFacts,
    fit_acceptance_model,
    make_off_run,
    with_model,
)
from cubeflow.products.exclusion import Areas, Disc, Exclusion, ExclusionMasks
from cubeflow.products.safe_mask import SafeMaskOptions

EDGES = np.geomspace(0.5, 10.0, 6)
OFF = OffOptions(energy_axis(EDGES), 2.0, SafeMaskOptions(), 0.2, "RADEC")
CENTERS = 0.5 * (OFF.edges_deg[1:] + OFF.edges_deg[:-1])
LON, LAT = np.meshgrid(CENTERS, CENTERS, indexing="ij")
GRADIENT = 0.1, -0.05
SHAPE = np.exp(-(LON**2 + LAT**2) / 2 / 1.3**2 + GRADIENT[0] * LON + GRADIENT[1] * LAT)
# s-1 sr-1 in each energy bin, of a power law of index 2.7
TRUTH = ((EDGES[:-1] ** -1.7 - EDGES[1:] ** -1.7) / 1.7)[:, None, None] * 200 * SHAPE
FIELD = np.where(np.hypot(LON, LAT) < 2.0, 1200.0 * np.deg2rad(0.2) ** 2, 0.0)
SITE = Site(16.5, -23.3)


def facts(number: int, **changes) -> RunFacts:
    return replace(RunFacts(number, 53000 + number // 4, "field", "DEMO DEMO", 0.9, number % 2 == 1, 1200.0), **changes)


def simulate(
    seed: int, level: float = 1.0, n_runs: int = 12, slope: float = 0.0, spread: float = 0.3
) -> tuple[list[OffRun], float]:
    """Runs at rates of 0.7 to 1.3 with a source that takes 10 % of the field from each, and their mean rate.

    With a slope, ln(rate) grows with the cosine of the zenith angle.
    """
    rng, runs, expected = np.random.default_rng(seed), [], np.zeros(2)
    for number in range(n_runs):
        rate, distance, angle = 1.0 + rng.uniform(-spread, spread), rng.uniform(0.3, 1.0), rng.uniform(0.0, 2 * np.pi)
        cosine = rng.uniform(0.6, 1.0) if slope else 0.9
        source = np.hypot(LON - distance * np.cos(angle), LAT - distance * np.sin(angle)) < 2.0 * np.sqrt(0.1)
        exposure = np.broadcast_to(np.where(source, 0.0, FIELD), TRUTH.shape)
        mean = TRUTH * exposure * level * np.exp(slope * (cosine - 1.0))
        runs.append(OffRun(facts(number, cos_zenith=float(cosine)), rng.poisson(rate * mean), exposure))
        expected += [rate * mean.sum(), mean.sum()]
    return runs, float(expected[0] / expected[1])


def pulls(seed: int, form: str, level: float = 1.0) -> np.ndarray:
    """(fitted - true) / error of ln(rate) where there is exposure, shape (energy, cells)."""
    runs, mean_rate = simulate(seed, level)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions(form))
    seen = FIELD > 0
    return (np.log(model.rate[0] / (TRUTH * level * mean_rate)) / model.error[0])[:, seen]


@pytest.mark.parametrize("form", ["gradient", "smooth"])
def test_the_model_is_within_its_errors(form):
    found = np.array([pulls(seed, form) for seed in range(6)])
    assert abs(found.mean()) < 0.3
    assert 0.7 < found.std() < 1.25


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gradient", "smooth"])
def test_pulls_of_many_stores(form):
    found = np.array([pulls(seed, form) for seed in range(100)])
    assert abs(found.mean()) < 0.05
    assert abs(found.std() - 1.0) < 0.05


def test_norms_are_the_rates_of_the_runs():
    runs, mean_rate = simulate(3, level=500.0)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("gradient"))
    rates = [run.counts.sum() / (TRUTH * 500.0 * run.exposure).sum() for run in runs]
    assert model.norms * mean_rate == pytest.approx(rates, rel=0.01)
    assert (model.rate[0] * model.exposure).sum() == pytest.approx(model.counts.sum(), rel=1e-6)


def test_runs_of_other_rates_with_other_holes_print_no_holes(monkeypatch):
    """Two runs, of which the fast one has a hole: what a fit without norms takes for a dip of the acceptance."""
    rng = np.random.default_rng(5)
    hole = np.hypot(LON - 0.7, LAT) < 0.5
    runs = []
    for number, (rate, where) in enumerate([(1.3, hole), (0.7, np.zeros_like(hole))]):
        exposure = np.broadcast_to(np.where(where, 0.0, FIELD), TRUTH.shape)
        runs.append(OffRun(facts(number), rng.poisson(rate * TRUTH * 100.0 * exposure), exposure))

    def dip(rate) -> float:
        rate = rate.reshape(TRUTH.shape).sum(axis=0) / SHAPE
        return float(rate[hole].mean() / rate[(FIELD > 0) & ~hole].mean())

    fit = FitOptions("smooth")
    assert dip(fit_acceptance_model("models.sim", runs, OFF, fit).rate[0]) == pytest.approx(1.0, abs=0.03)
    sums = (sum(getattr(run, name) for run in runs).reshape(len(TRUTH), -1) for name in ("counts", "exposure"))
    assert dip(acceptance_fit.fit_shape(*sums, OFF, fit)[0]) < 0.85
    monkeypatch.setattr(acceptance_fit, "MOST_ROUNDS", 1)
    with pytest.raises(
        FailedError, match=r"^models\.sim: form smooth: the fit does not settle: its last change is [0-9.]+,"
    ):
        fit_acceptance_model("models.sim", runs, OFF, fit)


def test_the_form_is_the_one_that_predicts_runs_best():
    runs, _ = simulate(1)
    round_truth = TRUTH * np.exp(-GRADIENT[0] * LON - GRADIENT[1] * LAT)
    rng = np.random.default_rng(2)
    round_runs = [replace(run, counts=rng.poisson(round_truth * run.exposure)) for run in runs]
    tilted, even = (fit_acceptance_model("sim", each, OFF, FitOptions()) for each in (runs, round_runs))
    assert tilted.fit.form == "gradient"
    assert even.fit.form == "radial"
    assert set(tilted.held_out) == {"radial", "gradient", "smooth", "grid"}
    assert tilted.held_out["gradient"] > tilted.held_out["radial"] + 10


def test_runs_scatter_as_planted_about_a_model_of_the_others():
    """Every run is wider or narrower than the others, which no model knows: by up to 8 % at the rim of the field."""
    rng, runs = np.random.default_rng(12), []
    truth = TRUTH * np.exp(-GRADIENT[0] * LON - GRADIENT[1] * LAT)
    for number in range(40):
        factor = 1.0 + rng.normal(0.0, 0.08) * (LON**2 + LAT**2 - 2.0) / 2.0
        counts = rng.poisson(1000.0 * truth * factor * FIELD)
        runs.append(OffRun(facts(number), counts, np.broadcast_to(FIELD, TRUTH.shape)))
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial"))
    value, error = model.systematic
    assert value.shape == (4, 10)
    rings = 0.2 * np.arange(10) + 0.1
    weight = (truth * FIELD).sum(axis=0)
    mean = float((weight * (LON**2 + LAT**2)).sum() / weight.sum())
    planted = 0.08 * np.abs(rings**2 - mean) / 2.0  # the norm takes what all rings have in common
    assert np.all(np.abs(value[0] - planted) < 3 * error[0] + 0.01)
    assert value[0, 6] < 0.02 < 0.06 < value[0, 9]
    alone = fit_acceptance_model("sim", runs[:1], OFF, FitOptions("radial"))
    assert np.isnan(alone.systematic).all()


def test_a_free_grid_is_counts_over_exposure():
    runs, _ = simulate(4, level=20.0)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("grid"))
    counts = sum(run.counts for run in runs)
    exposure = np.tensordot(model.norms, np.array([run.exposure for run in runs]), 1)
    busy = counts[0] > 0
    assert model.rate[0, 0][busy] == pytest.approx((counts / np.maximum(exposure, 1e-9))[0][busy], rel=1e-4)
    assert model.error[0, 0][busy] == pytest.approx(counts[0][busy] ** -0.5)


def test_energies_with_few_counts_share_a_shape():
    runs, _ = simulate(6, level=0.3)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("gradient", min_counts=10**6))
    ratio = model.rate[0, 1:] / model.rate[0, :1]
    assert ratio == pytest.approx(np.broadcast_to(ratio[:, 10:11, 10:11], ratio.shape), rel=1e-9)
    counts = sum(run.counts for run in runs).sum(axis=(1, 2))
    exposure = np.tensordot(model.norms, np.array([run.exposure for run in runs]), 1)
    assert (model.rate[0] * exposure).sum(axis=(1, 2)) == pytest.approx(counts, rel=1e-4)


@given(order=st.permutations(range(6)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_runs_does_not_matter_to_the_byte(order):
    runs, _ = simulate(7, n_runs=6)
    first, second = (
        fit_acceptance_model("sim", each, OFF, FitOptions("gradient")) for each in (runs, [runs[k] for k in order])
    )
    for name in ("rate", "error", "norms", "cos_zenith", "limits"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


@given(factor=st.floats(0.01, 100.0))
@settings(max_examples=5, deadline=None)
def test_scaling_all_exposures_scales_the_model(factor):
    runs, _ = simulate(8, n_runs=4)
    scaled = [replace(run, exposure=factor * run.exposure) for run in runs]
    one, other = (fit_acceptance_model("sim", each, OFF, FitOptions("gradient")) for each in (runs, scaled))
    assert other.rate * factor == pytest.approx(one.rate, rel=1e-5)
    assert other.norms == pytest.approx(one.norms, rel=1e-5)
    assert other.error == pytest.approx(one.error, rel=1e-4)


# Energies


@pytest.mark.parametrize("per_decade", [1, 2, 5, 10])
def test_the_exact_integral_gives_back_each_bin(per_decade):
    edges = 10.0 ** (np.arange(2 * per_decade + 1) / per_decade - 1.0)
    whole = (edges[:-1, None] ** -1.7 - edges[1:, None] ** -1.7) / 1.7 * np.array([[1.0, 30.0]])
    rate = close_energies(edges, whole)
    axis = nodes_from_edges(edges[:-1], edges[1:], log=True)
    assert integrate_rate(axis, edges, fill_log_rate(rate).__getitem__) == pytest.approx(whole, rel=1e-6)
    centers = np.sqrt(edges[:-1] * edges[1:])
    assert rate[:, 0] == pytest.approx(centers**-2.7, rel=1e-4)
    naive = {1: 1.434, 2: 1.105, 5: 1.017, 10: 1.004}[per_decade]
    assert whole[:, 0] / np.diff(edges) / centers**-2.7 == pytest.approx(np.full(2 * per_decade, naive), abs=0.003)


def test_jumps_between_energies_are_given_back_too():
    rng = np.random.default_rng(1)
    edges = np.geomspace(0.1, 10.0, 9)
    whole = rng.uniform(0.1, 1.0, (8, 50)) * edges[:-1, None] ** -1.7
    whole[3] = 0.0  # a gap, over which tables are filled
    axis = nodes_from_edges(edges[:-1], edges[1:], log=True)
    got = integrate_rate(axis, edges, fill_log_rate(close_energies(edges, whole)).__getitem__)
    seen = np.arange(8) != 3
    assert got[seen] == pytest.approx(whole[seen], rel=1e-3)


# Counts and exposure of a run


def observe(n_events: int = 4000, point_like: bool = False, **changes) -> Observation:
    """Run of two good time intervals on a flat field of 2 deg, some events of which are between them."""
    rng = np.random.default_rng(9)
    pointing, gti = Pointing(83.6, 22.0), Gti(np.array([2e8, 2e8 + 900.0]), np.array([2e8 + 700.0, 2e8 + 1600.0]))
    offset, angle = 2.1 * np.sqrt(rng.random(n_events)), rng.uniform(0.0, 2 * np.pi, n_events)
    local = sphere.unit_vectors(offset * np.cos(angle), offset * np.sin(angle))
    ra, dec = sphere.lon_lat(local @ sphere.local_basis(pointing.ra_deg, pointing.dec_deg))
    energy = 0.5 * (1.0 - rng.random(n_events)) ** (-1 / 1.7)
    events = EventList(energy, ra, dec, rng.uniform(2e8, 2e8 + 1600.0, n_events))
    offset_axis = Nodes([0.4], 0.39, 0.41, log=False) if point_like else nodes_from_edges([0.0], [3.0], log=False)
    area = EffectiveArea(nodes_from_edges([0.1], [100.0], log=True), offset_axis, np.full((1, 1), 1e5))
    parts = {"deadc": 0.9, "aeff": area, "edisp": None, "psf": None, "background": None, "site": SITE}
    meta = {"telescope": "DEMO", "instrument": "DEMO", "zenith_deg": 40.0, "object": "field"}
    made = Observation(1, events, gti, pointing, **parts, point_like=point_like, meta=meta)
    return replace(made, **changes)


def test_events_and_exposure_share_one_mask():
    observation = observe()
    source = Disc(84.2, 22.3, 0.5)
    masks = ExclusionMasks([Exclusion("source", Areas((source,)))])
    whole, holed = (make_off_run(observation, OFF, each) for each in (ExclusionMasks([]), masks))
    disc_sr = 2 * np.pi * (1 - np.cos(np.deg2rad(2.0)))
    hole_sr = 2 * np.pi * (1 - np.cos(np.deg2rad(0.5)))
    # per ontime, not livetime: 1400 s
    assert whole.exposure.sum(axis=(1, 2)) == pytest.approx(np.full(5, 1400.0 * disc_sr), rel=2e-3)
    assert (whole.exposure - holed.exposure).sum(axis=(1, 2)) == pytest.approx(np.full(5, 1400.0 * hole_sr), rel=0.01)
    events = observation.events
    events = events.select(observation.gti.contains(events.time_s) & (events.energy_tev < 10.0))
    aside = sphere.angular_distance_deg((events.ra_deg, events.dec_deg), (84.2, 22.3)) > 0.5
    inside = sphere.angular_distance_deg((events.ra_deg, events.dec_deg), (83.6, 22.0)) < 2.0
    assert whole.counts.sum() == pytest.approx(np.count_nonzero(inside), abs=20)  # at the rims by pixels
    assert holed.counts.sum() == pytest.approx(np.count_nonzero(inside & aside), abs=25)
    assert not holed.counts[holed.exposure == 0].any()


def test_cells_lie_east_and_north():
    observation = observe()
    run, events = make_off_run(observation, OFF, ExclusionMasks([])), observation.events
    events = events.select(observation.gti.contains(events.time_s))
    vectors = sphere.unit_vectors(events.ra_deg, events.dec_deg)
    lon, lat = sphere.sky_offset(vectors, 83.6, 22.0)
    edges = EDGES, OFF.edges_deg, OFF.edges_deg
    expected, _ = np.histogramdd(np.column_stack([events.energy_tev, lon, lat]), edges)
    inner = np.hypot(LON, LAT) < 1.7
    differ = np.abs(run.counts - expected)[:, inner]
    assert differ.sum() < 0.02 * expected.sum()  # an event within a pixel of the edge of a cell


def test_the_field_turns_below_cells_that_are_aligned_with_the_horizon():
    """Each event by itself, at its own time."""
    observation = observe()
    run = make_off_run(observation, replace(OFF, alignment="ALTAZ"), ExclusionMasks([]))
    events = observation.events.select(observation.gti.contains(observation.events.time_s))
    origin = sphere.unit_vectors(83.6, 22.0)
    zenith = zenith_vectors(to_mjd(events.time_s), SITE.lon_deg, SITE.lat_deg)
    vectors = sphere.unit_vectors(events.ra_deg, events.dec_deg)
    found = np.array([horizontal_offset(v, origin, z) for v, z in zip(vectors, zenith, strict=True)])
    edges = EDGES, OFF.edges_deg, OFF.edges_deg
    expected, _ = np.histogramdd(np.column_stack([events.energy_tev, found]), edges)
    inner = np.hypot(LON, LAT) < 1.7
    assert np.abs(run.counts - expected)[:, inner].sum() < 0.1 * expected.sum()
    fixed = make_off_run(observation, OFF, ExclusionMasks([]))
    assert np.abs(fixed.counts - expected)[:, inner].sum() > 0.3 * expected.sum()
    assert run.exposure.sum() == pytest.approx(fixed.exposure.sum(), rel=1e-9)
    with pytest.raises(RunRefused, match=r"^run 1: alignment ALTAZ: expected GEOLON and GEOLAT"):
        make_off_run(observe(site=None), replace(OFF, alignment="ALTAZ"), ExclusionMasks([]))


def test_thresholds_take_exposure_and_counts_alike():
    observation = observe()
    observation = replace(observation, aeff=replace(observation.aeff, lo_thres_tev=0.6))
    run = make_off_run(observation, OFF, ExclusionMasks([]))
    assert not run.exposure[0].any()
    assert not run.counts[0].any()
    assert run.exposure[1].any()


def test_one_offset_bin_of_point_like_data_does_not_limit_the_field():
    run = make_off_run(observe(point_like=True), OFF, ExclusionMasks([]))
    assert run.exposure == pytest.approx(make_off_run(observe(), OFF, ExclusionMasks([])).exposure)


def test_what_is_known_of_a_run():
    observation = observe(meta={**observe().meta, "zenith_deg": None}, pointing=Pointing(160.0, -10.0))
    run, sides = RunFacts.of(observation), set()
    zenith = zenith_vectors(to_mjd(np.linspace(2e8, 2e8 + 1600.0, 33)), SITE.lon_deg, SITE.lat_deg)
    assert run.cos_zenith == pytest.approx(float((zenith @ sphere.unit_vectors(160.0, -10.0)).mean()), abs=1e-3)
    assert (run.obs_id, run.object, run.instrument) == (1, "field", "DEMO DEMO")
    assert run.night == int(np.floor(51910 + 2e8 / 86400 + 16.5 / 360 - 0.5))
    assert RunFacts.of(replace(observation, pointing=Pointing(340.0, 10.0))).cos_zenith is None
    assert RunFacts.of(observe()).cos_zenith == pytest.approx(np.cos(np.deg2rad(40.0)))
    assert RunFacts.of(observe(site=None, meta={})).cos_zenith is None
    assert run.livetime_s == pytest.approx(0.9 * 1400.0)
    # East or west as astropy has it, before and after culmination.
    place = EarthLocation.from_geodetic(SITE.lon_deg, SITE.lat_deg)
    middle = Time(51910, (2e8 + 800) / 86400, format="mjd", scale="tt")
    for ra_deg in (160.0, 160.0 - 30.0, 160.0 - 60.0, 160.0 + 30.0):
        there = SkyCoord(ra_deg, -10.0, unit="deg").transform_to(AltAz(obstime=middle, location=place))
        if there.alt.deg > 5:
            seen = RunFacts.of(replace(observation, pointing=Pointing(ra_deg, -10.0)))
            assert seen.is_west == (there.az.deg > 180.0)
            sides.add(seen.is_west)
    assert sides == {True, False}
    assert RunFacts.of(observe(meta={**observe().meta, "azimuth_deg": 190.0})).is_west is True
    assert RunFacts.of(observe(site=None, meta={})).is_west is None
    # Each of both is taken from the header, and only what is missing from the site.
    sky = RunFacts.of(observation)
    high = replace(observation, meta={**observation.meta, "zenith_deg": 40.0})
    assert RunFacts.of(high).is_west is sky.is_west
    assert RunFacts.of(high).cos_zenith == pytest.approx(np.cos(np.deg2rad(40.0)))
    other = replace(observation, meta={**observation.meta, "azimuth_deg": 90.0 if sky.is_west else 270.0})
    assert RunFacts.of(other).is_west is not sky.is_west
    assert RunFacts.of(other).cos_zenith == sky.cos_zenith
    assert RunFacts.of(replace(observation, pointing=Pointing(340.0, 10.0))).is_west is None


# The background of a run


def test_the_norm_of_a_model_on_its_own_runs_is_one():
    """Through the response and the map of an observation, as for any other."""
    observation = observe(20000)
    run = make_off_run(observation, OFF, ExclusionMasks([]))
    model = fit_acceptance_model("own", [run], OFF, FitOptions("smooth"))
    background = acceptance_model.model_background(OFF, model.rate[0])
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (4.4, 4.4), 0.025)
    acceptance = make_map_hadron_acceptance(observation.pointing, 1400.0, background, geom, OFF.energy, 2.0)
    assert acceptance.data.sum() == pytest.approx(run.counts.sum(), rel=1e-3)
    assert acceptance.data.sum(axis=(1, 2)) == pytest.approx(run.counts.sum(axis=(1, 2)), rel=3e-3)


def own_rate(model, observation) -> np.ndarray:
    """Rate of the response that a run gets, at the centres of inner cells, s-1 sr-1, shape (energy, cells)."""
    inner = np.hypot(LON, LAT) < 1.5
    background = with_model("sim", model, observation).background
    return background.integrate(EDGES, LON[inner], LAT[inner])


def test_a_run_never_models_itself():
    runs, _ = simulate(10, n_runs=6)
    fit = FitOptions("gradient")
    model = fit_acceptance_model("sim", runs, OFF, fit)
    run = observe(site=None, meta={**observe().meta, "zenith_deg": np.rad2deg(np.arccos(0.9))}, obs_id=3)
    others = fit_acceptance_model("sim", [each for each in runs if each.facts.obs_id != 3], OFF, fit)
    stranger = replace(run, obs_id=99)
    left, apart, all_runs = own_rate(model, run), own_rate(others, stranger), own_rate(model, stranger)
    shift = np.abs(all_runs / apart - 1).mean()
    assert np.abs(left / left.sum() / (apart / apart.sum()) - 1).max() < 0.1 * shift
    # Those of the night or on the object of the run are left out on demand.
    for name, value in (("night", RunFacts.of(run).night), ("target", "other")):
        key = {"night": "night", "target": "object"}[name]
        kin = [replace(each, facts=replace(each.facts, **{key: value})) for each in runs[:2]]
        meta = {**run.meta, "object": "other"} if name == "target" else run.meta
        made = fit_acceptance_model("sim", kin + runs[2:], OFF, replace(fit, leave_out=name))
        rest = fit_acceptance_model("sim", runs[2:], OFF, fit)
        one, two = own_rate(made, replace(stranger, meta=meta)), own_rate(rest, stranger)
        assert one / one.sum() == pytest.approx(two / two.sum(), rel=0.02)


def test_a_lone_run_has_no_model_but_itself():
    runs, _ = simulate(11, n_runs=1)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial"))
    run = at(observe(obs_id=0), float(np.rad2deg(np.arccos(0.9))))
    with pytest.raises(RunRefused, match=r"^run 0: acceptance model sim: no other run .* a run never models itself$"):
        with_model("sim", model, run)


def test_the_rate_follows_the_zenith_angle():
    runs, _ = simulate(12, level=100.0, n_runs=30, slope=2.0, spread=0.0)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("gradient", zenith_deg=(0.0, 30.0, 45.0, 55.0)))
    assert model.rate.shape == (3, *TRUTH.shape)
    inner = np.hypot(LON, LAT) < 1.5
    for zenith_deg in (20.0, 35.0, 47.0):
        run = observe(obs_id=99, site=None, meta={**observe().meta, "zenith_deg": zenith_deg})
        expected = TRUTH[:, inner] * 100 * np.exp(2 * (np.cos(np.deg2rad(zenith_deg)) - 1))
        assert own_rate(model, run)[:2] == pytest.approx(expected[:2], rel=0.04)


# East and west, and runs that match


def halves(is_west: bool) -> np.ndarray:
    """Truth in one half of the sky: it leans to the other side."""
    return TRUTH * np.exp((-0.2 if is_west else 0.2) * LON)


def simulate_sides(truth, n_runs: int = 16, level: float = 100.0) -> list[OffRun]:
    rng, exposure = np.random.default_rng(30), np.broadcast_to(FIELD, TRUTH.shape)
    runs = [facts(number, is_west=number % 2 == 1) for number in range(n_runs)]
    return [OffRun(each, rng.poisson(level * truth(each.is_west) * exposure), exposure) for each in runs]


def looking(azimuth_deg: float | None, **changes) -> Observation:
    run = at(observe(obs_id=99), float(np.rad2deg(np.arccos(0.9))), azimuth_deg=azimuth_deg)
    return replace(run, **changes)


def test_a_run_is_described_by_those_on_its_side_of_the_meridian():
    runs = simulate_sides(halves)
    fit = FitOptions("gradient", azimuth="east-west")
    model = fit_acceptance_model("sim", runs, OFF, fit)
    inner = np.hypot(LON, LAT) < 1.5
    for is_west, azimuth_deg in ((False, 20.0), (True, 200.0), (True, -20.0)):
        side = [run for run in runs if run.facts.is_west == is_west]
        alone = fit_acceptance_model("sim", side, OFF, replace(fit, azimuth="none"))
        found, own = looking(azimuth_deg), looking(azimuth_deg, obs_id=side[2].facts.obs_id)  # one is left out
        for run in (found, own):
            rate = own_rate(model, run)[:2]
            assert rate == pytest.approx(own_rate(alone, run)[:2], rel=2e-3)
            assert rate == pytest.approx(100.0 * halves(is_west)[:2, inner], rel=0.03)
    with pytest.raises(RunRefused, match=r"^run 99: acceptance model sim: expected AZ_PNT, or GEOLON and GEOLAT"):
        with_model("sim", model, looking(None))


def test_a_side_of_the_meridian_without_runs_at_a_zenith_angle_describes_nothing_there():
    runs = simulate_sides(halves, 8)
    runs = [
        replace(run, facts=replace(run.facts, cos_zenith=0.7 if run.facts.obs_id in (0, 2) else 0.9)) for run in runs
    ]
    fit = FitOptions("radial", zenith_deg=(0.0, 35.0, 60.0), azimuth="east-west")
    model = fit_acceptance_model("sim", runs, OFF, fit)
    low = float(np.rad2deg(np.arccos(0.7)))
    assert own_rate(model, at(looking(90.0), low)).any()
    with pytest.raises(RunRefused, match=r"^run 99: .* no other run at its zenith angle"):
        with_model("sim", model, at(looking(270.0), low))


def test_sides_need_the_azimuth_of_every_run():
    runs = simulate_sides(halves, 4)
    blind = [replace(runs[0], facts=replace(runs[0].facts, is_west=None)), *runs[1:]]
    with pytest.raises(FailedError, match=r"^models\.sim\.fit\.azimuth: run 0 at an unknown azimuth; expected none"):
        fit_acceptance_model("models.sim", blind, OFF, FitOptions("gradient", azimuth="east-west"))


def test_a_run_takes_the_nearest_runs_that_match_until_their_livetime_is_enough():
    runs, _ = simulate(31)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial"))
    near, run = (7, 3, 5, 99, 1), looking(90.0, obs_id=3)  # 99 is not in the model, 3 is the run itself
    found = with_model("sim", model, run, near, 2000.0)  # two runs of 1200 s
    assert found.meta["off_runs"] == "5 7"
    rest = fit_acceptance_model("sim", [runs[5], runs[7]], OFF, FitOptions("radial"))
    ours, alone = (
        each.background.integrate(EDGES, LON[9:13, 9:13], LAT[9:13, 9:13])
        for each in (found, with_model("sim", rest, looking(90.0)))
    )
    assert ours[:2] == pytest.approx(alone[:2], rel=5e-3)  # norms are those of the whole model
    assert with_model("sim", model, run, near, 2401.0).meta["off_runs"] == "1 5 7"
    assert with_model("sim", model, run, near).meta["off_runs"] == "1 5 7"
    assert "off_runs" not in with_model("sim", model, run).meta


@pytest.mark.parametrize(("policy", "outcome"), [("drop", RunSkipped), ("error", RunRefused), ("keep", None)])
def test_a_run_that_is_like_no_off_run(policy, outcome):
    runs, _ = simulate(32, n_runs=4)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial", on_failure=policy))
    run = looking(90.0, obs_id=2)
    if outcome is None:
        kept = with_model("sim", model, run, (2,))
        assert UNMATCHED in kept.quirks
        assert kept.meta["off_runs"] == "0 1 3"
        return
    with pytest.raises(outcome, match=r"^run 2: acceptance model sim: no OFF run is like it, expected more of them"):
        with_model("sim", model, run, (2,))


@pytest.mark.parametrize("policy", ["drop", "error", "keep"])
def test_a_run_whose_kin_are_all_the_off_runs_is_told_so(policy):
    runs, _ = simulate(32, n_runs=3)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial", leave_out="target", on_failure=policy))
    with pytest.raises(RunRefused, match=r"^run 99: .* no other run may model it, .* a run never models itself$"):
        with_model("sim", model, looking(90.0), (0, 1, 2))


def test_the_error_of_a_model_is_that_of_its_rings_and_bands():
    runs, _ = simulate(33)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial"))
    stated = np.linspace(0.01, 0.4, 40).reshape(4, 10)
    model = replace(model, systematic=np.stack([stated, stated]))
    meta = with_model("sim", model, looking(90.0)).meta
    rate, ring = model.rate[0].sum(axis=(1, 2)), np.minimum((np.hypot(LON, LAT) / 0.2).astype(int), 9)
    assert rate.shape == (5,)
    for band, (first, last) in enumerate([(0, 2), (2, 3), (3, 4), (4, 5)]):
        plane = model.rate[0, first:last].sum(axis=0)
        expected = sum(float(plane[ring == k].sum()) * stated[band, k] ** 2 for k in range(10)) / plane.sum()
        assert meta[f"acceptance_systematic_{band}"] == pytest.approx(np.sqrt(expected), rel=1e-9)
    blank = replace(model, systematic=np.full((2, 4, 10), np.nan))
    assert not [name for name in with_model("sim", blank, looking(90.0)).meta if "systematic" in name]


def test_what_is_left_has_the_level_of_the_others():
    runs, _ = simulate(34, level=100.0, n_runs=5, spread=0.0)
    bright = replace(runs[0], counts=3 * runs[0].counts)
    model = fit_acceptance_model("sim", [bright, *runs[1:]], OFF, FitOptions("radial"))
    rest = fit_acceptance_model("sim", runs[1:], OFF, FitOptions("radial"))
    own = looking(90.0, obs_id=0)
    assert own_rate(model, own).sum() == pytest.approx(own_rate(rest, looking(90.0)).sum(), rel=2e-3)


@pytest.mark.parametrize(("policy", "outcome"), [("drop", RunSkipped), ("error", RunRefused), ("keep", None)])
def test_there_is_no_extrapolation_in_zenith(policy, outcome):
    runs, _ = simulate(13)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("gradient", on_failure=policy))
    far = observe(obs_id=99, site=None, meta={**observe().meta, "zenith_deg": 60.0})
    if outcome is None:
        kept = with_model("sim", model, far)
        assert BEYOND in kept.quirks
        return
    with pytest.raises(outcome, match=r"^run 99: .* sim: zenith angle 60.0 deg, expected 18.2 to 31.8 deg as of its"):
        with_model("sim", model, far)
    unknown = replace(far, meta={"telescope": "DEMO", "instrument": "DEMO"})
    with pytest.raises(RunRefused, match=r"expected ALT_PNT, or GEOLON and GEOLAT"):
        with_model("sim", model, unknown)


def test_a_model_of_another_instrument_is_refused():
    runs, _ = simulate(14, n_runs=3)
    model = fit_acceptance_model("sim", runs, OFF, FitOptions("radial"))
    other = observe(meta={"telescope": "MAGIC", "instrument": "stereo"})
    with pytest.raises(RunRefused, match=r"^run 1: acceptance model sim: of 'DEMO DEMO', expected one of 'MAGIC ster"):
        with_model("sim", model, other)


def empty(run: OffRun) -> OffRun:
    return replace(run, counts=0 * run.counts)


def blind(run: OffRun) -> OffRun:
    return replace(empty(run), exposure=0.0 * run.exposure)


@pytest.mark.parametrize(
    ("change", "fit", "message"),
    [
        (lambda runs: [], FitOptions(), r"models\.sim: no OFF run can be used"),
        (lambda runs: list(map(blind, runs)), FitOptions(), r"models\.sim: all of the fields .* excluded or not safe"),
        (lambda runs: list(map(empty, runs)), FitOptions(), r"models\.sim: no OFF run has a count at these energies"),
        (lambda runs: runs[:1], FitOptions(), r"models\.sim: run 0 alone is left; expected two, or a named model"),
        (
            lambda runs: [*runs[:2], replace(runs[2], facts=facts(2, instrument="other"))],
            FitOptions(),
            r"models\.sim: expected observations with one instrument, got 0 of 'DEMO DEMO' and 2 of 'other'",
        ),
        (lambda runs: runs, FitOptions(zenith_deg=(30.0, 60.0)), r"models\.sim\.fit\.zenith: run 0 at 25\.8 deg; exp"),
    ],
)
def test_what_gives_no_model_is_told_in_one_line(change, fit, message):
    runs, _ = simulate(15, n_runs=3)
    with pytest.raises(FailedError, match=rf"^{message}[^\n]*$"):
        fit_acceptance_model("models.sim", change(runs), OFF, fit)


def at(run: Observation, zenith_deg: float | None, **meta) -> Observation:
    return replace(run, site=None, meta={**run.meta, "zenith_deg": zenith_deg, **meta})


def test_nodes_that_a_run_does_not_use_refuse_nothing():
    """A node that holds only the object of a run is no matter to a run far from it in zenith angle."""
    runs, _ = simulate(16, n_runs=6)
    angles = (10.0, 12.0, 14.0, 30.0, 32.0, 50.0)
    objects = ("crab", "a", "b", "a", "b", "crab")
    runs = [
        replace(run, facts=replace(run.facts, cos_zenith=float(np.cos(np.deg2rad(angle))), object=name))
        for run, angle, name in zip(runs, angles, objects, strict=True)
    ]
    fit = FitOptions("radial", zenith_deg=(0.0, 20.0, 40.0, 60.0), leave_out="target")
    model = fit_acceptance_model("models.sim", runs, OFF, fit)
    rest = fit_acceptance_model("models.sim", runs[1:5], OFF, fit)
    found, expected = (own_rate(each, at(observe(obs_id=0), 10.0, object="crab")) for each in (model, rest))
    assert found / found.sum() == pytest.approx(expected / expected.sum(), rel=1e-2)
    with pytest.raises(RunRefused, match=r"^run 9: .* no other run at its zenith angle"):
        with_model("sim", model, at(observe(obs_id=9), 50.0, object="crab"))


def test_an_unknown_zenith_angle_does_not_lift_the_limits():
    runs, _ = simulate(17, n_runs=5)
    blank = [replace(run, facts=replace(run.facts, cos_zenith=None)) for run in runs]
    fit = FitOptions("radial")
    model = fit_acceptance_model("models.sim", [blank[0], *runs[1:]], OFF, fit)
    assert model.limits == pytest.approx([0.85, 0.95])
    assert model.cos_zenith == pytest.approx([0.9])
    assert len(model.runs) == 5
    with pytest.raises(RunSkipped, match=r"zenith angle 60\.0 deg, expected 18\.2 to 31\.8 deg"):
        with_model("sim", model, at(observe(obs_id=99), 60.0))
    with pytest.raises(RunRefused, match=r"expected ALT_PNT, or GEOLON and GEOLAT"):
        with_model("sim", model, at(observe(obs_id=99), None))
    none = fit_acceptance_model("models.sim", blank, OFF, fit)
    assert np.isnan(none.limits).all()
    assert np.isnan(none.cos_zenith).all()
    assert own_rate(none, at(observe(obs_id=99), 60.0)).any()
    with pytest.raises(FailedError, match=r"models\.sim\.fit\.zenith: run 0 at an unknown angle; expected bins"):
        fit_acceptance_model("models.sim", [blank[0], *runs[1:]], OFF, replace(fit, zenith_deg=(0.0, 60.0)))


def test_runs_without_the_name_of_an_object_are_no_kin():
    runs, _ = simulate(18, n_runs=5)
    runs = [replace(run, facts=replace(run.facts, object="")) for run in runs]
    model, alone = (
        fit_acceptance_model("models.sim", runs, OFF, FitOptions("radial", leave_out=out)) for out in ("target", "run")
    )
    run = at(observe(obs_id=2), float(np.rad2deg(np.arccos(0.9))), object="")
    assert np.array_equal(own_rate(model, run), own_rate(alone, run))


def small(runs: list[OffRun], allowed: np.ndarray) -> list[OffRun]:
    return [replace(run, counts=run.counts * allowed, exposure=run.exposure * allowed) for run in runs]


@pytest.mark.parametrize(("form", "n_cells"), [("radial", 2), ("gradient", 2), ("smooth", 40)])
def test_too_small_a_field_is_told_with_a_way_out(form, n_cells):
    runs, _ = simulate(19, level=100.0, n_runs=4)
    allowed = np.zeros(SHAPE.size, bool)
    allowed[np.argsort(np.hypot(LON - 0.5, LAT), axis=None)[:n_cells]] = True
    few = small(runs, allowed.reshape(SHAPE.shape))
    with pytest.raises(
        FailedError, match=rf"^models\.sim: form \w+: {n_cells} cells with .* expected more of the field"
    ):
        fit_acceptance_model("models.sim", few, OFF, FitOptions(form))
    assert fit_acceptance_model("models.sim", few, OFF, FitOptions()).fit.form in ("grid", "radial")


def test_cells_that_do_not_decide_the_shape_are_told():
    """Enough of them, but no function differs between them."""
    basis = acceptance_fit._basis("radial", OFF)
    alike = basis._replace(design=np.zeros_like(basis.design), penalty=np.zeros_like(basis.penalty))
    cells = np.ones(len(basis.design))
    with pytest.raises(FailedError, match=r"^the cells with exposure do not decide the shape; expected more of the"):
        acceptance_fit._fit_surface(cells, cells, alike)


def test_a_run_whose_others_leave_too_small_a_field_is_refused():
    runs, _ = simulate(20, level=100.0, n_runs=3)
    tiny = small(runs[:2], np.hypot(LON - 0.1, LAT - 0.1) < 0.1)
    model = fit_acceptance_model("models.sim", [*tiny, runs[2]], OFF, FitOptions("radial"))
    assert np.isnan(model.systematic).all()
    with pytest.raises(RunRefused, match=r"^run 2: acceptance model sim: of the other runs: 1 cells with exposure"):
        with_model("sim", model, at(observe(obs_id=2), float(np.rad2deg(np.arccos(0.9)))))


def test_where_no_form_predicts_others_auto_takes_the_grid_and_refuses_no_run():
    """Two runs with few cells, as of a narrow field: each has the counts over exposure of the other."""
    runs, _ = simulate(21, n_runs=2)
    runs = small(runs, np.hypot(LON - 0.1, LAT - 0.1) < 0.45)
    runs[0].counts[:, 11, 11] = 0  # so that it predicts nothing there
    model = fit_acceptance_model("models.sim", runs, OFF, FitOptions())
    assert model.held_out == dict.fromkeys(("radial", "gradient", "smooth", "grid"))
    assert model.fit.form == "grid"
    for run, other in (runs, runs[::-1]):
        found = with_model("sim", model, looking(90.0, obs_id=run.facts.obs_id))
        seen = (other.exposure[0] > 0) & (np.hypot(LON - LON[11, 11], LAT - LAT[11, 11]) > 0.1)
        expected = other.counts.sum(axis=0)[seen] / other.exposure[0][seen]
        rates = found.background.integrate(EDGES, LON[seen], LAT[seen]).sum(axis=0)
        assert rates / rates.mean() == pytest.approx(expected / expected.mean(), abs=0.02)


def test_zenith_bins_must_increase():
    with pytest.raises(ValueError, match=r"zenith_deg: expected two or more increasing angles, got \[40.0, 20.0\] deg"):
        FitOptions(zenith_deg=(40.0, 20.0))
