"""What lies in the results folder and is not part of the plan any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from cubeflow.plan.inventory import PRODUCTS, names_in
from cubeflow.plan.model import TargetPlan
from cubeflow.plan.write import batch_name, batch_tag, final_manifest, final_name, table_manifest, table_name
from cubeflow.steps.entry import Planned
from cubeflow.steps.lock import release_lock, take_lock
from cubeflow.steps.report_plan import IMAGES


def stale_files(results: Path, targets: Sequence[TargetPlan]) -> list[Path]:
    """Artifacts, stacks and manifests that the plan does not need.

    Only files that cubeflow itself wrote are looked at: below ``obs``, ``stack`` and ``plan`` of the targets of this
    plan, and the final products of their labels. Folders of targets that the configuration no longer has are left
    alone.

    Parameters
    ----------
    results : Path
        Results folder.
    targets : sequence of TargetPlan
        The plan.

    Returns
    -------
    list of Path
        Sorted.
    """
    found: list[Path] = []
    for target in targets:
        folder = results / target.spec.name
        needed = {str(path) for path in needed_files(folder, target)}
        for part in ("obs", "stack", "plan"):
            found += [Path(path) for path in files_below(folder / part) if path not in needed]
        found += _finals_of_other_labels(folder, {*target.spec.backgrounds, "obs", "stack", "plan"})
    return sorted(found)


def _finals_of_other_labels(folder: Path, known: Set[str]) -> Iterator[Path]:
    """Final products and pictures of labels that a target no longer has."""
    for label in names_in(folder) - known:
        if (folder / label / "cube.h5").is_file():
            names = (*PRODUCTS, *(f"{image}.png" for image in IMAGES))
            yield from (path for name in names if (path := folder / label / name).is_file())


def clean_results(planned: Planned, is_serious: bool) -> dict[str, Any]:
    """List, or remove, what a plan does not need.

    Raises
    ------
    LockedError
        If files are to be removed while a workflow is at work in the results folder.
    """
    results = Path(planned.config.results)
    paths = stale_files(results, planned.targets)
    size = sum(path.stat().st_size for path in paths)
    if is_serious:
        take_lock(results)
        try:
            remove_files(paths, results)
        finally:
            release_lock(results)
    return {"files": [str(path) for path in paths], "bytes": size}


def files_below(folder: Path) -> Iterator[str]:
    """Paths of all files below a folder, at any depth."""
    for place, _, names in os.walk(folder):
        yield from (f"{place}/{name}" for name in names)  # millions of Path objects would take minutes


def needed_files(folder: Path, target: TargetPlan) -> Iterator[Path]:
    """Files below ``obs``, ``stack`` and ``plan`` that the plan of a target may use."""
    labels = list(target.spec.backgrounds)
    tag = batch_tag(target.spec)
    for batch in target.batches:
        manifest = folder / "plan" / batch_name(batch.name, tag)
        yield from (manifest, manifest.with_suffix(".files.json"))
        for run in batch.runs:
            obs = folder / "obs" / str(run.obs_id)
            if target.spec.reduce["split"] is not None:
                yield from (obs / "pieces.json", *obs.glob("piece-*/*"))
                continue
            yield from (obs / "reduced.h5", obs / "left-out.json")
            yield from (obs / f"background-{label}.h5" for label in labels)
        yield from (folder / "stack" / label / f"{leaf}.h5" for label, leaf in batch.leaves.items())
    for label in labels:
        yield from (folder / "stack" / label / f"{node}.h5" for node in target.nodes[label])
    finals = (final_manifest(target, label) for label in target.roots)
    yield from (folder / "plan" / final_name(final["label"], final["key"]) for final in finals)
    yield folder / "plan" / table_name(table_manifest(target)["key"])


def remove_files(paths: Sequence[Path], results: Path) -> int:
    """Remove files below `results` and the folders that this leaves empty; return the bytes freed."""
    freed = 0
    for path in paths:
        freed += path.stat().st_size
        path.unlink()
        parent = path.parent
        while parent != results and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent
    return freed
