"""Write a plan where the rules find it; a file is touched only if its content changed.

Layout below the results folder::

    plan.json                               the last plan: targets, labels, batches, nodes, roots
    .cubeflow/plans/<digest>.json           the same, under a name that no other plan takes
    <target>/plan/<batch>-<tag>.json        manifest of a batch: configuration, inputs and keys
    <target>/plan/<batch>-<tag>.files.json  where its HDUs lie today; no part of any key
    <target>/plan/<label>-<key>.final.json  root node and configuration of the final products
    <target>/plan/runs-<key>.table.json     leaves and refused runs: what the run table is made from

All but ``plan.json`` are named by their content, so that a plan that is made while another is being
carried out takes nothing from under it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cubeflow.dl3.index import RunEntry
from cubeflow.errors import MistakeError
from cubeflow.plan import versions
from cubeflow.plan.build import label_tag
from cubeflow.plan.coverage import coverage
from cubeflow.plan.digests import DigestCache, write_json
from cubeflow.plan.entries import entry_to_plain
from cubeflow.plan.estimate import Estimate, estimate
from cubeflow.plan.inventory import PRODUCTS, Inventory, take_inventory
from cubeflow.plan.model import BatchPlan, TargetPlan, TargetSpec
from cubeflow.plan.together import work_seconds
from cubeflow.storage.keys import make_key, short

Sources = tuple[Mapping[int, RunEntry], DigestCache]


def write_target(results: Path, target: TargetPlan, sources: Sources) -> tuple[dict[str, Any], Inventory]:
    """Write the manifests of a target that a job will need.

    Parameters
    ----------
    results : Path
        Results folder.
    target : TargetPlan
        Its plan.
    sources : tuple of mapping and DigestCache
        Entry of each run, and the status of each file.

    Returns
    -------
    tuple of dict and Inventory
        Its part of ``plan.json``, and what of it is there.
    """
    folder = results / target.spec.name
    finals = {label: final_manifest(target, label) for label in target.roots}
    table = table_manifest(target)
    covered = coverage(target.spec, target.batches, sources[0])
    needs = estimate(target.spec, covered)
    found = take_inventory(results, target, {label: final["key"] for label, final in finals.items()}, table["key"])
    for batch in target.batches:
        if batch.name in found.batches or batch.name in found.again:
            path = folder / "plan" / batch_name(batch.name, batch_tag(target.spec))
            write_json(path, batch_manifest(target, batch, needs["reduce"]))
            write_json(path.with_suffix(".files.json"), batch_files(batch, sources))
    for name in found.again:
        (results / ".cubeflow" / "restored" / target.spec.name / name).unlink(missing_ok=True)
    for label, final in finals.items():
        made = [folder / label / name for name in PRODUCTS] if label in found.finals else None
        write_manifest(folder / "plan" / final_name(label, final["key"]), final, made)
    write_manifest(folder / "plan" / table_name(table["key"]), table, [folder / "runs.ecsv"] if found.table else None)
    for part in ("", "plan", *finals, *(f"stack/{label}" for label in finals)):
        bring_to_the_present(folder / part)
    names = {label: final_name(label, final["key"]) for label, final in finals.items()}
    about = {"finals": names, "table": table_name(table["key"]), "seconds": work_seconds(target, found, covered)}
    resources = {step: need.to_plain() for step, need in needs.items()}
    return target_index(target, found) | about | {"resources": resources}, found


def write_manifest(path: Path, content: Mapping[str, Any], outdated: Iterable[Path] | None) -> None:
    """Write a manifest; one whose products are `outdated` gets new content and a later time than they have.

    Times and checksums of small inputs are what Snakemake decides by, beside which files there are. Keys decide here,
    and this is how it is told.
    """
    if outdated is None:
        write_json(path, content)
        return
    now = time.time_ns()
    for product in outdated:
        if product.exists() and product.stat().st_mtime_ns >= now:
            os.utime(product, ns=(now - 10**9,) * 2)
    write_json(path, {**content, "again": now})


def bring_to_the_present(folder: Path) -> None:
    """Give files of a folder that come from the future the time of today: as inputs of a job they are an error."""
    now = time.time_ns()
    try:
        with os.scandir(folder) as entries:
            late = [entry.path for entry in entries if entry.is_file() and entry.stat().st_mtime_ns > now]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in late:
        os.utime(path, ns=(now, now))


def batch_name(batch: str, tag: str) -> str:
    """Name of the manifest of a batch."""
    return f"{batch}-{tag}.json"


def batch_tag(spec: TargetSpec) -> str:
    """Eight digits that stand for what the manifests of a target's batches hold beside their runs."""
    labels = {label: label_tag(plain) for label, plain in spec.backgrounds.items()}
    content = {"labels": labels, "backgrounds": spec.backgrounds, "reduce": spec.reduce, "settings": spec.settings}
    return make_key("batch", 1, content, {})[:8]


def final_name(label: str, key: str) -> str:
    """Name of the manifest of final products."""
    return f"{label}-{short(key)}.final.json"


def table_name(key: str) -> str:
    """Name of the manifest of a run table."""
    return f"runs-{short(key)}.table.json"


def target_index(target: TargetPlan, found: Inventory) -> dict[str, Any]:
    """Part of ``plan.json`` about one target."""
    return {
        "batch_tag": batch_tag(target.spec),
        "unmade": {name: list(labels) for name, labels in found.batches.items()},
        "again": list(found.again),
        "missing": {label: [*found.leaves[label], *found.nodes[label]] for label in found.leaves},
        "missing_nodes": sorted({node for nodes in found.nodes.values() for node in nodes}),
        "stale": list(found.finals),
        "stale_table": found.table,
        "labels": {label: label_tag(plain) for label, plain in target.spec.backgrounds.items()},
        "batches": [batch.name for batch in target.batches],
        "runs": sum(len(batch.runs) for batch in target.batches),
        "to_reduce": found.n_to_reduce(target),
        "nodes": {label: {name: list(kids) for name, kids in nodes.items()} for label, nodes in target.nodes.items()},
        "roots": dict(target.roots),
        "compression": target.spec.settings["compression"],
        "refused": len(target.refused),
    }


def write_index(results: Path, index: Mapping[str, Any], is_current: bool) -> Path:
    """Write the plan under a name of its own, and as ``plan.json`` if it is the current one; return the first."""
    path = results / plan_name(index)
    write_json(path, {"targets": index})
    if is_current:
        write_json(results / "plan.json", {"targets": index})
    return path


def plan_name(index: Mapping[str, Any]) -> str:
    """Name of a plan that no other plan takes, relative to the results."""
    return f".cubeflow/plans/{short(make_key('plan', 1, {'targets': index}, {}))}.json"


def batch_manifest(target: TargetPlan, batch: BatchPlan, need: Estimate) -> dict[str, Any]:
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
        "memory_mb": need.memory_mb,
        "runs": runs,
        "leaves": dict(batch.leaves),
    }


def batch_files(batch: BatchPlan, sources: Sources) -> dict[str, Any]:
    """Where the HDUs of each run of a batch lie, and the size and time of each file when it was digested."""
    entries, cache = sources
    files = {}
    for run in batch.runs:
        entry = entries[run.obs_id]
        status = {str(path): list(cache.status(path)[:2]) for path in {ref.path for ref in entry.hdus}}
        files[str(run.obs_id)] = {**entry_to_plain(entry), "status": status}
    return files


def table_manifest(target: TargetPlan) -> dict[str, Any]:
    """What the run table of a target is made from."""
    leaves = {label: [batch.leaves[label] for batch in target.batches] for label in target.spec.backgrounds}
    refused = {str(refusal.obs_id): refusal.reason for refusal in target.refused}
    content = {"target": target.spec.name, "leaves": leaves, "refused": refused}
    return {**content, "unselected": target.unselected, "key": make_key("table", versions.TABLE, content, {})}


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
    return {**content, **made_of(target, label), "key": key}


def made_of(target: TargetPlan, label: str) -> dict[str, Any]:
    """What stands behind the root of a label, for those who ask why a result changed: no part of its key."""
    runs = {str(run.obs_id): short(run.background_keys[label]) for batch in target.batches for run in batch.runs}
    steps = {step: getattr(versions, step.upper()) for step in ("reduce", "background", "stack")}
    return {"reduce": target.spec.reduce, "runs": runs, "versions": steps}


def read_json(path: Path) -> Any:
    """Read JSON that a plan has written; MistakeError for anything else."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise MistakeError(f"{path}: expected JSON as `cubeflow plan` writes it; make the plan again") from error
