"""What the configuration says reaches the maps of a run."""

from dataclasses import replace

import numpy as np
import pytest

from cubeflow.irf.table import nodes_from_edges
from cubeflow.observation import RunRefused
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.counts import make_map_counts
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.spectrum import ExponentialCutoff

from .conftest import reduce_options, simulated_runs


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    return next(simulated_runs(tmp_path_factory.mktemp("store"), n_runs=1, duration_s=300.0, tiny=True))


def options(**changes):
    return reduce_options((4.0, 3.0), 0.1, (1.0, 20.0, 3), (0.5, 40.0, 7), 0.4, 20, **changes)


def reduced(observation, how):
    return reduce_observation(observation, options(acceptance=AcceptanceOptions(how))).maps


def test_the_rate_is_interpolated_as_configured(observation):
    log, linear = (reduced(observation, how) for how in ("log", "linear"))
    for name in log:
        is_same = np.array_equal(log[name].data, linear[name].data, equal_nan=True)
        assert is_same is (name != "acceptance"), name
    used = log["mask_safe"].data & (log["acceptance"].data > 0)
    # Of a smooth field the arithmetic mean of neighbours is a little more than the geometric one.
    ratio = linear["acceptance"].data[used].sum() / log["acceptance"].data[used].sum()
    assert 1.0 < ratio < 1.05


@pytest.mark.parametrize(("cutoff_tev", "energy"), [(0.01, r"2\.71 to 7\.37 TeV"), (0.05, r"7\.37 to 20 TeV")])
def test_a_spectrum_without_flux_at_an_energy_is_refused(observation, cutoff_tev, energy):
    """Below what a number can hold, the exposure for such a spectrum is no number: 0 / 0, or beyond float32."""
    spectrum = ExponentialCutoff(index=2.0, cutoff_tev=cutoff_tev)
    with pytest.raises(RunRefused, match=rf"^run 100001: spectrum: .*'exp-cutoff'.* at {energy}, expected .*$"):
        reduce_observation(observation, options(spectrum=spectrum))


def test_the_safe_mask_is_that_of_the_options(observation):
    made = reduce_observation(observation, options(safe_mask=SafeMaskOptions(("offset-max",)), offset_max_deg=1.3))
    mask, pointing = made.maps["mask_safe"], observation.pointing
    near = mask.geom.offset_deg(pointing.ra_deg, pointing.dec_deg) < 1.3
    np.testing.assert_array_equal(mask.data, np.broadcast_to(near, mask.data.shape))
    at_target = SafeMaskOptions(("aeff-max",), aeff_percent=60.0, position="target")
    maps = reduce_observation(observation, options(safe_mask=at_target)).maps
    exposed = maps["exposure_reco"].data > 0  # within the largest offset: beyond it no condition makes a voxel safe
    safe, n_exposed = maps["mask_safe"].data, np.count_nonzero(exposed, axis=(1, 2))
    assert 0 < n_exposed.min() < safe[0].size
    assert not (safe & ~exposed).any()
    n_safe = np.count_nonzero(safe, axis=(1, 2))
    assert n_safe.any()
    assert ((n_safe == 0) | (n_safe == n_exposed)).all()


def test_the_row_counts_what_the_maps_hold(observation):
    some = SafeMaskOptions(("offset-max", "aeff-max"), aeff_percent=60.0)
    made = reduce_observation(observation, options(safe_mask=some))
    counts, safe = made.maps["counts"].data, made.maps["mask_safe"].data
    assert made.row["counts"] == counts.sum() > made.row["counts_safe"] == counts[safe].sum()
    assert made.row["n_events"] == len(observation.events)
    assert (made.pointing.ra_deg, made.pointing.dec_deg) == (observation.pointing.ra_deg, observation.pointing.dec_deg)
    assert observation.livetime_s == made.row["livetime_s"]
    first = np.flatnonzero(safe.any(axis=(1, 2)))[0]
    assert made.row["energy_threshold_tev"] == made.maps["counts"].axes[0].edges[first]
    assert all(cube.data.dtype in (np.float32, np.int64, bool) for cube in made.maps.values())


def test_the_row_says_what_the_energy_axes_lose(observation):
    """Counts in bins that a threshold cuts, and the share of those that true energies outside the bins would give."""
    plain = reduce_observation(observation, options())
    assert plain.row["beyond_energy_true"] < 0.01
    threshold = 1.0 + 1.0 / 3.0
    cut = replace(observation, aeff=replace(observation.aeff, lo_thres_tev=threshold, hi_thres_tev=19.0))
    made = reduce_observation(cut, options())
    edges, counts = plain.maps["counts"].axes[0].edges, plain.maps["counts"].data
    assert edges[0] < threshold < edges[1]
    assert not made.maps["mask_safe"].data[[0, 2]].any()
    inside = observation.gti.contains(observation.events.time_s)
    events = observation.events.select(inside & (observation.events.energy_tev < threshold))
    below = make_map_counts(events, made.maps["counts"].geom, options().energy, observation.pointing, 2.0).data[0]
    above = observation.events.select(inside & (observation.events.energy_tev >= 19.0))
    above = make_map_counts(above, made.maps["counts"].geom, options().energy, observation.pointing, 2.0).data[2]
    assert made.row["counts_cut"] == counts[[0, 2]].sum() - below.sum() - above.sum() > 0
    assert plain.row["counts_cut"] == 0


def test_an_axis_of_true_energy_like_that_of_energy_loses_what_the_wide_one_has(observation):
    """The share that is said is that by which the exposure is smaller."""

    def exposure(lower, upper):
        how = reduce_options((4.0, 3.0), 0.1, (1.0, 20.0, 8), (lower, upper, 40), 0.4, 20)
        made = reduce_observation(observation, how)
        return made.maps["exposure_reco"].data.sum(axis=(1, 2), dtype=float), made.row["beyond_energy_true"]

    (equal, said), (wide, nothing) = exposure(1.0, 20.0), exposure(0.2, 90.0)
    lost = 1.0 - equal / wide
    assert lost.max() > 0.05
    assert said == pytest.approx(lost.max(), rel=0.1)
    assert nothing < 1e-3


@pytest.mark.parametrize("name", ["aeff", "edisp", "psf"])
def test_a_response_that_begins_above_offset_0_leaves_no_safe_pixel_without_exposure(observation, name):
    response = getattr(observation, name)
    nodes = replace(response.offset, lower=0.3) if response.offset.values[0] >= 0.3 else None
    assert nodes is not None
    changed = replace(observation, **{name: replace(response, offset=nodes)})
    maps = reduce_observation(changed, options()).maps
    near = maps["counts"].geom.offset_deg(observation.pointing.ra_deg, observation.pointing.dec_deg) < 0.3
    assert near.sum() > 10
    assert not maps["mask_safe"].data[:, near].any()
    safe = maps["mask_safe"].data.any(axis=0)
    assert safe.any()
    assert (maps["exposure"].data[3][safe] > 0).all()
    assert (maps["exposure_reco"].data[1][safe] > 0).all()


def aeff_of(observation, lower, upper, n_offset=4):
    edges = np.linspace(lower, upper, n_offset + 1)
    offset = nodes_from_edges(edges[:-1], edges[1:], log=False)
    aeff = observation.aeff
    return replace(observation, aeff=replace(aeff, offset=offset, area_m2=np.repeat(aeff.area_m2[:, :1], n_offset, 1)))


@pytest.mark.parametrize(
    ("lower", "upper", "n_offset", "limits"),
    [
        (0.0, 2.0, 4, ""),
        (0.0, 1.5, 4, "effective area from 0 to 1.5 deg only"),
        (0.3, 2.5, 4, "effective area from 0.3 to 2.5 deg only"),
        (0.39, 0.41, 1, "effective area in one bin from 0.39 to 0.41 deg only"),
    ],
)
def test_where_the_exposure_ends_is_said(observation, lower, upper, n_offset, limits):
    made = reduce_observation(aeff_of(observation, lower, upper, n_offset), options())
    assert (made.row["limits"], made.row["is_pointlike"]) == (limits, False)
    offset = made.maps["exposure"].geom.offset_deg(observation.pointing.ra_deg, observation.pointing.dec_deg)
    exposed = offset[made.maps["exposure"].data[-1] > 0]
    assert exposed.size == 0 or (exposed.min() >= lower and exposed.max() <= upper)


@pytest.mark.parametrize(
    ("reach", "limits"), [(1.2, "events up to 1.2 deg from the pointing only"), (2.0, ""), (None, "")]
)
def test_where_the_events_end_is_said(observation, reach, limits):
    known = replace(observation, meta={**observation.meta, "events_offset_max_deg": reach})
    row = reduce_observation(known, options()).row
    assert (row["limits"], row.get("events_offset_max_deg")) == (limits, reach)


def test_point_like_is_said(observation):
    row = reduce_observation(replace(observation, point_like=True), options()).row
    assert row["is_pointlike"] is True
    assert row["limits"] == "point-like: the exposure holds inside the cut on direction only"


def test_an_energy_that_no_response_reaches_is_not_safe(observation):
    """A dispersion that ends far above the energies of the map: counts there are worth nothing, and are left out."""
    edges = observation.edisp.migra_edges
    far = replace(observation, edisp=replace(observation.edisp, migra_edges=edges + 1000.0))
    made, whole = (reduce_observation(each, options()) for each in (far, observation))
    assert not made.maps["exposure_reco"].data.any()
    assert not made.maps["mask_safe"].data.any()
    assert whole.row["counts_safe"] > 0
    assert (made.row["counts"], made.row["counts_safe"]) == (whole.row["counts"], 0)
    assert (whole.maps["exposure_reco"].data[whole.maps["mask_safe"].data] > 0).all()
