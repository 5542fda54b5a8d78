"""Ring background against a loop over all pairs of pixels, and against gammapy where that is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.ring_background import RingOptions, make_map_ring_background

ENERGY = energy_axis([1.0, 2.0, 5.0, 20.0])
PIXEL = 0.1


def make_field(seed=3, nx=23, ny=17):
    """Counts, acceptance, allowed and safe bins without any symmetry; nothing allowed in a corner."""
    rng = np.random.default_rng(seed)
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (nx * PIXEL, ny * PIXEL), PIXEL)
    y, x = np.mgrid[:ny, :nx]
    shape = np.exp(-0.5 * (((x - 0.6 * nx) / 5.3) ** 2 + ((y - 0.4 * ny) / 4.1) ** 2))
    acceptance = shape * np.array([5.0, 2.0, 0.3])[:, None, None] * (1 + 0.03 * x)
    safe = np.broadcast_to(np.hypot(x - 0.6 * nx, y - 0.4 * ny) < 8.2, acceptance.shape).copy()
    safe[2, :, 15:] = False
    excluded = (np.hypot(x - 15, y - 6) < 2.5) | ((x > 8) & (y == 9))
    counts = rng.poisson(2 * acceptance)
    return Cube(counts, "", geom, (ENERGY,)), Cube(acceptance, "", geom, (ENERGY,)), safe & ~excluded, safe


def loop(image, allowed, r_in, r_out):
    """Sum over the ring, one pair of pixels after the other."""
    result = np.zeros(image.shape, image.dtype)
    sources = list(zip(*np.nonzero(allowed), strict=True))
    for j, i in np.ndindex(image.shape):
        for v, u in sources:
            if r_in**2 <= (v - j) ** 2 + (u - i) ** 2 <= r_out**2:
                result[j, i] += image[v, u]
    return result


def test_per_energy_equals_the_loop():
    counts, acceptance, allowed, safe = make_field()
    ring = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.3, 0.25, per_energy=True), safe)
    for k in range(3):
        counts_off = loop(counts.data[k], allowed[k], 3.0, 5.5)
        acceptance_off = loop(acceptance.data[k], allowed[k], 3.0, 5.5)
        known = acceptance_off > 0
        assert 0 < known.sum() < known.size
        np.testing.assert_array_equal(ring.counts_off.data[k], counts_off)
        np.testing.assert_array_equal(ring.acceptance_off.data[k] > 0, known)
        np.testing.assert_allclose(ring.acceptance_off.data[k], acceptance_off, rtol=1e-9)
        np.testing.assert_array_equal(ring.mask[k], known & safe[k])
        on = np.where(safe[k], acceptance.data[k], 0)
        np.testing.assert_allclose(ring.alpha.data[k][known], on[known] / acceptance_off[known], rtol=1e-9)
        expected = acceptance.data[k][known] * counts_off[known] / acceptance_off[known]
        np.testing.assert_allclose(ring.background.data[k][known], expected, rtol=1e-9)
        assert np.isnan(ring.alpha.data[k][~known]).all()
        assert np.isnan(ring.background.data[k][~known]).all()


def test_one_ratio_equals_the_loop_over_the_sums():
    counts, acceptance, allowed, safe = make_field(4, 19, 22)
    ring = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.2, 0.2, per_energy=False), safe)
    counts_off = sum(loop(counts.data[k], allowed[k], 2.0, 4.0) for k in range(3))
    acceptance_off = sum(loop(acceptance.data[k], allowed[k], 2.0, 4.0) for k in range(3))
    known = acceptance_off > 0
    assert ring.counts_off.data.shape == (1, 22, 19)
    assert ring.counts_off.axes[0].edges == (1.0, 20.0)
    np.testing.assert_array_equal(ring.counts_off.data[0], counts_off)
    np.testing.assert_allclose(ring.acceptance_off.data[0], acceptance_off, rtol=1e-9)
    on = np.where(safe, acceptance.data, 0).sum(0)
    np.testing.assert_allclose(ring.alpha.data[0][known], (on / np.where(known, acceptance_off, 1))[known], rtol=1e-9)
    expected = acceptance.data * (counts_off / np.where(known, acceptance_off, np.nan))
    np.testing.assert_allclose(ring.background.data, expected, rtol=1e-9)
    np.testing.assert_array_equal(ring.mask, safe & known)
    summed = np.where(safe, ring.background.data, 0).sum(0)
    np.testing.assert_allclose((ring.alpha.data * ring.counts_off.data)[0][known], summed[known], rtol=1e-9)


def test_counts_off_are_integers_and_inputs_are_left_alone():
    counts, acceptance, allowed, safe = make_field()
    before = counts.data.copy(), acceptance.data.copy(), allowed.copy(), safe.copy()
    ring = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.3, 0.2), safe)
    assert ring.counts_off.data.dtype == np.int64
    for old, new in zip(before, (counts.data, acceptance.data, allowed, safe), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_allowed_gives_no_answer():
    counts, acceptance, allowed, safe = make_field()
    ring = make_map_ring_background(acceptance, counts, np.ones_like(allowed), RingOptions(0.3, 0.2, True), safe)
    assert not ring.mask.any()
    assert not ring.acceptance_off.data.any()
    assert np.isnan(ring.background.data).all()


def test_acceptance_that_is_nan_off_the_sky_does_not_spread():
    counts, acceptance, allowed, safe = make_field()
    clean = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.3, 0.2), safe)
    data = acceptance.data.copy()
    data[:, ~safe.any(0)] = np.nan
    ring = make_map_ring_background(
        Cube(data, "", acceptance.geom, acceptance.axes), counts, ~allowed, RingOptions(0.3, 0.2), safe
    )
    np.testing.assert_array_equal(ring.counts_off.data, clean.counts_off.data)
    np.testing.assert_array_equal(ring.acceptance_off.data, clean.acceptance_off.data)


def test_plane_of_tiny_acceptance_keeps_its_digits():
    counts, acceptance, allowed, safe = make_field()
    factor = np.array([1.0, 1e-9, 1e-15])[:, None, None]
    small = Cube(acceptance.data * factor, "", acceptance.geom, acceptance.axes)
    one = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.3, 0.2, per_energy=True), safe)
    other = make_map_ring_background(small, counts, ~allowed, RingOptions(0.3, 0.2, per_energy=True), safe)
    np.testing.assert_allclose(other.background.data, one.background.data, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99), per_energy=st.booleans())
def test_scaling_the_acceptance_changes_nothing(scale, seed, per_energy):
    counts, acceptance, allowed, safe = make_field(seed)
    scaled = Cube(acceptance.data * scale, "", acceptance.geom, acceptance.axes)
    one = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.3, 0.2, per_energy), safe)
    other = make_map_ring_background(scaled, counts, ~allowed, RingOptions(0.3, 0.2, per_energy), safe)
    np.testing.assert_array_equal(other.mask, one.mask)
    np.testing.assert_allclose(other.background.data, one.background.data, rtol=1e-9)


@pytest.mark.parametrize(("r_in", "width"), [(-0.1, 0.2), (0.3, 0.0), (np.nan, 0.1), (0.3, np.inf)])
def test_impossible_ring(r_in, width):
    counts, acceptance, allowed, _ = make_field()
    with pytest.raises(ValueError, match="expected r_in >= 0 deg and width > 0 deg"):
        make_map_ring_background(acceptance, counts, ~allowed, RingOptions(r_in, width))


def test_ring_between_the_pixels():
    counts, acceptance, allowed, _ = make_field()
    with pytest.raises(ValueError, match=r"no pixel of 0\.1 deg from 0\.11 to 0\.13 deg"):
        make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.11, 0.02))


def test_masks_must_fit():
    counts, acceptance, allowed, _ = make_field()
    with pytest.raises(ValueError, match="exclusion: expected bool"):
        make_map_ring_background(acceptance, counts, allowed[:2], RingOptions(0.3, 0.2))
    with pytest.raises(ValueError, match="safe: expected bool"):
        make_map_ring_background(acceptance, counts, None, RingOptions(0.3, 0.2), allowed.astype(int))
