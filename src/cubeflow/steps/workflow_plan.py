"""What the rules need to know of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    """

    results: str
    accept_refusals: bool
    index: Mapping[str, Any]

    @property
    def reduce_options(self) -> str:
        """Options of ``cubeflow reduce``."""
        return "--accept-refusals" if self.accept_refusals else ""

    @property
    def targets(self) -> list[str]:
        """Targets that have runs."""
        return [name for name, target in self.index.items() if target["batches"]]

    @property
    def refused(self) -> dict[str, int]:
        """Number of runs of each target that the plan itself rules out."""
        return {name: target["refused"] for name, target in self.index.items() if target["refused"]}

    def finals(self) -> list[tuple[str, str]]:
        """Pairs of target and label."""
        return [(target, label) for target in self.targets for label in self.index[target]["labels"]]

    def leaf_patterns(self, target: str) -> list[str]:
        """Output patterns of the job of a batch: the labels of which any leaf is missing."""
        entry = self.index[target]
        return [
            f"{self.results}/{target}/stack/{label}/{{batch}}-{entry['labels'][label]}.h5" for label in entry["to_make"]
        ]

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
        """Name of the node that holds all runs."""
        return str(self.index[target]["roots"][label])

    def memory_mb(self, target: str, step: str, attempt: int = 1) -> int:
        """Memory to ask for, growing with the attempt."""
        return int(self.index[target]["resources"][step]["memory_mb"] * (1 + 0.5 * (attempt - 1)))

    def minutes(self, target: str, step: str, attempt: int = 1) -> int:
        """Time to ask for, growing with the attempt."""
        return int(self.index[target]["resources"][step]["minutes"] * attempt)

    def missing_leaves(self) -> int:
        """Number of leaf stacks that do not exist yet."""
        return sum(not Path(leaf).is_file() for target in self.targets for leaf in self.all_leaves(target))
