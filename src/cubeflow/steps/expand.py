"""Artifacts of either form as they would be if they were dense."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube
from cubeflow.observation import RunRefused, RunSkipped
from cubeflow.steps.background import Background, make_background
from cubeflow.steps.factors import NAME, Datasets, check_size, pack, unpack
from cubeflow.steps.reduce import Reduced
from cubeflow.steps.setup import ReduceSetup, reduce_setup_from_plain
from cubeflow.storage.artifact import Artifact, ArtifactDamaged, read_artifact

Made = tuple[Datasets, dict[str, Any]]  # datasets and attributes of an artifact
DENSE, FACTORED = "dense", "factored"
MASK = "exclusion"


class FormMistake(MistakeError):
    """A run has no factored form; the message says why."""


def read_dense(path: str | os.PathLike[str], *, expect_key: str | None = None) -> Artifact:
    """Read an artifact; one of the factored form is expanded.

    The maps of a background are made from those of its run, whose ``reduced.h5`` must lie beside it.

    Parameters
    ----------
    path : path-like
        Any artifact.
    expect_key : str, optional
        Key that it must have.

    Raises
    ------
    StorageError, ArtifactDamaged, ArtifactMismatch
        As `cubeflow.storage.artifact.read_artifact`, also for what cannot be expanded.
    """
    artifact = read_artifact(path, expect_key=expect_key)
    if form_of(artifact.attributes) == DENSE:
        return artifact
    if artifact.kind == "reduced":
        datasets, attributes = dense_reduced(_expanded(path, artifact))
    else:
        with damage(path):
            key, label = artifact.provenance["inputs"]["reduced"], artifact.attributes["label"]
        reduced = read_dense(Path(path).with_name("reduced.h5"), expect_key=key)
        datasets, attributes = dense_background(_background(path, artifact, reduced))
        attributes["label"] = label
    return replace(artifact, datasets=datasets, attributes=attributes)


def form_of(attributes: Mapping[str, Any]) -> str:
    """Form of an artifact with the given attributes."""
    return FACTORED if NAME in attributes else DENSE


def dense_reduced(reduced: Reduced) -> Made:
    """Content of the dense form of a run."""
    return {**reduced.maps, "gti_s": reduced.gti_s}, {"row": dict(reduced.row)}


def factored_reduced(reduced: Reduced, setup: ReduceSetup) -> Made:
    """Content of the factored form of a run that has just been reduced; FormMistake if it has none."""
    try:
        datasets, plain = pack(reduced, setup)
    except ValueError as error:
        raise FormMistake(f"artifacts.form: {error}; expected dense here") from error
    return datasets, {"row": dict(reduced.row), NAME: plain}


def dense_background(background: Background) -> Made:
    """Content of the dense form of a background, without its label."""
    datasets: Datasets = {**background.maps, "usable": background.usable}
    return datasets, {"row": dict(background.row), "failed": background.failed}


def factored_background(background: Background, exclusion: NDArray[np.bool_]) -> Made:
    """Content of the factored form of a background: what it needs beside the run; its maps are made again."""
    if not background.maps:
        return dense_background(background)
    return {MASK: exclusion}, {"row": dict(background.row), "failed": background.failed, NAME: {}}


def reduced_of(path: str | os.PathLike[str], artifact: Artifact, setup: ReduceSetup) -> Reduced:
    """Maps of a run from its artifact of either form; ArtifactDamaged if they cannot be had."""
    with damage(path):
        row, arrays = artifact.attributes["row"], artifact.datasets
        if form_of(artifact.attributes) == DENSE:
            return Reduced(cubes(artifact), np.asarray(arrays["gti_s"]), row["livetime_s"], row)
        return unpack(arrays, artifact.attributes[NAME], row, setup)


def background_of(artifact: Artifact) -> Background | None:
    """Background from its artifact; None for the factored form, which holds no maps."""
    attributes = artifact.attributes
    if form_of(attributes) == FACTORED:
        return None
    return Background(cubes(artifact), np.asarray(artifact.datasets["usable"]), attributes["row"], attributes["failed"])


def cubes(artifact: Artifact) -> dict[str, Cube]:
    """Maps of an artifact."""
    return {name: data for name, data in artifact.datasets.items() if isinstance(data, Cube)}


@contextmanager
def damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what is raised for content that does not fit together into ArtifactDamaged."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RunRefused, RunSkipped) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ArtifactDamaged(path, f"its factors do not fit together: {reason}") from error


def _expanded(path: str | os.PathLike[str], artifact: Artifact) -> Reduced:
    """Maps of a run by the configuration that its artifact holds."""
    with damage(path):
        setup = reduce_setup_from_plain(artifact.provenance["config"])
        check_size(setup)
    return reduced_of(path, artifact, setup)


def _background(path: str | os.PathLike[str], artifact: Artifact, reduced: Artifact) -> Background:
    """Background of a run by the configuration and exclusion that its artifact holds."""
    with damage(path):
        exclusion = artifact.datasets[MASK]
        if not isinstance(exclusion, np.ndarray) or exclusion.dtype != bool:
            raise ValueError(f"{MASK}: expected truth values")
        row = reduced.attributes["row"]
        run = Reduced(cubes(reduced), np.asarray(reduced.datasets["gti_s"]), row["livetime_s"], row)
        return make_background(run, artifact.provenance["config"], exclusion)
