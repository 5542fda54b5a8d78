"""Everything of one target in this process, as far as it is missing: reduce, stack, export, run table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cubeflow.errors import FailedError, MistakeError
from cubeflow.plan.inventory import is_final, key_of_table
from cubeflow.plan.write import read_json
from cubeflow.steps.batch import open_batch, reduce_batch
from cubeflow.steps.export import export_label
from cubeflow.steps.table import write_run_table
from cubeflow.steps.tree import stack_node
from cubeflow.steps.workflow_plan import WorkflowPlan

Say = Callable[[str], None]
# What is wrong with a target, a file or the machine, and no bug: it says nothing about the next target.
FAILURES = (FailedError, MistakeError, OSError, MemoryError)


class RunsRefused(FailedError):
    """Runs cannot be used, and the configuration says that this is a failure."""


@dataclass(frozen=True)
class Failure:
    """What failed of a target, in words: the error itself would keep its maps in memory.

    Parameters
    ----------
    line : str
        Target and message.
    is_refusal : bool
        Whether it is that runs are refused.
    """

    line: str
    is_refusal: bool


def make_target(
    workflow: WorkflowPlan, target: str, say: Say, keep_refused: bool = True, restores: bool = False
) -> Iterator[Failure]:
    """Reduce, stack and export what is missing or was made from something else, as it is found now.

    Parameters
    ----------
    workflow : WorkflowPlan
        What is carried out; a part of it may have been carried out already.
    target : str
        One of its targets.
    say : callable
        Takes one line.
    keep_refused : bool
        Go on without the runs that are refused; False to fail for them, without a stack.
    restores : bool
        Make artifacts of runs, too, that are missing below a stack that is there.

    Yields
    ------
    Failure
        One of `FAILURES`; what does not need what failed is made all the same.
    """
    entry = workflow.index[target]
    reduce = partial(_reduce, workflow, target, say=say, keep_refused=keep_refused)
    failed = yield from _attempt(target, (partial(reduce, batch) for batch in entry["unmade"]))
    if failed:
        return
    labels = entry["labels"] if entry["batches"] else ()
    yield from _attempt(target, (partial(_make_label, workflow, target, label, say) for label in labels))
    yield from _attempt(target, [partial(_make_table, workflow, target, say)])
    lost = entry["again"] if restores else ()
    yield from _attempt(target, (partial(_restore, workflow, target, batch, say) for batch in lost))


def _attempt(target: str, jobs: Iterable[Callable[[], object]]) -> Generator[Failure, None, bool]:
    """Do one job after the other; gives what failed, and returns whether anything did."""
    failed = False
    for job in jobs:
        failure = None
        try:
            job()
        except FAILURES as error:
            text = str(error) or type(error).__name__
            line = text if text.startswith(f"{target}: ") else f"{target}: {text}"
            failure = Failure(line, isinstance(error, RunsRefused))
        if failure is not None:  # outside: where the error is known, so are its frames
            failed = True
            yield failure
    return failed


def _reduce(workflow: WorkflowPlan, target: str, batch: str, say: Say, keep_refused: bool) -> None:
    """Reduce a batch."""
    result = reduce_batch(open_batch(Path(workflow.manifest(target, batch)), say))
    if result.refused and not keep_refused:
        for label in result.rows:  # as Snakemake does with the outputs of a job that fails
            Path(workflow.leaf(target, label, batch)).unlink(missing_ok=True)
        raise RunsRefused(f"{len(result.refused)} runs are refused, and on_refused is fail")


def _restore(workflow: WorkflowPlan, target: str, batch: str, say: Say) -> None:
    """Make the artifacts of a batch of which the stacks are there."""
    labels = tuple(workflow.index[target]["labels"])
    reduce_batch(open_batch(Path(workflow.manifest(target, batch)), say), labels)


def _make_label(workflow: WorkflowPlan, target: str, label: str, say: Say) -> None:
    """Stack and export a label, as far as it is missing."""
    entry = workflow.index[target]
    for node in (*entry["missing"][label], entry["roots"][label]):
        _stack(workflow, target, label, node, say)
    manifest, is_outdated = workflow.final(target, label)
    folder = Path(workflow.results) / target / label
    if is_outdated and not is_final(folder, read_json(Path(manifest))["key"]):
        export_label(Path(manifest), say)


def _make_table(workflow: WorkflowPlan, target: str, say: Say) -> None:
    """Write the run table, if it is missing."""
    manifest, is_outdated = workflow.table(target)
    path = Path(workflow.results) / target / "runs.ecsv"
    if is_outdated and key_of_table(path) != read_json(Path(manifest))["key"]:
        write_run_table(Path(manifest), say)


def _stack(workflow: WorkflowPlan, target: str, label: str, node: str, say: Say) -> None:
    """Stack a node if its file is absent, its children first."""
    folder = Path(workflow.results) / target / "stack" / label
    children = workflow.children(target, label, node)
    if (folder / f"{node}.h5").is_file() or not children:
        return
    for child in children:
        _stack(workflow, target, label, child, say)
    paths = [folder / f"{child}.h5" for child in children]
    stack_node(folder / f"{node}.h5", paths, workflow.compression(target), say)
