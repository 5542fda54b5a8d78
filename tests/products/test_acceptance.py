from itertools import pairwise

import numpy as np
import pytest

from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import energy_axis, make_geometry, sphere
from cubeflow.maps.horizon import zenith_vectors
from cubeflow.observation import TIME_REFERENCE_MJD, Gti, Pointing, Site
from cubeflow.products.acceptance import make_field_rotation, make_map_hadron_acceptance

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (5.2, 4.1), 0.2)
POINTING = Pointing(83.9, 22.5)
ENERGY = energy_axis([1.0, 2.0, 10.0])
E_EDGES, FIELD = np.geomspace(0.1, 100.0, 7), np.linspace(-3.0, 3.0, 7)
SITE = Site(16.5, -23.27)
START = (53347.92 - TIME_REFERENCE_MJD) * 86400.0


def flat(alignment="RADEC"):
    return Background3D(E_EDGES, FIELD, FIELD, np.full((6, 6, 6), 0.25), alignment)


def peak_east(alignment="RADEC"):
    rate = np.ones((6, 6, 6))
    rate[:, 5, 2:4] = 100.0
    return Background3D(E_EDGES, FIELD, FIELD, rate, alignment)


def test_flat_rate_gives_rate_energy_solid_angle_time():
    made = make_map_hadron_acceptance(POINTING, 1500.0, flat(), GEOM, ENERGY)
    expected = 0.25 * np.array([1.0, 8.0])[:, None, None] * GEOM.solid_angle_sr * 1500.0
    within = np.abs(GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)) < 2.9
    np.testing.assert_allclose(made.data[:, within], expected[:, within], rtol=1e-12)


def test_the_rates_that_a_model_gives_stay_as_they_were():
    class Remembered:
        """Model that gives the same array again, which nobody may write to."""

        alignment = "RADEC"

        def __init__(self):
            self.rate = np.random.default_rng(2).uniform(1, 9, (2, GEOM.ny * GEOM.nx))
            self.rate.flags.writeable = False

        def integrate(self, energy_edges_tev, lon_deg, lat_deg):
            return self.rate

    model = Remembered()
    made = make_map_hadron_acceptance(POINTING, 1500.0, model, GEOM, ENERGY)
    expected = model.rate * GEOM.solid_angle_sr.ravel() * 1500.0
    np.testing.assert_allclose(made.data.reshape(2, -1), expected, rtol=1e-14)


def test_pixels_are_those_of_the_response():
    background = Background3D(E_EDGES, FIELD, FIELD, np.random.default_rng(1).uniform(1, 9, (6, 6, 6)))
    made = make_map_hadron_acceptance(POINTING, 1500.0, background, GEOM, ENERGY, 2.0)
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    for j, i in ((9, 6), (12, 15), (18, 9)):
        lon, lat = sphere.sky_offset(GEOM.center_vectors[j, i], POINTING.ra_deg, POINTING.dec_deg)
        assert offset[j, i] < 2.0
        rate = background.integrate(ENERGY.edges, lon, lat)
        np.testing.assert_allclose(made.data[:, j, i], rate * GEOM.solid_angle_sr[j, i] * 1500.0)
    assert np.all(made.data[:, offset >= 2.0] == 0)


def test_east_of_the_table_is_east_on_the_map():
    made = make_map_hadron_acceptance(POINTING, 1500.0, peak_east(), GEOM, ENERGY)
    row, column = np.unravel_index(made.data[0].argmax(), GEOM.shape)
    east, north = sphere.sky_offset(GEOM.center_vectors[row, column], POINTING.ra_deg, POINTING.dec_deg)
    assert east > 1.8
    assert abs(north) < 0.7


def test_cutout_is_a_slice_of_the_whole():
    part = GEOM.cutout(3, 2, 8, 9)
    whole = make_map_hadron_acceptance(POINTING, 1500.0, peak_east(), GEOM, ENERGY)
    made = make_map_hadron_acceptance(POINTING, 1500.0, peak_east(), part, ENERGY)
    np.testing.assert_allclose(made.data, whole.cutout(part).data, rtol=1e-9)


def test_a_round_model_does_not_care_for_the_axes():
    offset = nodes_from_edges(np.arange(4.0), np.arange(1.0, 5.0), log=False)
    background = Background2D(E_EDGES, offset, np.outer(np.ones(6), [4.0, 3.0, 2.0, 1.0]))
    made = make_map_hadron_acceptance(POINTING, 1500.0, background, GEOM, ENERGY)
    rate = made.data[0] / GEOM.solid_angle_sr
    order = np.argsort(GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg), axis=None)
    assert np.all(np.diff(rate.ravel()[order]) <= 1e-9)


def slow_rotating(background, gti, zenith_step_s=5.0):
    """The slow twin: many short steps, each with the horizon of its own time."""
    total, weight = 0.0, 0.0
    for start, stop in zip(gti.start_s, gti.stop_s, strict=True):
        n = int(np.ceil((stop - start) / zenith_step_s))
        edges = np.linspace(start, stop, n + 1)
        for lo, hi in pairwise(edges):
            mjd = TIME_REFERENCE_MJD + 0.5 * (lo + hi) / 86400.0
            zenith = zenith_vectors(mjd, SITE.lon_deg, SITE.lat_deg)[0]
            origin = sphere.unit_vectors(POINTING.ra_deg, POINTING.dec_deg)
            azimuth = np.cross(origin, zenith)
            azimuth /= np.linalg.norm(azimuth)
            frame = np.stack([origin, azimuth, np.cross(azimuth, origin)])
            part = GEOM.center_vectors @ frame.T
            lon = np.rad2deg(np.arctan2(part[..., 1], part[..., 0]))
            lat = np.rad2deg(np.arcsin(part[..., 2]))
            total = total + (hi - lo) * background.integrate(ENERGY.edges, lon, lat)
            weight += hi - lo
    return total / weight * GEOM.solid_angle_sr * 1500.0


def test_the_field_turns_with_the_horizon():
    gti = Gti(np.array([START, START + 4000.0]), np.array([START + 900.0, START + 4600.0]))
    rotation = make_field_rotation(gti, SITE, POINTING)
    assert rotation.share.sum() == pytest.approx(1.0)
    background = peak_east("ALTAZ")
    made = make_map_hadron_acceptance(POINTING, 1500.0, background, GEOM, ENERGY, rotation=rotation)
    expected = slow_rotating(background, gti)
    np.testing.assert_allclose(made.data.sum((1, 2)), expected.sum((1, 2)), rtol=2e-4)
    assert np.abs(made.data - expected).max() < 0.02 * expected.max()


def test_gaps_turn_nothing():
    whole = make_field_rotation(Gti(np.array([START]), np.array([START + 4600.0])), SITE, POINTING)
    parts = make_field_rotation(
        Gti(np.array([START, START + 4590.0]), np.array([START + 10.0, START + 4600.0])), SITE, POINTING
    )
    assert len(parts.share) == 2
    assert len(whole.share) > 5
    np.testing.assert_allclose(parts.share, 0.5)


def test_horizontal_models_need_the_rotation():
    with pytest.raises(ValueError, match="ALTAZ needs the position"):
        make_map_hadron_acceptance(POINTING, 1500.0, flat("ALTAZ"), GEOM, ENERGY)
