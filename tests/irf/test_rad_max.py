import numpy as np
import pytest

from cubeflow.irf.rad_max import RadMax
from cubeflow.irf.table import nodes_from_edges


def test_evaluate_interpolates():
    energy = nodes_from_edges([0.1, 1.0], [1.0, 10.0], log=True)
    offset = nodes_from_edges([0.5, 1.5], [0.5, 1.5], log=False)
    rad_max = RadMax(energy, offset, np.array([[0.2, 0.3], [0.1, 0.2]]))
    np.testing.assert_allclose(rad_max.evaluate([1.0], [[0.5, 1.0]]), [[[0.15, 0.2]]])
    assert rad_max.evaluate([20.0], [1.0])[0, 0] == 0


def test_one_number_holds_everywhere():
    one = nodes_from_edges([1.0], [1.0], log=True), nodes_from_edges([0.5], [0.5], log=False)
    np.testing.assert_array_equal(
        RadMax(*one, np.array([[0.1]])).evaluate([0.05, 90.0], [0.0, 3.0]), np.full((2, 2), 0.1)
    )


def test_shape_is_checked():
    one = nodes_from_edges([1.0], [1.0], log=True), nodes_from_edges([0.5], [0.5], log=False)
    with pytest.raises(ValueError, match="RAD_MAX: table of shape"):
        RadMax(*one, np.ones((2, 1)))
