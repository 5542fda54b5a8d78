"""Distribution of significances against numpy and a normal sample."""

import numpy as np
import pytest

from cubeflow.products.convolve import Annulus
from cubeflow.products.significance import describe_off_source

PIXEL = Annulus(0.0, 0.5)


def test_a_normal_sample():
    values = np.random.default_rng(1).normal(0.13, 1.07, (300, 400))
    values[:3, :17] = np.nan
    found = describe_off_source(values, PIXEL)
    finite = values[np.isfinite(values)]
    assert found.n_pixels == finite.size == found.n_trials == found.histogram.sum()
    assert found.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert found.width == pytest.approx(finite.std(ddof=1), rel=1e-12)
    assert found.mean_err == pytest.approx(1.07 / np.sqrt(finite.size), rel=0.01)
    assert found.width_err == pytest.approx(1.07 / np.sqrt(2 * finite.size), rel=0.01)
    assert abs(found.fit_mean - 0.13) < 4 * found.fit_mean_err
    assert abs(found.fit_width - 1.07) < 4 * found.fit_width_err
    assert found.mean_err < found.fit_mean_err < 1.5 * found.mean_err


def test_sources_move_the_mean_and_not_the_fit():
    values = np.random.default_rng(2).normal(0.0, 1.0, 40000)
    values[:400] = 25.0
    found = describe_off_source(values, PIXEL)
    assert found.mean > 0.2
    assert found.width > 2
    assert abs(found.fit_mean) < 0.03
    assert abs(found.fit_width - 1) < 0.03


def test_trials_are_counted_in_discs():
    values = np.random.default_rng(3).normal(size=(40, 50))
    found = describe_off_source(values, Annulus(0.0, 2.0))
    assert found.n_trials == pytest.approx(2000 / 13)
    assert found.mean_err == pytest.approx(found.width / np.sqrt(2000 / 13))


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [0.3], [0.3, 0.4]])
def test_too_little_to_say_anything(values):
    found = describe_off_source(np.array(values, float), PIXEL)
    assert found.n_pixels == np.isfinite(values).sum()
    assert np.isnan(found.fit_width)
    assert np.isnan(found.width) == (found.n_pixels < 2)
