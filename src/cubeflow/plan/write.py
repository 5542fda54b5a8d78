"""Write a plan where the rules find it; a file is touched only if its content changed.

Layout below the results folder::

    plan.json                          targets, labels, batches, nodes, roots: all that rules need
    <target>/plan/<batch>.json         manifest of a batch: configuration, inputs and keys
    <target>/plan/<batch>.files.json   where its HDUs lie today; no part of any key
    <target>/plan/<label>.final.json   root node and configuration of the final products
    <target>/plan/table.json           leaves and refused runs: what the run table is made from
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cubeflow.dl3.index import HduRef, RunEntry
from cubeflow.plan import versions
from cubeflow.plan.build import label_tag
from cubeflow.plan.digests import write_json
from cubeflow.plan.estimate import estimate
from cubeflow.plan.model import BatchPlan, TargetPlan
from cubeflow.storage.keys import make_key


def write_plan(results: Path, targets: Sequence[TargetPlan], entries: Mapping[int, RunEntry]) -> dict[str, Any]:
    """Write all files of a plan below `results`; return what ``plan.json`` says of its targets."""
    for target in targets:
        folder = results / target.spec.name / "plan"
        for batch in target.batches:
            if not all((results / leaf).is_file() for leaf in leaf_paths(target, batch)):
                write_json(folder / f"{batch.name}.json", batch_manifest(target, batch))
                write_json(folder / f"{batch.name}.files.json", batch_files(batch, entries))
        for label in target.roots:
            write_json(folder / f"{label}.final.json", final_manifest(target, label))
        write_json(folder / "table.json", table_manifest(target))
    index = {target.spec.name: target_index(target, results) for target in targets}
    write_json(results / "plan.json", {"targets": index})
    return index


def leaf_paths(target: TargetPlan, batch: BatchPlan) -> list[str]:
    """Paths, relative to the results folder, of the leaf stacks of a batch."""
    return [f"{target.spec.name}/stack/{label}/{leaf}.h5" for label, leaf in batch.leaves.items()]


def target_index(target: TargetPlan, results: Path) -> dict[str, Any]:
    """Part of ``plan.json`` about one target; ``to_make`` are the labels of which a leaf is missing."""
    missing = {
        label
        for batch in target.batches
        for label, leaf in zip(batch.leaves, leaf_paths(target, batch), strict=True)
        if not (results / leaf).is_file()
    }
    return {
        "to_make": sorted(missing),
        "labels": {label: label_tag(plain) for label, plain in target.spec.backgrounds.items()},
        "batches": [batch.name for batch in target.batches],
        "runs": sum(len(batch.runs) for batch in target.batches),
        "nodes": {label: {name: list(kids) for name, kids in nodes.items()} for label, nodes in target.nodes.items()},
        "roots": dict(target.roots),
        "refused": len(target.refused),
        "resources": {step: need.to_plain() for step, need in estimate(target.spec).items()},
    }


def batch_manifest(target: TargetPlan, batch: BatchPlan) -> dict[str, Any]:
    """All that decides the products of a batch, and nothing else."""
    runs = [
        {
            "obs_id": run.obs_id,
            "inputs": dict(run.inputs),
            "reduced_key": run.reduced_key,
            "background_keys": dict(run.background_keys),
        }
        for run in batch.runs
    ]
    spec = target.spec
    return {
        "target": spec.name,
        "batch": batch.name,
        "reduce": spec.reduce,
        "backgrounds": spec.backgrounds,
        "settings": spec.settings,
        "runs": runs,
        "leaves": dict(batch.leaves),
    }


def batch_files(batch: BatchPlan, entries: Mapping[int, RunEntry]) -> dict[str, Any]:
    """Where the HDUs of each run of a batch lie."""
    return {str(run.obs_id): entry_to_plain(entries[run.obs_id]) for run in batch.runs}


def entry_to_plain(entry: RunEntry) -> dict[str, Any]:
    """Run as plain JSON, without its values in the observation index."""
    hdus = [{**ref._asdict(), "path": str(ref.path)} for ref in entry.hdus]
    return {"obs_id": entry.obs_id, "hdus": hdus, "quirks": list(entry.quirks)}


def entry_from_plain(plain: Mapping[str, Any]) -> RunEntry:
    """Undo `entry_to_plain`."""
    hdus = tuple(HduRef(**{**ref, "path": Path(ref["path"])}) for ref in plain["hdus"])
    return RunEntry(plain["obs_id"], hdus, quirks=tuple(plain["quirks"]))


def table_manifest(target: TargetPlan) -> dict[str, Any]:
    """What the run table of a target is made from."""
    leaves = {label: [batch.leaves[label] for batch in target.batches] for label in target.spec.backgrounds}
    refused = {str(refusal.obs_id): refusal.reason for refusal in target.refused}
    return {"target": target.spec.name, "leaves": leaves, "refused": refused, "unselected": target.unselected}


def final_manifest(target: TargetPlan, label: str) -> dict[str, Any]:
    """What the final products of a label are made from."""
    spec = target.spec
    content = {
        "target": spec.name,
        "label": label,
        "root": target.roots[label],
        "geometry": spec.reduce["geometry"],
        "irf_geometry": spec.reduce["irf_geometry"],
        "background": spec.backgrounds[label],
        "export": spec.export,
        "settings": spec.settings,
    }
    key = make_key("export", versions.EXPORT, {**content, "settings": {}}, {})
    return {**content, "key": key}


def read_json(path: Path) -> Any:
    """Read JSON written by `write_plan`."""
    return json.loads(path.read_text())
