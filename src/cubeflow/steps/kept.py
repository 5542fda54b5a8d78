"""Artifacts on disk: where they lie, how they are written, and when they are read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import FailedError
from cubeflow.maps import Cube, NoOverlap
from cubeflow.observation import RunRefused, RunSkipped
from cubeflow.plan import versions
from cubeflow.plan.digests import write_json
from cubeflow.plan.write import read_json
from cubeflow.products.stack import Stack
from cubeflow.steps.background import Background
from cubeflow.steps.expand import (
    FACTORED,
    background_of,
    dense_background,
    dense_reduced,
    factored_background,
    factored_reduced,
    reduced_of,
)
from cubeflow.steps.reduce import Reduced
from cubeflow.steps.setup import ReduceSetup
from cubeflow.storage.artifact import (
    Artifact,
    ArtifactDamaged,
    ArtifactMismatch,
    read_artifact,
    set_aside,
    write_artifact,
)
from cubeflow.storage.atomic import sweep_temporaries

Plain = Mapping[str, Any]
Datasets = dict[str, Cube | NDArray[Any]]
LEFT_OUT = {"refused": RunRefused, "skipped": RunSkipped}


@dataclass(frozen=True)
class Keeper:
    """Artifacts of the runs of one target: one that holds its key is read, any other is made again.

    Parameters
    ----------
    folder : Path
        Results of the target.
    compression : str
        Filter of new artifacts.
    say : callable
        Takes one line for the log.
    config : mapping
        Configuration ``reduce`` and ``backgrounds`` by label, kept beside what was made with it, and ``settings``,
        of which ``form`` is that of new artifacts.
    setup : ReduceSetup
        Configuration ``reduce`` as objects.
    """

    folder: Path
    compression: str
    say: Callable[[str], None]
    config: Plain
    setup: ReduceSetup

    def reduced(self, run: Plain, make: Callable[[], Reduced]) -> Reduced:
        """Maps of a run, from its ``reduced.h5`` if that holds the key of `run`, in whichever form.

        A run that was left out before, for the same inputs and configuration, is left out again
        without being read: the reason lies beside the artifacts.
        """
        folder, key = self.run_folder(run), run["reduced_key"]
        path, verdict = folder / "reduced.h5", folder / "left-out.json"
        kept = self._read_reduced(path, key)
        if kept is not None:
            return kept
        self._repeat_verdict(verdict, key)
        try:
            reduced = make()
        except (RunRefused, RunSkipped, NoOverlap) as error:
            kind = "refused" if isinstance(error, RunRefused) else "skipped"
            write_json(verdict, {"key": key, "kind": kind, "reason": str(error)})
            raise
        made_of = {"config": self.config["reduce"], "inputs": dict(run["inputs"])}
        factored = self._makes_factored
        datasets, about = factored_reduced(reduced, self.setup) if factored else dense_reduced(reduced)
        self._write(path, Artifact("reduced", key, versions.REDUCE, datasets, about, made_of))
        return replace(reduced, source=None)

    def background(
        self, run: Plain, label: str, make: Callable[[], Background], exclusion: Callable[[], NDArray[np.bool_]]
    ) -> Background:
        """Background of a run, from its ``background-<label>.h5`` if that holds the key of `run`, and maps.

        The factored form has none: they are made again. `exclusion` gives the mask that it keeps.
        """
        path = self.run_folder(run) / f"background-{label}.h5"
        key = run["background_keys"][label]
        kept = self._read(path, "background", key)
        found = None if kept is None else background_of(kept)
        if found is not None:
            return found
        made = make()
        if kept is None:
            made_of = {"config": self.config["backgrounds"][label], "inputs": {"reduced": run["reduced_key"]}}
            factored = self._makes_factored
            datasets, about = factored_background(made, exclusion()) if factored else dense_background(made)
            about["label"] = label
            self._write(path, Artifact("background", key, versions.BACKGROUND, datasets, about, made_of))
        return made

    def run_folder(self, run: Plain) -> Path:
        """Where the artifacts of a run, or of a piece of it, lie."""
        folder = self.folder / "obs" / str(run["obs_id"])
        return folder / f"piece-{run['piece']}" if "piece" in run else folder

    def _repeat_verdict(self, path: Path, key: str) -> None:
        """Raise again what was raised for the same key before; a file that does not say it is passed over."""
        try:
            verdict = read_json(path)
            known, left_out = verdict["key"] == key, LEFT_OUT[verdict["kind"]](verdict["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if known:
            raise left_out

    @property
    def _makes_factored(self) -> bool:
        return bool(self.config["settings"].get("form") == FACTORED)

    def _read_reduced(self, path: Path, key: str) -> Reduced | None:
        """Maps of a run if the artifact holds the key and they can be had from it; else it is set aside."""
        kept = self._read(path, "reduced", key)
        try:
            return None if kept is None else reduced_of(path, kept, self.setup)
        except ArtifactDamaged as error:
            _set_aside(path, error, self.say)
            return None

    def _read(self, path: Path, kind: str, key: str) -> Artifact | None:
        """Return the artifact if it is whole and holds the key; a damaged one is set aside."""
        return read_kept(path, kind, key, self.say)

    def _write(self, path: Path, artifact: Artifact) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(path.parent)
        write_artifact(path, artifact, self.compression, is_read_soon=False)


def read_kept(path: Path, kind: str, key: str | None, say: Callable[[str], None]) -> Artifact | None:
    """Read an artifact that is whole, of this kind and key; None otherwise. A damaged one is set aside."""
    if not path.exists():
        return None
    try:
        return read_artifact(path, expect_kind=kind, expect_key=key)
    except ArtifactMismatch:
        return None
    except ArtifactDamaged as error:
        _set_aside(path, error, say)
        return None


def _set_aside(path: Path, error: ArtifactDamaged, say: Callable[[str], None]) -> None:
    say(f"{path}: damaged ({error.reason}); set aside as {set_aside(path).name} and made again")


def read_stack(path: Path, names: Sequence[str] | None = None) -> Artifact:
    """Read a stack, or only some of its datasets; as `damaged_set_aside`."""
    with damaged_set_aside():
        return read_artifact(path, names=names, expect_kind="stack")


@contextmanager
def damaged_set_aside() -> Iterator[None]:
    """Set a damaged stack aside and end; the job is not to blame.

    Raises
    ------
    FailedError
        If one is damaged; it is then missing, and the next start makes it again.
    """
    try:
        yield
    except ArtifactDamaged as error:
        aside = set_aside(error.path).name
        said = f"{error.path}: damaged ({error.reason}); set aside as {aside}, start again to make it"
        raise FailedError(said) from error


def write_stack(path: Path, stacked: Stack, key: str, attributes: Plain, compression: str) -> None:
    """Write a stack; everything but the maps goes into the attributes."""
    totals = {"ontime_s": stacked.ontime_s, "livetime_s": stacked.livetime_s, "n_runs": stacked.n_runs}
    datasets: Datasets = {**stacked.layers, "gti_s": stacked.gti_s}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_artifact(path, Artifact("stack", key, versions.STACK, datasets, {**attributes, **totals}), compression)
