"""Small targets share a job: starting a process takes longer than all that one of them needs.

A target is small if it has few batches and little to do. The others have the rules for themselves, as has a small one
that is alone: their batches are made at the same time, and the largest of them decide how long a job is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from cubeflow.plan.coverage import Coverage
from cubeflow.plan.estimate import run_seconds, sizes
from cubeflow.plan.inventory import Inventory, names_in
from cubeflow.plan.model import TargetPlan
from cubeflow.storage.keys import make_key, short

TOGETHER = ".cubeflow/together"  # below the results, where the marks of finished groups lie
MAX_BATCHES = 4  # a few runs may be cut into two, by their numbers; of more, batches are made at the same time
LIMIT_S = 16.0  # of estimated CPU time in a group: its start is some percent of it
RESERVE_MB = 64  # of memory that a process has used and keeps
SECONDS_PER_FINAL = 0.2  # of the final products of a label, beside their voxels
SECONDS_PER_FINAL_VOXEL = 5e-8
SECONDS_PER_TABLE = 0.1


@dataclass(frozen=True)
class Group:
    """Targets that one job makes.

    Parameters
    ----------
    name : str
        16 hexadecimal digits from what there is to do.
    targets : tuple of str
        Its targets, sorted by name.
    """

    name: str
    targets: tuple[str, ...]


def work_seconds(target: TargetPlan, found: Inventory, covered: Coverage) -> float:
    """CPU time that a target needs, starts of processes left out; an estimate."""
    spec = target.spec
    per_stack = SECONDS_PER_FINAL + SECONDS_PER_FINAL_VOXEL * sizes(spec, covered).total
    n_stacks = len(found.finals) + sum(map(len, found.nodes.values()))
    n_runs = sum(len(batch.runs) for batch in target.batches if batch.name in found.batches)
    reduce_s = n_runs * run_seconds(spec, covered)
    return round(reduce_s + n_stacks * per_stack + found.table * SECONDS_PER_TABLE, 3)


def is_small(entry: Mapping[str, Any]) -> bool:
    """Whether a target has few batches, and work, but little of it.

    Parameters
    ----------
    entry : mapping
        Its part of the plan. Artifacts of runs that are missing below a stack that is there are no work here.
    """
    has_work = entry["unmade"] or entry["stale"] or entry["stale_table"]
    has_runs = entry["batches"] or entry["refused"]  # without any there is no run table
    return bool(has_runs and has_work) and len(entry["batches"]) <= MAX_BATCHES and entry["seconds"] <= LIMIT_S


def make_groups(index: Mapping[str, Mapping[str, Any]]) -> tuple[Group, ...]:
    """Put small targets into groups of about the same work, as few as hold it.

    Parameters
    ----------
    index : mapping
        Targets of the plan by name, in any order.

    Returns
    -------
    tuple of Group
        Each of two targets at least; none if there are no two small ones.
    """
    small = sorted(name for name, entry in index.items() if is_small(entry))
    total = sum(index[name]["seconds"] for name in small)
    members: list[list[str]] = [[] for _ in range(max(1, ceil(total / LIMIT_S)))]
    loads = [0.0] * len(members)
    for name in sorted(small, key=lambda name: (-index[name]["seconds"], name)):
        least = loads.index(min(loads))
        members[least].append(name)
        loads[least] += index[name]["seconds"]
    shared = (sorted(names) for names in members if len(names) > 1)
    return tuple(Group(_name(index, names), tuple(names)) for names in shared)


def forget_marks(results: Path) -> None:
    """Remove the marks of groups: they say something to the workflow that made them alone."""
    folder = results / TOGETHER
    for name in names_in(folder):
        with suppress(OSError):
            (folder / name).unlink()


def _name(index: Mapping[str, Mapping[str, Any]], names: list[str]) -> str:
    """Name of a group: it changes with what is missing and with what that is made from."""
    work = ("batch_tag", "batches", "unmade", "finals", "stale", "table", "stale_table")
    content = {name: {part: index[name][part] for part in work} for name in names}
    return short(make_key("together", 1, content, {}))
