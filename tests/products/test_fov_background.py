"""Norms of the field-of-view background against sums done by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iminuit import Minuit

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.fov_background import FovOptions, NormFlag, make_energy_groups, make_map_fov_background

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
    result = make_map_fov_background(acceptance, counts, ~allowed, FovOptions())
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
    make_map_fov_background(acceptance, counts, ~allowed, FovOptions(energy_groups=2))
    for old, new in zip(before, (counts.data, acceptance.data, allowed), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("fit", ["scale", "tilt"])
def test_acceptance_that_is_not_allowed_may_be_anything(field, value, fit):
    counts, acceptance, allowed = field
    elsewhere = cube(np.where(allowed, acceptance.data, value))
    results = [make_map_fov_background(each, counts, ~allowed, FovOptions(fit=fit)) for each in (acceptance, elsewhere)]
    assert results[0].norms.norm == results[1].norms.norm
    assert results[0].norms.failed is results[1].norms.failed is None


@pytest.mark.parametrize("groups", [1, 2, 3, 4, (1.0, 2.0, 30.0)])
def test_grouped_norms_reproduce_the_counts_of_each_group(field, groups):
    counts, acceptance, allowed = field
    options = FovOptions(energy_groups=groups, min_counts=1)
    result = make_map_fov_background(acceptance, counts, ~allowed, options)
    bins = make_energy_groups(ENERGY, groups)
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
    one = make_map_fov_background(cube(acceptance), counts, ~allowed, options)
    other = make_map_fov_background(cube(acceptance * scale), counts, ~allowed, options)
    np.testing.assert_allclose(other.background.data, one.background.data, rtol=1e-12)
    np.testing.assert_allclose(other.norms.norm * scale, one.norms.norm, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000), groups=st.integers(1, 2), with_model=st.booleans())
def test_scaling_the_acceptance_changes_no_tilted_background(scale, seed, groups, with_model):
    rng = np.random.default_rng(seed)
    acceptance, model = rng.gamma(2.0, 2.0, (4, 7, 11)), with_model * rng.gamma(1.0, 0.3, (4, 7, 11))
    counts, allowed = cube(rng.poisson(acceptance + model)), rng.random(acceptance.shape) > 0.2
    options = FovOptions(fit="tilt", energy_groups=groups, norm_min=1e-9, norm_max=1e9)
    one, other = (
        make_map_fov_background(
            cube(acceptance * factor), counts, ~allowed, options, model_counts=cube(model) if with_model else None
        )
        for factor in (1.0, scale)
    )
    assert one.norms.failed is None
    np.testing.assert_allclose(other.background.data, one.background.data, rtol=1e-8)
    np.testing.assert_allclose(other.norms.tilt, one.norms.tilt, atol=1e-8)


def test_group_with_too_few_counts_joins_the_one_below():
    counts = np.zeros((4, 7, 11), int)
    counts[:, 0, 0] = [30, 20, 4, 3]
    acceptance = np.ones_like(counts, float)
    result = make_map_fov_background(cube(acceptance), cube(counts), None, FovOptions(energy_groups=4, min_counts=8))
    assert result.norms.counts.tolist() == [30, 27]
    assert result.norms.energy_min_tev.tolist() == [1.0, 2.0]
    assert result.norms.energy_max_tev.tolist() == [2.0, 30.0]
    assert result.norms.flags.tolist() == [0, NormFlag.MERGED]


def test_undefined_norm_is_flagged_and_never_one(field):
    counts, acceptance, _ = field
    everything = np.ones(counts.data.shape, bool)
    result = make_map_fov_background(acceptance, counts, everything, FovOptions())
    assert np.isnan(result.norms.norm).all()
    assert np.isnan(result.background.data).all()
    assert not result.mask.any()
    assert result.norms.flags.tolist() == [NormFlag.NO_ACCEPTANCE]
    assert result.norms.failed == "no acceptance in safe pixels outside the exclusion mask in 1-30 TeV"


def test_nothing_left_after_merging_is_flagged():
    counts = np.zeros((4, 7, 11), int)
    counts[:, 0, 0] = [1, 2, 0, 1]
    result = make_map_fov_background(
        cube(np.ones(counts.shape)), cube(counts), counts < 0, FovOptions(energy_groups=4, min_counts=5)
    )
    assert result.norms.failed == "4 counts outside the exclusion mask, at least 5 needed in 1-30 TeV"
    assert result.norms.flags.tolist() == [NormFlag.MERGED | NormFlag.FEW_COUNTS]
    assert np.isnan(result.background.data).all()


def test_norm_outside_its_limits_is_kept_in_the_table_only():
    counts = np.full((4, 7, 11), 3)
    counts[2:] = 60
    result = make_map_fov_background(
        cube(np.ones(counts.shape)), cube(counts), counts < 0, FovOptions(energy_groups=2, norm_max=20)
    )
    assert result.norms.norm.tolist() == [3.0, 60.0]
    assert result.norms.flags.tolist() == [0, NormFlag.OUTSIDE_LIMITS]
    assert result.norms.failed == "norm 60 outside its limits 0.1 to 20 in 4-30 TeV"
    assert result.mask.any(axis=(1, 2)).tolist() == [True, True, False, False]
    assert np.isnan(result.background.data).any(axis=(1, 2)).tolist() == [False, False, True, True]


def test_energy_without_acceptance_neither_counts_nor_has_a_background():
    counts, acceptance = np.full((4, 7, 11), 2), np.ones((4, 7, 11))
    acceptance[3] = 0
    result = make_map_fov_background(cube(acceptance), cube(counts), counts == 0, FovOptions())
    assert result.norms.norm.tolist() == [2.0]
    assert result.norms.counts.tolist() == [3 * 77 * 2]
    assert result.norms.failed is None
    assert result.mask.any(axis=(1, 2)).tolist() == [True, True, True, False]
    assert np.isnan(result.background.data[3]).all()


def test_sky_model_takes_the_place_of_an_exclusion_mask():
    rng = np.random.default_rng(2)
    acceptance = np.full((4, 7, 11), 40.0) * np.array([1.0, 0.6, 0.3, 0.2])[:, None, None]
    source = np.zeros(acceptance.shape)
    source[:, 3, 4] = [300.0, 200.0, 100.0, 50.0]
    counts = rng.poisson(0.8 * acceptance + source)
    result = make_map_fov_background(cube(acceptance), cube(counts), None, FovOptions(), model_counts=cube(source))
    assert result.norms.norm == pytest.approx((counts.sum() - source.sum()) / acceptance.sum(), rel=1e-14)
    assert abs(result.norms.norm[0] - 0.8) < 3 * result.norms.norm_err[0]
    assert (result.background.data + source).sum() == pytest.approx(counts.sum(), rel=1e-13)


def minuit_tilt(counts, acceptance, model, allowed):
    """Norm, predicted over acceptance, and tilt by iminuit, from the statistic of every pixel."""
    n, a, m = counts[allowed], acceptance[allowed], model[allowed]
    x = np.broadcast_to(np.log(ENERGY.centers)[:, None, None], allowed.shape)[allowed]

    def statistic(norm, tilt):
        tilted = a * np.exp(-tilt * x)
        mu = m + norm * tilted * a.sum() / tilted.sum()
        return 2 * np.sum(mu - n * np.log(mu))

    minuit = Minuit(statistic, norm=1.0, tilt=0.0)
    minuit.errordef, minuit.strategy, minuit.tol = Minuit.LEAST_SQUARES, 2, 1e-9
    minuit.migrad()
    minuit.hesse()
    return np.array(minuit.values), np.array(minuit.covariance)


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("groups", [1, (1.0, 4.0, 30.0)])
def test_tilt_equals_iminuit(with_model, groups):
    rng = np.random.default_rng(12)
    y, x = np.mgrid[:7, :11]
    acceptance = (2.0 + x + 0.3 * y**2) * np.array([1.0, 0.5, 0.1, 0.02])[:, None, None]
    model = with_model * 30.0 * np.exp(-0.5 * np.hypot(x - 3, y - 4) ** 2) * np.ones((4, 1, 1))
    allowed = rng.random(acceptance.shape) > 0.3
    counts = rng.poisson(model + 1.2 * acceptance * (ENERGY.centers[:, None, None] / 2.0) ** -0.15)
    options = FovOptions(fit="tilt", energy_groups=groups)
    result = make_map_fov_background(
        cube(acceptance), cube(counts), ~allowed, options, model_counts=cube(model) if with_model else None
    )
    norms = result.norms
    assert norms.failed is None
    for group, bins in enumerate(make_energy_groups(ENERGY, groups)):
        inside = allowed & np.isin(np.arange(4), bins)[:, None, None]
        values, covariance = minuit_tilt(counts, acceptance, model, inside)
        sigma = np.sqrt(np.diag(covariance))
        assert ENERGY.edges[bins[0]] < norms.pivot_tev[group] < ENERGY.edges[bins[-1] + 1]
        assert abs(norms.norm[group] - values[0]) < 1e-4 * sigma[0]
        assert abs(norms.tilt[group] - values[1]) < 1e-4 * sigma[1]
        np.testing.assert_allclose([norms.norm_err[group], norms.tilt_err[group]], sigma, rtol=3e-3)
        correlations = norms.covariance[group, 0, 1] / (sigma[0] * sigma[1]), covariance[0, 1] / (sigma[0] * sigma[1])
        np.testing.assert_allclose(*correlations, atol=3e-3)
        assert abs(correlations[0]) < (0.1 if with_model else 1e-9)  # a model takes counts from the tilt
        shape = values[0] * (ENERGY.centers / norms.pivot_tev[group]) ** -values[1]
        expected = (acceptance * shape[:, None, None])[list(bins)]
        np.testing.assert_allclose(result.background.data[list(bins)], expected, rtol=1e-4)
        predicted = np.sum(result.background.data, where=inside) / np.sum(acceptance, where=inside)
        assert norms.norm[group] == pytest.approx(predicted, rel=1e-12)


def test_limits_hold_for_the_energies_of_a_group():
    """A tilt from 10 to 30 TeV, seen from 1 TeV, would be a norm of 1.1 x 17^3."""
    axis = energy_axis([10.0, 14.0, 20.0, 30.0])
    acceptance = Cube(np.ones((3, *GEOM.shape)) * np.array([90.0, 60.0, 40.0])[:, None, None], "", GEOM, (axis,))
    centers = np.array(axis.centers)[:, None, None]
    counts = Cube(np.rint(1.1 * acceptance.data * (centers / 17.0) ** -3).astype(int), "", GEOM, (axis,))
    made = make_map_fov_background(acceptance, counts, None, FovOptions(fit="tilt"))
    assert made.norms.failed is None
    assert made.norms.norm[0] == pytest.approx(counts.data.sum() / acceptance.data.sum(), rel=1e-12)
    assert made.norms.norm_err[0] == pytest.approx(np.sqrt(counts.data.sum()) / acceptance.data.sum(), rel=1e-9)
    np.testing.assert_allclose(made.background.data.sum((1, 2)), counts.data.sum((1, 2)), rtol=0.03)
    few = make_map_fov_background(acceptance, counts, None, FovOptions(fit="tilt", norm_max=0.5))
    assert few.norms.failed.startswith("norm 1.")
    assert "outside its limits 0.1 to 0.5 in 10-30 TeV" in few.norms.failed


def test_without_a_tilt_there_is_a_pivot_all_the_same():
    """Counts in proportion to the acceptance: the tilt is 0, or as good as."""
    acceptance = np.ones((4, 7, 11)) * np.array([8.0, 4.0, 2.0, 1.0])[:, None, None]
    made = make_map_fov_background(cube(acceptance), cube(acceptance.astype(int)), None, FovOptions(fit="tilt"))
    assert made.norms.norm[0] == pytest.approx(1.0, rel=1e-12)
    assert made.norms.tilt[0] == pytest.approx(0.0, abs=1e-9)
    assert np.log(made.norms.pivot_tev[0]) == pytest.approx(np.log(ENERGY.centers) @ [8, 4, 2, 1] / 15, abs=1e-6)


def test_tilted_norms_reproduce_the_counts_of_each_group(field):
    counts, acceptance, allowed = field
    options = FovOptions(fit="tilt", energy_groups=2)
    result = make_map_fov_background(acceptance, counts, ~allowed, options)
    predicted = np.where(allowed, result.background.data, 0).sum((1, 2))
    measured = np.where(allowed, counts.data, 0).sum((1, 2))
    # Two bins, two parameters: both are met.
    np.testing.assert_allclose(predicted, measured, rtol=1e-9)


def test_tilt_needs_two_energies_with_counts():
    counts = np.zeros((4, 7, 11), int)
    counts[0] = 5
    result = make_map_fov_background(
        cube(np.ones(counts.shape)), cube(counts), counts < 0, FovOptions(fit="tilt", energy_groups=2)
    )
    assert result.norms.flags.tolist() == [NormFlag.MERGED | NormFlag.NO_TILT]
    assert result.norms.failed == "no tilt can be fitted to counts in 1 energy bin in 1-30 TeV"
    assert not result.mask.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "shape"}, "expected 'scale' or 'tilt', got 'shape'"),
        ({"min_counts": 0}, "min_counts: expected at least 1"),
        ({"norm_min": 2.0, "norm_max": 1.0}, "norm_min: expected less than norm_max = 1 and above 0, got 2"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        FovOptions(**options)


def test_maps_and_groups_must_fit(field):
    counts, acceptance, allowed = field
    with pytest.raises(ValueError, match="exclusion: expected bool"):
        make_map_fov_background(acceptance, counts, allowed[:2], FovOptions())
    with pytest.raises(ValueError, match="energy_groups: 3 TeV is no edge of the energy axis"):
        make_map_fov_background(acceptance, counts, ~allowed, FovOptions(energy_groups=(1.0, 3.0, 30.0)))
    moved = Cube(acceptance.data, "", GEOM.cutout(1, 0, 11, 7), acceptance.axes)
    with pytest.raises(ValueError, match="maps on different grids"):
        make_map_fov_background(moved, counts, ~allowed, FovOptions())


def test_what_is_safe_and_excluded_in_an_image_is_not_used(field):
    counts, acceptance, safe = field
    image = np.hypot(*np.mgrid[-3:4, -4:7]) < 2.2
    made = make_map_fov_background(acceptance, counts, image, safe=safe)
    used = safe & ~image
    assert made.norms.counts.tolist() == [counts.data[used].sum()]
    np.testing.assert_allclose(made.norms.acceptance, acceptance.data[used].sum())
