"""From configuration files to a written plan: what the Snakefile and ``cubeflow plan`` start with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cubeflow.config import Config, load_from_command_line
from cubeflow.dl3.blocks import digest_hdus
from cubeflow.dl3.index import Store, StoreError, open_store
from cubeflow.plan.build import PlanError, plan_target
from cubeflow.plan.digests import DigestCache, HduDigests
from cubeflow.plan.inventory import Inventory
from cubeflow.plan.model import TargetPlan
from cubeflow.plan.together import forget_marks
from cubeflow.plan.write import read_json, write_index, write_target
from cubeflow.steps.exclusion import check_exclusion
from cubeflow.steps.lock import holder_of
from cubeflow.steps.memory import check_memory
from cubeflow.steps.specify import target_specs
from cubeflow.steps.workflow_plan import WorkflowPlan
from cubeflow.storage.artifact import set_aside

Say = Callable[[str], None]
PLAN_VARIABLE = "CUBEFLOW_PLAN"  # names the plan to the jobs of a workflow


@dataclass(frozen=True)
class Planned:
    """A plan that was written, and what it was made from."""

    config: Config
    store: Store
    targets: tuple[TargetPlan, ...]
    found: tuple[Inventory, ...]
    workflow: WorkflowPlan


def make_plan(config: Config, say: Say) -> Planned:
    """Plan all targets of a configuration and write the plan below its results folder.

    Raises
    ------
    MistakeError
        If there is no store, or a file the configuration names is missing.
    """
    specs = target_specs(config)
    _look_at_energies(config, say)
    check_memory(specs, config.memory_mb)
    _simulate(config, say)
    store = _open_store(config)
    for problem in store.left_out:
        say(f"data.store: left out: {problem}")
    results = Path(config.results)
    cache = DigestCache(results / ".cubeflow" / "digests.json", digest_file).load()
    targets = tuple(plan_target(spec, store.runs, cache, store.refused, store.refused_infos) for spec in specs)
    cache.save()
    entries = {entry.obs_id: entry for entry in store.runs}
    parts = [write_target(results, target, (entries, cache)) for target in targets]
    _look_ahead(targets, parts, say)
    index = {target.spec.name: part for target, (part, _) in zip(targets, parts, strict=True)}
    is_current = holder_of(results) is None
    path = write_index(results, index, is_current)
    if is_current:
        forget_marks(results)
    workflow = WorkflowPlan(config.results, config.on_refused == "continue", index, str(path), store.left_out)
    return Planned(config, store, targets, tuple(found for _, found in parts), workflow)


def _look_at_energies(config: Config, say: Say) -> None:
    """Say where true energies end inside the reconstructed ones: exposures would be too small there, or zero."""
    for name, target in config.targets.items():
        energy, true = target.energy_axis().edges, target.energy_true_axis().edges
        if true[0] > energy[0] or true[-1] < energy[-1]:
            say(
                f"targets.{name}.energy_true: {true[0]:g} to {true[-1]:g} TeV does not reach over energy, "
                f"{energy[0]:g} to {energy[-1]:g} TeV: exposure and flux are too small at its ends; expected wider, "
                f"such as {energy[0] / 3:.2g} to {energy[-1] * 2:.2g} TeV"
            )


def _simulate(config: Config, say: Say) -> None:
    """Make the store of a demo; what that needs is imported for a demo alone."""
    if config.simulate is not None:
        from cubeflow.steps.demo import make_demo_store

        make_demo_store(config, say)


def _open_store(config: Config) -> Store:
    """Open the store of a configuration; StoreError that names the key."""
    pattern = config.data.pattern
    try:
        return open_store(str(Path(config.data.store) / pattern) if pattern else config.data.store, config.data.roots)
    except StoreError as error:
        raise StoreError(f"data.store: {error}") from error


def _look_ahead(targets: Sequence[TargetPlan], parts: Sequence[tuple[dict[str, Any], Inventory]], say: Say) -> None:
    """Put damaged stacks aside, and read the exclusion files of targets that have runs to reduce."""
    for target, (_, found) in zip(targets, parts, strict=True):
        for path in found.damaged:
            say(f"{path}: not what was written; set aside as {set_aside(path).name}, to be made again")
        if found.batches:
            check_exclusion(target.spec.name, target.spec.reduce, target.spec.settings["exclusion"])


def digest_file(path: Path) -> HduDigests:
    """Digests of the HDUs of a file by upper-case name; the first of a name counts, as for the reader."""
    return {hdu.name.upper(): hdu.sha256 for hdu in reversed(digest_hdus(path))}


def plan_workflow(paths: Sequence[str | Path], overrides: Mapping[str, Any], say: Say = print) -> WorkflowPlan:
    """Load the configuration, plan, and say what was found; errors as in `make_plan`."""
    planned = make_plan(load_from_command_line(list(paths), overrides), say)
    say_planned(planned, say)
    require_runs(planned)
    return planned.workflow


def say_planned(planned: Planned, say: Say) -> None:
    """Say how many runs each target has, and what is left out before any job starts."""
    for target in planned.targets:
        name, runs = target.spec.name, sum(len(batch.runs) for batch in target.batches)
        say(f"{name}: {runs} runs in {len(target.batches)} batches, {len(target.refused)} refused")
        for refusal in target.refused:
            say(f"{name}: run {refusal.obs_id}: refused: {refusal.reason}")


def require_runs(planned: Planned) -> None:
    """Raise PlanError that says why if no target has any run."""
    if not planned.workflow.targets:
        from cubeflow.steps.none_left import why_no_runs  # which reads runs; a plan does not

        reasons = [why_no_runs(planned.store, target) for target in planned.targets]
        raise PlanError("\n".join([f"data.store: {planned.store.path}: no run is left for any target", *reasons]))


def load_plan(paths: Sequence[str | Path], overrides: Mapping[str, Any]) -> WorkflowPlan:
    """Read the plan that the main process has written; for jobs that start Snakemake again."""
    config = load_from_command_line(list(paths), overrides)
    path = Path(os.environ.get(PLAN_VARIABLE) or Path(config.results) / "plan.json")
    index = read_json(path)["targets"]
    return WorkflowPlan(config.results, config.on_refused == "continue", index, str(path))
