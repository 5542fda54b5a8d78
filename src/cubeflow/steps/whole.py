"""The whole chain in this process, without Snakemake: for notebooks, tests and small analyses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cubeflow.config import Config
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
    for target in workflow.targets:
        folder, entry = Path(workflow.results) / target, workflow.index[target]
        for batch in (*entry["unmade"], *entry["again"]):
            reduce_batch(open_batch(folder / "plan" / batch_name(batch, entry["batch_tag"]), say))
        for label, manifest in entry["finals"].items():
            _stack(workflow, target, label, entry["roots"][label], config.artifacts.compression, say)
            export_label(folder / "plan" / manifest, say)
        write_run_table(folder / "plan" / entry["table"], say)
    return workflow


def _stack(
    workflow: WorkflowPlan, target: str, label: str, node: str, compression: str, say: Callable[[str], None]
) -> None:
    """Stack a node if its file is absent, its children first."""
    folder = Path(workflow.results) / target / "stack" / label
    children = workflow.children(target, label, node)
    if (folder / f"{node}.h5").is_file() or not children:
        return
    for child in children:
        _stack(workflow, target, label, child, compression, say)
    stack_node(folder / f"{node}.h5", [folder / f"{child}.h5" for child in children], compression, say)
