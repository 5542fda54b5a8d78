import numpy as np
import pytest
from scipy.integrate import quad

from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.table import nodes_from_edges

ENERGY = np.array([0.1, 0.5, 1.0, 4.0, 30.0])
LON = np.linspace(-3.0, 3.0, 7)
LAT = np.linspace(-2.0, 2.0, 5)


def table(seed=1):
    return np.random.default_rng(seed).uniform(1.0, 50.0, (4, 6, 4))


def rate_at(background, energy, lon, lat):
    """The slow twin: trilinear ln(rate) in (ln E, lon, lat), by three nested interpolations."""
    weights = [axis.weights([x])[0] for axis, x in zip(background.axes, (energy, lon, lat), strict=True)]
    return float(np.exp(np.einsum("exy,e,x,y", np.log(background.rate), *weights)))


def test_flat_rate():
    background = Background3D(ENERGY, LON, LAT, np.full((4, 6, 4), 7.0))
    rate = background.integrate([0.2, 0.9, 20.0], [0.3, -2.9], [0.1, 1.9])
    np.testing.assert_allclose(rate, [[7.0 * 0.7] * 2, [7.0 * 19.1] * 2], rtol=1e-12)


@pytest.mark.parametrize("index", [2.7, 1.0, 0.0, -1.0])
def test_power_law_in_closed_form(index):
    centers = np.sqrt(ENERGY[1:] * ENERGY[:-1])
    background = Background3D(ENERGY, LON, LAT, np.broadcast_to(centers[:, None, None] ** -index, (4, 6, 4)).copy())
    lower, upper = 0.15, 21.0
    power = 1 - index
    expected = np.log(upper / lower) if power == 0 else (upper**power - lower**power) / power
    assert background.integrate([lower, upper], [0.2], [0.1])[0, 0] == pytest.approx(expected, rel=1e-10)


def test_integral_is_exact_for_kinks_inside_a_bin():
    background = Background3D(ENERGY, LON, LAT, table())
    kinks = list(background.axes[0].values)
    for lon, lat in ((0.0, 0.0), (1.3, -0.7), (-2.8, 1.9)):
        expected = quad(lambda e, *at: rate_at(background, e, *at), 0.3, 25.0, (lon, lat), points=kinks, epsrel=1e-11)[
            0
        ]
        assert background.integrate([0.3, 25.0], lon, lat)[0] == pytest.approx(expected, rel=1e-9)


def test_bins_add_up():
    background = Background3D(ENERGY, LON, LAT, table())
    edges = np.geomspace(0.2, 20.0, 9)
    parts = background.integrate(edges, [0.3, 1.1], [0.4, -1.2])
    np.testing.assert_allclose(parts.sum(0), background.integrate(edges[[0, -1]], [0.3, 1.1], [0.4, -1.2])[0])


def test_axes_are_not_mixed_up():
    rate = np.ones((4, 6, 4))
    rate[:, 5, 0] = 1000.0  # far east, far south
    background = Background3D(ENERGY, LON, LAT, rate)
    east_south = background.integrate([1.0, 2.0], 2.5, -1.5)[0]
    assert east_south == pytest.approx(1000.0)
    for lon, lat in ((-2.5, -1.5), (2.5, 1.5), (-2.5, 1.5)):
        assert background.integrate([1.0, 2.0], lon, lat)[0] == pytest.approx(1.0)


def test_the_part_of_a_bin_inside_the_table_counts():
    background = Background3D(ENERGY, LON, LAT, np.ones((4, 6, 4)))
    np.testing.assert_allclose(background.integrate([0.01, 0.3, 20.0, 100.0], [0.0], [0.0])[:, 0], [0.2, 19.7, 10.0])
    assert background.integrate([1e-3, 0.01, 0.05], [0.0], [0.0]).sum() == 0


def test_outside_the_field_there_is_nothing():
    background = Background3D(ENERGY, LON, LAT, np.ones((4, 6, 4)))
    assert background.integrate([1.0, 2.0], [3.1, 0.0, np.nan], [0.0, 2.1, 0.0]).sum() == 0


def test_gaps_along_energy_are_filled_over_the_bin_index():
    rate = np.full((4, 6, 4), 1.0)
    rate[3] = 1e-4
    rate[2] = 0.01
    gap = rate.copy()
    gap[2, 1, 1] = 0.0  # between 1 and 1e-4: filled with sqrt(1 x 1e-4)
    filled = Background3D(ENERGY, LON, LAT, gap)
    np.testing.assert_allclose(filled.log_rate, np.log(rate), atol=1e-12)


def test_leading_and_trailing_gaps_stay_empty():
    rate = table()
    rate[0], rate[3] = 0.0, 0.0
    background = Background3D(ENERGY, LON, LAT, rate)
    low, high = background.axes[0].values[[0, 3]]
    np.testing.assert_array_equal(background.integrate([ENERGY[0], low], [0.0, 1.0], [0.0, 1.0]), 0.0)
    np.testing.assert_array_equal(background.integrate([high, ENERGY[-1]], [0.0], [0.0]), 0.0)
    assert background.integrate([0.8, 1.5], [0.0], [0.0]) > 0


def test_an_empty_table_is_zero_everywhere():
    background = Background3D(ENERGY, LON, LAT, np.zeros((4, 6, 4)))
    np.testing.assert_array_equal(background.integrate([0.2, 1.0, 20.0], [0.0, 1.0], [0.0, 0.5]), 0.0)


def test_a_single_bin_in_space():
    background = Background3D(ENERGY, LON[[0, -1]], LAT[[0, -1]], np.full((4, 1, 1), 2.0))
    np.testing.assert_allclose(background.integrate([1.0, 2.0], [[2.0, 0.0]], [[1.0, -1.0]]), [[[2.0, 2.0]]])


def test_two_dimensional_rate_is_that_at_the_offset():
    offset = nodes_from_edges([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], log=False)
    background = Background2D(ENERGY, offset, np.outer(ENERGY[1:] ** 0.0, [4.0, 2.0, 1.0]))
    at_node = background.integrate([1.0, 2.0], [1.5, 0.0, 1.5 / np.sqrt(2)], [0.0, -1.5, 1.5 / np.sqrt(2)])[0]
    np.testing.assert_allclose(at_node, 2.0, rtol=1e-4)
    between = background.integrate([1.0, 2.0], [1.0], [0.0])[0, 0]
    assert between == pytest.approx(np.sqrt(8.0))
    assert background.integrate([1.0, 2.0], [3.1], [0.0])[0, 0] == 0
    assert background.alignment == "RADEC"


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"BKG: table of shape \(4, 4, 6\)"):
        Background3D(ENERGY, LON, LAT, np.ones((4, 4, 6)))
    with pytest.raises(ValueError, match="BKG: table of shape"):
        Background2D(ENERGY, nodes_from_edges([0.0], [1.0], log=False), np.ones((4, 2)))
