"""The whole chain in this process, without Snakemake: for notebooks, tests and small analyses."""

from __future__ import annotations

from collections.abc import Callable

from cubeflow.config import Config
from cubeflow.errors import FailedError
from cubeflow.steps.chain import make_target
from cubeflow.steps.entry import make_plan
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
    options = workflow.accept_refusals, True
    failed = [each for target in workflow.tables for each in make_target(workflow, target, say, *options)]
    if failed:
        raise FailedError("\n".join(each.line for each in failed))
