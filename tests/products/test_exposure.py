import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import energy_axis, log_edges, make_geometry
from cubeflow.observation import Pointing
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.spectrum import PowerLaw

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (5.2, 4.1), 0.3)
POINTING = Pointing(83.9, 22.5)
ENERGY_TRUE = energy_axis(log_edges(0.3, 40.0, 20), "energy_true")
ENERGY = energy_axis(log_edges(1.0, 20.0, 3))
E_NODES = nodes_from_edges(*(np.geomspace(0.01, 100, 9)[s] for s in (slice(0, -1), slice(1, None))), log=True)
O_NODES = nodes_from_edges([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], log=False)
MIGRA = np.linspace(0.0, 3.0, 41)


def area(seed=2):
    return EffectiveArea(E_NODES, O_NODES, np.random.default_rng(seed).uniform(1e3, 1e5, (8, 3)))


def dispersion(offset_dependence=0.1, empty=False):
    centers = 0.5 * (MIGRA[1:] + MIGRA[:-1])
    mean = 1.0 + offset_dependence * O_NODES.values
    density = np.exp(-0.5 * ((centers[:, None] - mean) / 0.3) ** 2)
    density /= (density * np.diff(MIGRA)[:, None]).sum(0)
    density = np.repeat(density[None], 8, axis=0)
    if empty:
        density[:4, :, 2] = 0.0
    return EnergyDispersion(E_NODES, O_NODES, MIGRA, density)


def test_flat_area_gives_area_times_livetime():
    flat = EffectiveArea(E_NODES, O_NODES, np.full((8, 3), 2.5e4))
    made = make_map_exposure_true_energy(POINTING, 1600.0, flat, GEOM, ENERGY_TRUE)
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    assert made.unit == "m2 s"
    np.testing.assert_allclose(made.data[:, offset < 2.4], 4e7)
    assert np.all(made.data[:, offset > 2.5] == 0)


def test_pixels_are_those_of_the_response():
    made = make_map_exposure_true_energy(POINTING, 1600.0, area(), GEOM, ENERGY_TRUE, 1.8)
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    for j, i in ((0, 0), (7, 9), (12, 3)):
        expected = area().evaluate(ENERGY_TRUE.centers, [offset[j, i]])[:, 0] * 1600.0 * (offset[j, i] < 1.8)
        np.testing.assert_allclose(made.data[:, j, i], expected)
    assert np.all(made.data[:, offset >= 1.8] == 0)


def test_cutout_is_a_slice_of_the_whole():
    part = GEOM.cutout(3, 2, 8, 9)
    whole = make_map_exposure_true_energy(POINTING, 1600.0, area(), GEOM, ENERGY_TRUE)
    made = make_map_exposure_true_energy(POINTING, 1600.0, area(), part, ENERGY_TRUE)
    np.testing.assert_allclose(made.data, whole.cutout(part).data, rtol=1e-11)


@settings(max_examples=10)
@given(st.floats(1.0, 1e5))
def test_exposure_is_linear_in_livetime(livetime):
    one = make_map_exposure_true_energy(POINTING, 1.0, area(), GEOM, ENERGY_TRUE)
    np.testing.assert_allclose(
        make_map_exposure_true_energy(POINTING, livetime, area(), GEOM, ENERGY_TRUE).data, one.data * livetime
    )


def slow_reco(exposure, edisp, spectrum):
    """The slow twin: both sums written out, with the dispersion at each pixel's own offset."""
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    flux, flux_reco = spectrum.integral(ENERGY_TRUE.edges), spectrum.integral(ENERGY.edges)
    out = np.zeros((ENERGY.n_bins, *GEOM.shape))
    for j, i in np.ndindex(GEOM.shape):
        kernel = edisp.kernel(ENERGY_TRUE.centers, ENERGY.edges, [offset[j, i]])[..., 0]
        for k in range(ENERGY.n_bins):
            total = sum(kernel[t, k] * exposure.data[t, j, i] * flux[t] for t in range(ENERGY_TRUE.n_bins))
            out[k, j, i] = total / flux_reco[k]
    return out


@pytest.mark.parametrize("empty", [False, True])
def test_reco_exposure_is_the_double_loop(empty):
    exposure = make_map_exposure_true_energy(POINTING, 1600.0, area(), GEOM, ENERGY_TRUE)
    edisp, spectrum = dispersion(empty=empty), PowerLaw(2.3)
    made = make_map_exposure_reco_energy(exposure, POINTING, edisp, ENERGY, spectrum)
    np.testing.assert_allclose(made.data, slow_reco(exposure, edisp, spectrum), rtol=1e-11)
    assert made.data.max() > 0


def test_perfect_energies_give_the_true_exposure_of_that_energy():
    narrow = np.array([0.0, 0.999, 1.001, 3.0])
    density = np.zeros((8, 3, 3))
    density[:, 1] = 500.0
    edisp = EnergyDispersion(E_NODES, O_NODES, narrow, density)
    axis = energy_axis(ENERGY_TRUE.edges)
    exposure = make_map_exposure_true_energy(POINTING, 1600.0, area(), GEOM, ENERGY_TRUE)
    made = make_map_exposure_reco_energy(exposure, POINTING, edisp, axis, PowerLaw(2.0))
    np.testing.assert_allclose(made.data, exposure.data, rtol=1e-9)


def test_maps_in_single_precision_are_the_rounded_ones():
    edisp, spectrum = dispersion(), PowerLaw(2.3)
    whole = make_map_exposure_true_energy(POINTING, 1600.0, area(), GEOM, ENERGY_TRUE, 1.7)
    short = make_map_exposure_true_energy(POINTING, 1600.0, area(), GEOM, ENERGY_TRUE, 1.7, np.float32)
    np.testing.assert_array_equal(short.data, whole.data.astype("f4"), strict=True)
    reco = make_map_exposure_reco_energy(whole, POINTING, edisp, ENERGY, spectrum)
    from_short = make_map_exposure_reco_energy(short, POINTING, edisp, ENERGY, spectrum, np.float32)
    assert from_short.data.dtype == np.float32
    np.testing.assert_allclose(from_short.data, reco.data, rtol=2e-7)
