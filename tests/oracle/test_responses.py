"""Response tables of every kind against gammapy's own evaluation, on made-up tables."""

import numpy as np
import pytest

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background2D
from cubeflow.irf.psf import Psf3Gauss, PsfKing

from .conftest import nodes

RNG = np.random.default_rng(11)
ENERGY = np.geomspace(0.011, 99.0, 23)


@pytest.fixture(scope="module")
def axes():
    from gammapy.maps import MapAxis

    return (
        MapAxis.from_energy_bounds("0.01 TeV", "100 TeV", 12, name="energy_true"),
        MapAxis.from_edges([0.0, 0.7, 1.5, 3.0], unit="deg", name="offset"),
        MapAxis.from_nodes([0.0, 0.5, 1.5, 2.5], unit="deg", name="offset"),
    )


@pytest.mark.parametrize("which", [1, 2])
def test_effective_area_inside_at_and_outside_the_edges(axes, which):
    from gammapy.irf import EffectiveAreaTable2D

    energy, offset = axes[0], axes[which]
    table = RNG.uniform(-10.0, 100.0, (12, offset.nbin))
    theirs = EffectiveAreaTable2D(axes=[energy, offset], data=table, unit="m2")
    ours = EffectiveArea(nodes(energy), nodes(offset), table)
    at_energy, at_offset = np.append(ENERGY, [0.001, 200.0]), np.linspace(0.0, 4.0, 33)
    expected = theirs.evaluate(energy_true=at_energy[:, None] * energy.unit, offset=at_offset * offset.unit)
    # On the outermost edge itself gammapy's answer depends on rounding.
    edge = np.isclose(at_offset, offset.edges.value[-1])
    np.testing.assert_allclose(ours.evaluate(at_energy, at_offset)[:, ~edge], expected.value[:, ~edge], atol=1e-9)


def parametric(kind, axes, columns, units):
    """gammapy's parametric PSF from arrays."""
    data = np.zeros((12, 3), dtype=[(name, float) for name in columns])
    for name, values in columns.items():
        data[name] = values
    return kind(axes=list(axes[:2]), data=data, unit=units)


def compare(theirs, ours, axes):
    rad = np.linspace(0.0, 0.6, 13)
    offset = np.linspace(0.0, 3.0, 11)
    unit = axes[1].unit
    expected = theirs.evaluate(
        rad=rad * unit, energy_true=ENERGY[:, None, None] * axes[0].unit, offset=offset[:, None] * unit
    ).to_value("sr-1")
    np.testing.assert_allclose(ours.evaluate(ENERGY, offset, rad), expected, rtol=1e-9, atol=1e-9)


def test_three_gaussians(axes):
    from gammapy.irf import EnergyDependentMultiGaussPSF

    names = ("scale", "sigma_1", "ampl_2", "sigma_2", "ampl_3", "sigma_3")
    sizes = (3.0, 0.04, 0.2, 0.12, 0.02, 0.3)
    columns = {name: size * RNG.uniform(0.9, 1.1, (12, 3)) for name, size in zip(names, sizes, strict=True)}
    units = {"scale": "sr-1", "ampl_2": "", "ampl_3": "", **dict.fromkeys(("sigma_1", "sigma_2", "sigma_3"), "deg")}
    from astropy.units import Unit

    theirs = parametric(EnergyDependentMultiGaussPSF, axes, columns, {k: Unit(v) for k, v in units.items()})
    compare(theirs, Psf3Gauss(nodes(axes[0]), nodes(axes[1]), **columns), axes)


def test_king_profile(axes):
    from astropy.units import Unit
    from gammapy.irf import PSFKing

    columns = {"gamma": RNG.uniform(1.9, 2.2, (12, 3)), "sigma": RNG.uniform(0.05, 0.06, (12, 3))}
    theirs = parametric(PSFKing, axes, columns, {"gamma": Unit(""), "sigma": Unit("deg")})
    compare(theirs, PsfKing(nodes(axes[0]), nodes(axes[1]), **columns), axes)


def test_background_of_the_offset(axes):
    from gammapy.irf import Background2D as TheirBackground2D

    energy = axes[0].copy(name="energy")
    table = RNG.uniform(0.1, 3.0, (12, 3))
    theirs = TheirBackground2D(axes=[energy, axes[1]], data=table, unit="s-1 TeV-1 sr-1")
    ours = Background2D(energy.edges.value, nodes(axes[1]), table)
    edges = energy.center.value  # between table nodes gammapy's two points are exact
    offset = np.linspace(0.05, 2.9, 9)
    expected = theirs.integrate_log_log(
        axis_name="energy", energy=edges[:, None] * energy.unit, offset=offset * axes[1].unit
    )
    np.testing.assert_allclose(ours.integrate(edges, offset, 0 * offset), expected.to_value("s-1 sr-1"), rtol=1e-9)
