import numpy as np
import pytest

from cubeflow.irf.psf import Psf3Gauss, PsfKing, PsfTable
from cubeflow.irf.table import nodes_from_edges

ENERGY = nodes_from_edges([0.1, 1.0, 10.0], [1.0, 10.0, 100.0], log=True)
OFFSET = nodes_from_edges([0.0, 1.0], [1.0, 3.0], log=False)
RAD = np.linspace(0.0, 1.5, 15001)
ONES = np.ones((3, 2))


def integral(density):
    """Integral over the plane of densities at RAD, last axis, in sr-1."""
    return np.trapezoid(density * 2 * np.pi * np.deg2rad(RAD), np.deg2rad(RAD), axis=-1)


def test_one_gaussian_in_closed_form():
    zero = 0 * ONES
    psf = Psf3Gauss(ENERGY, OFFSET, 3 * ONES, 0.1 * ONES, zero, zero, zero, zero)
    sigma = np.deg2rad(0.1)
    density = psf.evaluate([2.0], [0.8], [0.0, 0.15])[0, 0]
    np.testing.assert_allclose(density, np.exp([0.0, -0.5 * 1.5**2]) / (2 * np.pi * sigma**2), rtol=1e-12)
    assert integral(psf.evaluate([2.0], [0.8], RAD)[0, 0]) == pytest.approx(1.0, abs=1e-6)


def test_three_gaussians_are_weighted_by_their_amplitudes():
    psf = Psf3Gauss(ENERGY, OFFSET, ONES, 0.05 * ONES, 0.3 * ONES, 0.1 * ONES, 0.02 * ONES, 0.2 * ONES)
    density = psf.evaluate([2.0], [0.8], RAD)[0, 0]
    shape = sum(a * np.exp(-0.5 * (RAD / s) ** 2) for a, s in ((1, 0.05), (0.3, 0.1), (0.02, 0.2)))
    np.testing.assert_allclose(density / density[0], shape / shape[0], rtol=1e-12)
    assert integral(density) == pytest.approx(1.0, abs=1e-6)


def test_a_component_without_width_takes_no_part():
    sigma_2, ampl_2 = np.full((3, 2), 0.3), np.full((3, 2), 0.1)
    sigma_2[1], ampl_2[1] = 0.0, 0.0
    psf = Psf3Gauss(ENERGY, OFFSET, ONES, 0.1 * ONES, ampl_2, sigma_2, 0 * ONES, 0 * ONES)
    middle = np.sqrt(ENERGY.values[0] * ENERGY.values[1])
    density = psf.evaluate([middle], [0.5], RAD)[0, 0]
    shape = np.exp(-0.5 * (RAD / 0.1) ** 2) + 0.05 * np.exp(-0.5 * (RAD / 0.3) ** 2)
    np.testing.assert_allclose(density / density[0], shape / shape[0], rtol=1e-12)


def test_cells_without_psf_do_not_widen_their_neighbours():
    scale, sigma = ONES.copy(), 0.1 * ONES
    scale[0], sigma[0] = 0.0, 0.0
    psf = Psf3Gauss(ENERGY, OFFSET, scale, sigma, 0 * ONES, 0 * ONES, 0 * ONES, 0 * ONES)
    middle = np.sqrt(ENERGY.values[0] * ENERGY.values[1])
    np.testing.assert_allclose(psf.evaluate([middle], [0.5], RAD), psf.evaluate([3.16], [0.5], RAD), rtol=1e-12)
    assert psf.evaluate([ENERGY.values[0], 0.2], [0.5], RAD).max() == 0


def test_king_profile_in_closed_form():
    psf = PsfKing(ENERGY, OFFSET, 2.5 * ONES, 0.08 * ONES)
    density = psf.evaluate([2.0], [0.8], [0.0, 0.2])[0, 0]
    sigma = np.deg2rad(0.08)
    expected = (1 - 1 / 2.5) / (2 * np.pi * sigma**2) * np.array([1.0, (1 + 0.2**2 / (5 * 0.08**2)) ** -2.5])
    np.testing.assert_allclose(density, expected, rtol=1e-12)
    # The part of a King profile beyond a radius is (1 + r2 / 2 gamma sigma2)^(1 - gamma).
    beyond = (1 + 1.5**2 / (5 * 0.08**2)) ** -1.5
    assert integral(psf.evaluate([2.0], [0.8], RAD)[0, 0]) == pytest.approx(1.0 - beyond, abs=1e-6)


def test_table_is_linear_between_nodes():
    rad = nodes_from_edges([0.0, 0.1, 0.2], [0.1, 0.2, 0.3], log=False)
    table = np.arange(18.0).reshape(3, 2, 3)
    psf = PsfTable(ENERGY, OFFSET, rad, table)
    density = psf.evaluate([10**0.5], [1.25], [0.05, 0.1, 0.15])
    np.testing.assert_allclose(density[0, 0], [7.5, 8.0, 8.5])
    assert psf.evaluate([1.0], [1.0], [0.31]).max() == 0


@pytest.mark.parametrize("kind", ["table", "gauss", "king"])
def test_outside_the_table_there_is_no_psf(kind):
    if kind == "table":
        rad = nodes_from_edges([0.0, 0.1], [0.1, 0.3], log=False)
        psf = PsfTable(ENERGY, OFFSET, rad, np.ones((3, 2, 2)))
    elif kind == "gauss":
        psf = Psf3Gauss(ENERGY, OFFSET, ONES, 0.1 * ONES, 0 * ONES, 0 * ONES, 0 * ONES, 0 * ONES)
    else:
        psf = PsfKing(ENERGY, OFFSET, 2 * ONES, 0.1 * ONES)
    assert psf.evaluate([2.0], [0.5], [0.0]).min() > 0
    assert psf.evaluate([0.01, 300.0], [0.5], [0.0]).max() == 0
    assert psf.evaluate([2.0], [3.5, np.nan], [0.0]).max() == 0


def test_king_cells_without_width_have_no_psf():
    sigma = 0.1 * ONES
    sigma[:, 1] = 0.0
    psf = PsfKing(ENERGY, OFFSET, 2 * ONES, sigma)
    assert psf.evaluate([2.0], [2.0], [0.0]).max() == 0
    assert psf.evaluate([2.0], [1.0], [0.0]) == pytest.approx(psf.evaluate([2.0], [0.5], [0.0]))


def test_shape_is_checked():
    with pytest.raises(ValueError, match="GAMMA of shape"):
        PsfKing(ENERGY, OFFSET, np.ones((2, 2)), ONES)
    with pytest.raises(ValueError, match="AMPL_2 of shape"):
        Psf3Gauss(ENERGY, OFFSET, ONES, ONES, np.ones((2, 2)), ONES, ONES, ONES)
    with pytest.raises(ValueError, match="RPSF of shape"):
        PsfTable(ENERGY, OFFSET, ENERGY, np.ones((3, 2)))
