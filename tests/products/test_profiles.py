"""Sums in rings and sectors against sums over pixels one by one, and their scatter against a planted one."""

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.observation import Pointing
from cubeflow.products.profiles import (
    OFFSET_WIDTH_DEG,
    SCATTERS,
    Profiles,
    add_profiles,
    band_edges_tev,
    energy_bands,
    likelihood_of_scatter,
    make_profiles,
    measure_systematic,
    most_likely_scatter,
    scatter_by_ring,
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
    expected_counts, expected_background = np.zeros_like(made.counts), np.zeros_like(made.background)
    for y in range(ny):
        for x in range(nx):
            sky = counts.geom.wcs().pixel_to_world(x, y).icrs
            ring = int(centre.separation(sky).deg / OFFSET_WIDTH_DEG)
            sector = int(((centre.position_angle(sky).deg + 22.5) % 360) / 45)
            for index, band in enumerate(energy_bands(ENERGY)):
                use = allowed[band, y, x]
                if use.any():
                    expected_background[index, sector, ring] += background.data[band, y, x][use].sum(dtype=float)
                    expected_counts[index, sector, ring] += counts.data[band, y, x][use].sum()
    np.testing.assert_array_equal(made.counts, expected_counts)
    np.testing.assert_allclose(made.background, expected_background, rtol=1e-6)


def test_background_that_is_not_allowed_may_be_anything() -> None:
    counts, background, allowed = make_cubes()
    elsewhere = Cube(np.where(allowed, background.data, np.nan), "", counts.geom, (ENERGY,))
    made, expected = (make_profiles(counts, each, allowed, POINTING) for each in (elsewhere, background))
    np.testing.assert_array_equal(made.background, expected.background)


def test_everything_that_is_allowed_is_in_a_ring_and_a_sector() -> None:
    counts, background, allowed = make_cubes()
    made = make_profiles(counts, background, allowed, POINTING)
    assert made.counts.sum() == counts.data[allowed].sum()
    np.testing.assert_allclose(made.background.sum(), background.data[allowed].sum(dtype=float))
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
    assert made.counts[0].sum(axis=1).tolist() == [5, 0, 3, 0, 0, 0, 0, 0]


def test_bands_hold_every_bin_once() -> None:
    assert [list(range(5))[band] for band in energy_bands(ENERGY)] == [[0, 1], [2], [3], [4]]
    assert band_edges_tev(ENERGY) == [(0.5, 1.3), (1.3, 2.0), (2.0, 4.0), (4.0, 9.0)]
    assert energy_bands(energy_axis([1.0, 2.0])) == [slice(0, 1)]


def test_sum_of_runs_with_fields_of_different_size() -> None:
    small = make_profiles(*make_cubes(1, (1.0, 0.8)), POINTING)
    large = make_profiles(*make_cubes(2), POINTING)
    assert small.counts.shape[2] < large.counts.shape[2]
    total = add_profiles(small, large)
    assert total is not None
    n = small.counts.shape[2]
    np.testing.assert_array_equal(total.counts[..., :n], small.counts + large.counts[..., :n])
    np.testing.assert_array_equal(total.counts[..., n:], large.counts[..., n:])
    np.testing.assert_array_equal(total.area_deg2[:, :n], small.area_deg2 + large.area_deg2[:, :n])
    turned = add_profiles(large, small)
    for name, values in vars(total).items():
        np.testing.assert_array_equal(getattr(turned, name), values)


def test_nothing_allowed_has_no_rings() -> None:
    counts, background, allowed = make_cubes()
    made = make_profiles(counts, background, np.zeros_like(allowed), POINTING)
    assert made.counts.shape == (4, 8, 0)
    assert add_profiles(None, None) is None
    assert add_profiles(None, made) is made is add_profiles(made, None)


def test_shapes_must_fit() -> None:
    counts, background, allowed = make_cubes()
    with pytest.raises(ValueError, match="one shape"):
        make_profiles(counts, background, allowed[:1], POINTING)


def test_likelihood_is_that_of_scipy() -> None:
    counts, predicted = np.array([3.0, 11.0, 0.0, 26.0, 1.0]), np.array([4.0, 8.0, 0.0, 30.0, 2.0])
    found = likelihood_of_scatter(counts, predicted)
    share, total = predicted / predicted.sum(), int(counts.sum())
    for cell in (0, 1, 3, 4):
        p, n = share[cell], counts[cell]
        exact = binom(total, p)
        for index in (40, 120, 200):
            spread = (1 - p) / (p * SCATTERS[index] ** 2) - 1
            other = betabinom(total, p * spread, (1 - p) * spread)
            # A share has the relative variance of the error.
            assert other.var() / total**2 / p**2 == pytest.approx(
                SCATTERS[index] ** 2 * (1 - 1 / total) + (1 - p) / p / total
            )
            expected = other.logpmf(n) - exact.logpmf(n)
            assert found[cell, index] - found[cell, 0] == pytest.approx(expected, abs=1e-6)
    assert not found[2].any()  # nothing is predicted there


@pytest.mark.parametrize("mean", [20.0, 2000.0])
@pytest.mark.parametrize("planted", [0.0, 0.03, 0.15])
def test_scatter_is_the_planted_one(planted: float, mean: float) -> None:
    """In 100 fields of 320 cells each, whose norm is fitted; the interval up from it holds what it should."""
    rng = np.random.default_rng(int(1e3 * planted + mean))
    found = np.empty((100, 2))
    for k in range(len(found)):
        predicted = mean * rng.uniform(0.3, 2.0, (4, 8, 10))
        counts = rng.poisson(predicted * rng.gamma(1 / max(planted, 1e-4) ** 2, max(planted, 1e-4) ** 2, (4, 8, 10)))
        found[k] = most_likely_scatter(likelihood_of_scatter(counts.astype(float), predicted).sum(axis=(0, 1, 2)))
    value, error = found.T
    sees_it = planted > 0.5 / np.sqrt(mean)
    assert np.mean(value) == pytest.approx(planted, abs=0.005 * planted + 3 * value.std() / 10 if sees_it else 0.03)
    if sees_it:
        assert value.std() == pytest.approx(error.mean(), rel=0.35)
    assert np.mean(value + error < planted) < 0.3


def test_the_error_of_the_norm_is_no_scatter() -> None:
    """Two cells share a norm, so that each takes half of the fluctuations of the other: no scatter is seen in that."""
    rng = np.random.default_rng(5)
    predicted = np.array([50.0, 50.0])
    total = sum(likelihood_of_scatter(rng.poisson(predicted).astype(float), predicted).sum(axis=0) for _ in range(2000))
    assert most_likely_scatter(total)[0] < 0.02


def test_a_ring_that_clearly_differs_has_its_own_scatter() -> None:
    rng = np.random.default_rng(9)
    planted = np.array([0.02, 0.02, 0.02, 0.02, 0.02, 0.2])
    predicted = np.full((2, 8, 6), 4000.0)
    counts = rng.poisson(predicted * rng.normal(1.0, planted, predicted.shape)).astype(float)
    value, error = scatter_by_ring(likelihood_of_scatter(counts, predicted).sum(axis=1))
    assert value.shape == error.shape == (2, 6)
    assert np.all(np.abs(value[:, 5] - 0.2) < 3 * error[:, 5])
    assert np.all(value[:, 0] < 0.1)


def test_without_a_count_there_is_no_answer() -> None:
    empty = Profiles(*np.zeros((2, 4, 8, 3)), np.zeros((4, 3)))
    for each in measure_systematic(empty):
        assert np.isnan(each).all()
    assert measure_systematic(Profiles(*np.zeros((2, 4, 8, 0)), np.zeros((4, 0)))).ring.shape == (2, 4, 0)


def test_energies_together_and_apart() -> None:
    """Bands that are wrong by a tenth either way have that error, and their sum has none."""
    rng = np.random.default_rng(2)
    background = np.full((2, 8, 5), 10_000.0)
    counts = rng.poisson(background * np.array([1.1, 0.9])[:, None, None]).astype(float)
    found = measure_systematic(Profiles(counts, background, background[:, 0]))
    assert found.band[0] == pytest.approx([0.1, 0.1], rel=0.05)
    assert found.total[0] < 0.01  # it is the sum that is normalised
    assert found.ring[0] == pytest.approx(0.1, rel=0.2)
