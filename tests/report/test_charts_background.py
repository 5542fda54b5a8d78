"""Distribution of the significance of empty sky, and acceptance, drawn."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare, norm

from cubeflow.products.profiles import N_SECTORS, Profiles
from cubeflow.products.significance import OffSource
from cubeflow.report.charts import chi2_cells, draw_off_source, draw_profiles, normal, off_source_text

EDGES, HISTOGRAM, NOTHING = np.array([-1.0, 0.0, 1.0]), np.array([3, 5]), (np.nan,) * 4
FOUND = OffSource(8, 2.0, -0.05, 0.02, 1.1, 0.03, *NOTHING, EDGES, HISTOGRAM)


def test_normal_distribution():
    x = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(normal(x, 0.3, 1.4), norm(0.3, 1.4).pdf(x))


@pytest.mark.parametrize(
    ("mean", "mean_err", "width", "width_err", "text"),
    [
        (-0.05, 0.02, 1.09, 0.02, "flat; significance off source has mean −0.05 ± 0.02, width 1.09 ± 0.02"),
        (0.4, 0.2, 1.0, 0.1, "cannot tell; significance off source has mean 0.40 ± 0.20, width 1.00 ± 0.10"),
        (0.0, 0.1, 1.2, 0.11, "cannot tell; significance off source has mean 0.00 ± 0.10, width 1.20 ± 0.11"),
        (0.4, 0.1, 1.0, 0.1, "not flat; significance off source has mean 0.40 ± 0.10, width 1.00 ± 0.10"),
        (0.0, 0.1, 1.5, 0.1, "not flat; significance off source has mean 0.00 ± 0.10, width 1.50 ± 0.10"),
        (0.0, 0.1, 1.9, 0.2, "not flat; significance off source has mean 0.00 ± 0.10, width 1.90 ± 0.20"),
    ],
)
def test_words_on_the_distribution(mean, mean_err, width, width_err, text):
    found = replace(FOUND, mean=mean, mean_err=mean_err, width=width, width_err=width_err)
    assert off_source_text(found, None) == f"{text} (expected 0 and 1)"


def make_profiles(level, slope=0.0):
    """Profiles of two bands with Poisson counts of a level, and of a background that misses a slope over the rings."""
    background = np.full((2, N_SECTORS, 5), level)
    true = background * np.linspace(1 - slope, 1 + slope, 5)
    return Profiles(np.random.default_rng(5).poisson(true).astype(float), background, np.ones((2, 5)))


@pytest.mark.parametrize("slope", [0.0, 0.05, 0.1, 0.15])
def test_a_background_with_a_mean_is_not_flat_whatever_else_is_doubtful(slope):
    found = replace(FOUND, mean=0.6, mean_err=0.01)
    assert off_source_text(found, make_profiles(100.0, slope)).startswith("not flat (errors 3%): ")


@pytest.mark.parametrize(
    ("level", "slope", "says"),
    [
        (100.0, 0.0, "flat (errors 3%): "),
        (100.0, 0.3, "not flat (errors 3%): "),
        (3.0, 0.3, "cannot tell (errors 20%): "),
        (3.0, 0.9, "not flat (errors 20%): "),
    ],
)
def test_a_background_is_flat_as_far_as_counts_about_the_pointings_tell(level, slope, says):
    profiles = make_profiles(level, slope)
    text = off_source_text(replace(FOUND, width=1.05), profiles)
    assert text.startswith(says)
    counts, background = profiles.counts.sum(axis=0).ravel(), profiles.background.sum(axis=0).ravel()
    expected = chisquare(counts, background * counts.sum() / background.sum())
    assert f"χ² / dof = {expected.statistic:.1f} / 39, p " in text
    assert "by offset and direction; significance off source has mean −0.05" in text


def test_error_of_a_cell_is_the_scatter_that_raises_chi_square_by_its_width():
    """Backgrounds that are wrong by this much in each cell, in units of chi-square over many trials."""
    rng, (_, dof, error) = np.random.default_rng(3), chi2_cells(make_profiles(100.0))
    level = np.full((4000, N_SECTORS, 5), 200.0)
    chi2 = []
    for wrong in (0.0, error):
        counts = rng.poisson(level * np.maximum(rng.normal(1.0, wrong, level.shape), 0.0))
        every = [
            chi2_cells(Profiles(n[None], mu[None], np.ones((1, 5))))[0] for n, mu in zip(counts, level, strict=True)
        ]
        chi2.append(np.mean(every))
    assert chi2[0] == pytest.approx(dof, abs=0.5)
    assert chi2[1] - chi2[0] == pytest.approx(np.sqrt(2 * dof), rel=0.08)


def test_cells_with_few_counts_tell_nothing():
    found = make_profiles(100.0)
    found.background[:, :, 2:] = 0.1
    assert chi2_cells(found)[1] == 2 * N_SECTORS - 1
    found.background[...] = 0.1
    assert chi2_cells(found)[:2] == chi2_cells(None)[:2] == (0.0, 0)


def test_too_few_pixels_have_no_mean():
    assert "too few" in off_source_text(OffSource(1, 1.0, *NOTHING, *NOTHING, EDGES, HISTOGRAM), None)


def test_a_fit_is_drawn_where_there_is_one():
    everything = np.array([0.2, np.nan, 9.0])
    assert "Gaussian fit" not in draw_off_source(FOUND, everything, "alt")
    fitted = replace(FOUND, fit_mean=0.1, fit_mean_err=0.01, fit_width=0.9, fit_width_err=0.04)
    assert "Gaussian fit" in draw_off_source(fitted, everything, "alt")
    assert "0.50 σ: 5" in draw_off_source(FOUND, everything, "alt")


@pytest.mark.parametrize("n_bands", [1, 3, 4])
def test_acceptance_is_drawn_per_band(n_bands):
    rng = np.random.default_rng(n_bands)
    background = rng.uniform(1, 9, (n_bands, N_SECTORS, 5))
    background[0, :, 4] = 0.0
    profiles = Profiles(rng.poisson(background).astype(float), background, background[:, 0])
    bands = [(10.0**k, 10.0 ** (k + 1)) for k in range(n_bands)]
    svg = draw_profiles(profiles, bands, None, "alt")
    assert "stated error" not in svg
    assert "stated error" in draw_profiles(profiles, bands, np.full((n_bands, 5), 0.1), "alt")
    assert [svg.count("residual (σ)"), svg.count("events / deg²")] == [2 * n_bands, n_bands]
    assert all(f"{low:.3g} to {high:.3g} TeV" in svg for low, high in bands)
    assert svg.count(">NW<") == n_bands
    expected = background[0, 0].sum()
    assert f"N: {(profiles.counts[0, 0].sum() - expected) / np.sqrt(expected):.4g}|" in svg
    expected = background[0, :, 1].sum()
    assert f"0.3°: {(profiles.counts[0, :, 1].sum() - expected) / np.sqrt(expected):.4g}|" in svg


@pytest.mark.parametrize("empty", [0, 2])
def test_a_band_in_which_nothing_is_safe_is_left_out(empty):
    background = np.full((3, N_SECTORS, 5), 2.0)
    background[empty] = 0.0
    profiles = Profiles(background.copy(), background, background[:, 0])
    bands = [(10.0**k, 10.0 ** (k + 1)) for k in range(3)]
    svg = draw_profiles(profiles, bands, np.full((3, 5), 0.1), "alt")
    assert "nan" not in svg
    assert [f">{low:.3g} to {high:.3g} TeV<" in svg for low, high in bands] == [band != empty for band in range(3)]
