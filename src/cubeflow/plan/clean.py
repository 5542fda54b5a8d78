"""What lies in the results folder and is not part of the plan."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cubeflow.errors import MistakeError
from cubeflow.pipeline.tasks import FOLDER, PICTURES, PRODUCTS, TABLES
from cubeflow.plan.lock import Lock
from cubeflow.plan.make import Plan
from cubeflow.store.artifact import MAGIC
from cubeflow.store.atomic import TEMPORARY

_KEY = r"[0-9a-f]{16}"
_CORRUPT = r"(\.corrupt(\.\d+)?)?"
# Names that cubeflow gives, by the folder below that of a target; with those of the first edition.
_NAMES = {
    "obs": re.compile(rf"(reduced|background-.+)(-{_KEY})?\.h5{_CORRUPT}|left-out\.json|pieces\.json"),
    "stack": re.compile(rf"{_KEY}(-[0-9a-f]{{8}})?\.h5{_CORRUPT}"),
    "plan": re.compile(r".+\.(files|final|table)\.json|[0-9a-f]{16}-[0-9a-f]{8}\.json"),
}
_PRODUCT = re.compile(rf"made-{_KEY}\.json|figures-{_KEY}\.json|.*\.svg\.json")


def stale_files(plan: Plan) -> list[Path]:
    """Files that cubeflow wrote for the targets of a plan and that the plan does not name, sorted.

    Names decide, and the header of artifacts; links are not followed. Left alone are folders of targets that the
    configuration does not have, and those of targets without any run: their position may be a mistake.
    """
    needed = {file for task in plan.all_tasks for file in plan.files(task)}
    found: list[Path] = []
    for name, target in plan.targets.items():
        for path in _files_below(plan.results / name) if plan.tasks[name].reduce else ():
            place = path.relative_to(plan.results / name).parts
            if str(path.relative_to(plan.results)) not in needed and _is_ours(path, place, set(target.backgrounds)):
                found.append(path)
    first_edition = [plan.results / "plan.json", *(plan.results / FOLDER).glob("plans/*.json")]
    return sorted(found + [path for path in first_edition if path.is_file() and not path.is_symlink()])


def clean_results(plan: Plan, is_serious: bool) -> tuple[list[Path], int]:
    """List, or remove, what a plan does not need; paths and bytes.

    Raises
    ------
    MistakeError
        If files are to be removed where inputs lie.
    LockedError
        If files are to be removed while a workflow of this configuration is at work.
    """
    paths = stale_files(plan)
    size = sum(path.lstat().st_size for path in paths)
    if is_serious:
        _require_inputs_outside(plan)
        with Lock(plan.results, plan.config).held():
            _remove(paths, plan.results)
    return paths, size


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, at any depth; no link is followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not Path(place, each).is_symlink()]
        for name in names:
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _is_ours(path: Path, place: tuple[str, ...], labels: set[str]) -> bool:
    """Whether cubeflow wrote a file, given by its place below the folder of its target."""
    if TEMPORARY.fullmatch(path.name):
        return True
    if place[0] in _NAMES and len(place) > 1:
        named = _NAMES[place[0]].fullmatch(path.name) is not None
        return named and (".h5" not in path.name or _is_artifact(path))
    if len(place) == 1:
        return path.name not in TABLES and _PRODUCT.fullmatch(path.name) is not None
    is_current = place[0] in labels
    return len(place) == 2 and (
        _PRODUCT.fullmatch(path.name) is not None or (not is_current and path.name in (*PRODUCTS, *PICTURES))
    )


def _is_artifact(path: Path) -> bool:
    """Whether a file begins as artifacts do, of any edition, or was set aside as a damaged one."""
    with path.open("rb") as file:
        return ".corrupt" in path.name or file.read(len(MAGIC)) == MAGIC


def _require_inputs_outside(plan: Plan) -> None:
    """Refuse where a file of the store, or the store itself, lies inside the results folder of a target."""
    for name in plan.targets:
        folder = (plan.results / name).resolve()
        files = (ref.path for entry in plan.store.runs for ref in entry.hdus)
        inside = next((path for path in files if path.resolve().is_relative_to(folder)), None)
        if inside is not None:
            raise MistakeError(f"{inside}: an input lies inside {folder}; nothing is removed there")


def _remove(paths: Sequence[Path], results: Path) -> None:
    """Remove files below `results` and the folders that this leaves empty."""
    for path in paths:
        path.unlink()
        parent = path.parent
        while parent != results and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent
