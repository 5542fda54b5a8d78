"""Masked planes against `where`, and masked counts against a loop."""

import numpy as np
import pytest

from cubeflow.products.masked import mask_factors, masked_any, masked_counts, masked_planes, masked_sum

SHAPE = 5, 3, 4


def mask(seed=2):
    """Mask of which neighbouring planes are equal, but for the last."""
    rng = np.random.default_rng(seed)
    return np.stack([np.broadcast_to(rng.random(SHAPE[1:]) < 0.6, SHAPE)[0]] * 4 + [rng.random(SHAPE[1:]) < 0.4])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?"])
def test_planes_are_those_of_where(dtype):
    values = np.random.default_rng(1).integers(0, 9, SHAPE).astype(dtype)
    for inside in (mask(), np.broadcast_to(mask()[0], SHAPE), np.zeros(SHAPE, bool)):
        made = np.stack([plane.copy() for plane in masked_planes(values, inside, dtype)])
        assert made.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(made, np.where(inside, values, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_does_not_count_may_be_anything(value):
    inside = mask()
    values = np.where(inside, np.random.default_rng(1).random(SHAPE), value)
    made = np.stack([plane.copy() for plane in masked_planes(values, inside, "f8")])
    np.testing.assert_array_equal(made, np.where(inside, values, 0.0))
    values[inside] = value
    assert not any(np.isfinite(plane).all() for plane in masked_planes(values, inside, "f8"))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("inside", [mask(), mask()[::-1], np.broadcast_to(mask()[0], SHAPE), np.zeros(SHAPE, bool)])
def test_sums_are_those_of_where(inside, value):
    values = np.where(inside, np.random.default_rng(1).random(SHAPE), value).astype("f4")
    values[::2] = np.where(inside[::2], values[::2], -values[::2])
    slow = np.where(inside, values, 0).sum(axis=0, dtype="f8")
    np.testing.assert_allclose(masked_sum(values, inside), slow, rtol=1e-14)
    np.testing.assert_array_equal(masked_any(inside), inside.any(axis=0))


def test_a_sum_shows_what_counts_and_is_no_number():
    values = np.random.default_rng(1).random(SHAPE)
    values[2, 1, 1] = np.nan
    inside = np.ones(SHAPE, bool)
    assert np.argwhere(np.isnan(masked_sum(values, inside))).tolist() == [[1, 1]]


def test_whole_numbers_stay_exact():
    values = np.full(SHAPE, 2**53 + 1)
    assert [int(plane.max()) for plane in masked_planes(values, mask(), "i8")] == [2**53 + 1] * 5


def test_equal_planes_share_their_factors():
    factors = list(mask_factors(mask()))
    assert [factor is factors[0] for factor in factors] == [True] * 4 + [False]
    np.testing.assert_array_equal(np.stack(factors), mask() * 1.0)


def test_counts_are_found_where_they_are():
    counts = np.random.default_rng(3).poisson(0.5, SHAPE)
    inside = mask()
    expected = [
        (k, j * SHAPE[2] + i, counts[k, j, i]) for k, j, i in np.ndindex(SHAPE) if counts[k, j, i] and inside[k, j, i]
    ]
    assert list(zip(*masked_counts(counts, inside), strict=True)) == expected
    turned = counts.transpose(0, 2, 1)
    one, other = (masked_counts(each, np.ones(each.shape, bool)) for each in (turned, turned.copy()))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)
    assert [len(part) for part in masked_counts(np.zeros(SHAPE, int), inside)] == [0, 0, 0]
