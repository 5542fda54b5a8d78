"""Whether results still are what was written: the plan looks at names and sizes, this at the content."""

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import read_hdus
from cubeflow.errors import FailedError
from cubeflow.pipeline.certificate import read_certificate
from cubeflow.pipeline.tasks import ArtifactTask, artifact_keys
from cubeflow.plan.clean import stale_files
from cubeflow.plan.lock import Lock
from cubeflow.plan.make import Plan
from cubeflow.store.artifact import ArtifactNewer, open_artifact, set_aside
from cubeflow.store.atomic import StorageError, file_sha256


@dataclass(frozen=True)
class Verdict:
    """What there is of a plan that has read all inputs, and what is wrong with it."""

    inputs: int  # number of input files
    files: int  # and of those that the plan has made
    damaged: Mapping[Path, str]  # what is wrong, by file
    absent: tuple[Path, ...]  # files of the plan that are not made
    orphans: tuple[Path, ...]  # files that cubeflow made and the plan does not need


def verify_plan(plan: Plan, sets_aside: bool) -> Verdict:
    """Look at every byte that a plan trusts; if asked, set damaged files aside and note what inputs are now.

    Then the next start makes again what was damaged. LockedError if a workflow of this configuration is at work then.
    """
    with Lock(plan.results, plan.config).held() if sets_aside else nullcontext():
        found = dict(verify_results(plan))
        damaged = {path: problem for path, problem in found.items() if problem is not None}
        for path, problem in damaged.items() if sets_aside else ():
            damaged[path] = f"{problem}; set aside as {set_aside(path).name}"
        if sets_aside:
            plan.cache.save()
    for name in plan.cache.exchanged:
        damaged[Path(name)] = "has another content than it had, with the same size and times"
    paths = {plan.results / file for task in plan.all_tasks for file in plan.files(task)}
    absent = sorted(path for path in paths if path not in found)
    return Verdict(len(plan.cache.seen), len(found), damaged, tuple(absent), tuple(stale_files(plan)))


def verify_results(plan: Plan) -> Iterator[tuple[Path, str | None]]:
    """Each file of a plan that is there, and what is wrong with it; None for a file that is whole.

    An artifact is checked against its own checksum and the key that the plan has for it, GADF tables of a model against
    their CHECKSUM and DATASUM, products and pictures against their certificate, and that against its own checksum.
    """
    for task in plan.all_tasks:
        paths = [plan.results / file for file in plan.files(task)]
        if isinstance(task, ArtifactTask):
            about = {plan.results / file: known for file, known in artifact_keys(task).items()}
            yield from ((path, _of_artifact(path, about.get(path))) for path in paths if path.exists())
            continue
        certificate = paths.pop()
        content = read_certificate(certificate, task.key)
        if certificate.exists():
            yield certificate, None if content else "not as it was written"
        if content:
            names = {path: os.path.relpath(path, certificate.parent) for path in paths if path.exists()}
            yield from ((path, _of_product(path, content["files"][name]["sha256"])) for path, name in names.items())


def _of_product(path: Path, sha256: str) -> str | None:
    """What is wrong with a product; None if it has this digest."""
    try:
        return None if file_sha256(path) == sha256 else "has another content than its certificate says"
    except StorageError as error:
        return str(error).removeprefix(f"{path}: ")


def _of_artifact(path: Path, about: tuple[str, str] | None) -> str | None:
    """What is wrong with an artifact of this kind and key, or with GADF tables; None if whole. Raises ArtifactNewer."""
    try:
        if about is None:
            for hdu in read_hdus(path):
                hdu.check_sums()
            return None
        with open_artifact(path, *about):
            return None
    except ArtifactNewer:  # it is whole, and not for this version to set aside
        raise
    except (FailedError, FileRefused) as error:
        return str(error).removeprefix(f"{path}: ")
