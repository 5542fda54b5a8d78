"""Whether results still are what was written: the plan looks at names and sizes, this at the content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cubeflow.errors import FailedError
from cubeflow.pipeline.certificate import read_certificate
from cubeflow.pipeline.tasks import ReduceTask, StackTask
from cubeflow.plan.make import Plan
from cubeflow.store.artifact import open_artifact
from cubeflow.store.atomic import file_sha256


def verify_results(plan: Plan) -> Iterator[tuple[Path, str | None]]:
    """Each file of a plan that is there, and what is wrong with it; None for a file that is whole.

    An artifact is checked against its own checksum, products against their certificate.
    """
    for task in plan.all_tasks:
        paths = [plan.results / file for file in plan.files(task)]
        if isinstance(task, ReduceTask | StackTask):
            yield from ((path, _of_artifact(path)) for path in paths if path.exists())
            continue
        content = read_certificate(paths[-1])
        if content is None:
            continue  # the products are yet to be made; figures have no certificate
        for name, about in content["files"].items():
            path = paths[-1].parent / name
            if not path.exists():
                yield path, "missing"
            else:
                is_whole = file_sha256(path) == about["sha256"]
                yield path, None if is_whole else "has another content than its certificate says"


def _of_artifact(path: Path) -> str | None:
    """What is wrong with an artifact; None if it is whole and the one that its name says."""
    try:
        with open_artifact(path) as opened:
            name = path.stem.rpartition("-")[2]
            return None if opened.artifact.key.startswith(name) else f"has key {opened.artifact.key}"
    except FailedError as error:
        return str(error).removeprefix(f"{path}: ")
