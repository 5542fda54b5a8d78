"""Stores of thousands of tiny runs, and results that look as if all of them had been reduced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cubeflow.config import load_config
from cubeflow.pipeline.tasks import ReduceTask, StackTask, files_of, stack_file
from cubeflow.plan.make import Plan, make_plan
from cubeflow.plan.run import do_task
from cubeflow.simulate.store import SimulationOptions, simulate_run, write_index
from cubeflow.store.artifact import Artifact, read_artifact, write_artifact

FIRST = 200_001
OPTIONS = SimulationOptions(seed=7, duration_s=300.0, tiny=True, shared_irf=True)
CONFIG = """
data: {store: FOLDER/store}
targets:
  one:
    position: {frame: icrs, lon: 83.633 deg, lat: 22.014 deg}
    geometry: {frame: icrs, projection: TAN, width: [4 deg, 3 deg], pixel: 0.1 deg}
energy: {min: 1 TeV, max: 10 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 20 TeV, bins: 4}
offset_max: 1.5 deg
irf_grid: {pixel: 0.5 deg, rad_max: 0.6 deg, rad_bins: 6}
exclusion: FOLDER/exclusion.reg
backgrounds:
  fov: {method: fov, fit: scale, on_failure: keep}
  ring: {method: ring, r_in: 0.5 deg, width: 0.4 deg}
results: FOLDER/results
"""


def simulate(folder: Path, runs: int) -> None:
    """Write a configuration and a store of so many runs; those that are there stay."""
    store = folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    (folder / "exclusion.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    (folder / "config.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    for obs_id in range(FIRST, FIRST + runs):
        if not (store / f"obs_{obs_id}.fits.gz").exists():
            simulate_run(store, obs_id, OPTIONS)
    write_index(store, OPTIONS, range(FIRST, FIRST + runs))


def pretend(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Make the results of all runs but those of the largest job of each kind; these jobs are handed out to be run.

    Sums of the other batches are copies of one that was made, under their own keys and with the rows of their own
    runs; artifacts of observations are empty files, which is all that a plan looks at. Stacks are made of them.

    Yields
    ------
    str, list of str
        Name and arguments of a job.
    """
    plan = make_plan(load_config(folder / "config.yaml"), str)
    path = str(plan.write())
    tasks = list(plan.all_tasks)
    stacks = [task for task in tasks if isinstance(task, StackTask)]
    largest = max((job for job in plan.jobs if job.kind == "reduce"), key=lambda job: job.seconds)
    done = [task for task in largest.tasks if isinstance(task, ReduceTask)]
    yield f"reduce: {sum(len(task.units) for task in done)} runs", ["reduce", path, largest.name]
    sums = {label: read_artifact(plan.results / stack_file("one", label, key)) for label, key in done[0].leaves.items()}
    for task in tasks:
        if isinstance(task, ReduceTask) and task not in done:
            copy_batch(plan, task, sums)
    widest = max(stacks, key=lambda task: len(task.children), default=None)
    for task in stacks:
        if task is widest:
            (job,) = (job for job in plan.jobs if task in job.tasks)
            yield f"stack: {len(task.children)} children", ["stack", path, job.name]
        else:
            do_task(plan.results, plan.targets["one"], task, str)
    for job in plan.jobs:
        if job.kind not in ("reduce", "stack"):
            yield f"{job.kind}: {job.message}", [job.kind, path, job.name]


def copy_batch(plan: Plan, task: ReduceTask, sums: Mapping[str, Artifact]) -> None:
    """Write the files of a batch like those of another, whose sums are given by label."""
    for file in files_of(task)[: -len(task.leaves)]:
        (plan.results / file).parent.mkdir(parents=True, exist_ok=True)
        (plan.results / file).touch()
    for label, key in task.leaves.items():
        about, rows = sums[label].attributes, []
        for keys, row in zip(task.units, about["rows"] * len(task.units), strict=False):
            obs_id = {"obs_id": keys.unit.obs_id}
            rows.append({**row, **obs_id, "run": {**row["run"], **obs_id}})
        attributes = {**about, "rows": rows, "n_runs": len(rows)}
        write_artifact(
            plan.results / stack_file("one", label, key), replace(sums[label], key=key, attributes=attributes)
        )
