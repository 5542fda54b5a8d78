from dataclasses import replace

import numpy as np
import pytest

from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.table import nodes_from_edges

ENERGY = nodes_from_edges([0.1, 1.0, 10.0], [1.0, 10.0, 100.0], log=True)
OFFSET = nodes_from_edges([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], log=False)
MIGRA = np.linspace(0.0, 3.0, 61)
EDGES = np.geomspace(0.2, 50.0, 12)


def gaussian(offset_dependence=0.0, bias=0.0):
    """Dispersion of width 0.2 whose bias may change with offset."""
    centers = 0.5 * (MIGRA[1:] + MIGRA[:-1])
    mean = 1.0 + bias + offset_dependence * OFFSET.values
    density = np.exp(-0.5 * ((centers[:, None] - mean) / 0.2) ** 2)
    density /= (density * np.diff(MIGRA)[:, None]).sum(0)
    return EnergyDispersion(ENERGY, OFFSET, MIGRA, np.repeat(density[None], 3, axis=0))


def slow_kernel(edisp, energy, lower, upper, offset):
    """The slow twin: interpolate the density, cumulate it over migra, take differences at the bin's edges."""
    weights = edisp.energy_true.weights([energy])[0], edisp.offset.weights([offset])[0]
    density = np.maximum(np.einsum("e,emo,o->m", weights[0], edisp.density, weights[1]), 0.0)
    cumulative = np.concatenate([[0.0], np.cumsum(density * np.diff(edisp.migra_edges))])
    below, above = np.interp([lower / energy, upper / energy], edisp.migra_edges, cumulative)
    return (above - below) / cumulative[-1] if cumulative[-1] > 0 else 0.0


def narrow():
    """Dispersion that is empty at most of migra, and beyond its nodes would be negative at some."""
    edisp = gaussian(offset_dependence=0.3)
    density = np.where(edisp.density > 0.05, edisp.density, 0.0)
    return replace(edisp, density=density / (density * np.diff(MIGRA)[:, None]).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("edisp", [gaussian(offset_dependence=0.15), narrow()])
def test_kernel_is_the_cumulated_density(edisp):
    energies, offsets = [0.7, 3.0, 12.0], [0.0, 0.4, 1.0, 1.7, 2.2]
    kernel = edisp.kernel(energies, EDGES, offsets)
    for k, energy in enumerate(energies):
        for r in range(len(EDGES) - 1):
            for p, offset in enumerate(offsets):
                expected = slow_kernel(edisp, energy, EDGES[r], EDGES[r + 1], offset)
                assert kernel[k, r, p] == pytest.approx(expected, abs=1e-13)


def test_all_of_the_dispersion_is_in_a_wide_range():
    np.testing.assert_allclose(gaussian().kernel([1.0, 5.0], [1e-3, 1e3], [0.5])[:, 0, 0], 1.0)


def test_rows_are_not_renormalised_to_the_energy_range():
    kernel = gaussian().kernel([1.0], [1.0, 10.0], [0.5])
    assert kernel[0, 0, 0] == pytest.approx(0.5, abs=0.01)


def test_delta_is_the_identity():
    narrow = np.array([0.0, 0.999, 1.001, 3.0])
    density = np.zeros((3, 3, 3))
    density[:, 1] = 1.0 / 0.002
    edisp = EnergyDispersion(ENERGY, OFFSET, narrow, density)
    centers = np.sqrt(EDGES[1:] * EDGES[:-1])
    np.testing.assert_allclose(edisp.kernel(centers, EDGES, [0.3])[..., 0], np.eye(len(centers)), atol=1e-12)


def test_no_dispersion_gives_zero():
    edisp = gaussian()
    empty = edisp.density.copy()
    empty[0, :, 2] = 0.0
    edisp = EnergyDispersion(ENERGY, OFFSET, MIGRA, empty)
    low = ENERGY.values[0]
    assert edisp.kernel([low], EDGES, [2.0]).sum() == 0
    # Between a cell with and one without dispersion, that which is there counts as a whole.
    np.testing.assert_allclose(edisp.kernel([low], [1e-3, 1e3], [1.5])[0, 0], 1.0)
    assert edisp.kernel([0.05, 500.0], EDGES, [0.5]).sum() == 0
    assert edisp.kernel([1.0], EDGES, [2.6, np.nan]).sum() == 0


def test_node_kernels_give_the_kernel_between_nodes():
    edisp = gaussian(offset_dependence=0.2)
    kernel, norm = edisp.node_kernels([0.7, 3.0], EDGES)
    weights = OFFSET.weights(np.array([0.3, 1.9])).T
    expected = edisp.kernel([0.7, 3.0], EDGES, [0.3, 1.9])
    np.testing.assert_allclose((kernel @ weights) / (norm @ weights)[:, None], expected, rtol=1e-13)


def test_offsets_may_have_any_shape():
    assert gaussian().kernel([1.0, 2.0], EDGES, np.zeros((4, 5))).shape == (2, 11, 4, 5)


def test_shape_is_checked():
    with pytest.raises(ValueError, match="EDISP: table of shape"):
        EnergyDispersion(ENERGY, OFFSET, MIGRA, np.zeros((3, 61, 3)))
