"""Norms of the field-of-view background against sums done by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.energy_groups import make_energy_groups
from cubeflow.products.fov_background import FovOptions, make_map_fov_background
from cubeflow.products.norm_table import NormFlag

ENERGY = energy_axis([1.0, 2.0, 4.0, 10.0, 30.0])
GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (1.1, 0.7), 0.1)


def cube(data):
    return Cube(np.asarray(data), "", GEOM, (ENERGY,))


@pytest.fixture
def field():
    """Counts, acceptance and mask without any symmetry."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:7, :11]
    acceptance = (2.0 + x + 0.3 * y**2) * np.array([1.0, 0.5, 0.1, 0.02])[:, None, None]
    allowed = rng.random((4, 7, 11)) > 0.3
    return cube(rng.poisson(acceptance * 1.2)), cube(acceptance), allowed


def test_norm_is_the_ratio_of_sums(field):
    counts, acceptance, allowed = field
    result = make_map_fov_background(counts, acceptance, allowed, FovOptions())
    n = a = 0
    for k, j, i in zip(*np.nonzero(allowed), strict=True):
        n += int(counts.data[k, j, i])
        a += acceptance.data[k, j, i]
    assert result.norms.counts.tolist() == [n]
    assert result.norms.norm == pytest.approx(n / a, rel=1e-14)
    assert result.norms.norm_err == pytest.approx(np.sqrt(n) / a, rel=1e-14)
    assert (result.norms.energy_min_tev, result.norms.energy_max_tev) == (1.0, 30.0)
    assert result.norms.failed is None
    assert not result.norms.flags.any()
    np.testing.assert_allclose(result.background.data, acceptance.data * n / a, rtol=1e-14)


def test_inputs_are_left_alone(field):
    counts, acceptance, allowed = field
    before = counts.data.copy(), acceptance.data.copy(), allowed.copy()
    make_map_fov_background(counts, acceptance, allowed, FovOptions(energy_groups=2))
    for old, new in zip(before, (counts.data, acceptance.data, allowed), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, ((0,), (1, 2, 3))])
def test_grouped_norms_reproduce_the_counts_of_each_group(field, groups):
    counts, acceptance, allowed = field
    options = FovOptions(energy_groups=groups, min_counts=1)
    result = make_map_fov_background(counts, acceptance, allowed, options)
    bins = make_energy_groups(ENERGY, groups) if isinstance(groups, int) else groups
    predicted = np.where(allowed, result.background.data, 0).sum((1, 2))
    measured = np.where(allowed, counts.data, 0).sum((1, 2))
    assert len(result.norms.norm) == len(bins)
    for group in bins:
        assert predicted[list(group)].sum() == pytest.approx(measured[list(group)].sum(), rel=1e-13)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000), groups=st.integers(1, 4))
def test_scaling_the_acceptance_changes_nothing(scale, seed, groups):
    rng = np.random.default_rng(seed)
    acceptance = rng.gamma(2.0, 2.0, (4, 7, 11))
    counts, allowed = cube(rng.poisson(acceptance)), rng.random(acceptance.shape) > 0.2
    options = FovOptions(energy_groups=groups, norm_min=1e-9, norm_max=1e9)
    one = make_map_fov_background(counts, cube(acceptance), allowed, options)
    other = make_map_fov_background(counts, cube(acceptance * scale), allowed, options)
    np.testing.assert_allclose(other.background.data, one.background.data, rtol=1e-12)
    np.testing.assert_allclose(other.norms.norm * scale, one.norms.norm, rtol=1e-12)


def test_group_with_too_few_counts_joins_the_one_below():
    counts = np.zeros((4, 7, 11), int)
    counts[:, 0, 0] = [30, 20, 4, 3]
    acceptance = np.ones_like(counts, float)
    result = make_map_fov_background(
        cube(counts), cube(acceptance), np.ones(counts.shape, bool), FovOptions(energy_groups=4, min_counts=8)
    )
    assert result.norms.counts.tolist() == [30, 27]
    assert result.norms.energy_min_tev.tolist() == [1.0, 2.0]
    assert result.norms.energy_max_tev.tolist() == [2.0, 30.0]
    assert result.norms.flags.tolist() == [0, NormFlag.MERGED]


def test_undefined_norm_is_flagged_and_never_one(field):
    counts, acceptance, _ = field
    nothing = np.zeros(counts.data.shape, bool)
    result = make_map_fov_background(counts, acceptance, nothing, FovOptions())
    assert np.isnan(result.norms.norm).all()
    assert np.isnan(result.background.data).all()
    assert not result.usable.any()
    assert result.norms.flags.tolist() == [NormFlag.NO_ACCEPTANCE]
    assert result.norms.failed == "no acceptance in safe pixels outside the exclusion mask in 1-30 TeV"
