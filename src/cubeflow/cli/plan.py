"""Verbs about the plan: what would be done, doing it in one process, and what is not needed any more."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cubeflow.cli.group import JSON, print_json, say, takes_configuration
from cubeflow.errors import FailedError, RunsLeftOut

if TYPE_CHECKING:
    from cubeflow.plan.summary import Summary


@click.command()
@takes_configuration
@click.option("--verify", is_flag=True, help="Read all inputs, also those that seem to be as they were.")
@JSON
def plan(configfiles: tuple[Path, ...], verify: bool, as_json: bool) -> None:
    """Say what would be done, and write the plan from which jobs take what they do. Computes nothing.

    Exit status 3 if runs are known to be refused and ``on_refused`` is ``fail``.

    Example: cubeflow plan config/hess-crab.yaml
    """
    from cubeflow.config import load_config
    from cubeflow.plan.make import make_plan, require_runs
    from cubeflow.plan.summary import summarize
    from cubeflow.store.keys import to_plain

    made = make_plan(load_config(list(configfiles)), say, reads_all=verify)
    path, summary = made.write(), summarize(made)
    if as_json:
        print_json({**to_plain(summary), "plan": str(path)})
    else:
        show_summary(summary)
        click.echo(f"plan: {path}")
    require_runs(made)
    if any(found.refused and made.targets[name].on_refused == "fail" for name, found in made.tasks.items()):
        sys.exit(RunsLeftOut.status)


def show_summary(summary: Summary) -> None:
    """Print what a plan means, refused runs first."""
    from cubeflow.plan.make import refusal_lines

    for name, target in summary.targets.items():
        for line in refusal_lines(target.refused):
            click.echo(f"{name}: {line}")
    for name, target in summary.targets.items():
        left_out = f"{len(target.refused)} refused, {target.unselected} not asked for"
        click.echo(
            f"{name}: {target.runs} runs in {target.batches} batches, {left_out}; {target.runs_to_reduce} to reduce"
        )
        for path, share in target.excluded.items():
            click.echo(f"{name}: exclusion {path}: {share:.2%} of the field")
    click.echo("jobs: " + (", ".join(f"{count} {kind}" for kind, count in summary.jobs.items()) or "none"))
    stale = f"{summary.remove} not needed any more ({summary.removable_mb:g} MB; cubeflow clean)"
    click.echo(f"files: {summary.make} to make, {summary.keep} to keep, {stale}")
    click.echo(f"estimate: {summary.disk_mb} MB of disk, {summary.cpu_seconds / 60:.1f} minutes of CPU")
    if largest := summary.largest_job:
        click.echo(f"largest job: {largest.kind}, {largest.message}, {largest.memory_mb} MB")


@click.command()
@takes_configuration
def run(configfiles: tuple[Path, ...]) -> None:
    """Do everything in this process: reduce, stack, export, run table. Makes what is missing, on one core.

    For a few runs on a workstation, where starting processes is most of the work; Snakemake does the same on
    many cores or a cluster, and makes the report. What one has made the other finds in place.

    Example: cubeflow run config/hess-crab.yaml
    """
    from cubeflow.config import load_config
    from cubeflow.plan.lock import Lock
    from cubeflow.plan.make import make_plan, require_runs, say_planned
    from cubeflow.plan.run import finish, run_plan

    made = make_plan(load_config(list(configfiles)), say)
    say_planned(made, say)
    require_runs(made)
    with Lock(made.results, made.config).held():
        made.sweep()
        made.cache.save()
        run_plan(made, say)
    finish(made, say)


@click.command()
@takes_configuration
@click.option("--yes", is_flag=True, help="Remove them.")
@JSON
def clean(configfiles: tuple[Path, ...], yes: bool, as_json: bool) -> None:
    """List what the plan does not need any more: artifacts of runs that are gone, stacks of earlier plans.

    Only what cubeflow wrote for the targets of the configuration, by name and content, is removed, and without --yes
    nothing; other files there are named. No link is followed, and where inputs lie nothing is removed.

    Example: cubeflow clean config/hess-crab.yaml --yes
    """
    from cubeflow.config import load_config
    from cubeflow.plan.clean import clean_results
    from cubeflow.plan.make import make_plan, require_runs

    made = make_plan(load_config(list(configfiles)), say)
    require_runs(made)
    paths, others, size = clean_results(made, is_serious=yes)
    if as_json:
        named = {"files": list(map(str, paths)), "left_alone": list(map(str, others))}
        print_json({**named, "bytes": size})
        return
    for path in paths:
        click.echo(path)
    for path in others:
        say(f"left alone, not known as a file of cubeflow: {path}")
    done = "removed" if yes else "not needed any more (remove them with --yes)"
    click.echo(f"{len(paths)} files, {size / 2**20:.1f} MB {done}")


@click.command()
@takes_configuration
@click.option("--set-aside", "sets_aside", is_flag=True, help="Rename what is damaged, so that it is made again.")
@JSON
def verify(configfiles: tuple[Path, ...], sets_aside: bool, as_json: bool) -> None:
    """Read all inputs, artifacts, products and pictures, and say which are not what the plan takes them for.

    The plan trusts names, sizes and times; after a disk or a copy has failed, this looks at every byte. Files that no
    plan needs are named, too. Exit status 1 if anything is damaged. Without --set-aside nothing is changed; with it the
    next start (of Snakemake or cubeflow run) makes again what is damaged.

    Example: cubeflow verify config/hess-crab.yaml --set-aside
    """
    from cubeflow.config import load_config
    from cubeflow.plan.make import make_plan, require_runs, say_planned
    from cubeflow.plan.verify import verify_plan
    from cubeflow.store.keys import to_plain

    made = make_plan(load_config(list(configfiles)), say, reads_all=True)
    say_planned(made, say)
    require_runs(made)
    found = verify_plan(made, sets_aside)
    damaged = {str(path): problem for path, problem in found.damaged.items()}
    if as_json:
        print_json({**to_plain(replace(found, damaged={})), "damaged": damaged})
    else:
        for name, problem in damaged.items():
            click.echo(f"{name}: {problem}")
        for path in found.orphans:
            click.echo(f"{path}: not needed by the plan")
        counts = f"{len(found.absent)} not made, {len(found.orphans)} not needed"
        click.echo(f"{found.inputs} inputs, {found.files} files: {len(damaged)} damaged, {counts}")
    sys.exit(FailedError.status if damaged else 0)
