"""astropy comes in at constructors and out at properties; a cube is drawn, and given to gammapy."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from cubeflow.maps import Axis, Cube, Geometry, energy_axis, make_geometry, rad_axis
from cubeflow.observation import Pointing, Unit

CRAB = SkyCoord(83.633, 22.014, unit="deg")
GEOM = make_geometry("icrs", "TAN", 83.633, 22.014, (1.3, 0.9), 0.1)
AXIS = energy_axis([1.0, 3.0, 10.0])


def cube(unit="m2 s"):
    return Cube(np.arange(2.0 * 9 * 13).reshape(2, 9, 13), unit, GEOM, (AXIS,))


def test_pointing_of_a_position_in_any_frame():
    for position in (CRAB, CRAB.galactic, CRAB.fk5):
        made = Pointing.of(position)
        assert (made.ra_deg, made.dec_deg) == pytest.approx((83.633, 22.014), abs=1e-9)


def test_geometry_of_quantities():
    assert Geometry.of(CRAB, [78, 54] * u.arcmin, 0.1 * u.deg) == GEOM
    assert Geometry.of(CRAB.fk5, 1.3 * u.deg, 6 * u.arcmin).shape == (13, 13)
    galactic = Geometry.of(SkyCoord(184.5, 0.0, unit="deg", frame="galactic"), 2 * u.deg, 0.1 * u.deg, "CAR")
    assert galactic == make_geometry("galactic", "CAR", 184.5, 0.0, (2.0, 2.0), 0.1)
    assert GEOM.center_deg == pytest.approx((83.633, 22.014))


def test_axis_of_quantities():
    assert Axis.of([1000, 3000, 10000] * u.GeV) == AXIS
    assert Axis.of([1, 2] * u.TeV, "energy_true") == energy_axis([1.0, 2.0], "energy_true")
    assert Axis.of([0, 6, 12] * u.arcmin, "rad") == rad_axis(0.2, 2)
    with pytest.raises(u.UnitConversionError):
        Axis.of([1, 2] * u.deg)


def test_values_come_with_their_unit():
    assert cube().quantity.to_value("cm2 s")[1, 2, 3] == cube().data[1, 2, 3] * 1e4
    iy, ix = 2, 11
    position = SkyCoord.from_pixel(ix + 0.3, iy - 0.4, GEOM.wcs())
    np.testing.assert_array_equal(cube().at(position.galactic), cube().data[:, iy, ix] * u.Unit("m2 s"))
    with pytest.raises(ValueError, match=r"position \(10\.0000, 0\.0000\) deg lies outside the map"):
        cube().at(SkyCoord(10, 0, unit="deg"))


def test_sum_over_energy_has_one_bin():
    total = cube("").sum_over_energy()
    assert total.axes == (energy_axis([1.0, 10.0]),)
    np.testing.assert_array_equal(total.data[0], cube().data[0] + cube().data[1])


def test_a_plot_shows_the_sum():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = cube().plot()
    np.testing.assert_array_equal(axes.images[0].get_array(), cube().data.sum(axis=0))
    assert axes.wcs.wcs.crval.tolist() == [83.633, 22.014]
    figure, mine = pyplot.subplots()
    assert cube().plot(mine) is mine
    assert len(figure.axes) == 2
    pyplot.close("all")


def test_gammapy_has_the_same_map():
    pytest.importorskip("gammapy")
    axes = energy_axis([0.5, 2.0, 8.0], "energy_true"), rad_axis(0.3, 3)
    values = np.random.default_rng(1).random((2, 3, 9, 13))
    made = Cube(values, "sr-1", GEOM, axes).to_gammapy()
    assert made.geom.axes.names == ["rad", "energy_true"]
    for k, energy in enumerate(axes[0].centers):
        coords = {"skycoord": CRAB, "energy_true": energy * u.TeV, "rad": 0.15 * u.deg}
        assert made.get_by_coord(coords)[0] == values[k, 1, 4, 6]
    assert made.unit == "sr-1"
    counts = Cube(np.ones((2, 9, 13), int), "", GEOM, (AXIS,)).to_gammapy()
    assert counts.data.dtype == float
    assert Cube(np.ones((2, 9, 13), bool), "", GEOM, (AXIS,)).to_gammapy().data.dtype == bool


def test_units_are_named_and_ordered():
    assert [Unit(23523).name, Unit(23523, 2).name, Unit(5, event_type="b").name] == ["23523", "23523-piece2", "5-b"]
    assert sorted([Unit(7, 3), Unit(7, 0), Unit(2, 9)]) == [Unit(2, 9), Unit(7, 0), Unit(7, 3)]
