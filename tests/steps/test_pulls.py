"""Statistics of many simulated runs through the whole chain: no bias, and errors that are what they say."""

import numpy as np
import pytest

from cubeflow.config import load_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.maps import sphere
from cubeflow.products.stack import stack
from cubeflow.steps.background import make_background
from cubeflow.steps.batch import run_stack
from cubeflow.steps.final import make_final
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.sky_model import make_model_counts
from cubeflow.steps.specify import background_plains, reduce_setup

pytestmark = pytest.mark.slow
RA, DEC, RADIUS = 83.633, 22.014, 0.3
N_RUNS = 200
CONFIG = f"""
data: {{store: store}}
targets:
  sky:
    position: {{lon: {RA} deg, lat: {DEC} deg}}
    geometry: {{width: [4 deg, 3.6 deg], pixel: 0.1 deg}}
energy: {{min: 1.2 TeV, max: 20 TeV, bins: 3}}
energy_true: {{min: 0.4 TeV, max: 50 TeV, bins: 24}}
irf_grid: {{pixel: 0.5 deg, rad_bins: 60}}
significance: {{radius: {RADIUS} deg}}
backgrounds:
  fov: {{method: fov}}
  tilt: {{method: fov, fit: tilt}}
  ring: {{method: ring, r_in: 0.6 deg, width: 0.5 deg}}
  adaptive: {{method: adaptive-ring, r_in: 0.5 deg, width: 0.3 deg, r_out_max: 1.4 deg, step: 0.1 deg, theta: 0.3 deg,
    threshold: 0.3}}
  model: {{method: fov, sky_model: [{{position: {{lon: {RA} deg, lat: {DEC} deg}}, amplitude: 3.45e-11 cm-2 s-1 TeV-1,
    spectrum: {{type: power-law, index: 2.6}}}}]}}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("pulls") / "config.yaml"
    path.write_text(CONFIG)
    return load_config(path).targets["sky"]


def reduced_runs(folder, setup, **options):
    """Reduced maps of many simulated runs, one at a time."""
    simulate_store(folder, SimulationOptions(n_runs=N_RUNS, centre=(RA, DEC), tiny=True, **options))
    for entry in open_store(folder).runs:
        yield reduce_observation(read_observation(entry), setup)


def make_one(reduced, label, target, setup):
    """Final maps of a single run, without exclusion."""
    plain = background_plains(target)[label]
    everywhere = np.ones(reduced.maps["counts"].geom.shape, bool)
    background = make_background(reduced, plain, everywhere)
    assert background.failed is None
    export = {"significance": {"radius_deg": RADIUS}, "ra_deg": RA, "dec_deg": DEC, "spectrum": setup.spectrum}
    keep = np.ones(setup.geometry.shape, bool)
    stacked = stack([run_stack(reduced, background)])
    return make_final(stacked.layers, stacked, (setup.geometry, setup.irf_geometry), export, keep)


def test_empty_sky_is_standard_normal(tmp_path, target):
    setup = reduce_setup(target)
    found: dict[str, list[float]] = {"fov": [], "tilt": [], "ring": [], "adaptive": []}
    for reduced in reduced_runs(tmp_path, setup, seed=11, sources=(), background_scale=8.0):
        for label, values in found.items():
            image = make_one(reduced, label, target, setup).significance.significance.data[0]
            # Discs that do not overlap are independent.
            values += image[3::7, 3::7][np.isfinite(image[3::7, 3::7])].tolist()
    for label, values in found.items():
        assert len(values) > 3000, label
        assert abs(np.mean(values)) < 0.05, label
        assert abs(np.std(values) - 1.0) < 0.03, label


def test_an_injected_source_is_recovered(tmp_path, target):
    setup = reduce_setup(target)
    backgrounds = background_plains(target)
    found: dict[str, list[tuple[float, float, float]]] = {
        "model": [],
        "fov": [],
        "tilt": [],
        "ring": [],
        "adaptive": [],
    }
    for reduced in reduced_runs(tmp_path, setup, seed=12, sources=((RA, DEC, 1.0),)):
        geom = reduced.maps["counts"].geom
        near = sphere.separation_deg(geom.center_vectors, sphere.unit_vectors(RA, DEC)) < RADIUS
        inside = reduced.maps["mask_safe"].data & near
        counts = reduced.maps["counts"].data[inside].sum()
        predicted = make_model_counts(reduced.maps, backgrounds["model"]["sky_model"]).data[inside].sum()
        for label, values in found.items():
            # The model is subtracted; the others leave out the source.
            keep = np.ones(geom.shape, bool) if label == "model" else geom.offset_deg(RA, DEC) > 0.45
            made = make_background(reduced, backgrounds[label], keep)
            assert np.broadcast_to(made.usable, inside.shape)[inside].all(), label
            maps = made.maps
            background = maps["background"].data[inside].sum(dtype=float)
            # A ring of n OFF counts predicts its background to background / sqrt(n).
            off = maps["counts_off"].data[0][near].mean() if "counts_off" in maps else np.inf
            values.append((counts - background, predicted, counts + background**2 / off))
    for label, values in found.items():
        excess, expected, variance = np.array(values).T
        assert len(excess) == N_RUNS, label
        pull = (excess - expected) / np.sqrt(variance)
        assert abs(np.mean(pull)) < 3.5 / np.sqrt(N_RUNS), label
        assert np.std(pull) == pytest.approx(1.0, abs=0.18), label
        flux_ratio, error = np.sum(excess) / np.sum(expected), np.sqrt(np.sum(variance)) / np.sum(expected)
        assert error < 0.02, label
        assert abs(flux_ratio - 1.0) < 3.5 * error, label
