"""What lies in the results folder and is not part of the plan."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import read_hdus
from cubeflow.errors import MistakeError
from cubeflow.pipeline.certificate import read_certificate
from cubeflow.pipeline.tasks import (
    COVERAGE,
    FOUND,
    JOINT,
    LIGHT_CURVE,
    PAGE,
    PARTS,
    PICTURES,
    PRODUCTS,
    REGIONS,
    TABLES,
    gadf_file,
)
from cubeflow.plan.lock import Lock
from cubeflow.plan.make import Plan
from cubeflow.regular import open_regular, read_regular
from cubeflow.store.artifact import MAGIC
from cubeflow.store.atomic import TEMPORARY, file_sha256, is_abandoned

_KEY = r"[0-9a-f]{16}"
# Names of artifacts, by the folder below that of a target.
_ARTIFACTS = {"obs": re.compile(rf"(reduced|background-.+)-{_KEY}\.h5"), "stack": re.compile(rf"{_KEY}\.h5")}
_MODELS = re.compile(rf"\S+-{_KEY}\.(h5|fits\.gz)")
SET_ASIDE = re.compile(r"\.corrupt(\.\d+)?$")
_LISTED = (*PRODUCTS, LIGHT_CURVE, *JOINT)  # in certificates of a label
_NAMES = {*_LISTED, *TABLES, *PICTURES, *REGIONS}
CLAIM = re.compile(rf"(made|series|figures|report)-({_KEY})\.json")


def files_beside(plan: Plan) -> Iterator[tuple[Path, bool]]:
    """Each file in the folders of the targets that the plan does not name, and whether cubeflow wrote it.

    Name and content must both say so: the header of an artifact, the key in a certificate or a section of the report,
    and of the products of a label that is gone, or the page of several targets, the certificate or section beside them.
    No link is followed. Left out are folders of targets that the configuration does not have, and those of targets
    without any run: their position may be a mistake.
    """
    needed = {file for task in plan.all_tasks for file in plan.files(task)}
    needed |= {f"{root}/{file}" for root in _places(plan) for file in FOUND}
    claimed = cache(_claimed)
    idle = {name for name, found in plan.tasks.items() if not found.reduce}
    folders = [place for place, name in _places(plan).items() if name not in idle]
    folders += [f"models/{name}" for name in plan.models if name not in {f"self-{each}" for each in idle}]
    for root, path in ((each, path) for each in folders for path in files_below(plan.results / each)):
        place, named = path.relative_to(plan.results / root).parts, SET_ASIDE.sub("", path.name)
        is_near = len(place) <= 2 or (len(place) == 4 and place[1] == PARTS)
        if str(path.relative_to(plan.results)) in needed:
            continue
        if not stat.S_ISREG(path.lstat().st_mode):
            yield path, False
        elif TEMPORARY.fullmatch(path.name):
            yield path, is_abandoned(path)
        elif root.startswith("models/"):
            yield path, _MODELS.fullmatch(named) is not None and _is_artifact(path)
        elif len(place) > 1 and place[0] in _ARTIFACTS:
            yield path, _ARTIFACTS[place[0]].fullmatch(named) is not None and _is_artifact(path)
        elif place == (PAGE,):
            yield path, b'name="cubeflow-key"' in read_regular(path)[:1000]
        elif named != path.name:
            yield path, is_near and (named in _NAMES or CLAIM.fullmatch(named) is not None)
        else:
            labels = plan.targets[_places(plan)[root]].backgrounds
            is_product = len(place) == 4 or (len(place) == 2 and place[0] not in labels)
            is_product |= path.name in (LIGHT_CURVE, *JOINT)
            is_ours = is_near and (is_product or CLAIM.fullmatch(path.name) is not None)
            yield path, is_ours and path.name in claimed(path.parent)
    for page in plan.results.glob("made-*.json"):
        yield from ((path, True) for path in _of_page(page, plan) if path.name not in needed)


def _of_page(certificate: Path, plan: Plan) -> Iterator[Path]:
    """A certificate of a page of several targets, if the plan has runs of those that it shares, and what is its."""
    content = read_certificate(certificate) or {"files": {}, "options": {"targets": []}}
    shared = {each["name"] for each in content["options"]["targets"]} & plan.targets.keys()
    if shared and all(plan.tasks[name].reduce for name in shared):
        yield certificate
        about = [(certificate.parent / name, content["files"].get(name)) for name in (PAGE, COVERAGE)]
        yield from (path for path, made in about if made and path.is_file() and file_sha256(path) == made["sha256"])


def _places(plan: Plan) -> dict[str, str]:
    """Target by folder below the results; that of all types of events has the options of one of them."""
    lists = {task.family: task.target for found in plan.tasks.values() for task in found.series if task.family}
    return {name: name for name in plan.targets} | lists


def stale_files(plan: Plan) -> list[Path]:
    """Files that cubeflow wrote for the targets of a plan and that the plan does not name, sorted."""
    return sorted(path for path, is_ours in files_beside(plan) if is_ours)


def clean_results(plan: Plan, is_serious: bool) -> tuple[list[Path], list[Path], int]:
    """List, or remove, what a plan does not need: the paths, those of files of others that stay, and bytes.

    If files are to be removed, MistakeError where inputs lie, LockedError while a workflow of this configuration works.
    """
    found = dict(sorted(files_beside(plan)))
    paths = [path for path, is_ours in found.items() if is_ours]
    size = sum(path.lstat().st_size for path in paths)
    if is_serious:
        _require_inputs_outside(plan)
        with Lock(plan.results, plan.config).held():
            _remove(paths, plan.results)
    return paths, [path for path, is_ours in found.items() if not is_ours], size


def files_below(folder: Path) -> Iterator[Path]:
    """What is no folder below a folder, at any depth: files, links and all else; no link is followed."""
    if folder.is_symlink():
        yield folder
        return
    for place, folders, names in os.walk(folder):
        linked = [name for name in folders if Path(place, name).is_symlink()]
        folders[:] = sorted(set(folders) - set(linked))
        yield from (Path(place, name) for name in (*linked, *names))


def _is_artifact(path: Path) -> bool:
    """Whether a file with the name of an artifact begins as one, or is set aside; GADF tables have a key to tell."""
    if SET_ASIDE.search(path.name):
        return True
    if path.suffix == ".gz":
        try:
            return path.name == Path(gadf_file("", str(read_hdus(path)[0].header.get("KEY")))).name
        except FileRefused:
            return False
    with open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def _claimed(folder: Path) -> set[str]:
    """Names of the certificates and sections of the report in a folder, and of the products there that are theirs."""
    sizes = {path.name: path.lstat().st_size for path in folder.iterdir()}
    found: set[str] = set()
    for match in filter(None, map(CLAIM.fullmatch, sizes)):
        content = read_certificate(folder / match[0])
        if content is None or not content["key"].startswith(match[2]):
            continue
        options = content["options"]
        if (options.get("part") or options.get("label", folder.name)) != folder.name:  # somebody's copy
            continue
        whole = {name for name, about in content["files"].items() if about["bytes"] == sizes.get(name)}
        found |= {match[0], *(PICTURES if match[1] == "figures" else whole.intersection(_LISTED))}
    return found


def _require_inputs_outside(plan: Plan) -> None:
    """Refuse where an input lies in the folder of a target or model, or that folder in the store or a root of it."""
    places = {path.resolve() for path in plan.places}
    files = {ref.path for entry in plan.store.runs for ref in entry.hdus}
    # What was found here stays here; nothing else that is an input may lie here.
    for target in plan.targets.values():
        exclusions = *target.exclusions, *(target.model.exclusions if target.model else ())
        files |= {each.file.path for each in exclusions if each.file.path.name not in FOUND}
        files |= {Path(path) for models in target.sky_models.values() for path in models.files}
    inputs = sorted(places | {path.resolve() for path in files})
    for name in (*_places(plan), *(f"models/{model}" for model in plan.models)):
        folder = (plan.results / name).resolve()
        if (inside := next((path for path in inputs if path.is_relative_to(folder)), None)) is not None:
            raise MistakeError(f"{inside}: an input lies inside {folder}; nothing is removed there")
        if (around := next((path for path in places if folder.is_relative_to(path)), None)) is not None:
            raise MistakeError(f"{folder}: lies inside {around}, where inputs lie; nothing is removed there")


def _remove(paths: Sequence[Path], results: Path) -> None:
    """Remove files below `results` and the folders that this leaves empty; what says whose products are, last."""
    for path in sorted(paths, key=lambda path: path.suffix == ".json"):
        if TEMPORARY.fullmatch(path.name):
            is_abandoned(path, remove=True)
        else:
            path.unlink()
        parent = path.parent
        while parent != results and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent
