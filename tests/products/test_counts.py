import numpy as np
import pytest

from cubeflow.maps import energy_axis, make_geometry, sphere
from cubeflow.observation import EventList, Pointing
from cubeflow.products.counts import make_map_counts

ENERGY = energy_axis([0.5, 2.0, 30.0, 90.0])
GEOM = make_geometry("galactic", "CAR", 184.5, -5.8, (2.3, 1.7), 0.1)


def events(n=400, seed=5):
    rng = np.random.default_rng(seed)
    vectors = GEOM.pixel_to_vectors(rng.uniform(-8, GEOM.nx + 8, n), rng.uniform(-8, GEOM.ny + 8, n))
    ra, dec = sphere.lon_lat(vectors)
    return EventList(rng.uniform(0.1, 100.0, n), ra, dec, np.zeros(n))


def slow_counts(events, keep):
    data = np.zeros((3, *GEOM.shape), dtype=int)
    wcs = GEOM.wcs()
    for energy, ra, dec in zip(events.energy_tev, events.ra_deg, events.dec_deg, strict=True):
        lon, lat = sphere.lon_lat(sphere.icrs_to_frame(sphere.unit_vectors(ra, dec), "galactic"))
        x, y = (int(np.floor(p[0] + 0.5)) for p in wcs.wcs_world2pix([lon], [lat], 0))
        bins = [k for k in range(3) if ENERGY.edges[k] <= energy < ENERGY.edges[k + 1]]
        if bins and 0 <= x < GEOM.nx and 0 <= y < GEOM.ny and keep[y, x]:
            data[bins[0], y, x] += 1
    return data


def test_counts_are_those_of_a_loop():
    made = make_map_counts(events(), GEOM, ENERGY)
    assert made.data.dtype == np.int64
    np.testing.assert_array_equal(made.data, slow_counts(events(), np.ones(GEOM.shape, bool)))
    assert 0 < made.data.sum() < 400


def test_whole_pixels_are_cut_by_offset():
    pointing = Pointing(*(float(v) for v in sphere.lon_lat(GEOM.center_vectors[8, 4])))
    keep = GEOM.offset_deg(pointing.ra_deg, pointing.dec_deg) < 0.6
    made = make_map_counts(events(), GEOM, ENERGY, pointing, 0.6)
    np.testing.assert_array_equal(made.data, slow_counts(events(), keep))


def test_no_events_no_counts():
    empty = EventList(*(np.zeros(0) for _ in range(4)))
    assert make_map_counts(empty, GEOM, ENERGY).data.sum() == 0


def test_edges_are_half_open():
    ra, dec = (np.full(4, float(v)) for v in sphere.lon_lat(GEOM.center_vectors[3, 5]))
    made = make_map_counts(EventList(np.array([0.5, 2.0, 90.0, np.nan]), ra, dec, np.zeros(4)), GEOM, ENERGY)
    np.testing.assert_array_equal(made.data[:, 3, 5], [1, 1, 0])
    assert made.data.sum() == 2


def test_cutout_is_a_slice_of_the_whole():
    part = GEOM.cutout(3, 2, 11, 9)
    whole = make_map_counts(events(), GEOM, ENERGY)
    np.testing.assert_array_equal(make_map_counts(events(), part, ENERGY).data, whole.cutout(part).data)


def test_an_offset_cut_needs_a_pointing():
    with pytest.raises(ValueError, match="offset_max needs a pointing"):
        make_map_counts(events(), GEOM, ENERGY, offset_max_deg=1.0)
