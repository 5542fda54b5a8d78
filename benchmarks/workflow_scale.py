"""Stores of thousands of tiny runs, and results that look as if all of them had been reduced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cubeflow.config import load_config
from cubeflow.dl3.simulate import SimulationOptions, simulate_run, write_index
from cubeflow.plan.build import node_key
from cubeflow.plan.inventory import artifact_names, leaf_key
from cubeflow.steps.entry import Planned, make_plan
from cubeflow.storage.artifact import Artifact, read_artifact, write_artifact

FIRST = 200_001
OPTIONS = SimulationOptions(seed=7, duration_s=300.0, tiny=True, shared_irf=True)
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
exclusion: exclusion.reg
backgrounds:
  fov: {method: fov, fit: scale, on_failure: keep}
  ring: {method: ring, r_in: 0.5 deg, width: 0.4 deg}
results: results
"""
Rows = list[dict[str, Any]]


def simulate(folder: Path, runs: int) -> None:
    """Write a configuration and a store of so many runs; those that are there stay."""
    store = folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    (folder / "exclusion.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    (folder / "config.yaml").write_text(CONFIG)
    for obs_id in range(FIRST, FIRST + runs):
        if not (store / f"obs_{obs_id}.fits.gz").exists():
            simulate_run(store, obs_id, OPTIONS)
    write_index(store, OPTIONS, range(FIRST, FIRST + runs))


def pretend(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Make the rest of the results after the largest batch has been reduced; the real jobs are handed out to be run.

    Every leaf and inner node is a copy of one that was made, under its own key and with the rows of its own runs;
    what runs leave behind are empty files, which is all that a plan looks at.

    Yields
    ------
    str, list of str
        Name and arguments of a job.
    """
    with inside(folder):
        planned = plan()
        batches = {batch.name: batch for batch in planned.targets[0].batches}
        largest = max(batches.values(), key=lambda batch: len(batch.runs))
        manifest = planned.workflow.manifest("one", largest.name)
    yield f"reduce, {len(largest.runs)} runs", ["reduce", "--accept-refusals", manifest]
    with inside(folder):
        copy_leaves(planned, largest.name)
        node, children = copy_nodes(planned)
    yield f"stack, {len(children)} children", ["stack", str(node), *map(str, children)]
    for label, name in planned.workflow.index["one"]["finals"].items():
        yield f"export, {label}", ["export", f"results/one/plan/{name}"]
    yield "table", ["table", f"results/one/plan/{planned.workflow.index['one']['table']}"]
    yield "report", ["report", "results"]


def plan() -> Planned:
    """Plan in the working directory."""
    return make_plan(load_config("config.yaml"), str)


def copy_leaves(planned: Planned, done: str) -> None:
    """Write the leaves of all batches but the one that is done, and marks of the artifacts of their runs."""
    target = planned.targets[0]
    leaves = {batch.name: batch for batch in target.batches}
    for label in target.spec.backgrounds:
        pattern = read_artifact(stack_path(label, leaves[done].leaves[label]))
        for batch in target.batches:
            if batch.name != done:
                rows = rows_of(pattern, [run.obs_id for run in batch.runs])
                attributes = {**pattern.attributes, "rows": rows}
                write_artifact(
                    stack_path(label, batch.leaves[label]),
                    replace(pattern, key=leaf_key(batch, label), attributes=attributes),
                )
    for batch in target.batches:
        for run in batch.runs if batch.name != done else ():
            place = Path("results/one/obs") / str(run.obs_id)
            place.mkdir(parents=True)
            for name in artifact_names(batch.leaves):
                (place / name).touch()


def rows_of(pattern: Artifact, obs_ids: list[int]) -> Rows:
    """Rows of these runs, like those of the pattern."""
    rows: Rows = pattern.attributes["rows"]
    return [
        {**row, "obs_id": obs_id, "run": {**row["run"], "obs_id": obs_id}}
        for obs_id, row in zip(obs_ids, rows * len(obs_ids), strict=False)
    ]


def copy_nodes(planned: Planned) -> tuple[Path, list[Path]]:
    """Write all inner nodes; give path and children of the one with most children."""
    target, places = planned.targets[0], []
    for label, nodes in target.nodes.items():
        pattern = read_artifact(stack_path(label, target.batches[0].leaves[label]))
        for name, children in nodes.items():
            key = node_key("node", children)
            node = replace(pattern, key=key, attributes={**pattern.attributes, "children": list(children), "rows": []})
            write_artifact(stack_path(label, name), node)
            places.append((stack_path(label, name), [stack_path(label, child) for child in children]))
    return max(places, key=lambda place: len(place[1]))


def stack_path(label: str, name: str) -> Path:
    """Path of a stack."""
    return Path("results/one/stack") / label / f"{name}.h5"


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
