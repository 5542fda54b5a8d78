"""Adaptive ring against a loop over pixels and rings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.ring_background import (
    AdaptiveRingOptions,
    RingOptions,
    make_adaptive_rings,
    make_map_adaptive_ring_background,
    make_map_ring_background,
)

PIXEL = 0.1
ENERGY = energy_axis([1.0, 3.0, 20.0])
WIDTH = AdaptiveRingOptions(0.3, 0.2, 0.81, 0.1, 0.2, threshold=0.2, mode="fixed_width")
R_IN = AdaptiveRingOptions(0.3, 0.1, 0.6, 0.1, 0.2, threshold=0.2, mode="fixed_r_in")


def make_field(nx=19, ny=16):
    rng = np.random.default_rng(11)
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (nx * PIXEL, ny * PIXEL), PIXEL)
    y, x = np.mgrid[:ny, :nx]
    shape = np.exp(-0.5 * (((x - 11) / 4.0) ** 2 + ((y - 7) / 3.0) ** 2)) * (1 + 0.05 * y)
    acceptance = shape * np.array([4.0, 0.7])[:, None, None]
    safe = np.broadcast_to(np.hypot(x - 11, y - 7) < 7.6, acceptance.shape).copy()
    safe[1, 12:] = False
    allowed = safe & ~(np.hypot(x - 12, y - 8) < 4.1)
    counts = rng.poisson(3 * acceptance)
    return Cube(counts, "", geom, (ENERGY,)), Cube(acceptance, "", geom, (ENERGY,)), allowed, safe


def twin(counts, acceptance, on, rings, alpha_max, theta):
    """For every pixel: first ring whose acceptance is large enough, or the last, all by explicit distances."""
    counts_off, acceptance_off, too_small = np.zeros(counts.shape, int), np.zeros(counts.shape), counts > -1
    y, x = np.mgrid[: counts.shape[0], : counts.shape[1]]
    for j, i in np.ndindex(counts.shape):
        r = np.hypot(y - j, x - i)
        disc = on[r <= theta].sum()
        for r_in, r_out in rings:
            ring = (r >= r_in - 1e-6) & (r <= r_out + 1e-6)
            counts_off[j, i], acceptance_off[j, i] = counts[ring].sum(), acceptance[ring].sum()
            if acceptance[ring].sum() > 0 and disc / acceptance[ring].sum() <= alpha_max:
                too_small[j, i] = False
                break
    return counts_off, acceptance_off, too_small


@pytest.mark.parametrize(
    ("options", "rings"),
    [(WIDTH, [(3, 5), (4, 6), (5, 7), (6, 8)]), (R_IN, [(3, 4), (3, 5), (3, 6)])],
    ids=["fixed_width", "fixed_r_in"],
)
@pytest.mark.parametrize("per_energy", [True, False])
def test_equals_the_twin(options, rings, per_energy):
    counts, acceptance, allowed, safe = make_field()
    result = make_map_adaptive_ring_background(
        acceptance, counts, ~allowed, replace(options, per_energy=per_energy), safe
    )
    planes = [
        np.where(mask, cube.data, 0) for mask, cube in ((allowed, counts), (allowed, acceptance), (safe, acceptance))
    ]
    if not per_energy:
        planes = [plane.sum(0, keepdims=True) for plane in planes]
    for k, (n, a, on) in enumerate(zip(*planes, strict=True)):
        counts_off, acceptance_off, too_small = twin(n, a, on, rings, 0.2, 2)
        known = acceptance_off > 0
        assert 0 < (known & ~too_small).sum() < known.sum()
        np.testing.assert_array_equal(result.too_small[k], too_small)
        np.testing.assert_array_equal(result.counts_off.data[k], counts_off)
        np.testing.assert_allclose(result.acceptance_off.data[k], acceptance_off, rtol=1e-9)
        np.testing.assert_allclose(result.alpha.data[k][known], (on[known] / acceptance_off[known]), rtol=1e-9)
        assert np.isnan(result.alpha.data[k][~known]).all()
        np.testing.assert_array_equal(result.mask[k], known & safe[k])
    np.testing.assert_array_equal(np.isfinite(result.background.data).any(0), (result.acceptance_off.data > 0).any(0))


def test_several_rings_are_really_used():
    counts, acceptance, allowed, safe = make_field()
    result = make_map_adaptive_ring_background(acceptance, counts, ~allowed, WIDTH, safe)
    used = set()
    for n, ring in enumerate(make_adaptive_rings(WIDTH, PIXEL)):
        fixed = make_map_ring_background(
            acceptance, counts, ~allowed, RingOptions(ring.r_in * PIXEL, (ring.r_out - ring.r_in) * PIXEL), safe
        )
        known = result.acceptance_off.data > 0
        if np.isclose(fixed.acceptance_off.data[known], result.acceptance_off.data[known], rtol=1e-12).any():
            used.add(n)
    assert len(used) >= 3


def test_the_largest_ring_is_used_where_none_is_large_enough():
    counts, acceptance, allowed, safe = make_field()
    allowed[..., 7:] = False  # so that some pixels are too far from any OFF
    options = AdaptiveRingOptions(0.3, 0.2, 0.8, 0.1, 0.2, threshold=1e-4)
    result = make_map_adaptive_ring_background(acceptance, counts, ~allowed, options, safe)
    largest = make_map_ring_background(acceptance, counts, ~allowed, RingOptions(0.6, 0.2), safe)
    assert result.too_small[safe].all()
    for name in ("counts_off", "acceptance_off", "background"):
        one, other = (getattr(found, name).data[safe] for found in (result, largest))
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_array_equal(result.mask, largest.mask)
    assert 0 < result.mask.sum() < safe.sum()


def test_a_flat_field_has_a_ring_everywhere_with_the_defaults():
    """Discs of 0.22 deg against 0.5 to 0.8 deg: 0.22^2 / (0.8^2 - 0.5^2) = 0.124, and four times that in a corner."""
    geom = make_geometry("icrs", "TAN", 0.0, 0.0, (6.1, 6.1), PIXEL)
    axis, one = energy_axis([1.0, 10.0]), np.ones((1, 61, 61))
    flat, counts = Cube(one, "", geom, (axis,)), Cube(one.astype(int), "", geom, (axis,))
    result = make_map_adaptive_ring_background(flat, counts, None, AdaptiveRingOptions(0.5, 0.3, 1.7))
    assert not result.too_small.any()
    ring = make_map_ring_background(flat, counts, None, RingOptions(0.5, 0.3))
    np.testing.assert_array_equal(result.counts_off.data[0, 20:40, 20:40], ring.counts_off.data[0, 20:40, 20:40])


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-6, 1e6), per_energy=st.booleans(), options=st.sampled_from([WIDTH, R_IN]))
def test_scaling_the_acceptance_changes_nothing(scale, per_energy, options):
    counts, acceptance, allowed, safe = make_field()
    scaled = Cube(acceptance.data * scale, "", acceptance.geom, acceptance.axes)
    one, other = (
        make_map_adaptive_ring_background(each, counts, ~allowed, replace(options, per_energy=per_energy), safe)
        for each in (acceptance, scaled)
    )
    np.testing.assert_array_equal(other.mask, one.mask)
    np.testing.assert_array_equal(other.counts_off.data, one.counts_off.data)
    np.testing.assert_allclose(other.background.data, one.background.data, rtol=1e-9)


def test_theta_is_in_pixels_of_the_map():
    """A threshold that a disc of theta / pixel needs, and one of theta x pixel (one pixel) would not."""
    geom = make_geometry("icrs", "TAN", 0.0, 0.0, (4.1, 4.1), PIXEL)
    one = np.ones((1, 41, 41))
    axis = energy_axis([1.0, 10.0])
    options = AdaptiveRingOptions(0.5, 0.1, 1.5, 0.1, 0.3, threshold=0.5)
    result = make_map_adaptive_ring_background(
        Cube(one, "", geom, (axis,)), Cube(one.astype(int), "", geom, (axis,)), None, options
    )
    disc = sum(i * i + j * j <= 9 for i in range(-3, 4) for j in range(-3, 4))
    sizes = [
        sum(a * a <= i * i + j * j <= (a + 1) ** 2 for i in range(-16, 17) for j in range(-16, 17))
        for a in (5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    ]
    assert result.counts_off.data[0, 20, 20] == next(size for size in sizes if size >= 2 * disc > sizes[0])
    assert disc == 29


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "fixed"}, "mode: expected 'fixed_width' or 'fixed_r_in', got 'fixed'"),
        ({"step_deg": 0.0}, "step_deg: expected a number above 0"),
        ({"threshold": -1.0}, "threshold: expected a number above 0"),
        ({"r_out_max_deg": 0.4}, r"r_out_max_deg: expected at least r_in \+ width = 0.5 deg, got 0.4"),
    ],
)
def test_impossible_options(change, message):
    with pytest.raises(ValueError, match=message):
        replace(WIDTH, **change)
