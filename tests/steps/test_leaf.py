"""Leaf stacks that lie on the disk have the bytes of those in memory."""

import json
import shutil

import numpy as np
import pytest

from cubeflow.config import load_config
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.errors import FailedError
from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry
from cubeflow.products.stack import Stack, StackSum, empty_stack
from cubeflow.steps import batch as batch_module
from cubeflow.steps import leaf
from cubeflow.steps.leaf import leaf_room, write_leaf
from cubeflow.steps.whole import run_whole
from cubeflow.storage.spill import settle

PARENT = make_geometry("icrs", "TAN", 83.6, 22.0, (6.0, 5.0), 0.1)
ENERGY = energy_axis(log_edges(1.0, 10.0, 5), "energy")


def part(seed, x0, y0):
    rng = np.random.default_rng(seed)
    geom = PARENT.cutout(x0, y0, 21, 17)
    shape = (ENERGY.n_bins, *geom.shape)
    layers = {
        "counts": Cube(rng.poisson(200.0, shape).astype(np.int64), "", geom, (ENERGY,)),
        "background": Cube(rng.random(shape), "", geom, (ENERGY,)),
        "mask_safe": Cube(rng.random(shape) < 0.5, "", geom, (ENERGY,)),
    }
    return Stack(layers, np.array([[100.0 * seed, 100.0 * seed + 50.0]]), 50.0, 45.0, 1)


@pytest.mark.parametrize("slab_bytes", [1, 1 << 25])
def test_bytes_do_not_depend_on_where_the_sums_lie(tmp_path, monkeypatch, slab_bytes):
    monkeypatch.setattr(leaf, "SLAB_BYTES", slab_bytes)
    for name, limit in (("memory.h5", 1 << 30), ("disk.h5", 0)):
        total = StackSum(leaf_room(tmp_path, limit))
        for each in (part(1, 3, 5), empty_stack(), part(2, 20, 9), part(3, 0, 30)):
            total.add(each)
        stacked = total.result()
        assert [settle(cube.data) for cube in stacked.layers.values()] == [limit == 0] * 3
        write_leaf(tmp_path / name, stacked, "0" * 64, {"rows": [{"obs_id": 1}]}, "blosc")
    assert (tmp_path / "disk.h5").read_bytes() == (tmp_path / "memory.h5").read_bytes()


def config(folder, results):
    path = folder / f"{results}.yaml"
    geometry = {"width": ["4 deg", "3 deg"], "pixel": "0.1 deg"}
    content = {
        "data": {"store": str(folder / "store")},
        "results": str(folder / results),
        "targets": {"t": {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": geometry}},
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
        "irf_grid": {"pixel": "0.5 deg", "rad_bins": 6},
        "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg"}},
    }
    path.write_text(json.dumps(content))
    return load_config([path])


def test_batches_on_the_disk_and_on_scratch(tmp_path, monkeypatch):
    simulate_store(tmp_path / "store", SimulationOptions(n_runs=3, tiny=True, duration_s=600.0))
    run_whole(config(tmp_path, "memory"), str)
    monkeypatch.setattr(batch_module, "leaf_room", lambda folder: leaf_room(folder, 0))
    run_whole(config(tmp_path, "disk"), str)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("HERE", "scratch")
    monkeypatch.setenv("CUBEFLOW_SCRATCH", f"{tmp_path}/$HERE")
    run_whole(config(tmp_path, "scratched"), str)
    expected = contents(tmp_path / "memory")
    assert len(expected) >= 4
    assert contents(tmp_path / "disk") == contents(tmp_path / "scratched") == expected
    assert list((tmp_path / "scratch").iterdir()) == []
    shutil.rmtree(tmp_path / "scratch")
    shutil.rmtree(tmp_path / "scratched")
    with pytest.raises(FailedError, match=r"scratch: there is no such file or folder"):
        run_whole(config(tmp_path, "scratched"), str)


def contents(results):
    """Stacks and final cubes by name."""
    return {
        path.relative_to(results): path.read_bytes() for path in results.glob("t/**/*.h5") if "obs" not in path.parts
    }
