"""CTA-1DC: the predicted background against the events that are known to be background."""

from dataclasses import replace

import numpy as np
import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import energy_axis, log_edges, make_geometry
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.counts import make_map_counts

pytestmark = pytest.mark.real_data

RUNS = (111140, 111159)
TRUE_BACKGROUND = 1
GRID = (10.0, 10.0), 0.05


def observed(cta_store, data_root, obs_id):
    entry = next(entry for entry in open_store(cta_store, [data_root / "cta-1dc"]).runs if entry.obs_id == obs_id)
    return read_observation(entry)


@pytest.mark.parametrize("obs_id", RUNS)
@pytest.mark.parametrize("offset_max_deg", [2.5, 4.5])
def test_acceptance_is_the_true_background(cta_store, data_root, obs_id, offset_max_deg, record):
    observation = observed(cta_store, data_root, obs_id)
    pointing, energy = observation.pointing, energy_axis(log_edges(0.1, 10.0, 8))
    geom = make_geometry("icrs", "TAN", pointing.ra_deg, pointing.dec_deg, *GRID)
    events = observation.events.select(observation.events.mc_id == TRUE_BACKGROUND)
    counts = make_map_counts(events, geom, energy, pointing, offset_max_deg).data.sum((1, 2))
    # ctobssim draws the background for the livetime, against the standard: the reader knows the quirk.
    assert "ctobssim-background-per-livetime" in observation.quirks
    acceptance = make_map_hadron_acceptance(
        pointing, observation.ontime_s, observation.background, geom, energy, offset_max_deg
    ).data.sum((1, 2))
    for band, (low, high) in enumerate(zip(energy.edges, energy.edges[1:], strict=False)):
        text = f"CTA-1DC, {low:.2f} to {high:.2f} TeV, within {offset_max_deg} deg: "
        record(f"cta.{offset_max_deg}.{band}.events", counts[band], "counts", text + "true background")
        record(f"cta.{offset_max_deg}.{band}.acceptance", acceptance[band], "counts", text + "acceptance")
    assert counts.sum() > 20_000
    assert acceptance.sum() == pytest.approx(counts.sum(), rel=0.015)
    pull = (counts - acceptance) / np.sqrt(acceptance + (0.02 * acceptance) ** 2)
    assert np.max(np.abs(pull)) < 4.0


def test_at_the_steep_edge_of_the_field_the_rate_itself_is_linear(cta_store, data_root, record):
    """From 4 to 4.5 deg the table falls by half a decade from bin to bin: logarithms miss an eighth of the events."""
    energy = energy_axis(log_edges(0.1, 10.0, 4))
    counts, gain = 0, 0.0
    total = {"log": 0.0, "linear": 0.0}
    for obs_id in RUNS:
        run = observed(cta_store, data_root, obs_id)
        geom = make_geometry("icrs", "TAN", run.pointing.ra_deg, run.pointing.dec_deg, *GRID)
        offset = geom.offset_deg(run.pointing.ra_deg, run.pointing.dec_deg)
        edge, field = (offset >= 4.0) & (offset < 4.5), offset < 4.5
        events = make_map_counts(run.events.select(run.events.mc_id == TRUE_BACKGROUND), geom, energy).data
        maps = {
            how: make_map_hadron_acceptance(
                run.pointing, run.ontime_s, replace(run.background, interpolation=how), geom, energy
            )
            for how in total
        }
        counts += events[:, edge].sum()
        for how in total:
            total[how] += maps[how].data[:, edge].sum()
        known = field & (maps["log"].data > 0)
        shape = {how: cube.data / cube.data.sum(where=known, axis=(1, 2), keepdims=True) for how, cube in maps.items()}
        gain += np.sum(events[known] * np.log(shape["linear"][known] / shape["log"][known]))
    record("cta.edge.events", counts, "counts", "CTA-1DC, 4 to 4.5 deg: true background")
    for how, value in total.items():
        record(f"cta.edge.{how}", value, "counts", f"CTA-1DC, 4 to 4.5 deg: acceptance, interpolation {how}")
    assert counts > 3000
    assert total["linear"] == pytest.approx(counts, rel=0.035)  # two standard deviations
    assert total["log"] < 0.9 * counts
    assert gain > 150  # of ln L, for the shape alone


def test_every_ring_of_the_field_has_the_true_background(cta_store, data_root):
    """With the default, which is linear for these tables: in each ring of half a degree and each energy."""
    energy = energy_axis(log_edges(0.1, 10.0, 5))
    rings = np.arange(0.0, 5.0, 0.5)
    counts, acceptance = np.zeros((2, 5, len(rings)))
    for obs_id in RUNS:
        run = observed(cta_store, data_root, obs_id)
        assert (run.background.interpolation, run.background.is_linear) == ("auto", True)
        geom = make_geometry("icrs", "TAN", run.pointing.ra_deg, run.pointing.dec_deg, *GRID)
        ring = np.searchsorted(rings, geom.offset_deg(run.pointing.ra_deg, run.pointing.dec_deg), side="right") - 1
        events = make_map_counts(run.events.select(run.events.mc_id == TRUE_BACKGROUND), geom, energy).data
        made = make_map_hadron_acceptance(run.pointing, run.ontime_s, run.background, geom, energy, 5.0).data
        for index in range(len(rings)):
            here = (ring == index) & (made[0] > 0)
            counts[:, index] += events[:, here].sum(axis=1)
            acceptance[:, index] += made[:, here].sum(axis=1)
    assert counts.sum() > 90_000
    pull = (counts - acceptance) / np.sqrt(acceptance + (0.01 * acceptance) ** 2)
    assert np.abs(pull).max() < 3.5  # of fifty
    assert counts[:, 8:].sum() == pytest.approx(acceptance[:, 8:].sum(), rel=0.03)
