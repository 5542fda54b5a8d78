"""Tilt fit: cells against all pixels, and an exact case."""

import numpy as np
import pytest

from cubeflow.products.fov_background import Cells, fit_tilt, make_pixel_cells

LOG_ENERGY = np.log([1.2, 3.0, 11.0])


def test_exact_counts_give_back_norm_and_tilt():
    acceptance = np.array([400.0, 90.0, 8.0])
    counts = acceptance * 1.3 * np.exp(-0.2 * LOG_ENERGY)
    fit = fit_tilt(Cells(counts, acceptance, np.zeros(3), LOG_ENERGY))
    assert fit.converged
    assert fit.parameters[0] == pytest.approx(1.3, rel=1e-10)
    assert fit.parameters[1] == pytest.approx(0.2, abs=1e-10)
    # Fisher information of a log-linear Poisson model, by hand.
    design = np.stack([np.ones(3) / 1.3, -LOG_ENERGY])
    np.testing.assert_allclose(np.linalg.inv(fit.covariance), (design * counts) @ design.T, rtol=1e-8)


def test_empty_pixels_may_be_added_up():
    rng = np.random.default_rng(8)
    acceptance = rng.gamma(2.0, 0.3, (3, 9, 7))
    acceptance[:, 2, 3] = 0
    model = 4 * np.exp(-np.hypot(*np.mgrid[-4:5, -3:4])) * np.ones((3, 1, 1))
    allowed = rng.random(acceptance.shape) > 0.2
    counts = rng.poisson(acceptance + model)
    log_energy = np.broadcast_to(LOG_ENERGY[:, None, None], counts.shape)
    one = fit_tilt(make_pixel_cells(counts, acceptance, model, allowed, LOG_ENERGY))
    used = (allowed & (acceptance > 0)).nonzero()
    other = fit_tilt(Cells(counts[used].astype(float), acceptance[used], model[used], log_energy[used]))
    assert one.converged
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-7)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-7)


@pytest.mark.parametrize(
    ("counts", "acceptance"), [([0, 0, 0], [1, 1, 1]), ([1, 2, 3], [0, 0, 0]), ([5, 0, 0], [1, 1, 1])]
)
def test_no_best_fit(counts, acceptance):
    fit = fit_tilt(Cells(np.array(counts, float), np.array(acceptance, float), np.zeros(3), LOG_ENERGY))
    assert not fit.converged
    assert np.isnan(fit.covariance).all()
