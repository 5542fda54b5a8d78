"""What of a plan lies on the disk already: the rules are told what is missing and what must be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from cubeflow.plan.build import node_key
from cubeflow.plan.model import BatchPlan, TargetPlan
from cubeflow.storage.atomic import StorageError
from cubeflow.storage.envelope import (
    ArtifactDamaged,
    ArtifactMismatch,
    Envelope,
    open_regular,
    read_envelope,
)

PRODUCTS = ("cube.h5", "dataset.fits.gz", "datasets.yaml", "significance.fits.gz")
KEY_LINE = "key: "


@dataclass(frozen=True)
class Inventory:
    """What is there, and what is not, of one target.

    Parameters
    ----------
    leaves, nodes : mapping of str to tuple of str
        Names of the stacks that are missing, by label: leaves of batches, and inner nodes.
    batches : mapping of str to tuple of str
        Labels of which the leaf is missing, by batch.
    again : tuple of str
        Batches whose leaves are all there while an artifact of one of their runs is not.
    finals : tuple of str
        Labels whose final products are missing or were made from something else.
    table : bool
        Whether the run table is missing or was made from something else.
    damaged : tuple of Path
        Stacks that are cut, empty or something else; they count as missing. Their content is not looked at.
    """

    leaves: Mapping[str, tuple[str, ...]]
    nodes: Mapping[str, tuple[str, ...]]
    batches: Mapping[str, tuple[str, ...]]
    again: tuple[str, ...]
    finals: tuple[str, ...]
    table: bool
    damaged: tuple[Path, ...] = ()

    def n_to_reduce(self, target: TargetPlan) -> int:
        """Number of runs that the jobs of the target go through."""
        names = {*self.batches, *self.again}
        return sum(len(batch.runs) for batch in target.batches if batch.name in names)


def take_inventory(results: Path, target: TargetPlan, keys: Mapping[str, str], table_key: str) -> Inventory:
    """Look at what lies below the results folder of a target.

    Parameters
    ----------
    results : Path
        Results folder.
    target : TargetPlan
        What is wanted.
    keys : mapping of str to str
        Key of the final products by label.
    table_key : str
        Key of the run table.
    """
    folder = results / target.spec.name
    stacks = {label: _Stacks(folder / "stack" / label) for label in target.spec.backgrounds}
    leaves = {
        label: tuple(b.leaves[label] for b in target.batches if not found.holds_leaf(b, label))
        for label, found in stacks.items()
    }
    nodes = {
        label: tuple(node for node in target.nodes[label] if not found.holds(node, node))
        for label, found in stacks.items()
    }
    unmade = _unmade(target, {leaf for names in leaves.values() for leaf in names})
    made = (batch for batch in target.batches if batch.name not in unmade)
    again = tuple(batch.name for batch in made if not _is_complete(folder / "obs", batch))
    finals = tuple(label for label, key in keys.items() if not is_final(folder / label, key))
    table = table_key != key_of_table(folder / "runs.ecsv")
    return Inventory(leaves, nodes, unmade, again, finals, table, tuple(p for s in stacks.values() for p in s.damaged))


def _unmade(target: TargetPlan, missing: Set[str]) -> dict[str, tuple[str, ...]]:
    """Labels of which the leaf is missing, for each batch that has any."""
    labels = {
        batch.name: tuple(label for label, leaf in batch.leaves.items() if leaf in missing) for batch in target.batches
    }
    return {name: found for name, found in labels.items() if found}


def leaf_key(batch: BatchPlan, label: str) -> str:
    """Key that the runs of a batch give to its leaf stack."""
    return node_key("leaf", (run.background_keys[label] for run in batch.runs))


class _Stacks:
    """Stacks in one folder; what is no whole artifact does not count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = names_in(folder)
        self.damaged: list[Path] = []

    def holds(self, name: str, key: str) -> bool:
        """Whether the folder has a whole stack of that name, whose key begins with `key`."""
        if not self.has_file(name):
            return False
        path = self.folder / f"{name}.h5"
        envelope = envelope_of(path)
        if envelope is not None and envelope.key.startswith(key):
            return True
        self.damaged.append(path)
        return False

    def holds_leaf(self, batch: BatchPlan, label: str) -> bool:
        """Whether the folder has the leaf stack of a batch."""
        name = batch.leaves[label]
        return self.has_file(name) and self.holds(name, leaf_key(batch, label))

    def has_file(self, name: str) -> bool:
        """Whether there is a file of that name at all."""
        return f"{name}.h5" in self.names


def names_in(folder: Path) -> frozenset[str]:
    """Names in a folder; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def envelope_of(path: Path) -> Envelope | None:
    """First block of an artifact; None if there is none or it does not fit the file."""
    try:
        descriptor = open_regular(path)
    except (StorageError, ArtifactDamaged):
        return None
    try:
        return read_envelope(path, descriptor)
    except (ArtifactDamaged, ArtifactMismatch):
        return None
    finally:
        os.close(descriptor)


def artifact_names(labels: Mapping[str, object]) -> frozenset[str]:
    """Names of the files that a reduced run leaves behind."""
    return frozenset({"reduced.h5", *(f"background-{label}.h5" for label in labels)})


def _is_complete(obs: Path, batch: BatchPlan) -> bool:
    """Whether the artifacts of all runs are there, or the reason why a run has none."""
    wanted = artifact_names(batch.leaves)
    for run in batch.runs:
        found = names_in(obs / str(run.obs_id))
        if not (wanted <= found or "left-out.json" in found or "pieces.json" in found):
            return False
    return True


def is_final(folder: Path, key: str) -> bool:
    """Whether all final products are there and the cube holds the key."""
    envelope = envelope_of(folder / "cube.h5")
    if envelope is None or envelope.key != key:
        return False
    return all(_size(folder / name) > 0 for name in PRODUCTS)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def key_of_table(path: Path) -> str:
    """Key in the header of a run table (ECSV); empty if there is none."""
    try:
        with path.open(errors="replace") as lines:
            for line in lines:
                if not line.startswith("#"):
                    return ""
                if KEY_LINE in line:
                    return line.split(KEY_LINE)[1].strip(" ,'\"{}\n")
    except OSError:
        return ""
    return ""
