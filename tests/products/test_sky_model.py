"""Flux maps of simple sources."""

import numpy as np
import pytest

from cubeflow.maps import Position, energy_axis, make_geometry, sphere
from cubeflow.products.sky_model import Source
from cubeflow.products.spectrum import LogParabola, PowerLaw

GEOM = make_geometry("galactic", "CAR", 120.0, 10.0, (2.4, 1.6), 0.05)
ENERGY = energy_axis([0.5, 1.0, 3.0, 10.0], "energy_true")


POWER_LAW = PowerLaw(2.3)


def at(lon: float, lat: float, sigma: float = 0.0, spectrum=POWER_LAW, amplitude: float = 3e-7) -> Source:
    position = Position(frame="galactic", lon_deg=lon, lat_deg=lat)
    return Source(position=position, sigma_deg=sigma, amplitude=amplitude, reference_tev=2.0, spectrum=spectrum)


def test_flux_of_a_power_law():
    flux = at(120.02, 10.13).flux(GEOM, ENERGY)
    low, high = ENERGY.edges_array[:-1], ENERGY.edges_array[1:]
    expected = 3e-7 * 2.0**2.3 * (low**-1.3 - high**-1.3) / 1.3
    np.testing.assert_allclose(flux.data.sum(axis=(1, 2)), expected, rtol=1e-8)


def test_flux_at_the_reference_of_a_curved_spectrum():
    narrow = energy_axis([1.999, 2.001], "energy_true")
    flux = at(120.0, 10.0, spectrum=LogParabola(2.2, 0.3, 5.0)).flux(GEOM, narrow)
    assert flux.data.sum() == pytest.approx(3e-7 * 0.002, rel=1e-5)


def test_a_point_source_has_its_centre_of_gravity_where_it_is():
    source = at(120.213, 9.874)
    image = source.flux(GEOM, ENERGY).data[0]
    x, y = GEOM.vectors_to_pixel(sphere.unit_vectors(*source.position.icrs_deg))
    iy, ix = np.mgrid[: GEOM.ny, : GEOM.nx]
    assert (image * ix).sum() / image.sum() == pytest.approx(float(x))
    assert (image * iy).sum() / image.sum() == pytest.approx(float(y))
    assert np.count_nonzero(image) == 4


def test_a_gaussian_keeps_its_flux_and_width():
    source = at(120.1, 10.05, sigma=0.12)
    image = source.flux(GEOM, ENERGY).data[1]
    point = at(120.1, 10.05).flux(GEOM, ENERGY).data[1]
    assert image.sum() == pytest.approx(point.sum(), rel=2e-4)
    offset = GEOM.offset_deg(*source.position.icrs_deg)
    assert (image * offset**2).sum() / image.sum() == pytest.approx(2 * 0.12**2, rel=2e-3)


def test_a_source_beyond_the_map_has_no_flux_in_it():
    assert not at(140.0, 10.0).flux(GEOM, ENERGY).data.any()


def test_a_narrow_gaussian_is_a_point():
    narrow = at(120.0, 10.0, sigma=0.01).flux(GEOM, ENERGY).data
    np.testing.assert_array_equal(narrow, at(120.0, 10.0).flux(GEOM, ENERGY).data)
