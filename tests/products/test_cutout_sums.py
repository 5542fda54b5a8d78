"""A run reduced on its cutout gives all that it gives on the whole map, wherever the pointing is."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background3D
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import NoOverlap, energy_axis, make_cutout, make_geometry, sphere
from cubeflow.observation import EventList, Pointing
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exposure import make_map_exposure_true_energy

GEOMETRIES = [
    make_geometry("icrs", "TAN", 0.1, 30.0, (4.1, 3.0), 0.15),
    make_geometry("galactic", "CAR", 180.0, 0.0, (3.6, 5.1), 0.2),
    make_geometry("icrs", "ZEA", 77.0, 89.6, (4.0, 3.3), 0.17),
]
ENERGY, ENERGY_TRUE = energy_axis([1.0, 3.0, 9.0]), energy_axis([0.5, 2.0, 8.0, 30.0], "energy_true")
EDGES, FIELD = np.geomspace(0.1, 100.0, 7), np.linspace(-3.0, 3.0, 9)
RNG = np.random.default_rng(3)
BACKGROUND = Background3D(EDGES, FIELD, FIELD, RNG.uniform(1.0, 9.0, (6, 8, 8)))
AREA = EffectiveArea(
    nodes_from_edges(EDGES[:-1], EDGES[1:], log=True),
    nodes_from_edges([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], log=False),
    RNG.uniform(1e3, 1e5, (6, 3)),
)


@settings(max_examples=40, deadline=None)
@given(
    geom=st.sampled_from(GEOMETRIES),
    x=st.floats(-14, 40),
    y=st.floats(-14, 40),
    radius=st.floats(0.3, 2.4),
)
def test_cutout_sum_is_full_sum(geom, x, y, radius):
    ra, dec = (float(value) for value in sphere.lon_lat(geom.pixel_to_vectors(x, y)))
    rng = np.random.default_rng(5)
    at = geom.pixel_to_vectors(rng.uniform(-0.5, geom.nx - 0.5, 900), rng.uniform(-0.5, geom.ny - 0.5, 900))
    events = EventList(rng.uniform(0.5, 12.0, 900), *sphere.lon_lat(at), np.zeros(900))
    pointing = Pointing(ra, dec)

    def maps(grid):
        return (
            make_map_counts(events, grid, ENERGY, pointing, radius),
            make_map_exposure_true_energy(pointing, 1600.0, AREA, grid, ENERGY_TRUE, radius),
            make_map_hadron_acceptance(pointing, 1700.0, BACKGROUND, grid, ENERGY, radius),
        )

    try:
        part = make_cutout(geom, ra, dec, radius)
    except NoOverlap:
        assert not any(cube.data.any() for cube in maps(geom))
        return
    whole, cut = maps(geom), maps(part)
    own, there = part.overlap(geom)
    for one, other in zip(whole, cut, strict=True):
        on_map = other.data[(slice(None), *own)]
        np.testing.assert_allclose(on_map.sum((1, 2)), one.data.sum((1, 2)), rtol=1e-11)
        np.testing.assert_allclose(on_map, one.data[(slice(None), *there)], rtol=1e-10)
    assert np.array_equal(cut[0].data[(slice(None), *own)].sum((1, 2)), whole[0].data.sum((1, 2)))
