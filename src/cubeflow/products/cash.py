"""Poisson likelihood: the Cash statistic, significances that follow from it, and its minimum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps import FloatArray, Pair

MAX_STEPS = 100
# Newton's steps end when what is still to be gained in the statistic is below this (1 is one standard deviation).
TOLERANCE = 1e-16


@dataclass(frozen=True, eq=False)
class CashFit:
    """Minimum of the Cash statistic."""

    parameters: FloatArray  # at the minimum, or where the search ended, shape (n_parameters,)
    covariance: FloatArray  # inverse of the observed information; NaN if there is none
    converged: bool  # whether they are a minimum


def cash(counts: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """Cash statistic 2 (mu - n ln mu) of each bin; infinite where counts stand against a prediction of 0.

    References
    ----------
    Cash 1979, ApJ 228, 939.
    """
    n, mu = np.broadcast_arrays(np.asarray(counts, float), np.asarray(predicted, float))
    with np.errstate(divide="ignore"):
        return np.asarray(2.0 * (mu - _times_log(n, mu)))


def _times_log(x: FloatArray, ratio: FloatArray) -> FloatArray:
    """``x ln(ratio)``, 0 where x is 0."""
    return x * np.log(ratio, out=np.zeros(x.shape), where=x > 0)


def _expectation(counts: FloatArray, background: FloatArray, systematic: float, excess: float = 0.0) -> Pair:
    """Most likely expectation beside an excess over a background, and what the error of that adds to the statistic.

    Where the derivative by the background is 0: m^2 + m (t^2 b^2 - b - s) - n t^2 b^2 = 0, of relative error t.
    """
    if systematic == 0.0:
        return excess + background, np.zeros(())
    variance = (systematic * background) ** 2
    half = 0.5 * (excess + background - variance)
    mean = half + np.sqrt(half**2 + counts * variance)
    return mean, (mean - excess - background) ** 2 / variance


def make_significance_cash(counts: ArrayLike, background: ArrayLike, systematic: float = 0.0) -> FloatArray:
    """Significance in sigma of counts n over the counts mu which a known background predicts, of shapes that broadcast.

    It is sign(n - mu) sqrt(2 (n ln(n / mu) - n + mu)), negative for a deficit; NaN where mu is 0 (nothing is predicted,
    so nothing can be said) or either is NaN or negative. A relative error of the background is a Gaussian nuisance,
    over which the likelihood is profiled.
    """
    n, mu = np.broadcast_arrays(np.asarray(counts, float), np.asarray(background, float))
    known = (n >= 0) & (mu > 0)
    n, mu = np.where(known, n, 1.0), np.where(known, mu, 1.0)
    mean, cost = _expectation(n, mu, systematic)
    square = 2.0 * (_times_log(n, n / np.maximum(mean, np.finfo(float).tiny)) - n + mean) + cost
    return np.where(known, np.sign(n - mu) * np.sqrt(np.maximum(square, 0.0)), np.nan)


def make_significance_li_ma(counts_on: ArrayLike, counts_off: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """Significance in sigma of ON counts over OFF counts times alpha, of shapes that broadcast; negative for a deficit.

    It is 0 where there are no counts at all, NaN where alpha is not above 0 or anything is NaN.

    References
    ----------
    Li & Ma 1983, ApJ 272, 317, equation 17.
    """
    on, off, ratio = np.broadcast_arrays(*(np.asarray(x, float) for x in (counts_on, counts_off, alpha)))
    known = (on >= 0) & (off >= 0) & (ratio > 0) & np.isfinite(ratio)
    on, off, ratio = np.where(known, on, 1.0), np.where(known, off, 1.0), np.where(known, ratio, 1.0)
    total = np.maximum(on + off, 1.0)
    square = _times_log(on, (1 + ratio) / ratio * on / total) + _times_log(off, (1 + ratio) * off / total)
    return np.where(known, np.sign(on - ratio * off) * np.sqrt(np.maximum(2.0 * square, 0.0)), np.nan)


def excess_above(
    on: float, background: float, off: float | None, rise: float, start: float, systematic: float = 0.0
) -> float:
    """Excess above `start` at which the Cash statistic of ON counts has risen by so much from there.

    The background is known, but for a relative error, or comes from OFF counts, whose expectation is then fitted for
    each excess.
    """
    alpha = background / off if off else 0.0

    def statistic(excess: float) -> float:
        if not off:
            mean, cost = _expectation(np.asarray(on), np.asarray(background), systematic, excess)
            return float(cash(on, mean) + cost)
        half = 0.5 * (alpha * (on + off) - (1 + alpha) * excess)
        expected = (half + np.sqrt(half**2 + (1 + alpha) * alpha * off * excess)) / (alpha * (1 + alpha))
        return float(cash(on, excess + alpha * expected) + cash(off, expected))

    goal, width = statistic(start) + rise, rise + np.sqrt(rise * (on + background + 1.0))
    while statistic(start + width) < goal:
        width *= 2.0
    low, high = start, start + width
    while low < (middle := 0.5 * (low + high)) < high:  # to the last digit; scipy.optimize takes 0.25 s to import
        low, high = (middle, high) if statistic(middle) < goal else (low, middle)
    return float(high)


def fit_log_linear(
    counts: FloatArray, rate: FloatArray, fixed: FloatArray, design: FloatArray, start: FloatArray
) -> CashFit:
    """Minimise the Cash statistic of ``fixed + rate exp(design @ parameters)`` by Newton's method.

    Without a fixed part the statistic is convex and has one minimum. Counts, rate and fixed part have shape (n_bins,),
    bins with rate 0 do not depend on the parameters; `design`, shape (n_bins, n_parameters), is the derivative of the
    logarithm of the scaled part, and `start` where to begin.
    """
    used = rate > 0
    n, rate, fixed, design = counts[used], rate[used], fixed[used], design[used]

    def half_cash(parameters: FloatArray) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.sum(0.5 * cash(n, fixed + rate * np.exp(_dot(design, parameters)))))

    parameters, squares = np.asarray(start, float), design[:, :, None] * design[:, None, :]
    for _ in range(MAX_STEPS):
        scaled = rate * np.exp(_dot(design, parameters))
        share = scaled / (fixed + scaled)
        gradient = np.sum((scaled - n * share)[:, None] * design, axis=0)
        bound = np.sum(scaled[:, None, None] * squares, axis=0)  # of the convex part
        information = bound - np.sum((n * share * (1 - share))[:, None, None] * squares, axis=0)
        positive = _is_positive(information)
        if not positive and not _is_positive(bound):
            break
        step = -_dot(_inverse(information if positive else bound), gradient)
        if positive and -float(np.sum(gradient * step)) < TOLERANCE:
            return CashFit(parameters, _inverse(information), True)
        before = half_cash(parameters)
        shorter = (parameters + step * 0.5**k for k in range(60))  # until the statistic does not grow
        allowed = before + 1e-12 * max(abs(before), 1.0)
        parameters = next((each for each in shorter if half_cash(each) <= allowed), parameters)
    return CashFit(parameters, np.full((len(parameters), len(parameters)), np.nan), False)


def _dot(rows: FloatArray, vector: FloatArray) -> FloatArray:
    """Product of a matrix of few columns and a vector, added in one order on any processor, unlike BLAS."""
    return np.sum(rows * vector, axis=-1)


def _inverse(matrix: FloatArray) -> FloatArray:
    """Inverse of a matrix of at most 3 x 3, by its adjugate: LAPACK adds in an order of its own."""
    size = len(matrix)
    whole = np.eye(3)
    whole[:size, :size] = matrix
    cofactors = np.cross(np.roll(whole, -1, axis=0), np.roll(whole, -2, axis=0))
    return (cofactors.T / np.sum(whole[0] * cofactors[0]))[:size, :size]


def _is_positive(matrix: FloatArray) -> bool:
    """Whether a symmetric matrix is positive definite and not close to singular."""
    if not np.isfinite(matrix).all():
        return False
    eigenvalues = np.linalg.eigvalsh(matrix)
    return bool(eigenvalues[0] > 1e-13 * abs(eigenvalues[-1]))
