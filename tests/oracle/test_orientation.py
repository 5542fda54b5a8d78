"""Which way the background tables lie: real events decide."""

import numpy as np
import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import log_edges, sphere

pytestmark = pytest.mark.real_data

EDGES_TEV = log_edges(1.0, 10.0, 4)
# What could be done to (lon, lat): transposing, mirroring, and both.
ORIENTATIONS = {
    (swap, lon, lat): (lambda x, y, swap=swap, lon=lon, lat=lat: (lon * y, lat * x) if swap else (lon * x, lat * y))
    for swap in (False, True)
    for lon in (1, -1)
    for lat in (1, -1)
}


def log_likelihoods(observation):
    """ln-likelihood of the events within 2 deg and 1-10 TeV for each orientation, up to a constant."""
    events, background = observation.events, observation.background
    vectors = sphere.unit_vectors(events.ra_deg, events.dec_deg)
    lon, lat = sphere.sky_offset(vectors, observation.pointing.ra_deg, observation.pointing.dec_deg)
    index = np.searchsorted(EDGES_TEV, events.energy_tev, side="right") - 1
    keep = (np.hypot(lon, lat) < 2.0) & (index >= 0) & (index < len(EDGES_TEV) - 1)
    assert keep.sum() > 100
    lon, lat, index = lon[keep], lat[keep], index[keep]
    total = []
    for turn in ORIENTATIONS.values():
        rate = background.integrate(EDGES_TEV, *turn(lon, lat))[index, np.arange(len(index))]
        # A disc around the centre has the same integral whatever the orientation: the norm drops out.
        total.append(np.sum(np.log(np.maximum(rate, 1e-12))))
    return np.array(total)


def test_hess_orientation_beats_all_others(hess_store, record):
    runs = open_store(hess_store).runs[::4]
    assert len(runs) >= 10
    total = sum(log_likelihoods(read_observation(entry)) for entry in runs)
    names = list(ORIENTATIONS)
    others = {name: value - total[0] for name, value in zip(names[1:], total[1:], strict=True)}
    assert names[0] == (False, 1, 1)
    record("orientation.runs", len(runs), "", "H.E.S.S. runs of which the events decide on the orientation")
    for (swap, lon, lat), value in others.items():
        what = [name for name, done in (("transposed", swap), ("lon", lon < 0), ("lat", lat < 0)) if done]
        record(
            f"orientation.{'.'.join(what)}", value, "", f"ln L against the orientation used: {' '.join(what)} turned"
        )
    assert max(others.values()) < -20.0, others
