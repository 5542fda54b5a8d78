"""What the rules need to know of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cubeflow.plan.estimate import BYTES_PER_ROW, ask_memory_mb, ask_minutes
from cubeflow.plan.together import RESERVE_MB, TOGETHER, Group, make_groups
from cubeflow.plan.write import batch_name, plan_name
from cubeflow.steps.reduce_rule import ReduceRule, one_of


@dataclass(frozen=True)
class WorkflowPlan:
    """The content of ``plan.json`` as the Snakefile asks for it.

    Parameters
    ----------
    results : str
        Folder of the results.
    accept_refusals : bool
        Whether a job with refused runs counts as done.
    index : mapping
        ``targets`` of ``plan.json``.
    path : str
        File that holds the index.
    left_out : tuple of str
        Files of the store that are left out, though they hold a run or may, with the reason.
    """

    results: str
    accept_refusals: bool
    index: Mapping[str, Any]
    path: str
    left_out: tuple[str, ...] = ()

    @property
    def reduce_options(self) -> str:
        """Options of ``cubeflow reduce``."""
        return "--accept-refusals" if self.accept_refusals else ""

    @property
    def targets(self) -> list[str]:
        """Targets that have runs."""
        return [name for name, target in self.index.items() if target["batches"]]

    @property
    def tables(self) -> list[str]:
        """Targets with a run table: those that have runs, or runs that were refused."""
        return [name for name, target in self.index.items() if target["batches"] or target["refused"]]

    @property
    def refused(self) -> dict[str, int]:
        """Number of runs of each target that the plan itself rules out."""
        return {name: target["refused"] for name, target in self.index.items() if target["refused"]}

    @property
    def runs_to_reduce(self) -> int:
        """Number of runs that the jobs go through, all targets together."""
        return sum(self.index[target]["to_reduce"] for target in self.targets)

    def finals(self) -> list[tuple[str, str]]:
        """Pairs of target and label."""
        return [(target, label) for target in self.targets for label in self.index[target]["labels"]]

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Small targets that share a job, by the name of their group."""
        return {group.name: group for group in make_groups(self.index)}

    @cached_property
    def grouped(self) -> frozenset[str]:
        """Targets that share a job with others."""
        return frozenset(target for group in self.groups.values() for target in group.targets)

    def is_marked(self, target: str) -> bool:
        """Whether the job that a target shares with others has ended well."""
        made = (name for name, group in self.groups.items() if target in group.targets)
        return any(Path(self.results, TOGETHER, name).exists() for name in made)

    def marks(self) -> dict[str, bool]:
        """Path of the mark that the job of each group leaves, and whether it makes final products or a run table."""
        return {f"{self.results}/{TOGETHER}/{name}": self._makes_products(name) for name in self.groups}

    def _makes_products(self, name: str) -> bool:
        parts = (self.index[target] for target in self.groups[name].targets)
        return any(part["stale"] or part["stale_table"] for part in parts)

    @property
    def frozen(self) -> str:
        """Path of the file that holds the index, in the terms of the results folder."""
        return f"{self.results}/{plan_name(self.index)}"

    def finals_apart(self) -> list[tuple[str, str]]:
        """Pairs of target and label, without the targets that share a job."""
        return [(target, label) for target, label in self.finals() if target not in self.grouped]

    def tables_apart(self) -> list[str]:
        """Targets with a run table, without those that share a job."""
        return [target for target in self.tables if target not in self.grouped]

    def missing_stacks(self) -> list[str]:
        """Paths of the stacks that are not there, leaves and inner nodes, without targets that share a job."""
        return [
            f"{self.results}/{target}/stack/{label}/{name}.h5"
            for target in self.targets
            if target not in self.grouped
            for label, names in self.index[target]["missing"].items()
            for name in names
        ]

    def reduce_rules(self) -> list[ReduceRule]:
        """One rule for all batches of a target of which the same leaves are missing.

        Snakemake (9.27) forgets why a job must run if it comes after a job whose output is there and must be
        made again: no rule has an output that exists.
        """
        return [rule for target in self.targets for rule in self._reduce_rules(target)]

    def _reduce_rules(self, target: str) -> list[ReduceRule]:
        """Rules of one target, numbered in an order that a plan read back from its file has, too."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for batch, labels in self.index[target]["unmade"].items():
            groups.setdefault(tuple(labels), []).append(batch)
        n_batches, manifest = self._n_batches(target), self.manifest(target, "{batch}")
        return [
            ReduceRule(number, target, manifest, self._leaf_patterns(target, labels), one_of(batches, n_batches))
            for number, (labels, batches) in enumerate(sorted(groups.items()), start=1)
        ]

    def _leaf_patterns(self, target: str, labels: Sequence[str]) -> list[str]:
        tags = self.index[target]["labels"]
        return [f"{self.results}/{target}/stack/{label}/{{batch}}-{tags[label]}.h5" for label in labels]

    def _n_batches(self, target: str) -> int:
        return len(self.index[target]["batches"])

    def node_pattern(self) -> str:
        """Regular expression of the inner nodes that have a job; empty if there is none."""
        missing = [node for target in self.targets for node in self.index[target]["missing_nodes"]]
        n_nodes = sum(len(nodes) for target in self.targets for nodes in self.index[target]["nodes"].values())
        return one_of(missing, n_nodes) if missing else ""

    def restored(self) -> list[str]:
        """Marks of the batches whose leaves are there while an artifact of one of their runs is not."""
        return [
            f"{self.results}/.cubeflow/restored/{target}/{batch}"
            for target in self.targets
            for batch in self.index[target]["again"]
        ]

    def label_options(self, target: str) -> str:
        """Options of ``cubeflow background`` for all labels."""
        return " ".join(f"--label {label}" for label in self.index[target]["labels"])

    def manifest(self, target: str, batch: str) -> str:
        """Path of the manifest of a batch."""
        return f"{self.results}/{target}/plan/{batch_name(batch, self.index[target]['batch_tag'])}"

    def final(self, target: str, label: str) -> tuple[str, bool]:
        """Path of the manifest of final products, and whether they must be made again."""
        entry = self.index[target]
        return f"{self.results}/{target}/plan/{entry['finals'][label]}", label in entry["stale"]

    def table(self, target: str) -> tuple[str, bool]:
        """Path of the manifest of the run table, and whether it must be made again."""
        entry = self.index[target]
        return f"{self.results}/{target}/plan/{entry['table']}", entry["stale_table"]

    def is_at_work(self, target: str) -> bool:
        """Whether anything of a target is missing or made again."""
        entry = self.index[target]
        return bool(any(entry["missing"].values()) or entry["stale"] or entry["stale_table"])

    def leaf(self, target: str, label: str, batch: str) -> str:
        """Path of the leaf stack of a batch."""
        return f"{self.results}/{target}/stack/{label}/{batch}-{self.index[target]['labels'][label]}.h5"

    def all_leaves(self, target: str) -> list[str]:
        """Paths of all leaf stacks of a target."""
        entry = self.index[target]
        return [self.leaf(target, label, batch) for label in entry["labels"] for batch in entry["batches"]]

    def children(self, target: str, label: str, node: str) -> list[str]:
        """Names of the children of an inner node; none for a node that this plan does not have."""
        return list(self.index[target]["nodes"][label].get(node, ()))

    def root(self, target: str, label: str) -> str:
        """Path of the node that holds all runs."""
        return f"{self.results}/{target}/stack/{label}/{self.index[target]['roots'][label]}.h5"

    def compression(self, target: str) -> str:
        """Filter of new artifacts."""
        return str(self.index[target]["compression"])

    def memory_mb(self, target: str, step: str, attempt: int = 1) -> int:
        """Memory to ask for, growing with the attempt."""
        return ask_memory_mb(self.index[target]["resources"][step]["memory_mb"], attempt)

    def minutes(self, target: str, step: str, attempt: int = 1) -> int:
        """Time to ask for, growing with the attempt."""
        return ask_minutes(self.index[target]["resources"][step]["minutes"], attempt)

    def report_memory_mb(self, attempt: int = 1) -> int:
        """Memory to ask for the report: its largest target, and the rows of all the others."""
        needs = {target: self.index[target]["resources"]["report"]["memory_mb"] for target in self.targets}
        others = sum(self.index[target]["runs"] for target in set(self.targets) - {max(needs, key=needs.__getitem__)})
        return ask_memory_mb(max(needs.values()) + int(2 * BYTES_PER_ROW * others / 2**20), attempt)

    def group_need(self, name: str) -> dict[str, int]:
        """Need of the command for a group: memory of its largest step and of what is kept in reserve, time of all."""
        parts = [self.index[target]["resources"] for target in self.groups[name].targets]
        needs = [part[step] for part in parts for step in ("reduce", "stack", "export", "table")]
        memory_mb = RESERVE_MB + max(need["memory_mb"] for need in needs)
        return {"memory_mb": memory_mb, "minutes": sum(need["minutes"] for need in needs)}

    def group_memory_mb(self, name: str, attempt: int = 1) -> int:
        """Memory to ask for a group."""
        return ask_memory_mb(self.group_need(name)["memory_mb"], attempt)

    def group_minutes(self, name: str, attempt: int = 1) -> int:
        """Time to ask for a group."""
        return ask_minutes(self.group_need(name)["minutes"], attempt)
