"""Checks on arrays of tables, closed form; units of columns."""

import numpy as np
import pytest

from cubeflow.dl3 import tables
from cubeflow.dl3.quirks import Notes
from cubeflow.observation import RunRefused


def axis(lo, hi):
    return tables.TableAxis("rad", lo, hi, "RAD", 1, False, "x")


def test_edges_of_bins_in_single_precision():
    edges = np.geomspace(0.1, 100, 7)
    lo, hi = edges[:-1].astype("f4").astype(float), (edges[1:] * (1 + 1e-6)).astype("f4").astype(float)
    np.testing.assert_allclose(axis(lo, hi).edges(), edges, rtol=2e-6)


@pytest.mark.parametrize(
    ("lo", "hi", "match"),
    [([0, 1], [1, 1], "bin 1 from 1 to 1"), ([0, 1.5], [1, 2], "bin 0 ends at 1, the next begins at 1.5")],
)
def test_edges_that_do_not_meet(lo, hi, match):
    with pytest.raises(RunRefused, match=f"x: {match}"):
        axis(np.array(lo, dtype=float), np.array(hi, dtype=float)).edges()


def test_finite_increasing():
    tables.require_finite(np.ones(3), "x")
    tables.require_increasing(np.array([1.0]), "x")
    with pytest.raises(RunRefused, match="x: 2 of 3 values"):
        tables.require_finite(np.array([1, np.nan, np.inf]), "x")
    with pytest.raises(RunRefused, match="x: 2 is followed by 2"):
        tables.require_increasing(np.array([1.0, 2.0, 2.0]), "x")
    with pytest.raises(RunRefused, match="x: empty axis"):
        tables.require_increasing(np.zeros(0), "x")


def test_clip_leaves_the_input_as_it_was():
    values = np.array([-1.0, 2.0])
    notes = Notes()
    clipped = tables.clip_negative(values, "negative", notes)
    assert (values[0], clipped.tolist(), notes.repairs) == (-1.0, [0.0, 2.0], {"negative": 1})
    assert tables.clip_negative(clipped, "other", notes) is clipped
    assert notes.repairs == {"negative": 1}
