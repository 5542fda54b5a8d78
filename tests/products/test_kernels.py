import numpy as np
import pytest

from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry, rad_axis, sphere
from cubeflow.observation import Pointing
from cubeflow.products import kernels
from cubeflow.products.kernels import make_edisp_kernel, make_edisp_map, make_psf_kernel, make_psf_map

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (3.3, 2.4), 0.3)
POINTING = Pointing(83.9, 22.5)
ENERGY_TRUE = energy_axis(log_edges(0.9, 2.1, 4), "energy_true")
ENERGY = energy_axis(log_edges(1.0, 20.0, 5))
RAD = rad_axis(0.66, 66)
EDGES = np.geomspace(0.1, 100.0, 7)
E_NODES = nodes_from_edges(EDGES[:-1], EDGES[1:], log=True)
O_NODES = nodes_from_edges([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], log=False)


def gauss(sigma=0.06):
    """Width that grows with offset."""
    ones = np.ones((6, 3))
    return Psf3Gauss(E_NODES, O_NODES, ones, sigma * (ones + 0.3 * O_NODES.values), *(0 * ones,) * 4)


def dispersion():
    migra = np.linspace(0.0, 3.0, 61)
    centers = 0.5 * (migra[1:] + migra[:-1])
    density = np.exp(-0.5 * ((centers[:, None] - 1.0 - 0.1 * O_NODES.values) / 0.2) ** 2)
    density /= (density * 0.05).sum(0)
    return EnergyDispersion(E_NODES, O_NODES, migra, np.repeat(density[None], 6, axis=0))


def test_psf_map_is_normalised_and_that_of_each_pixel():
    made = make_psf_map(POINTING, gauss(), GEOM, ENERGY_TRUE, RAD)
    measure = 2 * np.pi * np.deg2rad(RAD.centers) * np.deg2rad(RAD.widths)
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    total = np.einsum("krji,r->kji", made.data, measure)
    np.testing.assert_allclose(total, np.broadcast_to(offset <= 2.5, total.shape), atol=1e-12)
    expected = gauss().evaluate(ENERGY_TRUE.centers, [offset[2, 3]], RAD.centers)[:, 0]
    np.testing.assert_allclose(made.data[..., 2, 3], expected / (expected @ measure)[:, None])
    assert made.unit == "sr-1"


@pytest.mark.parametrize("chunk", [1, 3000, 2**21])
def test_psf_map_is_the_same_by_parts_and_rounded_when_it_is_kept(chunk, monkeypatch):
    """Bins of 0.2 decades are averaged: the slow twin has them cut by hand."""
    monkeypatch.setattr(kernels, "CHUNK", chunk)
    wide = energy_axis(10.0 ** np.array([0.0, 0.2, 0.4]), "energy_true")
    made = make_psf_map(POINTING, gauss(), GEOM, wide, RAD, dtype="f4")
    parts = make_psf_map(POINTING, gauss(), GEOM, energy_axis(log_edges(1.0, 10**0.4, 4), "energy_true"), RAD).data
    share = 10.0 ** np.array([0.0, -0.1])  # of a flux of index 2 in halves of a bin
    expected = np.einsum("bskji,s->bkji", parts.reshape(2, 2, *parts.shape[1:]), share / share.sum())
    np.testing.assert_allclose(made.data, expected, rtol=1e-6)
    assert made.data.dtype == np.float32


def test_edisp_map_is_that_of_each_pixel():
    made = make_edisp_map(POINTING, dispersion(), GEOM, ENERGY_TRUE, ENERGY)
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    expected = dispersion().kernel(ENERGY_TRUE.centers, ENERGY.edges, [offset[2, 3]])[..., 0]
    np.testing.assert_allclose(made.data[..., 2, 3], expected)


def test_cutouts_are_slices_of_the_whole():
    part = GEOM.cutout(1, 2, 5, 4)
    for make, response, axis in ((make_psf_map, gauss(), RAD), (make_edisp_map, dispersion(), ENERGY)):
        whole = make(POINTING, response, GEOM, ENERGY_TRUE, axis)
        np.testing.assert_allclose(make(POINTING, response, part, ENERGY_TRUE, axis).data, whole.cutout(part).data)


def center_position(j, i):
    return tuple(float(value) for value in sphere.lon_lat(GEOM.center_vectors[j, i]))


def test_psf_kernel_sums_to_one_and_is_odd_and_symmetric():
    psf = make_psf_map(POINTING, gauss(), GEOM, ENERGY_TRUE, RAD)
    kernel = make_psf_kernel(psf, *center_position(3, 4), 0.05, 0.4)
    assert kernel.data.shape == (4, 17, 17)
    np.testing.assert_allclose(kernel.data.sum((1, 2)), 1.0)
    np.testing.assert_array_equal(kernel.data, kernel.data[:, ::-1])
    np.testing.assert_allclose(kernel.data, kernel.data.transpose(0, 2, 1))
    assert kernel.data.argmax(axis=None) % (17 * 17) == 8 * 17 + 8


def test_psf_kernel_is_the_average_over_each_pixel():
    psf = make_psf_map(POINTING, gauss(0.02), GEOM, ENERGY_TRUE, RAD)
    kernel = make_psf_kernel(psf, *center_position(3, 4), 0.05).data[1]
    profile = psf.data[1, :, 3, 4]

    fine = (np.arange(400) + 0.5) / 400 - 0.5

    def pixel(j, i):
        """Average over 400 x 400 points."""
        return np.interp(0.05 * np.hypot(j + fine[:, None], i + fine), RAD.centers, profile).mean()

    # Below the first radial centre the profile goes on linearly; np.interp holds it: compare away from there.
    half = kernel.shape[0] // 2
    values = [kernel[half + j, half + i] / pixel(j, i) for j, i in ((0, 1), (1, 1), (0, 2))]
    np.testing.assert_allclose(values / values[0], 1.0, rtol=3e-3)
    assert kernel[half, half] / pixel(0, 0) / values[0] == pytest.approx(1.0, rel=0.02)


def test_kernel_between_pixels_is_bilinear_and_skips_the_unknown():
    psf = make_psf_map(POINTING, gauss(), GEOM, ENERGY_TRUE, RAD)
    data = psf.data.copy()
    data[:, :, 3, 5] = 0.0
    known = Cube(data, psf.unit, GEOM, psf.axes)
    ra, dec = (float(v) for v in sphere.lon_lat(GEOM.pixel_to_vectors(4.5, 3.0)))
    np.testing.assert_allclose(
        make_psf_kernel(known, ra, dec, 0.05).data, make_psf_kernel(psf, *center_position(3, 4), 0.05).data, rtol=1e-9
    )
    edisp = make_edisp_map(POINTING, dispersion(), GEOM, ENERGY_TRUE, ENERGY)
    between = make_edisp_kernel(edisp, ra, dec).data[..., 0, 0]
    np.testing.assert_allclose(between, edisp.data[..., 3, 4:6].mean(-1), rtol=1e-6)


def test_energies_without_psf_have_no_kernel():
    psf = make_psf_map(POINTING, gauss(), GEOM, ENERGY_TRUE, RAD)
    data = psf.data.copy()
    data[0] = 0.0
    kernel = make_psf_kernel(Cube(data, psf.unit, GEOM, psf.axes), 83.6, 22.0, 0.05)
    np.testing.assert_allclose(kernel.data.sum((1, 2)), [0, 1, 1, 1])


def test_positions_without_response_are_refused():
    psf = make_psf_map(POINTING, gauss(), GEOM, ENERGY_TRUE, RAD)
    with pytest.raises(ValueError, match="outside the map"):
        make_psf_kernel(psf, 90.0, 22.0, 0.05)
    empty = Cube(0 * psf.data, psf.unit, GEOM, psf.axes)
    with pytest.raises(ValueError, match="no response is known"):
        make_psf_kernel(empty, 83.6, 22.0, 0.05)
