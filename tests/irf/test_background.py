from dataclasses import replace

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


@pytest.mark.parametrize("interpolation", ["auto", "log", "linear"])
def test_no_positions_give_no_rates(interpolation):
    nowhere = np.zeros((3, 0))
    in_three = replace(Background3D(ENERGY, LON, LAT, table()), interpolation=interpolation)
    offset = nodes_from_edges([0.0, 1.0], [1.0, 3.0], log=False)
    in_two = replace(Background2D(ENERGY, offset, np.ones((4, 2))), interpolation=interpolation)
    for background in (in_three, in_two):
        assert background.integrate([1.0, 2.0, 5.0], nowhere, nowhere).shape == (2, 3, 0)


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


def test_linear_interpolation_between_positions_is_that_of_the_integrals():
    background = replace(Background3D(ENERGY, LON, LAT, table()), interpolation="linear")
    _, lon, lat = background.axes
    edges = [0.3, 2.0, 25.0]
    for at_lon, at_lat in ((0.0, 0.0), (1.3, -0.7), (-2.8, 1.9), (2.5, 0.5)):
        expected = 0.0
        for i, wx in enumerate(lon.weights([at_lon])[0]):
            for j, wy in enumerate(lat.weights([at_lat])[0]):
                expected += wx * wy * background.integrate(edges, lon.values[i], lat.values[j])
        np.testing.assert_allclose(background.integrate(edges, at_lon, at_lat), np.maximum(expected, 0), rtol=1e-12)
    kinks = list(background.axes[0].values)
    at_node = quad(
        lambda e: rate_at(background, e, lon.values[2], lat.values[1]), 0.3, 25.0, points=kinks, epsrel=1e-11
    )
    assert background.integrate([0.3, 25.0], lon.values[2], lat.values[1])[0] == pytest.approx(at_node[0], rel=1e-9)


def test_linear_and_logarithmic_differ_between_positions_only():
    rate = np.ones((4, 6, 4))
    rate[:, 3:] = 9.0
    rate[:, 5] = 0.0
    background = Background3D(ENERGY, LON, LAT, rate)
    linear = replace(background, interpolation="linear")
    # Nodes at -2.5 ... 2.5: 1 and 9 on both sides of 0, 9 and nothing on both sides of 2.
    at = [-0.5, 0.0, 0.5, 2.0, 2.5, 2.9]
    np.testing.assert_allclose(background.integrate([1.0, 2.0], at, np.zeros(6))[0], [1, 3, 9, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(linear.integrate([1.0, 2.0], at, np.zeros(6))[0], [1, 5, 9, 4.5, 0, 0], atol=1e-12)
    # Extrapolated in the outermost half bin, but never below nothing.
    assert linear.integrate([1.0, 2.0], 3.1, 0.0)[0] == 0


def test_linear_interpolation_keeps_the_sum_over_the_field():
    """The mean over a steep edge of coarse bins is that of the bins; the logarithm falls short of it."""
    fall = 10.0 ** -np.array([0, 0, 0, 1, 2, 3])
    rate = np.broadcast_to(fall[:, None], (4, 6, 4))
    edge = np.linspace(-2.5, 2.5, 2001)
    background = Background3D(ENERGY, LON, LAT, rate.copy())
    trapezoid = np.trapezoid(fall) / 5.0
    assert replace(background, interpolation="linear").integrate([1.0, 2.0], edge, 0 * edge)[0].mean() == pytest.approx(
        trapezoid, 1e-3
    )
    assert background.integrate([1.0, 2.0], edge, 0 * edge)[0].mean() < 0.95 * trapezoid


def test_linear_interpolation_in_the_offset():
    offset = nodes_from_edges([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], log=False)
    background = replace(
        Background2D(ENERGY, offset, np.outer(ENERGY[1:] ** 0.0, [4.0, 2.0, 0.0])), interpolation="linear"
    )
    rate = background.integrate([1.0, 2.0], [0.5, 1.0, 1.5, 2.0, 2.9, 3.1], np.zeros(6))[0]
    np.testing.assert_allclose(rate, [4.0, 3.0, 2.0, 1.0, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("fall", [1.2, 2.0, 2.1, 10.0, np.inf])
def test_auto_is_linear_where_the_rate_falls_by_more_than_a_factor_two(fall):
    """The factor is that of all energies, at one place anywhere in the table, along any of its axes."""
    steps = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0 / fall])
    offset = nodes_from_edges(np.arange(6.0), np.arange(1.0, 7.0), log=False)
    along_lon = np.ones((4, 6, 4)) * steps[:, None]
    along_lat = np.ones((4, 6, 4)) * steps[2:]
    expected = "linear" if fall > 2 else "log"
    at = [2.2, -1.3, 2.9], [-0.4, 1.3, 1.9]
    for made in (
        Background3D(ENERGY, LON, LAT, along_lon, interpolation="auto"),
        Background3D(ENERGY, LON, LAT, along_lat, interpolation="auto"),
        Background2D(ENERGY, offset, np.ones((4, 6)) * steps, interpolation="auto"),
    ):
        plain = replace(made, interpolation=expected)
        np.testing.assert_array_equal(made.integrate([0.3, 2.0, 9.0], *at), plain.integrate([0.3, 2.0, 9.0], *at))
        other = replace(made, interpolation="log" if fall > 2 else "linear")
        assert made.is_linear is plain.is_linear is not other.is_linear


def test_auto_looks_at_the_sum_over_energies():
    """A bin with an event or none jumps from node to node, and says nothing about the width of the bins."""
    rate = np.ones((4, 6, 4))
    rate[3, ::2, 1] = 0.0  # of a thousandth of the rate
    rate[3] *= 1e-5
    assert not Background3D(ENERGY, LON, LAT, rate, interpolation="auto").is_linear
    assert Background3D(ENERGY, LON, LAT, 1e5 * rate[3:] * np.ones((4, 1, 1)), interpolation="auto").is_linear


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"BKG: table of shape \(4, 4, 6\)"):
        Background3D(ENERGY, LON, LAT, np.ones((4, 4, 6)))
    with pytest.raises(ValueError, match="BKG: table of shape"):
        Background2D(ENERGY, nodes_from_edges([0.0], [1.0], log=False), np.ones((4, 2)))
