import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from cubeflow.maps import sphere
from cubeflow.maps.horizon import horizontal_offset, zenith_vectors

SITES = [(16.5, -23.27), (-17.89, 28.76), (-70.3, -24.7)]


@pytest.fixture(autouse=True)
def _offline():
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        yield


@pytest.mark.parametrize("iso", ["1995-03-01T00:00", "2004-12-08T22:00", "2015-01-01T12:00", "2023-06-01T03:00"])
@pytest.mark.parametrize(("lon", "lat"), SITES)
def test_zenith_and_field_are_those_of_astropy(iso, lon, lat):
    time, site = Time(iso), EarthLocation(lon=lon * u.deg, lat=lat * u.deg, height=2000 * u.m)
    frame = AltAz(obstime=time, location=site)
    expected = SkyCoord(AltAz(alt=90 * u.deg, az=0 * u.deg, obstime=time, location=site)).icrs
    zenith = zenith_vectors(time.tt.mjd, lon, lat)
    assert zenith.shape == (1, 3)
    assert sphere.separation_deg(zenith[0], sphere.unit_vectors(expected.ra.deg, expected.dec.deg)) < 0.02

    origin, target = SkyCoord(83.6, 22.0, unit="deg"), SkyCoord(85.0, 23.1, unit="deg")
    field = target.transform_to(frame).transform_to(origin.transform_to(frame).skyoffset_frame())
    ours = horizontal_offset(sphere.unit_vectors(85.0, 23.1), sphere.unit_vectors(83.6, 22.0), zenith[0])
    np.testing.assert_allclose(ours, [field.lon.wrap_at("180d").deg, field.lat.deg], atol=1e-3)


def test_zenith_turns_once_in_a_sidereal_day():
    start = 55000.25
    zenith = zenith_vectors([start, start + 0.99726957], 16.5, -23.27)
    assert sphere.separation_deg(zenith[0], zenith[1]) < 1e-3
