import astropy.units as u
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


def test_edges_have_twelve_digits_wherever_they_come_from() -> None:
    made = (
        energy_axis(log_edges(0.1 + 0.2, 40.0, 7)),
        energy_axis([0.1 + 0.2, 2.0 / 3.0, 0.7e3 * 1e-3], "energy_true"),
        rad_axis(0.66, 66),
        Axis.of([300.0, 2000.0 / 3.0] * u.GeV),
        Axis.of([0.0, 22.0 / 7.0] * u.arcmin, "rad"),
    )
    for axis in made:
        assert all(edge == float(f"{edge:.11e}") for edge in axis.edges), axis
    assert made[0].edges[0] == made[1].edges[0] == made[3].edges[0] == 0.3
    np.testing.assert_allclose(made[0].edges, np.geomspace(0.1 + 0.2, 40.0, 8), rtol=6e-12)


@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_the_last_bit_of_an_edge_does_not_count(towards, monkeypatch) -> None:
    """As between processors, whose exp and log differ by it."""
    given = [0.3, 2.0 / 3.0, 41.7]
    before = energy_axis(log_edges(0.3, 41.7, 23)), rad_axis(0.66, 66), energy_axis(given), Axis.of(given * u.TeV)
    for name in ("geomspace", "linspace"):
        plain = getattr(np, name)
        monkeypatch.setattr(np, name, lambda *args, plain=plain: np.nextafter(plain(*args), towards))
    moved = np.nextafter(given, towards)
    after = energy_axis(log_edges(0.3, 41.7, 23)), rad_axis(0.66, 66), energy_axis(moved), Axis.of(moved * u.TeV)
    assert after[0].edges == before[0].edges
    assert after[1].edges[1:] == before[1].edges[1:]  # a processor has the exact zero right
    assert after[2:] == before[2:]


def test_edges_that_are_the_same_to_twelve_digits_are_refused() -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        energy_axis([1.0, 1.0 + 1e-13, 2.0])
