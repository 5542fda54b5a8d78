"""The whole chain in this process, without Snakemake: for notebooks, tests and small analyses."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path

from cubeflow.config import Config
from cubeflow.errors import FailedError
from cubeflow.plan.write import batch_name
from cubeflow.steps.batch import open_batch, reduce_batch
from cubeflow.steps.entry import make_plan
from cubeflow.steps.export import export_label
from cubeflow.steps.table import write_run_table
from cubeflow.steps.tree import stack_node
from cubeflow.steps.workflow_plan import WorkflowPlan


def run_whole(config: Config, say: Callable[[str], None]) -> WorkflowPlan:
    """Plan, reduce, stack and export all targets of a configuration; what is there is not made again.

    Parameters
    ----------
    config : Config
        From `cubeflow.config.load_config`.
    say : callable
        Takes one line.

    Returns
    -------
    WorkflowPlan
        The plan that was carried out.

    Raises
    ------
    MistakeError, FailedError
        If the configuration is wrong, or nothing is left to stack.
    """
    workflow = make_plan(config, say).workflow
    carry_out(workflow, say)
    return workflow


def carry_out(workflow: WorkflowPlan, say: Callable[[str], None]) -> None:
    """Make what a plan asks for, target after target; what fails does not stop what does not need it.

    Raises
    ------
    FailedError
        With a line for each that failed.
    """
    failed = [str(error) for target in workflow.tables for error in _make_target(workflow, target, say)]
    if failed:
        raise FailedError("\n".join(failed))


def _make_target(workflow: WorkflowPlan, target: str, say: Callable[[str], None]) -> Iterator[FailedError]:
    """Reduce, stack and export what is missing or was made from something else; gives the errors met."""
    folder, entry = Path(workflow.results) / target, workflow.index[target]
    batches = (folder / "plan" / batch_name(batch, entry["batch_tag"]) for batch in (*entry["unmade"], *entry["again"]))
    failed = yield from _attempt(partial(_reduce, path, say) for path in batches)
    if failed:
        return
    labels = entry["labels"] if entry["batches"] else ()
    yield from _attempt(partial(_make_label, workflow, target, label, say) for label in labels)
    manifest, is_outdated = workflow.table(target)
    if is_outdated:
        yield from _attempt([partial(write_run_table, Path(manifest), say)])


def _attempt(jobs: Iterable[Callable[[], object]]) -> Generator[FailedError, None, bool]:
    """Do one job after the other; gives the errors met, and returns whether there were any."""
    failed = False
    for job in jobs:
        try:
            job()
        except FailedError as error:
            failed = True
            yield error
    return failed


def _reduce(manifest: Path, say: Callable[[str], None]) -> None:
    """Reduce a batch."""
    reduce_batch(open_batch(manifest, say))


def _make_label(workflow: WorkflowPlan, target: str, label: str, say: Callable[[str], None]) -> None:
    """Stack and export a label, as far as it is missing."""
    _stack(workflow, target, label, workflow.index[target]["roots"][label], say)
    manifest, is_outdated = workflow.final(target, label)
    if is_outdated:
        export_label(Path(manifest), say)


def _stack(workflow: WorkflowPlan, target: str, label: str, node: str, say: Callable[[str], None]) -> None:
    """Stack a node if its file is absent, its children first."""
    folder = Path(workflow.results) / target / "stack" / label
    children = workflow.children(target, label, node)
    if (folder / f"{node}.h5").is_file() or not children:
        return
    for child in children:
        _stack(workflow, target, label, child, say)
    paths = [folder / f"{child}.h5" for child in children]
    stack_node(folder / f"{node}.h5", paths, workflow.compression(target), say)
