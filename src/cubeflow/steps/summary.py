"""What a plan means: how much is to be made, kept and removed, and what that will need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cubeflow.plan.estimate import disk_mb, run_seconds
from cubeflow.plan.inventory import PRODUCTS, Inventory, artifact_names, envelope_of
from cubeflow.plan.model import BatchPlan, TargetPlan, TargetSpec
from cubeflow.steps.clean import needed_files, stale_files
from cubeflow.steps.entry import Planned
from cubeflow.steps.workflow_plan import WorkflowPlan

JOB_SECONDS = 1.5  # of any job: start and imports


def summarize(planned: Planned) -> dict[str, Any]:
    """Plain numbers and strings on a plan; nothing but names, sizes and first blocks of files is read.

    Returns
    -------
    dict
        ``targets`` by name, and ``total``: ``jobs`` by rule, ``artifacts`` to make, to keep and to remove,
        ``disk_mb``, ``removable_mb``, ``cpu_seconds``; ``largest_job``.
    """
    workflow, pairs = planned.workflow, zip(planned.targets, planned.found, strict=True)
    targets = {target.spec.name: _summarize_target(workflow, target, found) for target, found in pairs}
    groups = [_summarize_group(workflow, name) for name in workflow.groups]
    stale = stale_files(Path(planned.config.results), planned.targets)
    total: dict[str, Any] = {
        "jobs": {**_sum([target["jobs"] for target in targets.values()]), "together": len(groups)},
        "artifacts": {**_sum([target["artifacts"] for target in targets.values()]), "remove": len(stale)},
        "removable_mb": round(sum(path.stat().st_size for path in stale) / 2**20, 1),
        "disk_mb": sum(target["disk_mb"] for target in targets.values()),
        "cpu_seconds": round(sum(t["cpu_seconds"] for t in targets.values()) + len(groups) * JOB_SECONDS),
    }
    jobs = [{"target": name, **target["largest_job"]} for name, target in targets.items() if target["largest_job"]]
    largest = max(jobs + groups, key=lambda job: job["memory_mb"], default=None)
    return {"targets": targets, "total": total, "largest_job": largest}


def _sum(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Sum of counts by name."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _summarize_group(workflow: WorkflowPlan, name: str) -> dict[str, Any]:
    """Need of the job that makes the targets of a group."""
    return {"target": ", ".join(workflow.groups[name].targets), "rule": "together", **workflow.group_need(name)}


def _summarize_target(workflow: WorkflowPlan, target: TargetPlan, found: Inventory) -> dict[str, Any]:
    """Numbers of one target; what it has in common with others is no job of its own."""
    folder, spec = Path(workflow.results) / target.spec.name, target.spec
    entry, is_grouped = workflow.index[spec.name], spec.name in workflow.grouped
    to_make = {path for batch, labels in _open(target, found) for path in _outdated(folder / "obs", batch, labels)}
    stacks = sum(len(names) for part in (found.leaves, found.nodes) for names in part.values())
    n_final = len(PRODUCTS) * len(found.finals) + found.table
    to_reduce = sum(path.name == "reduced.h5" for path in to_make)
    jobs = _jobs(found, is_grouped)
    needs = {rule: need for rule, need in entry["resources"].items() if jobs.get(rule)}
    largest = max(needs, key=lambda rule: needs[rule]["memory_mb"], default=None)
    kept = sum(path.suffix == ".h5" and path not in to_make and path.exists() for path in needed_files(folder, target))
    kept += (len(spec.backgrounds) - len(found.finals)) * len(PRODUCTS) + (not found.table)
    return {
        "runs": sum(len(batch.runs) for batch in target.batches),
        "runs_to_reduce": to_reduce,
        "refused": [{"obs_id": refusal.obs_id, "reason": refusal.reason} for refusal in target.refused],
        "unselected": target.unselected,
        "batches": len(target.batches),
        "jobs": jobs,
        "artifacts": {"make": len(to_make) + stacks + n_final, "keep": kept},
        "disk_mb": disk_mb(spec, to_reduce, stacks),
        "cpu_seconds": round(entry["seconds"] if is_grouped else _seconds_apart(spec, to_reduce, jobs)),
        "largest_job": {"rule": largest, **needs[largest]} if largest else None,
    }


def _seconds_apart(spec: TargetSpec, n_runs: int, jobs: Mapping[str, int]) -> float:
    """CPU time of a target that has the rules for itself."""
    return n_runs * run_seconds(spec) + sum(jobs.values()) * JOB_SECONDS


def _jobs(found: Inventory, is_grouped: bool) -> dict[str, int]:
    """Number of jobs by rule."""
    apart = {
        "reduce": len(found.batches),
        "stack": sum(len(nodes) for nodes in found.nodes.values()),
        "export": len(found.finals),
        "table": int(found.table),
    }
    return {**(dict.fromkeys(apart, 0) if is_grouped else apart), "restore": len(found.again)}


def _open(target: TargetPlan, found: Inventory) -> Iterator[tuple[BatchPlan, tuple[str, ...]]]:
    """Batches that have a job, and the labels it makes."""
    labels = tuple(target.spec.backgrounds)
    for batch in target.batches:
        if batch.name in found.batches:
            yield batch, found.batches[batch.name]
        elif batch.name in found.again:
            yield batch, labels


def _outdated(obs: Path, batch: BatchPlan, labels: tuple[str, ...]) -> Iterator[Path]:
    """Artifacts of the runs of a batch that do not hold their key."""
    names = artifact_names(dict.fromkeys(labels))
    for run in batch.runs:
        keys = {f"background-{label}.h5": run.background_keys[label] for label in labels}
        for name in sorted(names):
            path = obs / str(run.obs_id) / name
            envelope = envelope_of(path)
            if envelope is None or envelope.key != keys.get(name, run.reduced_key):
                yield path
