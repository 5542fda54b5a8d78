"""Checks on arrays, closed form."""

import numpy as np
import pytest

from cubeflow.dl3 import checks
from cubeflow.observation import RunRefused


def test_edges_of_bins_in_single_precision():
    edges = np.geomspace(0.1, 100, 7)
    lo, hi = edges[:-1].astype("f4").astype(float), (edges[1:] * (1 + 1e-6)).astype("f4").astype(float)
    np.testing.assert_allclose(checks.contiguous_edges(lo, hi, "x"), edges, rtol=2e-6)


@pytest.mark.parametrize(
    ("lo", "hi", "match"),
    [([0, 1], [1, 1], "bin 1 from 1 to 1"), ([0, 1.5], [1, 2], "bin 0 ends at 1, the next begins at 1.5")],
)
def test_edges_that_do_not_meet(lo, hi, match):
    with pytest.raises(RunRefused, match=f"x: {match}"):
        checks.contiguous_edges(np.array(lo, dtype=float), np.array(hi, dtype=float), "x")


def test_finite_increasing_positive():
    checks.require_finite(np.ones(3), "x")
    checks.require_increasing(np.array([1.0]), "x")
    checks.require_positive(np.array([1.0, 2.0]), "x")
    with pytest.raises(RunRefused, match="x: 2 of 3 values"):
        checks.require_finite(np.array([1, np.nan, np.inf]), "x")
    with pytest.raises(RunRefused, match="x: 2 is followed by 2"):
        checks.require_increasing(np.array([1.0, 2.0, 2.0]), "x")
    with pytest.raises(RunRefused, match="x: empty axis"):
        checks.require_increasing(np.zeros(0), "x")
    with pytest.raises(RunRefused, match="x: lowest value -1"):
        checks.require_positive(np.array([-1.0, 2.0]), "x")


def test_clip_leaves_the_input_as_it_was():
    values = np.array([-1.0, 2.0])
    clipped, count = checks.clip_negative(values)
    assert (values[0], clipped.tolist(), count) == (-1.0, [0.0, 2.0], 1)
    same, none = checks.clip_negative(clipped)
    assert (same is clipped, none) == (True, 0)


def test_norms():
    edges = np.array([0.0, 1.0, 3.0])
    density = np.array([[[0.5], [0.25]]])
    np.testing.assert_allclose(checks.sum_over_migra(density, edges), [[1.0]])
    rad = np.linspace(0, 180, 50)
    flat = np.full((1, 1, 49), 1 / (4 * np.pi))
    np.testing.assert_allclose(checks.containment(flat, rad[:-1], rad[1:]), [[1.0]], rtol=1e-12)
