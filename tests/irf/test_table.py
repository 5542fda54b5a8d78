import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.irf.table import Nodes, nodes_from_edges


def test_centres_are_geometric_or_arithmetic_means():
    log = nodes_from_edges([1.0, 4.0], [4.0, 25.0], log=True)
    np.testing.assert_allclose(log.values, [2.0, 10.0])
    lin = nodes_from_edges([0.0, 1.0], [1.0, 3.0], log=False)
    np.testing.assert_allclose(lin.values, [0.5, 2.0])
    assert (lin.lower, lin.upper) == (0.0, 3.0)


def test_equal_columns_are_nodes_that_reach_half_a_spacing_further():
    nodes = nodes_from_edges([0.0, 0.5, 1.5], [0.0, 0.5, 1.5], log=False)
    np.testing.assert_array_equal(nodes.values, [0.0, 0.5, 1.5])
    assert (nodes.lower, nodes.upper) == (-0.25, 2.0)
    log = nodes_from_edges([1.0, 4.0], [1.0, 4.0], log=True)
    assert (log.lower, log.upper) == pytest.approx((0.5, 8.0))


@pytest.mark.parametrize("log", [False, True])
def test_one_node_covers_everything(log):
    nodes = nodes_from_edges([0.5], [0.5], log=log)
    np.testing.assert_array_equal(nodes.weights([1e-3, 0.5, 179.0]), np.ones((3, 1)))


def test_single_bin_is_constant_inside_and_zero_outside():
    nodes = nodes_from_edges([0.0], [2.0], log=False)
    np.testing.assert_array_equal(nodes.weights([-0.1, 0.0, 1.7, 2.0, 2.1])[:, 0], [0, 1, 1, 1, 0])


def test_weights_by_hand():
    nodes = Nodes(np.array([1.0, 10.0, 1000.0]), 0.1, 1e5, log=True)
    expected = [
        [1.5, -0.5, 0.0],  # linear beyond the first node
        [1.0, 0.0, 0.0],
        [0.0, 0.75, 0.25],
        [0.0, -1.0, 2.0],  # linear beyond the last node
        [0.0, 0.0, 0.0],  # outside the edges
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
    ]
    x = [10**-0.5, 1.0, 10**1.5, 1e5, 2e5, 0.09, -1.0, np.nan]
    np.testing.assert_allclose(nodes.weights(x), expected, atol=1e-12)


def test_weights_keep_the_shape():
    nodes = Nodes(np.array([0.0, 1.0]), 0.0, 1.0, log=False)
    assert nodes.weights(np.full((3, 4), 0.25)).shape == (3, 4, 2)
    assert nodes.weights(np.zeros(0)).shape == (0, 2)


def test_edges_belong_to_the_table_whatever_the_rounding():
    nodes = nodes_from_edges([0.1, 0.3], [0.3, 0.7], log=True)
    assert nodes.inside([0.1 * (1 - 1e-15), 0.7 * (1 + 1e-15)]).all()
    assert not nodes.inside([0.1 * (1 - 1e-6), 0.7 * (1 + 1e-6)]).any()


@pytest.mark.parametrize(
    ("values", "lower", "upper", "log", "match"),
    [
        ([1.0, 1.0], 0.0, 2.0, False, "strictly increasing"),
        ([1.0, np.nan], 0.0, 2.0, False, "finite"),
        ([], 0.0, 2.0, False, "strictly increasing"),
        ([1.0, 3.0], 0.0, 2.0, False, "outside the edges"),
        ([0.0, 3.0], 0.0, 3.0, True, "starts above zero"),
    ],
)
def test_impossible_axes_are_refused(values, lower, upper, log, match):
    with pytest.raises(ValueError, match=match):
        Nodes(np.array(values), lower, upper, log)


def test_gaps_between_bins_are_refused():
    with pytest.raises(ValueError, match="not contiguous"):
        nodes_from_edges([0.0, 1.5], [1.0, 2.0], log=False)
    with pytest.raises(ValueError, match="shapes"):
        nodes_from_edges([0.0, 1.5], [1.0], log=False)


@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=6, unique=True).filter(lambda v: np.diff(sorted(v)).min() > 1e-3),
    st.lists(st.floats(-5, 5), min_size=1, max_size=8),
)
def test_interpolation_is_that_of_numpy_between_nodes(values, x):
    values = np.sort(values)
    nodes = Nodes(values, values[0], values[-1], log=False)
    table = np.cos(3 * values)
    inside = nodes.inside(x)
    expected = np.where(inside, np.interp(x, values, table), 0.0)
    np.testing.assert_allclose(nodes.weights(x) @ table, expected, atol=1e-6)
