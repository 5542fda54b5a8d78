"""What follows from the responses of a run: reconstructed exposure, kernels, folded models, thresholds, rotation."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cubeflow.maps import Axis, Cube
from cubeflow.products.acceptance import make_field_rotation, make_map_hadron_acceptance
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_kernel, make_edisp_map, make_psf_kernel, make_psf_map
from cubeflow.products.safe_mask import SafeMaskOptions, make_mask_safe
from cubeflow.products.sky_model import fold_model
from cubeflow.products.spectrum import ExponentialCutoff, LogParabola, PowerLaw

from .conftest import plain_axis, plain_geometry, plain_parts

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def run(hess_gammapy):
    """Run 23523 around the Crab, reduced by gammapy, with our response maps."""
    from astropy.coordinates import SkyCoord
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker
    from gammapy.maps import MapAxis, WcsGeom

    observation = hess_gammapy.obs(23523)
    energy = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", 16)
    energy_true = MapAxis.from_energy_bounds("0.3 TeV", "40 TeV", 20, name="energy_true")
    center = SkyCoord(83.633, 22.014, unit="deg")
    geom = WcsGeom.create(skydir=center, proj="TAN", frame="icrs", width=3, binsz=0.04, axes=[energy])
    empty = MapDataset.create(geom, energy_axis_true=energy_true, binsz_irf=0.2, migra_axis=None)
    dataset = MapDatasetMaker(["exposure", "psf", "edisp", "background"]).run(empty, observation)
    parts, axes = plain_parts(observation, lon_east=True), (plain_axis(energy), plain_axis(energy_true))
    ours, irf = plain_geometry(geom), plain_geometry(dataset.psf.psf_map.geom)
    rad = Axis("rad", tuple(dataset.psf.psf_map.geom.axes["rad"].edges.to_value("deg")), "deg", "lin")
    return SimpleNamespace(
        observation=observation,
        dataset=dataset,
        parts=parts,
        geom=ours,
        energy=axes[0],
        energy_true=axes[1],
        exposure=make_map_exposure_true_energy(parts.pointing, parts.livetime_s, parts.aeff, ours, axes[1]),
        psf=make_psf_map(parts.pointing, parts.psf, irf, axes[1], rad),
        edisp=make_edisp_map(parts.pointing, parts.edisp, irf, axes[1], axes[0]),
    )


def spectra():
    from gammapy.modeling.models import (
        ExpCutoffPowerLawSpectralModel,
        LogParabolaSpectralModel,
        PowerLawSpectralModel,
    )

    cutoff = ExpCutoffPowerLawSpectralModel(index=1.8, lambda_="0.166666666666666 TeV-1")
    return {
        "power law": (PowerLaw(2.4), PowerLawSpectralModel(index=2.4)),
        "log parabola": (LogParabola(2.2, 0.2, 2.0), LogParabolaSpectralModel(alpha=2.2, beta=0.2, reference="2 TeV")),
        "cutoff": (
            ExponentialCutoff(1.8, 6.0),
            cutoff,
        ),
    }


@pytest.mark.parametrize("name", ["power law", "log parabola", "cutoff"])
def test_reco_exposure_with_a_dispersion_that_is_the_same_everywhere(run, name, record):
    """One kernel for all offsets, as gammapy takes it: then both agree in every pixel and bin."""
    from gammapy.datasets import MapDataset
    from gammapy.estimators.utils import estimate_exposure_reco_energy
    from gammapy.irf import EDispKernelMap

    spectrum, model = spectra()[name]
    edisp = run.parts.edisp
    flat = replace(edisp, density=np.repeat(edisp.density[:, :, 1:2], edisp.density.shape[2], axis=2))
    made = make_map_exposure_reco_energy(run.exposure, run.parts.pointing, flat, run.energy, spectrum)
    # gammapy's sums, with the kernel of our table: it is that of gammapy's to 1e-6 (test_edisp_agrees).
    offset = run.geom.offset_deg(run.parts.pointing.ra_deg, run.parts.pointing.dec_deg)
    kernel = flat.kernel(run.energy_true.centers, run.energy.edges, [offset[7, 11]])[..., 0]
    axes = [run.dataset.counts.geom.axes["energy"], run.dataset.exposure.geom.axes["energy_true"]]
    grid = run.dataset.psf.psf_map.geom.to_image().to_cube(axes)
    theirs = EDispKernelMap.from_geom(grid)
    theirs.edisp_map.data[...] = kernel[:, :, None, None]
    theirs.exposure_map.data[...] = 1.0
    dataset = MapDataset(counts=run.dataset.counts, exposure=run.dataset.exposure, edisp=theirs)
    expected = estimate_exposure_reco_energy(dataset, spectral_model=model).quantity.to_value("m2 s")
    assert made.data.max() > 0
    difference = np.abs(made.data / expected - 1).max()
    record(f"reco.same.{name}", difference, "", f"reconstructed exposure, {name}, one dispersion for all: difference")
    # gammapy integrates curved spectra by the trapezoidal rule; ours are those of quadrature (test_spectrum).
    np.testing.assert_allclose(made.data, expected, rtol=1e-6 if name == "power law" else 3e-5)


@pytest.mark.parametrize("name", ["power law", "log parabola", "cutoff"])
def test_reco_exposure_where_offset_does_not_vary(run, name, record):
    """gammapy takes one kernel, at the centre of the map: with that kernel everywhere both agree."""
    from gammapy.estimators.utils import estimate_exposure_reco_energy

    spectrum, model = spectra()[name]
    center = run.geom.shape[0] // 2, run.geom.shape[1] // 2
    made = make_map_exposure_reco_energy(run.exposure, run.parts.pointing, run.parts.edisp, run.energy, spectrum)
    expected = estimate_exposure_reco_energy(run.dataset, spectral_model=model).quantity.to_value("m2 s")
    # The coarse pixel that gammapy's kernel comes from is centred on the map, as is our pixel within 0.03 deg.
    np.testing.assert_allclose(made.data[:, *center], expected[:, *center], rtol=3e-3)
    offset = run.geom.offset_deg(run.parts.pointing.ra_deg, run.parts.pointing.dec_deg)
    assert np.ptp(offset) > 1.0
    far = np.unravel_index(np.argmax(offset), offset.shape)
    for where, pixel, low in (("centre", center, 0.5), ("far", far, 0.5), ("far from 1 TeV", far, 1.0)):
        bins = np.array(run.energy.edges[:-1]) > 0.99 * low
        difference = np.abs(made.data[bins, *pixel] / expected[bins, *pixel] - 1).max()
        record(f"reco.{where}.{name}", difference, "", f"reconstructed exposure, {name}, {where}: largest difference")
    record("reco.far.offset", offset[far], "deg", "offset of the far pixel")
    assert np.abs(made.data[:, *far] / expected[:, *far] - 1).max() > 5e-3  # where its approximation shows


def gammapy_kernels(run, position):
    import astropy.units as u

    dataset = run.dataset
    sampling = {"max_radius": 0.6 * u.deg, "containment": 0.99999, "precision_factor": 150}
    psf = dataset.psf.get_psf_kernel(position=position, geom=dataset.exposure.geom, **sampling)
    return psf, dataset.edisp.get_edisp_kernel(position=position, energy_axis=dataset.counts.geom.axes["energy"])


@pytest.mark.parametrize("extended", [False, True])
def test_folded_model_is_gammapys_npred(run, extended, record):
    from gammapy.datasets.evaluator import MapEvaluator
    from gammapy.modeling.models import (
        GaussianSpatialModel,
        PointSpatialModel,
        PowerLawSpectralModel,
        SkyModel,
    )

    where = {"lon_0": "83.633 deg", "lat_0": "22.014 deg", "frame": "icrs"}
    spatial = GaussianSpatialModel(sigma="0.1 deg", **where) if extended else PointSpatialModel(**where)
    model = SkyModel(PowerLawSpectralModel(amplitude="3.5e-11 TeV-1 s-1 cm-2", index=2.6), spatial)
    # At its default precision gammapy samples the PSF once a pixel at many energies: the peak is 10 % off there.
    psf, edisp = gammapy_kernels(run, spatial.position)
    expected = MapEvaluator(model, exposure=run.dataset.exposure, psf=psf, edisp=edisp).compute_npred().data

    flux = model.integrate_geom(run.dataset.exposure.geom).quantity.to_value("m-2 s-1")
    ours = (
        make_psf_kernel(run.psf, 83.633, 22.014, run.geom.pixel_deg, 0.6),
        make_edisp_kernel(run.edisp, 83.633, 22.014),
    )
    cube = Cube(flux, "m-2 s-1", run.geom, (run.energy_true,))
    # gammapy takes the exposure where an event is seen: the model is smeared first.
    smeared = fold_model(cube, Cube(np.ones_like(flux), "", cube.geom, cube.axes), ours[0], None)
    made = fold_model(smeared, run.exposure, None, ours[1]).data
    peak = np.unravel_index(expected.sum(0).argmax(), expected.shape[1:])
    size = "extended" if extended else "point"
    record(f"npred.{size}.sum", made.sum() / expected.sum() - 1, "", f"npred, {size} source, sum: difference")
    difference = made.sum(0)[peak] / expected.sum(0)[peak] - 1
    record(f"npred.{size}.peak", difference, "", f"npred, {size} source, peak: difference")
    assert made.sum() == pytest.approx(expected.sum(), rel=1e-3)
    assert made.sum(0)[peak] == pytest.approx(expected.sum(0)[peak], rel=1e-2)
    right = fold_model(cube, run.exposure, *ours).data
    record(f"npred.{size}.order", right.sum() / made.sum() - 1, "", f"npred, {size} source, exposure before the PSF")
    sky = np.abs(right.sum(0)[peak] / made.sum(0)[peak] - 1)
    record(f"npred.{size}.order_peak", sky, "", f"npred, {size} source, peak, exposure before the PSF")
    assert right.sum() == pytest.approx(expected.sum(), rel=1e-2)  # the exposure belongs to the true direction


@pytest.mark.parametrize("method", ["aeff-max", "edisp-bias", "bkg-peak"])
def test_thresholds_are_those_of_gammapy_within_a_bin(run, method):
    from astropy.coordinates import SkyCoord
    from gammapy.makers import SafeMaskMaker

    target = SkyCoord(83.633, 22.014, unit="deg")
    maker = SafeMaskMaker([method], position=target, aeff_percent=20, bias_percent=10)
    makers = {
        "aeff-max": maker.make_mask_energy_aeff_max,
        "edisp-bias": maker.make_mask_energy_edisp_bias,
        "bkg-peak": maker.make_mask_energy_bkg_peak,
    }
    expected = makers[method](run.dataset, run.observation)
    parts = SimpleNamespace(obs_id=23523, **vars(run.parts))
    options = SafeMaskOptions((method,), 20.0, 10.0, "target")
    made = make_mask_safe(parts, run.geom, run.energy, 2.0, options, (83.633, 22.014)).data[:, 30, 30]
    assert abs(int(made.sum()) - int(np.asarray(expected.data)[:, 30, 30].sum())) <= 1
    assert made.any()


def test_the_field_turns_as_in_gammapy(hess_gammapy):
    import astropy.units as u
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers
    from gammapy.data import FixedPointingInfo
    from gammapy.irf import Background3D
    from gammapy.makers.utils import make_map_background_irf
    from gammapy.maps import MapAxis, WcsGeom

    from cubeflow.irf import background as irf
    from cubeflow.observation import TIME_REFERENCE_MJD, Gti, Pointing, Site

    energy = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", 4)
    field = MapAxis.from_edges(np.linspace(-3, 3, 7), unit="deg", name="fov_lon")
    rate = np.random.default_rng(8).uniform(1.0, 9.0, (4, 6, 6))
    theirs = Background3D(
        axes=[energy, field, field.copy(name="fov_lat")], data=rate, unit="s-1 TeV-1 sr-1", fov_alignment="ALTAZ"
    )
    location = EarthLocation(lon=16.5 * u.deg, lat=-23.27 * u.deg, height=1800 * u.m)
    start, origin = Time("2004-12-08T22:00:00", scale="tt"), SkyCoord(83.6, 22.0, unit="deg")
    geom = WcsGeom.create(skydir=origin, proj="TAN", frame="icrs", width=4, binsz=0.2, axes=[energy])
    pointing = FixedPointingInfo(fixed_icrs=origin)
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        expected = make_map_background_irf(
            pointing, 1800 * u.s, theirs, geom, start, 0.1 * u.deg, oversampling=8, location=location
        )
    begin = (start.mjd - TIME_REFERENCE_MJD) * 86400.0
    gti, here = Gti(np.array([begin]), np.array([begin + 1800.0])), Pointing(83.6, 22.0)
    rotation = make_field_rotation(gti, Site(16.5, -23.27), here)
    edges = field.edges.value
    # gammapy's longitude in the field of view grows with decreasing azimuth; ours grows with it.
    ours = irf.Background3D(energy.edges.value, edges, edges, rate[:, ::-1], "ALTAZ")
    made = make_map_hadron_acceptance(here, 1800.0, ours, plain_geometry(geom), plain_axis(energy), None, rotation)
    np.testing.assert_allclose(made.data.sum((1, 2)), expected.data.sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(made.data, expected.data, rtol=5e-3)
