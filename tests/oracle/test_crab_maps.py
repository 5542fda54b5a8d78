"""Maps of the Crab runs against gammapy on the same grids (geometries A and B of the validation)."""

from types import SimpleNamespace

import numpy as np
import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import Axis
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exposure import make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_map, make_psf_map

from .conftest import plain_axis, plain_geometry, plain_parts

pytestmark = pytest.mark.real_data

RUNS = {
    # run: counts within 2 deg, sum of the exposure over the cutout in m2 s
    23523: (1882, 4.51694460e14),
    23526: (1615, 4.24828725e14),
    23559: (1470, 4.23349988e14),
    23592: (1772, 4.49845405e14),
}


@pytest.fixture(scope="module")
def axes():
    from gammapy.maps import MapAxis

    return (
        MapAxis.from_energy_bounds("1 TeV", "20 TeV", 8),
        MapAxis.from_energy_bounds("0.3 TeV", "40 TeV", 20, name="energy_true"),
    )


@pytest.fixture(scope="module", params=RUNS)
def run(request, hess_gammapy, axes):
    """One run reduced by gammapy on geometry B, and the same parts, grid and axes for us."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker
    from gammapy.maps import WcsGeom

    observation = hess_gammapy.obs(request.param)
    center = SkyCoord(83.633, 22.014, unit="deg")
    geom = WcsGeom.create(skydir=center, proj="TAN", frame="icrs", width=7, binsz=0.02, axes=axes[:1])
    empty = MapDataset.create(geom, energy_axis_true=axes[1], binsz_irf=0.2)
    cutout = empty.cutout(observation.get_pointing_icrs(observation.tmid), width=5 * u.deg, mode="partial")
    dataset = MapDatasetMaker(["counts", "exposure", "psf"]).run(cutout, observation)
    # The background is compared on larger pixels: 64 fine bins per energy bin are slow.
    coarse = MapDataset.create(geom.downsample(5), energy_axis_true=axes[1], binsz_irf=0.2)
    background = MapDatasetMaker(["background"], background_oversampling=64).run(coarse, observation).background
    return SimpleNamespace(
        id=request.param,
        observation=observation,
        dataset=dataset,
        background=background,
        geom=plain_geometry(dataset.counts.geom),
        geom_irf=plain_geometry(dataset.psf.psf_map.geom),
        energy=plain_axis(axes[0]),
        energy_true=plain_axis(axes[1]),
    )


@pytest.fixture(params=["gammapy's tables", "own reader"])
def parts(request, run, hess_store):
    """Parts of the run: products alone are compared, and products with the reader."""
    if request.param == "gammapy's tables":
        return plain_parts(run.observation, lon_east=True)
    return read_observation(next(entry for entry in open_store(hess_store).runs if entry.obs_id == run.id))


def largest(made, expected):
    """Largest relative difference where anything is expected."""
    some = expected != 0
    return np.abs(made[some] / expected[some] - 1).max()


def test_counts_are_exact(run, parts, record):
    counts = make_map_counts(parts.events, run.geom, run.energy)
    difference = np.abs(counts.data - run.dataset.counts.data).max()
    record("counts.difference", difference, "counts", "counts of a pixel, four Crab runs: largest difference")
    np.testing.assert_array_equal(counts.data, run.dataset.counts.data)
    cut = make_map_counts(parts.events, run.geom, run.energy, parts.pointing, 2.0)
    assert cut.data.sum() == RUNS[run.id][0]


def test_exposure_agrees_per_pixel(run, parts, record):
    exposure = make_map_exposure_true_energy(parts.pointing, parts.livetime_s, parts.aeff, run.geom, run.energy_true)
    expected = run.dataset.exposure.quantity.to_value("m2 s")
    difference = largest(exposure.data, expected)
    record("exposure.difference", difference, "", "exposure of a pixel, four Crab runs: largest relative difference")
    np.testing.assert_allclose(exposure.data, expected, rtol=1e-6)
    assert exposure.data.sum() == pytest.approx(RUNS[run.id][1], rel=1e-8)


def test_acceptance_agrees_per_energy(run, parts, record):
    geom = plain_geometry(run.background.geom)
    made = make_map_hadron_acceptance(parts.pointing, parts.ontime_s, parts.background, geom, run.energy, 2.0)
    expected = run.background.data * (geom.offset_deg(parts.pointing.ra_deg, parts.pointing.dec_deg) < 2.0)
    per_energy = largest(made.data.sum((1, 2)), expected.sum((1, 2)))
    record("acceptance.energy", per_energy, "", "acceptance of an energy bin, gammapy's oversampled 64 times")
    record(
        "acceptance.pixel", largest(made.data, expected), "", "acceptance of a pixel, gammapy's oversampled 64 times"
    )
    np.testing.assert_allclose(made.data.sum((1, 2)), expected.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(made.data, expected, rtol=1e-4)


def test_psf_agrees(run, parts, record):
    expected = run.dataset.psf.psf_map
    rad = Axis("rad", tuple(expected.geom.axes["rad"].edges.to_value("deg")), "deg", "lin")
    psf = make_psf_map(parts.pointing, parts.psf, run.geom_irf, run.energy_true, rad)
    values = expected.quantity.to_value("sr-1")
    difference = np.abs(psf.data - values).max() / values.max()
    record("psf.difference", difference, "", "PSF, largest difference over the largest value")
    np.testing.assert_allclose(psf.data, values, rtol=1e-6, atol=1e-12 * values.max())


def test_edisp_agrees(run, axes, parts, record):
    from gammapy.makers.utils import make_edisp_kernel_map

    edisp = make_edisp_map(parts.pointing, parts.edisp, run.geom_irf, run.energy_true, run.energy)
    geom = run.dataset.psf.psf_map.geom.to_image().to_cube(list(axes))
    pointing = run.observation.get_pointing_icrs(run.observation.tmid)
    expected = make_edisp_kernel_map(run.observation.edisp, pointing, geom, threshold=0.0).edisp_map.data
    record("edisp.difference", np.abs(edisp.data - expected).max(), "", "energy dispersion, largest difference")
    np.testing.assert_allclose(edisp.data, expected, rtol=1e-6, atol=1e-12)


def test_galactic_car(hess_gammapy):
    """Geometry A: galactic CAR, where the two-point integral of the background gives 4032.4816."""
    from astropy.coordinates import SkyCoord
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker
    from gammapy.maps import MapAxis, WcsGeom

    observation = hess_gammapy.obs(23523)
    energy = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", 5)
    center = SkyCoord(83.633, 22.014, unit="deg").galactic
    geom = WcsGeom.create(skydir=center, proj="CAR", frame="galactic", width=6, binsz=0.1, axes=[energy])
    selection = ["counts", "background"]
    two_point = MapDatasetMaker(selection).run(MapDataset.create(geom), observation)
    fine = MapDatasetMaker(selection, background_oversampling=64).run(MapDataset.create(geom), observation)

    parts, ours, axis = plain_parts(observation, lon_east=True), plain_geometry(geom), plain_axis(energy)
    counts = make_map_counts(parts.events, ours, axis)
    assert counts.data.sum() == 6685
    np.testing.assert_array_equal(counts.data, two_point.counts.data)
    acceptance = make_map_hadron_acceptance(parts.pointing, parts.ontime_s, parts.background, ours, axis)
    assert two_point.background.data.sum() == pytest.approx(4032.4816, abs=1e-3)
    np.testing.assert_allclose(acceptance.data.sum((1, 2)), fine.background.data.sum((1, 2)), rtol=1e-3)
