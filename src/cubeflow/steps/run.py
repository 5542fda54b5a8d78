"""One run as the step ``reduce`` takes it: read and checked, whole or in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cubeflow.dl3.index import RunEntry
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.errors import FailedError
from cubeflow.observation import Observation, RunRefused
from cubeflow.plan import versions
from cubeflow.plan.digests import write_json
from cubeflow.plan.write import read_json
from cubeflow.steps.pieces import split_gti
from cubeflow.steps.reduce import Reduced, in_selected_time, reduce_observation
from cubeflow.steps.setup import ReduceSetup
from cubeflow.steps.unchanged import is_of_the_disk, require_unchanged, without_folders
from cubeflow.storage.keys import make_key

Plain = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """A run of a batch; its files are read when something of it is made, and once at most.

    Parameters
    ----------
    plain : mapping
        The run in the manifest: ``obs_id``, ``inputs`` and keys.
    entry : RunEntry
        Where its HDUs lie.
    status : mapping of str to sequence of int
        Of its files, when it was planned.
    setup : ReduceSetup
        Configuration of the step.
    """

    plain: Plain
    entry: RunEntry
    status: Mapping[str, Sequence[int]]
    setup: ReduceSetup

    @cached_property
    def observation(self) -> Observation:
        """The run in its selected time; what was read must be what its key stands for.

        Raises
        ------
        RunRefused, RunSkipped
            If it cannot be used, or no time is selected.
        FailedError
            If an input is not the one planned with, or the disk failed.
        """
        inputs = self.plain["inputs"]
        try:
            observation = read_observation(self.entry, ReadOptions(duplicates=self.setup.duplicates))
        except RunRefused as error:
            require_unchanged(self.entry, inputs, self.status)
            if is_of_the_disk(error):
                raise FailedError(str(error)) from error
            raise RunRefused(without_folders(str(error), self.entry)) from error
        require_unchanged(self.entry, inputs, self.status)
        return in_selected_time(observation, self.setup)

    def pieces(self, folder: Path) -> list[Plain]:
        """Return what is reduced by itself: the run, or its pieces with keys and folders of their own.

        How many pieces there are is remembered in `folder`, so that a run that was cut before is not read.
        """
        if self.setup.split is None:
            return [self.plain]
        path, key = folder / "pieces.json", self.plain["reduced_key"]
        try:
            known = read_json(path)
            number = known["number"] if known["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            number = None
        if number is None:
            number = len(self._cut())
            write_json(path, {"key": key, "number": number})
        return [_piece(self.plain, index) for index in range(number)]

    def reduce(self, plain: Plain) -> Reduced:
        """Maps of the run or of one of its pieces; errors as of `observation`, and NoOverlap."""
        if "piece" not in plain:
            return reduce_observation(self.observation, self.setup)
        reduced = reduce_observation(self._cut()[plain["piece"]], self.setup)
        return replace(reduced, row={**reduced.row, "piece": plain["piece"]})

    def _cut(self) -> list[Observation]:
        """Pieces of the observation; events outside all good time intervals are in none of them."""
        whole = self.observation
        pieces = split_gti(whole.gti, self.setup.split, whole.site)
        contained = [gti.contains(whole.events.time_s) for gti in pieces]
        for index in range(1, len(pieces)):  # an event on a border belongs to the earlier piece
            contained[index] &= ~contained[index - 1]
        return [
            replace(whole, gti=gti, events=whole.events.select(inside))
            for gti, inside in zip(pieces, contained, strict=True)
        ]


def _piece(plain: Plain, index: int) -> Plain:
    """Run of a manifest as one of its pieces: the keys are those of the run, with the number of the piece."""
    about = {"piece": index}
    backgrounds = {
        label: make_key("piece", versions.BACKGROUND, about, [key]) for label, key in plain["background_keys"].items()
    }
    reduced = make_key("piece", versions.REDUCE, about, [plain["reduced_key"]])
    return {**plain, **about, "reduced_key": reduced, "background_keys": backgrounds}
