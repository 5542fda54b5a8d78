"""Significance maps against loops over discs, and against gammapy's statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.cash import make_significance_cash, make_significance_li_ma
from cubeflow.products.ring_background import RingOptions, make_map_ring_background
from cubeflow.products.significance import (
    make_map_flux,
    make_map_significance_cash,
    make_map_significance_li_ma,
    mean_exposure,
)

ENERGY = energy_axis([1.0, 3.0, 20.0])
NX, NY, PIXEL = 21, 16, 0.05
GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (NX * PIXEL, NY * PIXEL), PIXEL)
Y, X = np.mgrid[:NY, :NX]


def cube(data, axis=ENERGY, unit=""):
    return Cube(np.asarray(data), unit, GEOM, (axis,))


def in_disc(values, radius=2):
    """Sum over the disc, pixel by pixel."""
    result = np.zeros(values.shape[-2:])
    for j, i in np.ndindex(result.shape):
        result[j, i] = values[..., (X - i) ** 2 + (Y - j) ** 2 <= radius**2].sum()
    return result


@pytest.fixture
def field():
    rng = np.random.default_rng(21)
    acceptance = (3 + X + 0.2 * Y) * np.array([0.4, 0.05])[:, None, None]
    safe = np.broadcast_to(np.hypot(X - 9, Y - 7) < 8.4, acceptance.shape).copy()
    safe[1, :, 13:] = False
    return rng.poisson(acceptance), acceptance, safe


def test_cash_equals_the_loop(field):
    counts, background, safe = field
    holed = np.where(safe, background, np.nan)
    maps = make_map_significance_cash(cube(counts), cube(holed), safe, 0.1)
    used = safe.any(0)
    n = in_disc(np.where(safe, counts, 0).sum(0))
    mu = in_disc(np.where(safe, background, 0).sum(0))
    np.testing.assert_array_equal(maps.counts.data[0][used], n[used])
    np.testing.assert_allclose(maps.background.data[0][used], mu[used], rtol=1e-12)
    np.testing.assert_allclose(maps.excess.data[0][used], (n - mu)[used], rtol=1e-9, atol=1e-12)
    expected = make_significance_cash(n, mu)[used]
    np.testing.assert_allclose(maps.significance.data[0][used], expected, rtol=1e-6, atol=1e-6)
    for result in (maps.counts, maps.background, maps.excess, maps.significance):
        assert np.isnan(result.data[0][~used]).all()
        assert np.isfinite(result.data[0][used]).all()
    assert maps.significance.axes[0].n_bins == 1


def test_li_ma_takes_off_at_the_pixel(field):
    counts, acceptance, safe = field
    allowed = safe & ~(np.hypot(X - 8, Y - 9) < 2.1)
    options = RingOptions(0.15, 0.15, per_energy=False)
    ring = make_map_ring_background(cube(acceptance), cube(counts), ~allowed, options, safe)
    maps = make_map_significance_li_ma(cube(counts), cube(acceptance), ring.counts_off, ring.alpha, ring.mask, 0.1)
    n_on, on = in_disc(np.where(safe, counts, 0)), in_disc(np.where(safe, acceptance, 0))
    used = ring.mask.any(0)
    alpha = (on / ring.acceptance_off.data[0])[used]
    off = ring.counts_off.data[0][used]
    np.testing.assert_allclose(maps.background.data[0][used], alpha * off, rtol=1e-9)
    np.testing.assert_allclose(
        maps.significance.data[0][used], make_significance_li_ma(n_on[used], off, alpha), rtol=1e-6, atol=1e-6
    )
    assert np.isnan(maps.significance.data[0][~used]).all()


def test_li_ma_sums_ratios_of_each_energy(field):
    counts, acceptance, safe = field
    ring = make_map_ring_background(cube(acceptance), cube(counts), None, RingOptions(0.15, 0.15, True), safe)
    given_maps = cube(counts), cube(acceptance), ring.counts_off, ring.alpha, ring.mask, 0.1
    on = np.where(ring.mask, acceptance, 0)
    total = make_map_significance_li_ma(*given_maps)
    off = np.where(ring.mask, ring.counts_off.data, 0).sum(0)
    background = np.where(ring.mask, ring.alpha.data * ring.counts_off.data, 0).sum(0)
    used = ring.mask.any(0) & (off > 0)
    alpha = (background[used] / off[used]) * in_disc(on)[used] / on.sum(0)[used]
    expected = make_significance_li_ma(in_disc(np.where(ring.mask, counts, 0))[used], off[used], alpha)
    np.testing.assert_allclose(total.significance.data[0][used], expected, rtol=1e-6, atol=1e-6)


def test_li_ma_without_off_counts_uses_the_acceptances():
    one = np.ones((2, NY, NX))
    alpha = np.stack([0.1 * one[0], 0.3 * one[1]])
    nothing = np.zeros(one.shape, int)
    maps = make_map_significance_li_ma(
        cube(one.astype(int)),
        cube(one * np.array([3.0, 1.0])[:, None, None]),
        cube(nothing),
        cube(alpha),
        one > 0,
        0.05,
    )
    # Acceptance 4 at the pixel and 20 in the disc; OFF acceptance 3 / 0.1 + 1 / 0.3.
    expected = make_significance_li_ma(10, 0, 20 / (30 + 1 / 0.3))
    assert maps.significance.data[0, 8, 8] == pytest.approx(float(expected), rel=1e-9)


def test_nothing_predicted_gives_no_answer():
    counts, background = np.zeros((2, NY, NX), int), np.zeros((2, NY, NX))
    counts[0, 5, 5] = 3
    background[:, :, 12:] = 0.5
    maps = make_map_significance_cash(cube(counts), cube(background), background >= 0, 0.1)
    assert np.isnan(maps.significance.data[0, :, :10]).all()
    assert maps.background.data[0, 5, 5] == 0.0
    assert maps.excess.data[0, 5, 5] == 3.0
    assert np.isfinite(maps.significance.data[0, :, 10:]).all()


def test_flux_of_a_source_with_a_known_exposure(field):
    safe = field[2]
    exposure = np.stack([2e9 + 1e7 * X, 5e9 + 2e7 * Y])
    weights = np.array([0.75, 0.25])
    excess = cube(np.full((1, NY, NX), 30.0), energy_axis([1.0, 20.0]))
    flux = make_map_flux(excess, mean_exposure(exposure, safe, 4 * weights), safe.any(axis=0), 0.1)
    folded = (np.where(safe, exposure, 0) * weights[:, None, None]).sum(0)
    used = safe.any(0)
    discs = in_disc(used.astype(float))[used] / in_disc(folded)[used]
    np.testing.assert_allclose(flux.data[0][used], 30.0 * discs, rtol=1e-9)
    assert np.isnan(flux.data[0][~used]).all()
    assert flux.unit == "m-2 s-1"


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-5, 1e5), seed=st.integers(0, 99))
def test_scale_of_the_acceptance_does_not_matter(scale, seed):
    rng = np.random.default_rng(seed)
    acceptance = rng.gamma(3.0, 1.0, (2, NY, NX))
    counts, alpha = rng.poisson(acceptance), np.full(acceptance.shape, 0.07)
    off = rng.poisson(acceptance / 0.07)
    one, other = (
        make_map_significance_li_ma(cube(counts), cube(a), cube(off), cube(alpha), a > 0, 0.1).significance.data
        for a in (acceptance, acceptance * scale)
    )
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)


def test_maps_must_fit(field):
    counts, background, safe = field
    with pytest.raises(ValueError, match="mask: expected bool"):
        make_map_significance_cash(cube(counts), cube(background), safe[:1], 0.1)
    with pytest.raises(ValueError, match="maps on different grids"):
        make_map_significance_cash(cube(counts), cube(background[:1], energy_axis([1.0, 9.0])), safe, 0.1)
    with pytest.raises(ValueError, match="radius: expected a size above 0 deg, got 0"):
        make_map_significance_cash(cube(counts), cube(background), safe, 0.0)
    image, other = (cube(np.ones((1, NY, NX)), energy_axis([1.0, end])) for end in (20.0, 9.0))
    with pytest.raises(ValueError, match="counts_off and alpha: expected both on"):
        make_map_significance_li_ma(cube(counts), cube(background), image, other, safe, 0.1)
    with pytest.raises(ValueError, match="weights: expected 2 numbers >= 0"):
        mean_exposure(background, safe, [0.0, 0.0])
    with pytest.raises(ValueError, match="longer"):
        mean_exposure(background, safe, [1.0])
