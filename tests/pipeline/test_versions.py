"""No result changes without its version: each version is frozen together with numbers of a reference result.

If a test here fails because a result changed on purpose, bump the step's number in
``src/cubeflow/pipeline/versions.py`` and write the reference anew::

    CUBEFLOW_WRITE_REFERENCE=1 python -m pytest tests/pipeline/test_versions.py
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubeflow.config import parse_config
from cubeflow.maps import Cube
from cubeflow.pipeline import versions
from cubeflow.plan.run import run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact

REFERENCE = Path(__file__).with_name("reference.json")
WRITE = "CUBEFLOW_WRITE_REFERENCE"
CONFIG = """
data: {store: store}
targets:
  one:
    position: {frame: icrs, lon: 83.633 deg, lat: 22.014 deg}
    geometry: {frame: icrs, projection: TAN, width: [4 deg, 3 deg], pixel: 0.1 deg}
energy: {min: 1 TeV, max: 10 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 20 TeV, bins: 4}
offset_max: 1.5 deg
irf_grid: {pixel: 0.5 deg, rad_max: 0.6 deg, rad_bins: 6}
backgrounds:
  fov: {method: fov, fit: scale, on_failure: keep}
  ring: {method: ring, r_in: 0.5 deg, width: 0.4 deg, per_energy: false}
  adaptive:
    {method: adaptive-ring, r_in: 0.5 deg, width: 0.3 deg, r_out_max: 1.2 deg, threshold: 0.2, per_energy: false}
stack: {batch: 64}
results: results
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    """Numbers of each step from three simulated runs."""
    folder = tmp_path_factory.mktemp("reference")
    here = Path.cwd()
    os.chdir(folder)
    try:
        simulate_store(Path("store"), SimulationOptions(seed=3, n_runs=3, duration_s=600.0, tiny=True))
        plan = run_whole(parse_config(CONFIG), lambda line: None)
        return {name: {"version": version, "numbers": dict(numbers)} for name, version, numbers in numbers_of_all(plan)}
    finally:
        os.chdir(here)


def numbers_of_all(plan) -> Iterator[tuple[str, int, Iterator[tuple[str, Any]]]]:
    """Name, version and numbers of the products of each step."""
    folder, export = Path("results/one"), plan.tasks["one"].export
    (reduced,) = folder.glob("obs/100001/reduced-*.h5")
    yield "REDUCE", versions.REDUCE, numbers_of(reduced)
    backgrounds = [numbers_of(*folder.glob(f"obs/100001/background-{task.label}-*.h5"), task.label) for task in export]
    yield "BACKGROUND", versions.BACKGROUND, (pair for part in backgrounds for pair in part)
    stacks = [numbers_of(folder / f"stack/{task.label}/{task.root[:16]}.h5", task.label) for task in export]
    yield "STACK", versions.STACK, (pair for part in stacks for pair in part)
    cubes = [numbers_of(folder / task.label / "cube.h5", task.label) for task in export]
    yield "EXPORT", versions.EXPORT, (pair for part in cubes for pair in part)
    yield "TABLE", versions.TABLE, columns_of(folder / "runs.csv")


def numbers_of(path: Path, prefix: str = "") -> Iterator[tuple[str, list[float]]]:
    """For each map of an artifact: sum, and a sum in which every place counts differently; NaN is 0 there."""
    for name, data in sorted(read_artifact(path).datasets.items()):
        values = np.nan_to_num(np.asarray(data.data if isinstance(data, Cube) else data, dtype=np.float64))
        places = np.linspace(1.0, 2.0, values.size)
        yield f"{prefix} {name}".strip(), [float(values.sum()), float(values.ravel() @ places)]


def columns_of(path: Path) -> Iterator[tuple[str, list[float]]]:
    """Names of the columns of the run table; of those that hold numbers, the sum."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name in rows[0]:
        try:
            yield name, [sum(float(row[name]) for row in rows)]
        except ValueError:
            yield name, []


@pytest.mark.parametrize("step", ["REDUCE", "BACKGROUND", "STACK", "EXPORT", "TABLE"])
def test_result_changes_only_with_its_version(found, step):
    if WRITE in os.environ:
        REFERENCE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    frozen, now = json.loads(REFERENCE.read_text())[step], found[step]
    again = f"write the reference anew: {WRITE}=1 python -m pytest tests/pipeline/test_versions.py"
    assert now["version"] >= frozen["version"], f"versions.{step} went back"
    assert now["version"] == frozen["version"], f"versions.{step} was bumped; {again}"
    bump = f"the result of {step} changed: bump versions.{step} in src/cubeflow/pipeline/versions.py, then {again}"
    assert sorted(now["numbers"]) == sorted(frozen["numbers"]), bump
    changed = [name for name, values in now["numbers"].items() if not same(values, frozen["numbers"][name])]
    assert not changed, f"{changed}: {bump}"


def same(first: list[float], second: list[float]) -> bool:
    """Equal but for rounding, which differs between machines."""
    return len(first) == len(second) and np.allclose(first, second, rtol=2e-5, atol=1e-12)
