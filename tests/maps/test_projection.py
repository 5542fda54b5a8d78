import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import make_geometry, sphere
from cubeflow.maps.projection import has_closed_form


def wcs_vectors(geom, x, y):
    """The slow twin: through the WCS of the geometry."""
    lon, lat = geom.wcs().wcs_pix2world(np.ravel(x), np.ravel(y), 0)
    return sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), geom.frame)


@settings(max_examples=30)
@given(
    st.sampled_from([("icrs", "TAN"), ("galactic", "TAN"), ("galactic", "CAR"), ("icrs", "CAR")]),
    st.floats(0, 360),
    st.floats(-89.99, 89.99),
    st.lists(st.tuples(st.floats(-50, 80), st.floats(-50, 80)), min_size=1, max_size=5),
)
def test_closed_forms_are_those_of_wcslib(kind, lon, lat, positions):
    geom = make_geometry(*kind, lon, 0.0 if kind[1] == "CAR" else lat, (3.0, 2.0), 0.1)
    assert has_closed_form(geom.projection, geom.lat_deg)
    x, y = np.array(positions).T
    separation = sphere.separation_deg(geom.pixel_to_vectors(x, y), wcs_vectors(geom, x, y))
    assert separation.max() < 1e-9


@pytest.mark.parametrize("lat", [90.0, -90.0])
def test_a_tangent_plane_at_the_pole_goes_through_the_wcs(lat):
    geom = make_geometry("icrs", "TAN", 37.0, lat, (3.0, 2.0), 0.1)
    assert not has_closed_form("TAN", lat)
    x, y = np.array([3.0, 20.0]), np.array([11.0, 2.0])
    assert sphere.separation_deg(geom.pixel_to_vectors(x, y), wcs_vectors(geom, x, y)).max() < 1e-9


def test_beyond_the_poles_there_is_no_sky():
    geom = make_geometry("galactic", "CAR", 0.0, 0.0, (4.0, 184.0), 1.0)
    on_sky = np.isfinite(geom.center_vectors[:, 1, 0])
    np.testing.assert_array_equal(on_sky, np.abs(np.arange(184) - 91.5) < 90)
    assert geom.solid_angle_sr[0, 0] == 0


def test_grid_solid_angles_are_those_of_triangles():
    corners = make_geometry("icrs", "TAN", 83.6, 60.0, (1.1, 0.7), 0.1).pixel_to_vectors(
        *np.meshgrid(range(12), range(8))
    )
    low_left, low_right, up_left, up_right = corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]
    expected = sphere.triangle_solid_angle(low_left, low_right, up_right)
    expected += sphere.triangle_solid_angle(low_left, up_right, up_left)
    np.testing.assert_allclose(sphere.grid_solid_angles(corners), expected, rtol=1e-9)
