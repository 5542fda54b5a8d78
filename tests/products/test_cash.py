"""Poisson statistics against published numbers, closed forms, gammapy and iminuit."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from iminuit import Minuit
from scipy.optimize import minimize_scalar

from cubeflow.products.cash import (
    _inverse,
    cash,
    excess_above,
    fit_log_linear,
    make_significance_cash,
    make_significance_li_ma,
)


def test_cash_closed_form():
    np.testing.assert_allclose(cash([0, 1, 3], [2.0, 1.0, np.e]), [4.0, 2.0, 2 * np.e - 6.0])
    assert cash(2, 0.0) == np.inf
    assert cash(0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("n", "mu", "expected"),
    [
        # gammapy 2.1, CashCountsStatistic
        (13, 5.5, 2.7138962573762653),
        (3, 5.5, -1.167555214359521),
        # closed forms
        (10, 10.0, 0.0),
        (0, 8.0, -4.0),
        (np.e, 1.0, np.sqrt(2.0)),
        (1, np.e, -np.sqrt(2 * (np.e - 2))),
        (5, 0.0, np.nan),
        (0, 0.0, np.nan),
        (np.nan, 1.0, np.nan),
        (1, np.nan, np.nan),
    ],
)
def test_significance_of_known_background(n, mu, expected):
    assert make_significance_cash(n, mu) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("n_on", "n_off", "alpha", "expected"),
    [
        # gammapy 2.1, WStatCountsStatistic
        (13, 11, 0.5, 2.09283236849328),
        (98, 113, 0.5, 3.9398303939276063),
        (241, 366, 0.4, 5.880067828482868),
        (0, 7, 0.2, -1.5976550926640487),
        # closed forms
        (10, 0, 1.0, np.sqrt(20 * np.log(2))),
        (0, 10, 1.0, -np.sqrt(20 * np.log(2))),
        (4, 8, 0.5, 0.0),
        (0, 0, 0.3, 0.0),
        (3, 2, 0.0, np.nan),
        (3, 2, np.nan, np.nan),
        (np.nan, 2, 0.1, np.nan),
    ],
)
def test_li_ma(n_on, n_off, alpha, expected):
    assert make_significance_li_ma(n_on, n_off, alpha) == pytest.approx(expected, rel=1e-6, abs=1e-7, nan_ok=True)


def profiled(n: float, background: float, systematic: float, excess: float = 0.0) -> float:
    """Cash statistic with a pull on the background, at its minimum: slow."""

    def statistic(pull):
        return float(cash(n, excess + background * (1 + systematic * pull))) + pull**2

    least = max(-1.0, -excess / background - 1.0) / systematic
    return minimize_scalar(statistic, bounds=(least, 60.0), method="bounded", options={"xatol": 1e-11}).fun


@pytest.mark.parametrize("systematic", [0.01, 0.2, 0.9])
@pytest.mark.parametrize(("n", "background"), [(30, 20.0), (3, 20.0), (0, 5.0), (0, 500.0), (900, 20.0), (1, 0.02)])
def test_an_error_of_the_background_is_a_nuisance(n, background, systematic):
    best = float(cash(n, n)) if n else 0.0
    expected = np.sign(n - background) * np.sqrt(profiled(n, background, systematic) - best)
    found = make_significance_cash(n, background, systematic)
    assert found == pytest.approx(expected, rel=2e-5)
    assert abs(found) < abs(make_significance_cash(n, background))


def test_no_error_of_the_background_changes_no_digit_and_an_unknown_one_knows_nothing():
    n, mu = np.arange(40.0), np.linspace(0.0, 30.0, 40)
    assert make_significance_cash(n, mu, 0.0).tobytes() == make_significance_cash(n, mu).tobytes()
    np.testing.assert_allclose(make_significance_cash(n, mu, 1e-6), make_significance_cash(n, mu), rtol=1e-6)
    assert np.isnan(make_significance_cash(n, mu, np.nan)).all()


@pytest.mark.parametrize("systematic", [0.02, 0.1, 0.3])
def test_pulls_of_a_background_with_a_planted_error(systematic):
    """They are N(0, 1) with the nuisance, and wider without."""
    rng = np.random.default_rng(8)
    background = np.full(40_000, 900.0)
    counts = rng.poisson(background * np.maximum(rng.normal(1.0, systematic, background.size), 0.0))
    found = make_significance_cash(counts, background, systematic)
    assert abs(found.mean()) < 0.03 + systematic / 3  # that of a Gaussian with a Poisson tail
    assert found.std() == pytest.approx(1.0, abs=0.03)
    alone = make_significance_cash(counts, background)
    assert alone.std() == pytest.approx(np.sqrt(1 + 900.0 * systematic**2), rel=0.03)


@pytest.mark.parametrize("rise", [1.0, 2.706])
@pytest.mark.parametrize(("on", "background"), [(30, 20.0), (3, 20.0), (0, 5.0), (4000, 1000.0)])
@pytest.mark.parametrize("systematic", [0.03, 0.25])
def test_an_error_of_the_background_widens_limits(on, background, rise, systematic):
    for start in (max(on - background, 0.0), on - background):
        found = excess_above(on, background, None, rise, start, systematic)
        risen = profiled(on, background, systematic, found) - profiled(on, background, systematic, start)
        assert risen == pytest.approx(rise, rel=1e-5)
        assert found > excess_above(on, background, None, rise, start) or on == 0


def test_li_ma_tends_to_cash_for_a_well_known_background():
    assert make_significance_li_ma(60, 4e10, 1e-9) == pytest.approx(make_significance_cash(60, 40.0), rel=1e-6)


@given(n_on=st.integers(0, 500), n_off=st.integers(0, 500), alpha=st.floats(1e-3, 10))
def test_li_ma_is_a_likelihood_ratio(n_on, n_off, alpha):
    """From the Cash statistics with the best backgrounds, written down without eq. 17."""
    common = (n_on + n_off) / (1 + alpha)
    null = cash(n_on, alpha * common) + cash(n_off, common)
    free = cash(n_on, n_on) + cash(n_off, n_off)
    expected = np.sign(n_on - alpha * n_off) * np.sqrt(max(null - free, 0.0))
    assert make_significance_li_ma(n_on, n_off, alpha) == pytest.approx(expected, abs=2e-5, rel=1e-6)


def minuit_fit(counts, rate, fixed, design, start):
    def statistic(parameters):
        mu = fixed + rate * np.exp(design @ np.asarray(parameters))
        return float(2 * np.sum(mu - counts * np.log(mu)))

    minuit = Minuit(statistic, start)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.tol = 1e-8
    minuit.strategy = 2
    minuit.migrad()
    minuit.hesse()
    return np.array(minuit.values), np.array(minuit.covariance)


@pytest.mark.parametrize("source", [0.0, 3.0])
def test_newton_equals_minuit(source):
    rng = np.random.default_rng(5)
    x = np.log(np.geomspace(0.7, 18.0, 40))
    rate = 50 * np.exp(-1.7 * x)
    fixed = source * np.exp(-0.5 * x)
    counts = rng.poisson(fixed + 1.2 * rate * np.exp(-0.3 * x)).astype(float)
    design = np.stack([np.ones_like(x), -x], -1)
    fit = fit_log_linear(counts, rate, fixed, design, np.zeros(2))
    values, covariance = minuit_fit(counts, rate, fixed, design, [0.0, 0.0])
    sigma = np.sqrt(np.diag(covariance))
    assert fit.converged
    assert np.all(np.abs(fit.parameters - values) < 1e-4 * sigma)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=2e-3)


def test_newton_from_far_away():
    x = np.linspace(-1, 2, 9)
    design = np.stack([np.ones_like(x), -x], -1)
    rate = np.full(9, 30.0)
    counts = np.round(rate * 2 * np.exp(-x))
    near = fit_log_linear(counts, rate, np.zeros(9), design, np.zeros(2))
    far = fit_log_linear(counts, rate, np.zeros(9), design, np.array([-8.0, 4.0]))
    assert far.converged
    np.testing.assert_allclose(far.parameters, near.parameters, rtol=1e-9)


def test_newton_says_when_there_is_no_minimum():
    design = np.array([[1.0, 0.0], [1.0, -1.0]])
    one_bin = fit_log_linear(np.array([5.0, 0.0]), np.ones(2), np.zeros(2), design, np.zeros(2))
    assert not one_bin.converged
    assert np.isnan(one_bin.covariance).all()
    degenerate = fit_log_linear(np.array([5.0]), np.ones(1), np.zeros(1), design[:1], np.zeros(2))
    assert not degenerate.converged


FITS = """
import numpy as np
from cubeflow.products.cash import fit_log_linear
rng = np.random.default_rng(3)
for n, columns in ((7, 2), (40, 3), (900, 2)):
    x = np.linspace(-1.3, 1.7, n)
    design = np.stack([x**k for k in range(columns)], axis=-1)
    rate = rng.uniform(3.0, 30.0, n)
    fit = fit_log_linear(rng.poisson(rate).astype(float), rate, 0.3 * rate, design, np.zeros(columns))
    assert fit.converged
    print(*(value.hex() for value in (*fit.parameters, *fit.covariance.ravel())))
"""


def test_fits_have_the_same_digits_whatever_blas_makes_of_the_processor():
    """OpenBLAS has kernels for each kind of processor, which add in orders of their own."""
    said = set()
    for core in ("Prescott", "Haswell", "Zen"):
        env = {**os.environ, "OPENBLAS_CORETYPE": core}
        command = [sys.executable, "-c", FITS]
        said.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 1
    assert said.pop().count("\n") == 3


@given(st.integers(1, 3), st.integers(0, 1000))
def test_inverse_of_small_matrices(size, seed):
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    matrix = matrix @ matrix.T + 0.1 * np.eye(size)
    np.testing.assert_allclose(_inverse(matrix), np.linalg.inv(matrix), rtol=1e-9, atol=1e-9)
