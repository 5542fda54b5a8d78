"""Sums in rings and sectors, against sums over pixels one by one."""

import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.observation import Pointing
from cubeflow.products.profiles import (
    OFFSET_WIDTH_DEG,
    add_profiles,
    band_edges_tev,
    energy_bands,
    make_profiles,
)

ENERGY = energy_axis([0.5, 0.8, 1.3, 2.0, 4.0, 9.0])
POINTING = Pointing(83.31, 21.87)


def make_cubes(seed: int = 7, width: tuple[float, float] = (2.2, 1.7)) -> tuple[Cube, Cube, np.ndarray]:
    rng = np.random.default_rng(seed)
    geom = make_geometry("galactic", "CAR", 184.4, -5.9, width, 0.1)
    shape = ENERGY.n_bins, *geom.shape
    counts = Cube(rng.poisson(2.0, shape), "", geom, (ENERGY,))
    background = Cube(rng.uniform(1, 3, shape).astype(np.float32), "", geom, (ENERGY,))
    return counts, background, rng.random(shape) < 0.7


def test_sums_are_those_of_the_pixels_one_by_one() -> None:
    from astropy.coordinates import SkyCoord

    counts, background, allowed = make_cubes()
    made = make_profiles(counts, background, allowed, POINTING)
    centre = SkyCoord(POINTING.ra_deg, POINTING.dec_deg, unit="deg")
    ny, nx = counts.geom.shape
    expected_rings, expected_sectors = np.zeros_like(made.offset_counts), np.zeros_like(made.sector_background)
    for y in range(ny):
        for x in range(nx):
            sky = counts.geom.wcs().pixel_to_world(x, y).icrs
            ring = int(centre.separation(sky).deg / OFFSET_WIDTH_DEG)
            sector = int(((centre.position_angle(sky).deg + 22.5) % 360) / 45)
            for index, band in enumerate(energy_bands(ENERGY)):
                use = allowed[band, y, x]
                expected_sectors[index, sector] += background.data[band, y, x][use].sum(dtype=float)
                if use.any():
                    expected_rings[index, ring] += counts.data[band, y, x][use].sum()
    np.testing.assert_array_equal(made.offset_counts, expected_rings)
    np.testing.assert_allclose(made.sector_background, expected_sectors, rtol=1e-6)


def test_background_that_is_not_allowed_may_be_anything() -> None:
    counts, background, allowed = make_cubes()
    elsewhere = Cube(np.where(allowed, background.data, np.nan), "", counts.geom, (ENERGY,))
    made, expected = (make_profiles(counts, each, allowed, POINTING) for each in (elsewhere, background))
    np.testing.assert_array_equal(made.offset_background, expected.offset_background)
    np.testing.assert_array_equal(made.sector_background, expected.sector_background)


def test_everything_that_is_allowed_is_in_a_ring_and_a_sector() -> None:
    counts, background, allowed = make_cubes()
    made = make_profiles(counts, background, allowed, POINTING)
    assert made.offset_counts.sum() == made.sector_counts.sum() == counts.data[allowed].sum()
    np.testing.assert_allclose(made.offset_background.sum(), background.data[allowed].sum(dtype=float))
    whole = make_profiles(counts, background, np.ones_like(allowed), POINTING)
    area = np.rad2deg(np.rad2deg(counts.geom.solid_angle_sr.sum()))
    np.testing.assert_allclose(whole.area_deg2.sum(axis=1), area)
    np.testing.assert_allclose(whole.area_deg2[:, 0], np.pi * OFFSET_WIDTH_DEG**2, rtol=0.2)


def test_sector_zero_is_north_and_two_is_east() -> None:
    geom = make_geometry("icrs", "TAN", 83.31, 21.87, (2.1, 2.1), 0.1)
    counts = Cube(np.zeros((ENERGY.n_bins, *geom.shape), int), "", geom, (ENERGY,))
    counts.data[0, -1, 10] = 5  # top of the map: north
    counts.data[0, 10, 0] = 3  # left of the map: east
    made = make_profiles(counts, counts, np.ones(counts.data.shape, bool), POINTING)
    assert made.sector_counts[0].tolist() == [5, 0, 3, 0, 0, 0, 0, 0]


def test_bands_hold_every_bin_once() -> None:
    assert [list(range(5))[band] for band in energy_bands(ENERGY)] == [[0, 1], [2], [3], [4]]
    assert band_edges_tev(ENERGY) == [(0.5, 1.3), (1.3, 2.0), (2.0, 4.0), (4.0, 9.0)]
    assert energy_bands(energy_axis([1.0, 2.0])) == [slice(0, 1)]


def test_sum_of_runs_with_fields_of_different_size() -> None:
    small = make_profiles(*make_cubes(1, (1.0, 0.8)), POINTING)
    large = make_profiles(*make_cubes(2), POINTING)
    assert small.offset_counts.shape[1] < large.offset_counts.shape[1]
    total = add_profiles(small, large)
    assert total is not None
    n = small.offset_counts.shape[1]
    np.testing.assert_array_equal(total.offset_counts[:, :n], small.offset_counts + large.offset_counts[:, :n])
    np.testing.assert_array_equal(total.offset_counts[:, n:], large.offset_counts[:, n:])
    np.testing.assert_allclose(total.sector_background, small.sector_background + large.sector_background, rtol=1e-6)
    turned = add_profiles(large, small)
    for name, values in vars(total).items():
        np.testing.assert_array_equal(getattr(turned, name), values)


def test_nothing_allowed_has_no_rings() -> None:
    counts, background, allowed = make_cubes()
    made = make_profiles(counts, background, np.zeros_like(allowed), POINTING)
    assert made.offset_counts.shape == (4, 0)
    assert made.sector_counts.sum() == 0
    assert add_profiles(None, None) is None
    assert add_profiles(None, made) is made is add_profiles(made, None)


def test_shapes_must_fit() -> None:
    counts, background, allowed = make_cubes()
    with pytest.raises(ValueError, match="one shape"):
        make_profiles(counts, background, allowed[:1], POINTING)
