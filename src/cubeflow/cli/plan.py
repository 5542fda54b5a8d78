"""Verbs about the plan: what would be done, and what is not needed any more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cubeflow.cli.shared import CONFIGFILE, JSON, REFUSED, print_json, say


@click.command()
@CONFIGFILE
@JSON
def plan(configfiles: tuple[Path, ...], as_json: bool) -> None:
    """Say what would be done, and write the plan that the workflow follows. Computes nothing.

    Example: cubeflow plan -c config/hess-crab.yaml
    """
    from cubeflow.config import load_config
    from cubeflow.steps.entry import make_plan, require_runs
    from cubeflow.steps.summary import summarize

    planned = make_plan(load_config(list(configfiles)), say)
    summary = summarize(planned)
    if as_json:
        print_json(summary)
    else:
        show_summary(summary)
    require_runs(planned)
    sys.exit(REFUSED if planned.workflow.refused or planned.workflow.left_out else 0)


def show_summary(summary: dict[str, Any]) -> None:
    """Print what a plan means, refused runs first."""
    for name, target in summary["targets"].items():
        for refusal in target["refused"]:
            click.echo(f"{name}: run {refusal['obs_id']}: refused: {refusal['reason']}")
    for name, target in summary["targets"].items():
        click.echo(
            f"{name}: {target['runs']} runs in {target['batches']} batches, {len(target['refused'])} refused, "
            f"{target['unselected']} not asked for; {target['runs_to_reduce']} to reduce"
        )
    total, largest = summary["total"], summary["largest_job"]
    jobs = ", ".join(f"{count} {rule}" for rule, count in total["jobs"].items() if count) or "none"
    artifacts = total["artifacts"]
    click.echo(f"jobs: {jobs}")
    click.echo(
        f"artifacts: {artifacts['make']} to make, {artifacts['keep']} to keep, {artifacts['remove']} not needed any "
        f"more ({total['removable_mb']:g} MB; cubeflow clean)"
    )
    click.echo(f"estimate: {total['disk_mb']} MB of disk, {total['cpu_seconds'] / 60:.1f} minutes of CPU")
    if largest:
        click.echo(
            f"largest job: {largest['rule']} of {largest['target']}, "
            f"{largest['memory_mb']} MB, at most {largest['minutes']} minutes"
        )


@click.command()
@CONFIGFILE
@click.option("--yes", is_flag=True, help="Remove them.")
@JSON
def clean(configfiles: tuple[Path, ...], yes: bool, as_json: bool) -> None:
    """List what the plan does not need any more: artifacts of runs that are gone, stacks of earlier plans.

    Only what cubeflow wrote for the targets of the configuration is looked at. Without --yes nothing is removed.

    Example: cubeflow clean -c config/hess-crab.yaml --yes
    """
    from cubeflow.config import load_config
    from cubeflow.steps.clean import clean_results
    from cubeflow.steps.entry import make_plan

    cleaned = clean_results(make_plan(load_config(list(configfiles)), say), is_serious=yes)
    if as_json:
        print_json(cleaned)
        return
    for path in cleaned["files"]:
        click.echo(path)
    done = "removed" if yes else "not needed any more (remove them with --yes)"
    click.echo(f"{len(cleaned['files'])} files, {cleaned['bytes'] / 2**20:.1f} MB {done}")
