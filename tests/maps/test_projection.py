import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import make_geometry, sphere
from cubeflow.maps.projection import has_closed_form, tangent_solid_angles


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
    vectors = geom.pixel_to_vectors(x, y)
    assert sphere.separation_deg(vectors, wcs_vectors(geom, x, y)).max() < 1e-9
    back_x, back_y = geom.vectors_to_pixel(vectors)
    expected_x, expected_y = geom.wcs().wcs_world2pix(*sphere.lon_lat(sphere.icrs_to_frame(vectors, geom.frame)), 0)
    np.testing.assert_allclose(back_x, expected_x, rtol=0, atol=1e-8)
    np.testing.assert_allclose(back_y, expected_y, rtol=0, atol=1e-8)


@settings(max_examples=30)
@given(st.floats(0, 360), st.floats(0, 359.9), st.floats(-89.9, 89.9))
def test_pixels_of_the_whole_sky_in_car_are_those_of_wcslib(center, lon, lat):
    geom = make_geometry("galactic", "CAR", center, 0.0, (20.0, 10.0), 0.1)
    x, y = geom.vectors_to_pixel(sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), "galactic"))
    expected_x, expected_y = geom.wcs().wcs_world2pix(lon, lat, 0)
    turn = (x - expected_x) * geom.pixel_deg  # on the border, 180 deg away, either end may be taken
    assert abs(turn - 360.0 * round(float(turn) / 360.0)) < 1e-8
    assert abs(y - expected_y) < 1e-8


def test_half_of_the_sky_has_no_place_in_a_tangent_plane():
    geom = make_geometry("icrs", "TAN", 40.0, 30.0, (3.0, 2.0), 0.1)
    x, y = geom.vectors_to_pixel(sphere.unit_vectors([40.0, 220.0, 40.0, 40.0], [30.0, -30.0, -60.5, -59.0]))
    np.testing.assert_array_equal(np.isfinite(x), [True, False, False, True])
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(x))


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


def triangle_solid_angle(a, b, c):
    """The slow twin, Van Oosterom & Strackee 1983: corners of shape (..., 3)."""
    triple = np.einsum("...i,...i", a, np.cross(b - a, c - a))
    denominator = 1.0 + np.einsum("...i,...i", a, b) + np.einsum("...i,...i", b, c) + np.einsum("...i,...i", c, a)
    return np.abs(2.0 * np.arctan2(triple, denominator))


def test_octant_is_an_eighth_of_the_sphere():
    assert triangle_solid_angle(*np.eye(3)) == pytest.approx(np.pi / 2, rel=1e-14)
    corners = np.stack([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1]]])
    assert sphere.grid_solid_angles(corners)[0, 0] == pytest.approx(np.pi / 2, rel=1e-14)


def test_tiny_cell_is_flat():
    corners = sphere.unit_vectors(*np.meshgrid([10.0, 10.0001], [0.0, 0.0001]))
    assert sphere.grid_solid_angles(corners)[0, 0] == pytest.approx(np.deg2rad(1e-4) ** 2, rel=1e-6)


def test_grid_solid_angles_are_those_of_triangles():
    corners = make_geometry("icrs", "TAN", 83.6, 60.0, (1.1, 0.7), 0.1).pixel_to_vectors(
        *np.meshgrid(range(12), range(8))
    )
    low_left, low_right, up_left, up_right = corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]
    expected = triangle_solid_angle(low_left, low_right, up_right)
    expected += triangle_solid_angle(low_left, up_right, up_left)
    np.testing.assert_allclose(sphere.grid_solid_angles(corners), expected, rtol=1e-9)


@pytest.mark.parametrize(("width", "pixel"), [((5.0, 4.0), 0.02), ((60.0, 40.0), 0.5), ((170.0, 120.0), 2.0)])
def test_solid_angles_on_the_tangent_plane_are_those_of_spherical_polygons(width, pixel):
    geom = make_geometry("galactic", "TAN", 184.6, -5.8, width, pixel).cutout(3, -4, 31, 23)
    y, x = np.ogrid[: geom.ny + 1, : geom.nx + 1]
    polygons = sphere.grid_solid_angles(geom.pixel_to_vectors(x - 0.5, y - 0.5))
    np.testing.assert_allclose(geom.solid_angle_sr, polygons, rtol=1e-10)


def test_a_cell_of_the_whole_tangent_plane_is_half_the_sphere():
    edges = np.array([-1e9, 1e9])
    assert tangent_solid_angles(edges[None], edges[:, None]) == pytest.approx(2 * np.pi, rel=1e-6)


def test_rounding_of_solid_angles_far_from_the_tangent_point():
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (20.0, 20.0), 0.01).cutout(1960, 1970, 40, 30)
    y, x = np.ogrid[: geom.ny + 1, : geom.nx + 1]
    polygons = sphere.grid_solid_angles(geom.pixel_to_vectors(x - 0.5, y - 0.5))
    np.testing.assert_allclose(geom.solid_angle_sr, polygons, rtol=2e-9)
