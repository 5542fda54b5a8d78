"""Safe fractions on the coarse grid against a plain loop over the sky."""

import numpy as np
import pytest

from cubeflow.maps import GeometryError, make_geometry, sphere
from cubeflow.products.stack import safe_fraction


@pytest.mark.parametrize(("frame", "projection"), [("icrs", "TAN"), ("galactic", "CAR")])
@pytest.mark.parametrize("pixel_deg", [0.2, 0.37])
def test_fractions_are_those_of_a_loop(frame, projection, pixel_deg):
    rng = np.random.default_rng(3)
    parent = make_geometry(frame, projection, 40.0, 12.0, (2.0, 1.4), 0.05)
    geom, coarse = parent.cutout(3, 5, 31, 17), parent.coarse(pixel_deg).cutout(-1, 0, 9, 6)
    mask = rng.random((3, *geom.shape)) < np.array([0.2, 0.5, 0.7])[:, None, None]
    mask[:, :4] = False
    found = safe_fraction(mask, geom, coarse)
    used = mask.any(axis=0)
    ra, dec = sphere.lon_lat(geom.center_vectors)
    ix, iy = coarse.pixel_index(ra, dec)
    for row, column in np.ndindex(coarse.shape):
        here = used & (ix == column) & (iy == row)
        expected = mask[:, here].mean(axis=1) if here.any() else mask[:, used].mean(axis=1)
        np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-12)


def test_nothing_is_safe():
    geom = make_geometry("icrs", "TAN", 0.0, 0.0, (1.0, 1.0), 0.1)
    assert not safe_fraction(np.zeros((2, 10, 10), bool), geom, geom.coarse(0.3)).any()


def test_other_projections_are_refused():
    geom = make_geometry("icrs", "TAN", 0.0, 0.0, (1.0, 1.0), 0.1)
    other = make_geometry("icrs", "CAR", 0.0, 0.0, (1.0, 1.0), 0.5)
    with pytest.raises(GeometryError, match="different projections"):
        safe_fraction(np.ones((1, 10, 10), bool), geom, other)
