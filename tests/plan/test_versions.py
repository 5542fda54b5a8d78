"""No result changes without its version: each version is frozen together with numbers of a reference result.

If a test here fails because a result changed on purpose, bump the step's number in
``src/cubeflow/plan/versions.py`` and write the reference anew::

    CUBEFLOW_WRITE_REFERENCE=1 python -m pytest tests/plan/test_versions.py
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
from cubeflow.dl3.simulate import SimulationOptions, simulate_store
from cubeflow.maps import Cube
from cubeflow.plan import versions
from cubeflow.steps.batch import open_batch, reduce_batch
from cubeflow.steps.entry import make_plan
from cubeflow.steps.export import export_label
from cubeflow.steps.table import write_run_table
from cubeflow.storage.artifact import read_artifact

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
  ring: {method: ring, r_in: 0.5 deg, width: 0.4 deg}
  adaptive: {method: adaptive-ring, r_in: 0.5 deg, width: 0.3 deg, r_out_max: 1.2 deg, threshold: 0.2}
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
        planned = make_plan(parse_config(CONFIG), lambda line: None)
        return {name: {"version": version, "numbers": dict(numbers)} for name, version, numbers in make_all(planned)}
    finally:
        os.chdir(here)


def make_all(planned) -> Iterator[tuple[str, int, Iterator[tuple[str, Any]]]]:
    """Name, version and numbers of the products of each step."""
    folder, index = Path("results/one"), planned.workflow.index["one"]
    (batch,) = index["unmade"]
    reduce_batch(open_batch(Path(planned.workflow.manifest("one", batch)), lambda line: None))
    yield "REDUCE", versions.REDUCE, numbers_of(folder / "obs/100001/reduced.h5")
    backgrounds = [numbers_of(folder / f"obs/100001/background-{label}.h5", label) for label in index["labels"]]
    yield "BACKGROUND", versions.BACKGROUND, (pair for part in backgrounds for pair in part)
    stacks = [numbers_of(folder / f"stack/{label}/{root}.h5", label) for label, root in index["roots"].items()]
    yield "STACK", versions.STACK, (pair for part in stacks for pair in part)
    for label in index["labels"]:
        export_label(folder / "plan" / index["finals"][label], lambda line: None)
    cubes = [numbers_of(folder / label / "cube.h5", label) for label in index["labels"]]
    yield "EXPORT", versions.EXPORT, (pair for part in cubes for pair in part)
    write_run_table(folder / "plan" / index["table"], lambda line: None)
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
    again = f"write the reference anew: {WRITE}=1 python -m pytest tests/plan/test_versions.py"
    assert now["version"] >= frozen["version"], f"versions.{step} went back"
    assert now["version"] == frozen["version"], f"versions.{step} was bumped; {again}"
    bump = f"the result of {step} changed: bump versions.{step} in src/cubeflow/plan/versions.py, then {again}"
    assert sorted(now["numbers"]) == sorted(frozen["numbers"]), bump
    changed = [name for name, values in now["numbers"].items() if not same(values, frozen["numbers"][name])]
    assert not changed, f"{changed}: {bump}"


def same(first: list[float], second: list[float]) -> bool:
    """Equal but for rounding, which differs between machines."""
    return len(first) == len(second) and np.allclose(first, second, rtol=2e-5, atol=1e-12)
