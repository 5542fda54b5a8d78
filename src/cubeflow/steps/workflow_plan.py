"""What the rules need to know of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEW = 64  # names that a regular expression may list
ANY_NAME = "[0-9a-f]{16}"


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
    """

    results: str
    accept_refusals: bool
    index: Mapping[str, Any]
    path: str

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

    def finals(self) -> list[tuple[str, str]]:
        """Pairs of target and label."""
        return [(target, label) for target in self.targets for label in self.index[target]["labels"]]

    def missing_stacks(self) -> list[str]:
        """Paths of all stacks that are not there, leaves and inner nodes."""
        return [
            f"{self.results}/{target}/stack/{label}/{name}.h5"
            for target in self.targets
            for label, names in self.index[target]["missing"].items()
            for name in names
        ]

    def leaf_patterns(self, target: str) -> list[str]:
        """Output patterns of the job of a batch: the labels of which any leaf is to be made."""
        entry = self.index[target]
        return [
            f"{self.results}/{target}/stack/{label}/{{batch}}-{entry['labels'][label]}.h5" for label in entry["to_make"]
        ]

    def batch_pattern(self, target: str) -> str:
        """Regular expression of the batches that have a job."""
        return one_of([*self.index[target]["unmade"], *self.index[target]["again"]])

    def node_pattern(self) -> str:
        """Regular expression of the inner nodes that have a job; empty if there is none."""
        nodes = [node for target in self.targets for node in self.index[target]["missing_nodes"]]
        return one_of(nodes) if nodes else ""

    def manifest(self, target: str, batch: str) -> tuple[str, bool]:
        """Path of the manifest of a batch, and whether all of it is there and must be made again."""
        return f"{self.results}/{target}/plan/{batch}.json", batch in self.index[target]["again"]

    def final(self, target: str, label: str) -> tuple[str, bool]:
        """Path of the manifest of final products, and whether they must be made again."""
        entry = self.index[target]
        return f"{self.results}/{target}/plan/{entry['finals'][label]}", label in entry["stale"]

    def table(self, target: str) -> tuple[str, bool]:
        """Path of the manifest of the run table, and whether it must be made again."""
        entry = self.index[target]
        return f"{self.results}/{target}/plan/{entry['table']}", entry["stale_table"]

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
        return int(self.index[target]["resources"][step]["memory_mb"] * (1 + 0.5 * (attempt - 1)))

    def minutes(self, target: str, step: str, attempt: int = 1) -> int:
        """Time to ask for, growing with the attempt."""
        return int(self.index[target]["resources"][step]["minutes"] * attempt)


def one_of(names: Sequence[str]) -> str:
    """Regular expression of these names; of any such name if they are many."""
    return f"(?:{'|'.join(names)})" if len(names) <= FEW else ANY_NAME
