import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.maps import sphere

RNG = np.random.default_rng(3)
LON, LAT = RNG.uniform(0, 360, 200), np.rad2deg(np.arcsin(RNG.uniform(-1, 1, 200)))


def test_separation_is_that_of_astropy():
    first, second = SkyCoord(LON[:100], LAT[:100], unit="deg"), SkyCoord(LON[100:], LAT[100:], unit="deg")
    ours = sphere.separation_deg(sphere.unit_vectors(LON[:100], LAT[:100]), sphere.unit_vectors(LON[100:], LAT[100:]))
    np.testing.assert_allclose(ours, first.separation(second).deg, atol=1e-9)


@given(st.floats(0, 359), st.floats(-89, 89), st.floats(0, 1))
def test_distance_along_a_meridian(lon, lat, step):
    assert sphere.angular_distance_deg((lon, lat), (lon, lat + step)) == pytest.approx(step, abs=1e-9)


@pytest.mark.parametrize("distance", [1e-7, 1e-3, 1.0, 179.0])
def test_separation_is_exact_at_small_and_large_angles(distance):
    origin = SkyCoord(83.633, 22.014, unit="deg")
    other = origin.directional_offset_by(37.0 * u.deg, distance * u.deg)
    ours = sphere.separation_deg(
        sphere.unit_vectors(origin.ra.deg, origin.dec.deg), sphere.unit_vectors(other.ra.deg, other.dec.deg)
    )
    assert ours == pytest.approx(distance, abs=1e-9, rel=1e-8)


def test_galactic_rotation_is_that_of_astropy():
    coords = SkyCoord(LON, LAT, unit="deg")
    galactic = coords.galactic
    rotated = sphere.icrs_to_frame(sphere.unit_vectors(LON, LAT), "galactic")
    expected = sphere.unit_vectors(galactic.l.deg, galactic.b.deg)
    assert sphere.separation_deg(rotated, expected).max() < 1e-9
    back = sphere.frame_to_icrs(rotated, "galactic")
    assert sphere.separation_deg(back, sphere.unit_vectors(LON, LAT)).max() < 1e-12
    np.testing.assert_array_equal(sphere.icrs_to_frame(back, "icrs"), back)


@given(st.floats(0, 359.999), st.floats(-89.9, 89.9))
def test_lon_lat_undoes_unit_vectors(lon, lat):
    back = sphere.lon_lat(sphere.unit_vectors(lon, lat))
    assert back[1] == pytest.approx(lat, abs=1e-10)
    assert abs((back[0] - lon + 180) % 360 - 180) < 1e-9


def test_float32_positions_are_computed_in_float64():
    lon = np.array([83.633, 184.557], dtype=np.float32)
    vectors = sphere.unit_vectors(lon, lon / 4)
    assert vectors.dtype == np.float64
    np.testing.assert_array_equal(vectors, sphere.unit_vectors(lon.astype(float), (lon / 4).astype(float)))


@pytest.mark.parametrize(("lon", "lat"), [(83.6, 22.0), (0.1, -89.0), (359.9, 60.0)])
def test_sky_offset_is_that_of_astropy(lon, lat):
    origin = SkyCoord(lon, lat, unit="deg")
    coords = SkyCoord(lon + RNG.uniform(-3, 3, 20), np.clip(lat + RNG.uniform(-3, 3, 20), -90, 90), unit="deg")
    offset = coords.transform_to(origin.skyoffset_frame())
    east, north = sphere.sky_offset(sphere.unit_vectors(coords.ra.deg, coords.dec.deg), lon, lat)
    np.testing.assert_allclose(east, offset.lon.wrap_at("180d").deg, atol=1e-9)
    np.testing.assert_allclose(north, offset.lat.deg, atol=1e-9)


def test_a_position_in_both_frames() -> None:
    expected = SkyCoord(347.34, -0.47, unit="deg", frame="galactic")
    position = sphere.Position(frame="galactic", lon_deg=347.34, lat_deg=-0.47)
    assert position.icrs_deg == pytest.approx((expected.icrs.ra.deg, expected.icrs.dec.deg), abs=1e-9)
    assert position.in_frame("galactic") == (347.34, -0.47)
    assert sphere.Position(lon_deg=-12.5, lat_deg=3.0).icrs_deg == (347.5, 3.0)


def test_a_position_in_another_frame_has_no_digits_that_depend_on_the_processor() -> None:
    lon, lat = sphere.Position(lon_deg=83.633, lat_deg=22.014).in_frame("galactic")
    assert (lon, lat) == (round(lon, 10), round(lat, 10))
    assert sphere.Position(frame="galactic", lon_deg=lon, lat_deg=lat).icrs_deg == pytest.approx(
        (83.633, 22.014), abs=1e-9
    )
