import numpy as np
import pytest
from scipy.signal import convolve2d

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.sky_model import fold_model

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (1.3, 0.9), 0.1)
ENERGY_TRUE = energy_axis([0.5, 1.0, 2.0, 4.0], "energy_true")
ENERGY = energy_axis([0.7, 1.5, 3.0])
RNG = np.random.default_rng(4)
MODEL = Cube(RNG.uniform(0, 1, (3, *GEOM.shape)), "m-2 s-1", GEOM, (ENERGY_TRUE,))
EXPOSURE = Cube(RNG.uniform(1, 2, (3, *GEOM.shape)), "m2 s", GEOM, (ENERGY_TRUE,))


def psf_kernel(pixel=0.1):
    data = RNG.uniform(0, 1, (3, 5, 5))
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (5 * pixel, 5 * pixel), pixel)
    return Cube(data / data.sum((1, 2), keepdims=True), "", geom, (ENERGY_TRUE,))


def edisp_kernel():
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (0.1, 0.1), 0.1)
    return Cube(RNG.uniform(0, 0.4, (3, 2, 1, 1)), "", geom, (ENERGY_TRUE, ENERGY))


def test_fold_is_what_a_loop_gives():
    psf, edisp = psf_kernel(), edisp_kernel()
    made = fold_model(MODEL, EXPOSURE, psf, edisp)
    images = [
        convolve2d(flux * exposure, kernel, mode="same")
        for flux, exposure, kernel in zip(MODEL.data, EXPOSURE.data, psf.data, strict=True)
    ]
    expected = [sum(edisp.data[t, k, 0, 0] * images[t] for t in range(3)) for k in range(2)]
    np.testing.assert_allclose(made.data, expected, rtol=1e-12)
    assert made.axes == (ENERGY,)


def test_without_responses_it_is_flux_times_exposure():
    made = fold_model(MODEL, EXPOSURE, None, None)
    np.testing.assert_allclose(made.data, MODEL.data * EXPOSURE.data)


def test_what_does_not_fit_is_refused():
    other = Cube(EXPOSURE.data[:, 1:], "m2 s", GEOM.cutout(0, 1, GEOM.nx, GEOM.ny - 1), (ENERGY_TRUE,))
    with pytest.raises(ValueError, match="different grids"):
        fold_model(MODEL, other, None, None)
    with pytest.raises(ValueError, match="other energies or pixels"):
        fold_model(MODEL, EXPOSURE, psf_kernel(0.05), None)
    wrong = Cube(edisp_kernel().data[:2], "", edisp_kernel().geom, (energy_axis([1, 2, 3], "energy_true"), ENERGY))
    with pytest.raises(ValueError, match="other true energies"):
        fold_model(MODEL, EXPOSURE, None, wrong)
