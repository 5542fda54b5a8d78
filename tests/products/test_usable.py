"""Where the background response ends nothing is known: in norms, tilts, rings, stacks, masks and profiles."""

from dataclasses import replace

import numpy as np
import pytest

from cubeflow.irf.background import Background3D
from cubeflow.maps import make_geometry, sphere
from cubeflow.products.background import NoBackground, make_background, run_part
from cubeflow.products.fov_background import FovOptions, make_map_fov_background
from cubeflow.products.profiles import OFFSET_WIDTH_DEG
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.ring_background import AdaptiveRingOptions, RingOptions, make_map_ring_background
from cubeflow.products.stack import stack

from .conftest import TARGET_DEG, reduce_options, simulated_runs

REACH = 1.0  # deg: half width of the table of the background, in the field of view
LAST_TEV = 6.0  # upper edge of the table
OPTIONS = reduce_options((5.0, 4.6), 0.1, (1.0, 20.0, 3), (0.5, 40.0, 7), 0.4, 20)
METHODS = {
    "fov": FovOptions(energy_groups=2, min_counts=1),
    "tilt": FovOptions(fit="tilt"),
    "ring": RingOptions(0.5, 0.3),
    "per energy": RingOptions(0.5, 0.3, per_energy=True),
    "adaptive": AdaptiveRingOptions(0.4, 0.3, 1.2, 0.1, 0.2, threshold=0.3),
}


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    """Run whose background response is known in a square about the pointing and below some energy only."""
    run = next(simulated_runs(tmp_path_factory.mktemp("store"), n_runs=1, tiny=True))
    edges = np.linspace(-REACH, REACH, 11)
    energy = np.geomspace(0.5, LAST_TEV, 9)
    rate = np.exp(-0.5 * (0.5 * (edges[1:] + edges[:-1])) ** 2) * np.geomspace(900.0, 1.0, 8)[:, None]
    return replace(run, background=Background3D(energy, edges, edges, rate[..., None] * np.ones(10)))


@pytest.fixture(scope="module")
def reduced(observation):
    return reduce_observation(observation, OPTIONS)


@pytest.fixture(scope="module")
def known(observation, reduced):
    """Voxels within the table, from its edges."""
    geom, energy = reduced.maps["counts"].geom, reduced.maps["counts"].axis("energy")
    lon, lat = sphere.sky_offset(geom.center_vectors, observation.pointing.ra_deg, observation.pointing.dec_deg)
    inside = (np.abs(lon) < REACH) & (np.abs(lat) < REACH)
    return inside & (energy.edges_array[:-1] < LAST_TEV)[:, None, None]


@pytest.fixture(scope="module")
def nowhere(reduced):
    return np.zeros(reduced.maps["counts"].geom.shape, bool)


def test_acceptance_and_counts_left_out(reduced, known):
    counts, acceptance, safe = (reduced.maps[name].data for name in ("counts", "acceptance", "mask_safe"))
    np.testing.assert_array_equal(acceptance > 0, known)
    assert reduced.row["counts_without_acceptance"] == counts[safe & ~known].sum() > 100
    assert reduced.row["counts_safe"] == counts[safe].sum()


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_known_is_not_used(reduced, known, nowhere, name):
    """Counts where there is no acceptance change nothing: with ten times as many all is the same."""
    counts = reduced.maps["counts"]
    more = replace(counts, data=np.where(known, counts.data, 10 * counts.data + 7))
    made, other = (
        make_background(
            replace(reduced, maps={**reduced.maps, "counts": each}), METHODS[name], nowhere, TARGET_DEG, 0.2
        )
        for each in (counts, more)
    )
    assert made.failed is None
    assert made.usable.any()
    assert not made.usable[~known].any()
    assert made.row == other.row
    for each in made.maps:
        np.testing.assert_array_equal(made.maps[each].data, other.maps[each].data)
    np.testing.assert_array_equal(made.profiles.counts, other.profiles.counts)
    assert made.profiles.counts.shape[2] <= np.ceil(np.sqrt(2) * REACH / OFFSET_WIDTH_DEG)
    total = stack([run_part(reduced, made)])
    layers = total.layers
    np.testing.assert_array_equal(layers["mask_safe"].data, made.usable)
    assert layers["counts"].data.sum() == counts.data[made.usable].sum()
    assert not layers["exposure"].data[:, ~made.usable.any(axis=0)].any()


def test_norms_are_the_counts_over_the_acceptance_where_it_is_known(observation, reduced, known, nowhere):
    """From the events themselves: those of the voxels that are known, group by group."""
    events = observation.events.select(observation.gti.contains(observation.events.time_s))
    counts, acceptance = reduced.maps["counts"], reduced.maps["acceptance"].data.astype(float)
    ix, iy = counts.geom.pixel_index(events.ra_deg, events.dec_deg)
    energy = counts.axis("energy").index(events.energy_tev)
    use = reduced.maps["mask_safe"].data & known
    seen = (ix >= 0) & (energy >= 0)
    used = energy[seen][use[energy, iy, ix][seen]]
    assert known.any(axis=(1, 2)).tolist() == [True, True, False]
    made = make_background(reduced, METHODS["fov"], nowhere, TARGET_DEG, 0.2)
    expected = [(used < 2).sum() / acceptance[:2][use[:2]].sum()]
    np.testing.assert_allclose(made.row["norm"], expected, rtol=1e-6)  # the second group has nothing, and is merged


def test_functions_leave_it_out_without_a_safe_mask(reduced, known, nowhere):
    counts, acceptance = reduced.maps["counts"], reduced.maps["acceptance"]
    fov = make_map_fov_background(acceptance, counts, nowhere, FovOptions(norm_max=1e3))
    assert fov.norms.counts.sum() == counts.data[known].sum() < counts.data.sum()
    np.testing.assert_array_equal(fov.mask, known)
    as_double = replace(acceptance, data=acceptance.data.astype(float))
    ring = make_map_ring_background(as_double, counts, nowhere, RingOptions(0.3, 0.3))
    assert not ring.mask[~known].any()


def test_without_a_background_all_that_is_safe_is_used(reduced, nowhere):
    made = make_background(reduced, NoBackground(), nowhere, TARGET_DEG, 0.2)
    np.testing.assert_array_equal(made.usable, reduced.maps["mask_safe"].data)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_no_label_and_no_border_of_the_map_changes_a_norm(observation, method):
    """From a map that holds the whole field, and from one that shows a corner of it: the same."""
    rows = []
    for width in ((5.0, 4.6), (0.6, 0.8)):
        geometry = make_geometry("icrs", "TAN", *TARGET_DEG, width, 0.1)
        options = replace(OPTIONS, geometry=geometry, irf_geometry=geometry.coarse(0.4))
        reduced = reduce_observation(observation, options)
        exclusion = reduced.maps["counts"].geom.offset_deg(*TARGET_DEG) < 0.35
        rows.append((reduced.row, make_background(reduced, method, exclusion, TARGET_DEG, 0.2).row))
    assert rows[0] == rows[1]
