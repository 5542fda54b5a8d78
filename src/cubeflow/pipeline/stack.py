"""The task ``stack``: a node of the tree from its children; and how stacks are written and read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cubeflow.errors import FailedError, Say, counted
from cubeflow.maps import Cube
from cubeflow.pipeline import versions
from cubeflow.pipeline.certificate import software
from cubeflow.pipeline.tasks import StackTask, Target, stack_file
from cubeflow.products.profiles import Profiles
from cubeflow.products.stack import Stack, StackSum
from cubeflow.store.artifact import UNSOUND, Artifact, OpenArtifact, open_artifact, set_aside, write_artifact
from cubeflow.store.atomic import make_folder
from cubeflow.store.keys import Recipe

Row = dict[str, Any]  # of a run: its place, status and reason, and the rows of its maps and its background


def stack_node(results: Path, target: Target, task: StackTask, say: Say) -> None:
    """Stack the children of a node, in order, into its file; FailedError as `open_made`."""
    total, rows = StackSum(), []
    for child in task.children:
        with open_made(results / stack_file(task.target, task.label, child), "stack", child) as opened:
            total.add(read_stack(opened))
            rows += opened.artifact.attributes["rows"]
    stacked = total.result()
    path = results / stack_file(task.target, task.label, task.key)
    write_stack(path, stacked, task.key, rows, task.recipe(target))
    say(f"{path.name}: {counted(len(task.children), 'stack')}, livetime {stacked.livetime_s:.1f} s")


def write_stack(path: Path, stacked: Stack, key: str, rows: Sequence[Row], recipe: Recipe) -> None:
    """Write a stack; everything but the maps goes into the attributes. Pieces of a run count as one run."""
    times = {"ontime_s": stacked.ontime_s, "livetime_s": stacked.livetime_s}
    n_runs = len({row["obs_id"] for row in rows if row["status"] == "ok"})
    about = {**times, "n_runs": n_runs, "profiles": plain_profiles(stacked.profiles), "rows": list(rows)}
    attributes, made_from = {**about, "layers": sorted(stacked.layers)}, {**recipe.record, "software": software()}
    datasets: dict[str, Cube | np.ndarray] = {**stacked.layers, "gti_s": stacked.gti_s}
    make_folder(path.parent)
    artifact = Artifact("stack", key, versions.STACK, datasets, attributes, made_from)
    write_artifact(path, artifact, str(recipe.options["compression"]))


@contextmanager
def open_made(path: Path, kind: str, key: str | None = None) -> Iterator[OpenArtifact]:
    """Open an artifact; FailedError if it is damaged or another one: set aside, it is made again by the next start."""
    try:
        with open_artifact(path, kind, key) as opened:
            yield opened
    except UNSOUND as error:
        aside = set_aside(path).name
        raise FailedError(f"{path}: damaged ({error.reason}); set aside as {aside}, start again to make it") from error


def read_stack(opened: OpenArtifact) -> Stack:
    """Stack of an open artifact, with large maps in scratch files; ArtifactMismatch if it lacks a layer that it had."""
    about = opened.artifact.attributes
    for name in about["layers"]:
        opened.describe(name)
    gti_s, profiles = np.asarray(opened.dataset("gti_s")), read_profiles(about["profiles"])
    return Stack(opened.maps(), gti_s, about["ontime_s"], about["livetime_s"], about["n_runs"], profiles)


def plain_profiles(profiles: Profiles | None) -> dict[str, object] | None:
    """Profiles as plain numbers."""
    return None if profiles is None else {name: values.tolist() for name, values in vars(profiles).items()}


def read_profiles(plain: Mapping[str, object] | None) -> Profiles | None:
    """Undo `plain_profiles`."""
    return None if plain is None else Profiles(**{name: np.array(values) for name, values in plain.items()})
