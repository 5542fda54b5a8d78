"""Several targets of one store: each has the result that it has alone."""

import json

import numpy as np
import pytest

import cubeflow
from cubeflow.config import load_config
from cubeflow.plan.run import run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store

CRAB = {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": {"width": "3 deg", "pixel": "0.1 deg"}}
GALACTIC = {
    "position": {"frame": "galactic", "lon": "185.2 deg", "lat": "-5.3 deg"},
    "geometry": {"frame": "galactic", "projection": "CAR", "width": ["2.6 deg", "1.8 deg"], "pixel": "0.09 deg"},
    "energy": {"min": "2 TeV"},
    "offset_max": "1.5 deg",
    "backgrounds": {"ring": {"r_in": "0.7 deg"}},
}
FAR = {**CRAB, "position": {"lon": "86.0 deg", "lat": "22.9 deg"}, "backgrounds": {"ring": None}}
COMMON = {
    "energy": {"min": "1.2 TeV", "max": "20 TeV", "bins": 3},
    "energy_true": {"min": "0.4 TeV", "max": "50 TeV", "bins": 8},
    "irf_grid": {"pixel": "0.5 deg", "rad_bins": 20},
    "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.3 deg"}},
}
TARGETS = {"crab": CRAB, "plane": GALACTIC, "far": FAR}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """``run(name, targets)``: folder of the results."""
    folder = tmp_path_factory.mktemp("targets")
    simulate_store(folder / "store", SimulationOptions(seed=4, n_runs=4, duration_s=600.0, tiny=True))

    def run(name, targets):
        path = folder / f"{name}.yaml"
        content = {
            "data": {"store": str(folder / "store")},
            "results": str(folder / name),
            "targets": targets,
            **COMMON,
        }
        path.write_text(json.dumps(content))
        run_whole(load_config(path), lambda line: None)
        return folder / name

    return run


@pytest.fixture(scope="module")
def together(run):
    return run("together", TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_is_what_it_is_alone(run, together, name):
    alone = run(f"only-{name}", {name: TARGETS[name]})
    cubes = sorted(path.relative_to(alone) for path in alone.glob("*/*/cube.h5"))
    assert [path.parts[1] for path in cubes] == (["fov"] if name == "far" else ["fov", "ring"])
    for path in cubes:
        assert (alone / path).read_bytes() == (together / path).read_bytes()
        dataset = path.with_name("dataset.fits.gz")
        assert (alone / dataset).read_bytes() == (together / dataset).read_bytes()


def test_targets_see_the_same_events(together):
    """Counts of pixels about the same position agree, whatever the frame and the centre of the map."""
    crab = cubeflow.load(together / "crab" / "fov" / "cube.h5").maps["counts"]
    far = cubeflow.load(together / "far" / "fov" / "cube.h5").maps["counts"]
    position = 84.8, 22.45
    sums = [np.sum(counts.data, where=counts.geom.offset_deg(*position) < 0.4, axis=(1, 2)) for counts in (crab, far)]
    assert sums[0].sum() > 50
    np.testing.assert_allclose(*sums, atol=5 + 0.15 * sums[0].max())
    assert cubeflow.load(together / "plane" / "ring" / "cube.h5").maps["counts"].geom.frame == "galactic"
