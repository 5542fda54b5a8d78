"""Light curves and joint fits against gammapy's own: its reduction from the same DL3 files, and its fit."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table

from cubeflow.config import load_config, parse_config
from cubeflow.plan.run import run_whole

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("default::DeprecationWarning")]
REPOSITORY = Path(__file__).resolve().parents[2]
FLARE = tuple(range(33787, 33802))  # PKS 2155-304, the night from 29 to 30 July 2006
EDGES_TEV = (1.5, 10.0)  # above the thresholds of all runs
RADIUS_DEG, INDEX = 0.1, 3.4
POSITION = (329.7169, -30.2256)
CONFIG = f"""
data: {{store: STORE}}
results: RESULTS
observations: {{ids: {list(FLARE)}}}
targets:
  pks:
    position: {{lon: {POSITION[0]} deg, lat: {POSITION[1]} deg}}
    geometry: {{width: 3 deg, pixel: 0.01 deg}}
energy: {{edges: [{EDGES_TEV[0]} TeV, {EDGES_TEV[1]} TeV]}}
energy_true: {{min: 0.2 TeV, max: 30 TeV, bins: 24}}
exclusion: RESULTS/pks.reg
spectrum: {{type: power-law, index: {INDEX}}}
significance: {{radius: {RADIUS_DEG} deg}}
stack: {{by: run}}
"""


@pytest.fixture(scope="module")
def flare(hess_store, tmp_path_factory):
    """Results of the night of the flare, run by run."""
    folder = tmp_path_factory.mktemp("flare")
    (folder / "pks.reg").write_text(f"icrs\ncircle({POSITION[0]}, {POSITION[1]}, 0.4)\n")
    text = CONFIG.replace("STORE", str(hess_store)).replace("RESULTS", str(folder))
    run_whole(parse_config(text), lambda line: None)
    return folder / "pks"


@pytest.fixture(scope="module")
def of_gammapy(hess_gammapy):
    """Light curve of gammapy: reflected regions, its own thresholds and containment, a spectrum of fixed index."""
    from astropy import units
    from gammapy.datasets import Datasets, SpectrumDataset
    from gammapy.estimators import LightCurveEstimator
    from gammapy.makers import ReflectedRegionsBackgroundMaker, SafeMaskMaker, SpectrumDatasetMaker
    from gammapy.maps import MapAxis, RegionGeom
    from gammapy.modeling.models import PowerLawSpectralModel, SkyModel
    from regions import CircleSkyRegion

    edges = units.Quantity(EDGES_TEV, "TeV")
    region = CircleSkyRegion(SkyCoord(*POSITION, unit="deg"), Angle(RADIUS_DEG, "deg"))
    geom = RegionGeom.create(region, axes=[MapAxis.from_energy_edges(edges)])
    true = MapAxis.from_energy_bounds("0.2 TeV", "30 TeV", nbin=40, name="energy_true")
    empty = SpectrumDataset.create(geom, energy_axis_true=true)
    maker = SpectrumDatasetMaker(containment_correction=True, selection=["counts", "exposure", "edisp"])
    off, safe = ReflectedRegionsBackgroundMaker(), SafeMaskMaker(methods=["aeff-default"])
    datasets = Datasets()
    for observation in hess_gammapy.get_observations(list(FLARE)):
        dataset = maker.run(empty.copy(name=str(observation.obs_id)), observation)
        datasets.append(safe.run(off.run(dataset, observation), observation))
    spectrum = PowerLawSpectralModel(index=INDEX, amplitude="1e-10 cm-2 s-1 TeV-1")
    spectrum.index.frozen = True
    datasets.models = [SkyModel(spectrum, name="pks")]
    return LightCurveEstimator(energy_edges=edges, source="pks", selection_optional=[]).run(datasets)


def test_light_curve_of_the_flare_is_that_of_gammapy(flare, of_gammapy, record):
    from gammapy.estimators import FluxPoints

    model = of_gammapy.reference_model.spectral_model
    ours = FluxPoints.read(flare / "fov" / "lightcurve.ecsv", format="lightcurve", reference_model=model)
    flux, expected, error = (
        quantity.to_value("cm-2 s-1").ravel()
        for quantity in (ours.flux.quantity, of_gammapy.flux.quantity, of_gammapy.flux_err.quantity)
    )
    assert len(flux) == len(FLARE)
    pull = (flux - expected) / error
    record("flare.pull", np.abs(pull).max(), "sigma", "PKS 2155-304, July 2006: largest difference of a run's flux")
    assert np.abs(pull).max() < 0.3
    assert abs(pull.mean()) < 0.15
    np.testing.assert_allclose(ours.flux_err.quantity.to_value("cm-2 s-1").ravel(), error, rtol=0.2)
    axes = [curve.geom.axes["time"] for curve in (ours, of_gammapy)]
    for end in ("time_min", "time_max"):
        first, second = (getattr(axis, end).tt.mjd for axis in axes)
        np.testing.assert_allclose(first, second, rtol=0, atol=2.0 / 86400)
    curve = Table.read(flare / "fov" / "lightcurve.ecsv")
    assert list(curve["interval"]) == [f"run-{obs_id}" for obs_id in FLARE]
    assert flux.max() > 10 * flux.min()  # it is a flare


def test_joint_fit_of_the_runs_agrees_with_the_stack(hess_store, tmp_path, record):
    from gammapy.datasets import Datasets
    from gammapy.modeling import Fit
    from gammapy.modeling.models import Models, PointSpatialModel, PowerLawSpectralModel, SkyModel

    overrides = {
        "data": {"store": str(hess_store)},
        "results": str(tmp_path),
        "exclusion": str(REPOSITORY / "config" / "crab.reg"),
        "export": {"per": "run", "fit_radius": "0.8 deg"},
    }
    run_whole(load_config(REPOSITORY / "config" / "hess-crab.yaml", overrides), lambda line: None)
    folder, found = tmp_path / "crab" / "fov", {}
    for name, models in (("datasets", "models"), ("joint", "joint-models")):
        datasets = Datasets.read(folder / f"{name}.yaml", lazy=False)
        spectrum = PowerLawSpectralModel(amplitude="1.7e-11 cm-2 s-1 TeV-1", index=2.6, reference="1.45 TeV")
        position = PointSpatialModel(lon_0="83.633 deg", lat_0="22.014 deg", frame="icrs")
        for parameter in position.parameters:
            parameter.frozen = True
        datasets.models = Models([SkyModel(spectrum, position, name="crab"), *Models.read(folder / f"{models}.yaml")])
        assert Fit().run(datasets).success
        found[name] = {each.name: (each.value, each.error) for each in spectrum.parameters if not each.frozen}
        assert len(datasets) == (1 if name == "datasets" else 4)
    assert found["joint"].keys() == {"amplitude", "index"}
    for name, (value, error) in found["datasets"].items():
        difference = (found["joint"][name][0] - value) / error
        record(f"joint.{name}", difference, "sigma", f"Crab, {name}: joint fit of the runs against the stack")
        assert abs(difference) < 0.2
        assert found["joint"][name][1] == pytest.approx(error, rel=0.1)
