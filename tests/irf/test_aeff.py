import numpy as np
import pytest

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.table import nodes_from_edges

ENERGY = nodes_from_edges([0.1, 1.0, 10.0], [1.0, 10.0, 100.0], log=True)
OFFSET = nodes_from_edges([0.0, 1.0, 2.5], [0.0, 1.0, 2.5], log=False)


def bilinear(aeff, energy, offset):
    """The slow twin: interpolate along offset, then along ln E."""
    u, nodes = np.log(energy), np.log(aeff.energy_true.values)
    along = [np.interp(offset, aeff.offset.values, row) for row in aeff.area_m2]
    return np.interp(u, nodes, along)


def test_evaluate_is_bilinear_between_nodes():
    table = np.arange(9.0).reshape(3, 3) ** 2
    aeff = EffectiveArea(ENERGY, OFFSET, table)
    energy, offset = [0.5, 2.0, 20.0], np.array([[0.0, 0.3], [1.7, 2.5]])
    area = aeff.evaluate(energy, offset)
    assert area.shape == (3, 2, 2)
    for k, e in enumerate(energy):
        for index in np.ndindex(2, 2):
            assert area[(k, *index)] == pytest.approx(bilinear(aeff, e, offset[index]))


def test_outside_the_table_and_below_zero_there_is_no_area():
    aeff = EffectiveArea(ENERGY, OFFSET, np.array([[1.0, 1.0, 1.0], [5.0, 5.0, 5.0], [4.0, 2.0, 0.5]]))
    assert np.all(aeff.evaluate([0.05, 200.0], [0.5]) == 0)
    assert np.all(aeff.evaluate([1.0], [3.3, np.nan]) == 0)
    # Linear beyond the outermost nodes, but never negative: here 1 - 0.5 * 4 < 0.
    assert aeff.evaluate([0.1], [0.0])[0, 0] == 0.0
    assert aeff.evaluate([100.0], [0.0])[0, 0] == pytest.approx(3.5)


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"AEFF: table of shape \(2, 3\), axes of shape \(3, 3\)"):
        EffectiveArea(ENERGY, OFFSET, np.ones((2, 3)))
