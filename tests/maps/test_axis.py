import numpy as np
import pytest

from cubeflow.maps import Axis, energy_axis, log_edges, rad_axis


def test_centres_and_widths():
    axis = energy_axis([1.0, 4.0, 25.0])
    np.testing.assert_allclose(axis.centers, [2.0, 10.0])
    np.testing.assert_allclose(axis.widths, [3.0, 21.0])
    assert axis.n_bins == 2
    np.testing.assert_allclose(rad_axis(0.6, 3).centers, [0.1, 0.3, 0.5])


def test_bins_are_half_open():
    axis = energy_axis([1.0, 2.0, 5.0])
    np.testing.assert_array_equal(axis.index([0.99, 1.0, 1.99, 2.0, 4.99, 5.0, np.nan]), [-1, 0, 0, 1, 1, -1, -1])


def test_log_edges_end_exactly():
    edges = log_edges(0.3, 40.0, 20)
    assert (edges[0], edges[-1], len(edges)) == (0.3, 40.0, 21)
    np.testing.assert_allclose(np.diff(np.log(edges)), np.log(40 / 0.3) / 20)


@pytest.mark.parametrize(
    ("edges", "match"),
    [([1.0], "at least two"), ([1.0, 1.0], "strictly increasing"), ([0.0, 1.0], "above zero"), ([1, np.inf], "finite")],
)
def test_impossible_axes_are_refused(edges, match):
    with pytest.raises(ValueError, match=match):
        Axis("energy", tuple(edges), "TeV", "log")


def test_logarithmic_edges_have_twelve_digits_and_exact_ends() -> None:
    edges = log_edges(0.1 + 0.2, 40.0, 7)
    assert (edges[0], edges[-1]) == (0.1 + 0.2, 40.0)
    assert all(float(edge) == float(f"{edge:.11e}") for edge in edges[1:-1])
    np.testing.assert_allclose(edges, np.geomspace(0.1 + 0.2, 40.0, 8), rtol=6e-12)
