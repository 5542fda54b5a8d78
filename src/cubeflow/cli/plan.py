"""Verbs about the plan: what would be done."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cubeflow.cli.shared import CONFIGFILE, REFUSED, say


@click.command()
@CONFIGFILE
def plan(configfiles: tuple[Path, ...]) -> None:
    """Say what would be done, and write the plan that the workflow follows. Computes nothing.

    Example: cubeflow plan -c config/hess-crab.yaml
    """
    from cubeflow.steps.entry import plan_workflow

    workflow = plan_workflow(configfiles, {}, say)
    say(f"stacks to make: {len(workflow.missing_stacks())}")
    sys.exit(REFUSED if workflow.refused else 0)
