"""Ring sums against loops over pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import next_fast_len

from cubeflow.products.convolve import Annulus, count_around, fast_length, fft_shape, sum_around


def loop(image, ring):
    """Sum over the ring, pixel by pixel."""
    ny, nx = image.shape
    result = np.zeros(image.shape, image.dtype)
    for j in range(ny):
        for i in range(nx):
            for v in range(ny):
                for u in range(nx):
                    if ring.r_in**2 <= (v - j) ** 2 + (u - i) ** 2 <= ring.r_out**2:
                        result[j, i] += image[v, u]
    return result


@settings(max_examples=15, deadline=None)
@given(
    ny=st.integers(1, 11),
    nx=st.integers(1, 9),
    r_in=st.floats(0, 6),
    width=st.floats(0, 20),
    seed=st.integers(0, 99),
)
def test_sums_equal_a_loop(ny, nx, r_in, width, seed):
    image = np.random.default_rng(seed).integers(0, 1000, (ny, nx))
    ring = Annulus(r_in, r_in + width)
    np.testing.assert_array_equal(count_around(image, ring), loop(image, ring))
    np.testing.assert_allclose(sum_around(image / 7, ring), loop(image, ring) / 7, rtol=1e-12, atol=1e-10)


def test_a_lonely_pixel_shows_the_ring():
    image = np.zeros((41, 60))
    image[12, 33] = 5
    y, x = np.mgrid[:41, :60]
    r = np.hypot(y - 12, x - 33)
    np.testing.assert_array_equal(count_around(image, Annulus(5, 9)), 5 * ((r >= 5) & (r <= 9)))


@pytest.mark.parametrize(("radius_deg", "pixel_deg"), [(0.3, 0.1), (0.1, 0.02), (0.7, 0.1), (0.6, 0.2), (1.1, 0.1)])
def test_the_rim_is_included_whatever_the_last_bit(radius_deg, pixel_deg):
    n = round(radius_deg / pixel_deg)
    on_rim = np.array([n])
    assert Annulus(0.0, radius_deg / pixel_deg).contains(on_rim, np.array([0])).all()
    assert Annulus(radius_deg / pixel_deg, 2.0 * n).contains(np.array([0]), on_rim).all()
    assert not Annulus(0.0, radius_deg / pixel_deg).contains(on_rim, np.array([1])).any()


def test_padding_covers_the_reach_once():
    ny, nx = fft_shape((250, 60), 40.0)
    assert ny >= 290
    assert nx >= 100
    assert fft_shape((10, 10), 1e6)[0] < 40


@pytest.mark.parametrize(("r_in", "r_out"), [(2.0, 1.0), (-1.0, 1.0), (0.0, np.inf), (np.nan, 1.0)])
def test_impossible_ring(r_in, r_out):
    with pytest.raises(ValueError, match="expected 0 <= inner <= outer radius"):
        Annulus(r_in, r_out)


def test_lengths_are_those_that_scipy_finds():
    assert [fast_length(n) for n in range(1, 3000)] == [next_fast_len(n) for n in range(1, 3000)]
