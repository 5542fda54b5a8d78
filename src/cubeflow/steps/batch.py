"""The rule ``reduce``: all runs of a batch in one process, and the batch's leaf stacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.index import RunEntry
from cubeflow.errors import FailedError
from cubeflow.maps import NoOverlap
from cubeflow.observation import RunRefused, RunSkipped
from cubeflow.plan.build import node_key
from cubeflow.plan.entries import entry_from_plain
from cubeflow.plan.inventory import envelope_of
from cubeflow.plan.write import read_json
from cubeflow.products.run_stack import make_run_stack
from cubeflow.products.share import RunStack
from cubeflow.products.stack import Stack, StackSum, empty_stack
from cubeflow.steps.background import Background, make_background
from cubeflow.steps.exclusion import ExclusionMasks, planned_masks
from cubeflow.steps.kept import Keeper
from cubeflow.steps.leaf import leaf_room, write_leaf
from cubeflow.steps.memory import memory_message
from cubeflow.steps.progress import Progress, progress_of
from cubeflow.steps.reduce import Reduced
from cubeflow.steps.run import Run
from cubeflow.steps.setup import ReduceSetup, reduce_setup_from_plain
from cubeflow.steps.unchanged import status_from_plain

Plain = Mapping[str, Any]
Row = dict[str, Any]
Say = Callable[[str], None]
Part = Stack | RunStack


@dataclass(frozen=True, eq=False)
class Batch:
    """A manifest as objects.

    Parameters
    ----------
    folder : Path
        Results of the target.
    manifest : mapping
        As written by the plan.
    entries : mapping of int to RunEntry
        Where the HDUs of each run lie.
    setup : ReduceSetup
        Configuration of the step.
    status : mapping of int to mapping
        Size and time of each input file of a run when it was digested.
    keeper : Keeper
        Reads and writes the runs' artifacts.
    exclusions : ExclusionMasks
        Exclusion masks.
    say : callable
        Takes one line for the log.
    progress : Progress
        Tells those who watch how far it is.
    """

    folder: Path
    manifest: Mapping[str, Any]
    entries: Mapping[int, RunEntry]
    setup: ReduceSetup
    status: Mapping[int, Mapping[str, Sequence[int]]]
    keeper: Keeper
    exclusions: ExclusionMasks
    say: Say
    progress: Progress


@dataclass
class BatchResult:
    """What came of a batch: one row per run and label, and what went wrong with a run that is not its fault."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Rows of runs that could not be used, each run once."""
        found = {row["obs_id"]: row for rows in self.rows.values() for row in rows if row["status"] == "refused"}
        return [found[obs_id] for obs_id in sorted(found)]


def open_batch(manifest_path: Path, say: Say) -> Batch:
    """Read a manifest and what lies beside it."""
    manifest = read_json(manifest_path)
    setup = reduce_setup_from_plain(manifest["reduce"])
    files = read_json(manifest_path.with_suffix(".files.json"))
    folder = manifest_path.parents[1]
    return Batch(
        folder,
        manifest,
        {int(obs_id): entry_from_plain(plain) for obs_id, plain in files.items()},
        setup,
        status_from_plain(files),
        Keeper(folder, manifest["settings"]["compression"], say, manifest, setup),
        planned_masks(manifest),
        say,
        progress_of(manifest_path, len(manifest["runs"])),
    )


def reduce_batch(batch: Batch, labels: tuple[str, ...] | None = None) -> BatchResult:
    """Make what is missing of a batch: each run's artifacts, then the leaf stack of each label.

    Parameters
    ----------
    batch : Batch
        From `open_batch`.
    labels : tuple of str or None
        Only the backgrounds of these labels, and no leaf stacks; None for what the leaf stacks that are
        not there yet need.

    Returns
    -------
    BatchResult
        Rows for the run table. A run that is refused never stops the others.

    Raises
    ------
    FailedError
        If an input file is not the one planned with, or the disk failed. The other runs are done; no leaf is written.
    """
    chosen = missing_labels(batch) if labels is None else labels
    result = BatchResult(rows={label: [] for label in chosen})
    room = leaf_room(batch.folder)
    sums = {label: StackSum(room) for label in chosen}
    for run in batch.manifest["runs"] if chosen else ():
        _add_run(batch, run, sums, result)
        batch.progress.step(result.refused, result.failed)
    if result.failed:
        raise FailedError("\n".join(dict.fromkeys(result.failed)))
    if labels is None:
        for label in chosen:
            _write_leaf(batch, label, _result(batch, sums.pop(label)), result.rows[label])
    return result


def _add_run(batch: Batch, run: Plain, sums: Mapping[str, StackSum], result: BatchResult) -> None:
    """Add a run to the sums of its labels, where its maps wait until there are enough of them."""
    try:
        for label, part, row in _run_parts(batch, run, tuple(sums)):
            result.rows[label].append(row)
            sums[label].add(part)
    except FailedError as error:
        result.failed.append(str(error))
    except MemoryError:
        result.failed.append(f"run {run['obs_id']}: {memory_message(batch.manifest['memory_mb'])}")


def _result(batch: Batch, total: StackSum) -> Stack:
    """Sum of a batch, of which some runs may still have waited; FailedError if memory does not take it."""
    total.add(empty_stack())
    try:
        return total.result()
    except MemoryError:
        raise FailedError(f"batch {batch.manifest['batch']}: {memory_message(batch.manifest['memory_mb'])}") from None


def missing_labels(batch: Batch) -> tuple[str, ...]:
    """Labels of which the leaf stack is not there."""
    return tuple(label for label in batch.manifest["backgrounds"] if not _has_leaf(batch, label))


def _has_leaf(batch: Batch, label: str) -> bool:
    envelope = envelope_of(_leaf_path(batch, label))
    return envelope is not None and envelope.key == _leaf_key(batch, label)


def _run_parts(batch: Batch, plain: Plain, labels: tuple[str, ...]) -> Iterator[tuple[str, Part, Row]]:
    """Contribution of a run, or of each of its pieces, to each label, and its row; empty if it is left out."""
    obs_id = plain["obs_id"]
    run = Run(plain, batch.entries[obs_id], batch.status[obs_id], batch.setup)
    try:
        pieces = run.pieces(batch.folder / "obs" / str(obs_id))
    except (RunRefused, RunSkipped) as error:
        pieces = []
        yield from _left_out(batch, plain, labels, error)
    for piece in pieces:
        try:
            reduced = batch.keeper.reduced(piece, partial(run.reduce, piece))
        except (RunRefused, RunSkipped, NoOverlap) as error:
            yield from _left_out(batch, piece, labels, error)
        else:
            yield from ((label, *_label_part(batch, piece, label, reduced)) for label in labels)


def _left_out(batch: Batch, run: Plain, labels: tuple[str, ...], error: Exception) -> Iterator[tuple[str, Part, Row]]:
    """Empty contributions of a run that is left out, with the reason."""
    status = "refused" if isinstance(error, RunRefused) else "skipped"
    batch.say(f"run {run['obs_id']}: {status}: {error}")
    row = {"obs_id": run["obs_id"], "status": status, "reason": str(error)}
    yield from ((label, empty_stack(), row) for label in labels)


def _label_part(batch: Batch, run: Plain, label: str, reduced: Reduced) -> tuple[Part, Row]:
    """Background of one label and what the run gives to its stack."""
    plain = batch.manifest["backgrounds"][label]

    def exclusion() -> NDArray[np.bool_]:
        """Mask of the run's map, which is made only if the background is."""
        counts = reduced.maps["counts"]
        return batch.exclusions.mask(counts.geom, counts.axis("energy"))

    background = batch.keeper.background(run, label, lambda: make_background(reduced, plain, exclusion()), exclusion)
    row = {"obs_id": run["obs_id"], "run": dict(reduced.row), "background": dict(background.row)}
    if background.failed:
        batch.say(f"run {run['obs_id']}: {label}: {background.failed}")
        status = "refused" if plain["on_failure"] == "error" else "dropped"
        return empty_stack(), {**row, "status": status, "reason": background.failed}
    return run_stack(reduced, background), {**row, "status": "ok", "reason": ""}


def run_stack(reduced: Reduced, background: Background) -> RunStack:
    """Contribution of one run to the stack of a label."""
    maps = {name: cube for name, cube in reduced.maps.items() if name not in ("mask_safe", "irf_exposure")}
    if not background.maps:  # counts and exposure only: what not every run has is left out of all
        maps = {name: cube for name, cube in maps.items() if name not in ("acceptance", "psf")}
    maps |= background.maps
    mask = reduced.maps["mask_safe"].data & background.usable
    return make_run_stack(maps, mask, reduced.maps["irf_exposure"], reduced.gti_s, reduced.livetime_s)


def _leaf_key(batch: Batch, label: str) -> str:
    """Key that the runs give to the leaf stack of a label."""
    return node_key("leaf", (run["background_keys"][label] for run in batch.manifest["runs"]))


def _leaf_path(batch: Batch, label: str) -> Path:
    return batch.folder / "stack" / label / f"{batch.manifest['leaves'][label]}.h5"


def _write_leaf(batch: Batch, label: str, stacked: Stack, rows: list[Row]) -> None:
    """Write the leaf stack of a label."""
    key = _leaf_key(batch, label)
    write_leaf(_leaf_path(batch, label), stacked, key, {"rows": rows}, batch.keeper.compression)
