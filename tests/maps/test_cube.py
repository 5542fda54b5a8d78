import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry, zeros

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (0.7, 0.5), 0.1)
ENERGY = energy_axis([1.0, 2.0, 5.0])


def test_cutout_takes_the_same_pixels():
    cube = Cube(np.arange(70).reshape(2, 5, 7), "", GEOM, (ENERGY,))
    part = cube.cutout(GEOM.cutout(2, 1, 3, 4))
    np.testing.assert_array_equal(part.data, cube.data[:, 1:5, 2:5])
    with pytest.raises(ValueError, match="does not lie inside"):
        cube.cutout(GEOM.cutout(5, 1, 3, 4))


def test_axes_are_found_by_name():
    assert zeros("", GEOM, ENERGY).axis("energy") is ENERGY
    with pytest.raises(KeyError, match="no axis 'rad'"):
        zeros("", GEOM, ENERGY).axis("rad")


def test_it_says_what_it_is_and_no_values():
    assert repr(zeros("m2 s", GEOM, ENERGY)) == "<Cube energy 2 x lat 5 x lon 7, float64, m2 s>"
    assert repr(zeros("", GEOM, dtype="bool")) == "<Cube lat 5 x lon 7, bool>"


def test_shape_is_checked():
    assert zeros("s", GEOM, dtype="bool").data.shape == (5, 7)
    with pytest.raises(ValueError, match="do not fit"):
        Cube(np.zeros((2, 7, 5)), "", GEOM, (ENERGY,))
