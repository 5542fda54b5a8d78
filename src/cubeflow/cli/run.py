"""The whole chain in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cubeflow.cli.shared import CONFIGFILE, say


@click.command()
@CONFIGFILE
def run(configfiles: tuple[Path, ...]) -> None:
    """Do everything in this process: plan, reduce, stack, export, run table. Makes what is missing, on one core.

    For a few runs on a workstation, where starting processes is most of the work; Snakemake does the same on
    many cores or a cluster, and makes the report. What one has made the other finds in place.

    Example: cubeflow run -c config/hess-crab.yaml
    """
    from cubeflow.config import load_config
    from cubeflow.steps.entry import make_plan, require_runs, say_planned
    from cubeflow.steps.finish import finish
    from cubeflow.steps.session import Session
    from cubeflow.steps.whole import carry_out

    planned = make_plan(load_config(list(configfiles)), say)
    say_planned(planned, say)
    require_runs(planned)
    session = Session(planned.workflow, say)
    session.begin()
    try:
        carry_out(planned.workflow, say)
    finally:
        session.end()
    sys.exit(finish(planned.workflow, say))
