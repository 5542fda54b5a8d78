"""CTA-1DC: the predicted background against the events that are known to be background."""

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


@pytest.mark.parametrize("obs_id", RUNS)
@pytest.mark.parametrize("offset_max_deg", [2.5, 4.5])
def test_acceptance_is_the_true_background(cta_store, data_root, obs_id, offset_max_deg):
    entry = next(entry for entry in open_store(cta_store, [data_root / "cta-1dc"]).runs if entry.obs_id == obs_id)
    observation = read_observation(entry)
    pointing, energy = observation.pointing, energy_axis(log_edges(0.1, 10.0, 8))
    geom = make_geometry("icrs", "TAN", pointing.ra_deg, pointing.dec_deg, (10.0, 10.0), 0.05)
    events = observation.events.select(observation.events.mc_id == TRUE_BACKGROUND)
    counts = make_map_counts(events, geom, energy, pointing, offset_max_deg).data.sum((1, 2))
    # ctobssim draws the background for the livetime, against the standard: the reader knows the quirk.
    assert "ctobssim-background-per-livetime" in observation.quirks
    acceptance = make_map_hadron_acceptance(
        pointing, observation.ontime_s, observation.background, geom, energy, offset_max_deg
    ).data.sum((1, 2))
    assert counts.sum() > 20_000
    assert acceptance.sum() == pytest.approx(counts.sum(), rel=0.015)
    pull = (counts - acceptance) / np.sqrt(acceptance + (0.02 * acceptance) ** 2)
    assert np.max(np.abs(pull)) < 4.0
