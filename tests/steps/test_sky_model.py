"""A sky model instead of an exclusion: the norms of the simulated runs come out the same."""

import numpy as np
import pytest

from cubeflow.config import load_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.maps import sphere
from cubeflow.steps.background import make_background
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.sky_model import make_model_counts
from cubeflow.steps.specify import background_plains, reduce_setup

RA, DEC = 83.633, 22.014


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Reduced maps of simulated runs on a source, and the plain configuration of the background."""
    folder = tmp_path_factory.mktemp("store")
    simulate_store(folder, SimulationOptions(seed=3, n_runs=3, centre=(RA, DEC), sources=((RA, DEC, 1.0),)))
    text = folder / "config.yaml"
    text.write_text(f"""
data: {{store: {folder}}}
targets:
  source:
    position: {{lon: {RA} deg, lat: {DEC} deg}}
    geometry: {{width: [5 deg, 5 deg], pixel: 0.05 deg}}
energy: {{min: 1.2 TeV, max: 20 TeV, bins: 4}}
energy_true: {{min: 0.5 TeV, max: 50 TeV, bins: 24}}
backgrounds:
  model:
    method: fov
    sky_model: [{{position: {{lon: {RA} deg, lat: {DEC} deg}}, amplitude: 3.45e-11 cm-2 s-1 TeV-1,
      spectrum: {{type: power-law, index: 2.6}}}}]
  plain: {{method: fov}}
""")
    target = load_config(text).targets["source"]
    setup = reduce_setup(target)
    reduced = [reduce_observation(read_observation(entry), setup) for entry in open_store(folder).runs]
    return reduced, background_plains(target)


def test_predicted_counts_are_those_of_the_source(runs):
    reduced, backgrounds = runs
    predicted = excess = 0.0
    variance = 0.0
    for run in reduced:
        model = make_model_counts(run.maps, backgrounds["model"]["sky_model"])
        near = sphere.separation_deg(run.maps["counts"].geom.center_vectors, sphere.unit_vectors(RA, DEC)) < 0.3
        mask = run.maps["mask_safe"].data & near
        counts, acceptance = (run.maps[name].data[mask].sum(dtype=float) for name in ("counts", "acceptance"))
        predicted += model.data[mask].sum()
        excess += counts - acceptance
        variance += counts
    assert predicted > 100
    assert abs(predicted - excess) < 3 * np.sqrt(variance)


def test_norm_beside_the_model_is_that_outside_an_exclusion(runs):
    reduced, backgrounds = runs
    for run in reduced:
        geom = run.maps["counts"].geom
        everywhere = np.ones(geom.shape, bool)
        outside = geom.offset_deg(RA, DEC) > 0.4
        with_model = make_background(run, backgrounds["model"], everywhere).row
        with_exclusion = make_background(run, backgrounds["plain"], outside).row
        neither = make_background(run, backgrounds["plain"], everywhere).row
        assert with_model["norm"][0] == pytest.approx(with_exclusion["norm"][0], abs=with_exclusion["norm_err"][0])
        assert neither["norm"][0] > with_exclusion["norm"][0] + with_exclusion["norm_err"][0]
