"""Verbs about a configuration: a first one and its schema; what would be done, doing it, what is not needed."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cubeflow.cli.group import JSON, NEW_FILE, NEW_FOLDER, print_json, say, takes_configuration
from cubeflow.errors import FailedError, MistakeError, RunsLeftOut, counted

if TYPE_CHECKING:
    from cubeflow.config import Config
    from cubeflow.plan.make import Plan

TARGET = """Position ('83.633 22.014', '05h34m32s +22d00m52s', 'galactic 184.56 -5.78') or name: an object of the store,
or Crab, PKS 2155-304, RX J1713.7-3946, Mrk 421, ... Without it the objects of the store are listed."""
EXCLUSION = "Exclude the target and known sources from the background."


@click.command()
@click.argument("store")
@click.option("--target", "-t", help=TARGET)
@click.option("--output", "-o", type=NEW_FILE, help="File to write.  [default: config/<target>.yaml]")
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
@click.option("--exclusion/--no-exclusion", default=True, show_default=True, help=EXCLUSION)
def init(store: str, target: str | None, output: Path | None, force: bool, exclusion: bool) -> None:
    """Look at a STORE, and write a configuration that runs as it is.

    Reads the index of the folder of DL3 files, and a few runs: which see the target, from what energy on, to what
    offset, and how their files deviate from the format.

    Example: cubeflow init ../shared/data/hess-dl3-dr1 --target "PKS 2155-304"
             cubeflow init my-store -t "83.633 22.014" -o config/crab.yaml
    """
    from cubeflow.tools.init import init_config

    init_config(store, target, output, force, exclusion, say)


@click.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors.

    Example: cubeflow schema > config/schema.json
    """
    from cubeflow.config.schema import json_schema

    print_json(json_schema())


@click.command()
@takes_configuration
@click.option("--verify", is_flag=True, help="Read all inputs, also those that seem to be as they were.")
@JSON
def plan(config: "Config", verify: bool, as_json: bool) -> None:
    """Say what would be done, and write the plan; nothing is computed.

    Exit status 3 if runs are known to be refused, or files that may hold one, and ``on_refused`` is ``fail``.

    Example: cubeflow plan config/hess-crab.yaml
    """
    from cubeflow.plan.make import make_plan, require_runs, say_planned
    from cubeflow.plan.summary import summarize
    from cubeflow.store.keys import to_plain

    made = make_plan(config, say, reads_all=verify)
    path, summary = made.write(), summarize(made)
    if as_json:
        print_json({**to_plain(summary), "plan": str(path)})
    else:
        say_planned(made, click.echo)
        for name, target in summary.targets.items():
            for file, share in target.excluded.items():
                click.echo(f"{name}: exclusion {file}: {share:.2%} of the field")
            click.echo(f"{name}: {counted(target.runs_to_reduce, 'run')} to reduce")
        click.echo("jobs: " + (", ".join(f"{count} {kind}" for kind, count in summary.jobs.items()) or "none"))
        stale = f"{summary.remove} not needed any more ({summary.removable_mb:g} MB; cubeflow clean)"
        click.echo(f"files: {summary.make} to make, {summary.keep} to keep, {stale}")
        click.echo(f"estimate: {summary.disk_mb} MB of disk, {summary.cpu_seconds / 60:.1f} minutes of CPU")
        if largest := summary.largest_job:
            click.echo(f"largest job: {largest.kind}, {largest.message}, {largest.memory_mb} MB")
        click.echo(f"plan: {path}")
    require_runs(made)
    fatal = (made.tasks[name].refused for name, each in made.targets.items() if each.on_refused == "fail")
    if any(made.store.left_out or refused for refused in fatal):
        sys.exit(RunsLeftOut.status)


def _make(config: "Config", reads_all: bool = False, says_all: bool = True) -> "Plan":
    """Plan of a configuration; MistakeError if no target has any run."""
    from cubeflow.plan.make import make_plan, require_runs, say_planned

    made = make_plan(config, say, reads_all=reads_all)
    if says_all:
        say_planned(made, say)
    require_runs(made)
    return made


@click.command()
@takes_configuration
def run(config: "Config") -> None:
    """Do everything in this process: reduce, stack, export, run table.

    On one core: for a few runs on a workstation, where starting processes is most of the work. Snakemake does the same
    on many cores or a cluster, and makes the report. What one has made the other finds in place.

    Example: cubeflow run config/hess-crab.yaml
    """
    from cubeflow.plan.lock import Lock
    from cubeflow.plan.run import finish, run_plan

    made = _make(config)
    with Lock(made.results, made.config).held():
        made.sweep()
        made.cache.save()
        run_plan(made, say)
    finish(made, say)


@click.command()
@takes_configuration
@click.option("--significance", type=click.FloatRange(1), default=4, show_default=True, help="Sigma of what is added.")
@click.option("--radius", default="0.3 deg", show_default=True, help="What is excluded about each such pixel.")
@click.option("--target", "-t", help="Only of this target.  [default: all]")
def exclude(config: "Config", significance: float, radius: str, target: str | None) -> None:
    """Find what is not background, round by round.

    What is significant is excluded, too, until that does not change. Each round, of at most five, does what cubeflow
    run does; runs are reduced once. Writes a mask and DS9 regions, and prints the line of CONFIG that uses them.

    Example: cubeflow exclude config/hess-crab.yaml --significance 5 --radius "0.2 deg"
    """
    from cubeflow.config.build import ENDINGS, parse_value
    from cubeflow.plan.lock import Lock
    from cubeflow.plan.make import make_plan
    from cubeflow.plan.run import find_exclusion
    from cubeflow.plan.tiles import expand_tiles
    from cubeflow.report.ds9 import write_outlines

    try:
        radius_deg = parse_value([(float, ENDINGS["_deg"])], radius)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--radius") from error
    made = make_plan(config, say)
    config = expand_tiles(config, made.store)
    if not (names := [name for name in config.targets if target in (None, name)]):
        raise click.BadParameter(f"expected one of {', '.join(config.targets)}, got {target!r}", param_hint="--target")
    with Lock(made.results, made.config).held():
        made.cache.save()
        for name in names:
            mask = find_exclusion(config, name, significance, radius_deg, say)
            if mask is None:
                click.echo(f"{name}: nothing to exclude beside what is excluded")
                continue
            regions = write_outlines(mask, made.targets[name].reduce.geometry)
            places = "targets", config.written_name(name), "exclusion"
            written = config.written.child(*places).plain() if config.written else None
            given = written if isinstance(written, list) else [written] * isinstance(written, str | dict)
            entries = json.dumps([*given, *[str(mask)] * (str(mask) not in given)])
            click.echo(f"{name}: made with {mask} and {regions}; in the configuration:\nexclusion: {entries}")


@click.command()
@takes_configuration
@click.option("--output", "-o", type=NEW_FOLDER, required=True, help="Folder to write to.")
@click.option("--target", "-t", help="Runs of this target.  [default: the first with a model]")
def index(config: "Config", output: Path, target: str | None) -> None:
    """Write an index with an acceptance model, for gammapy.

    The model is the one that the workflow has made; the files of the runs stay where they are. A run that is in the
    model is modelled by itself, too, in other programs. Models with match or azimuth cannot be written so.

    Example: cubeflow index config/magic.yaml -o results/magic-index
    """
    from cubeflow.pipeline.model import write_index
    from cubeflow.pipeline.tasks import ModelTask, gadf_file
    from cubeflow.plan.make import make_plan

    made = make_plan(config, say)
    names = [name for name, each in made.targets.items() if each.model is not None and target in (None, name)]
    if not names or (model := made.targets[names[0]].model) is None:
        raise MistakeError(f"targets.{target or '*'}: expected a target with acceptance.model, found none")
    if model.livetime_s or model.fit.azimuth != "none":
        found = f"models.{model.name}: by match or fit.azimuth each run has a background of its own"
        raise FailedError(f"{found}; expected neither, as an index names one for all at a zenith angle")
    key = next(task.key for task in made.all_tasks if isinstance(task, ModelTask) and task.model == model.name)
    if not (gadf := made.results / gadf_file(model.name, key)).is_file():
        raise FailedError(f"{gadf}: expected the model; make it first, as by cubeflow run")
    wanted = {keys.unit.obs_id for task in made.tasks[names[0]].reduce for keys in task.units}
    kind = made.targets[names[0]].event_type
    runs = [entry.of_event_type(kind) for entry in made.store.runs if entry.obs_id in wanted]
    n_runs = write_index(output, runs, gadf)
    say(f"{output}: index of {counted(n_runs, 'run')}; gammapy.data.DataStore.from_dir({str(output)!r})")


@click.command()
@takes_configuration
@click.option("--yes", is_flag=True, help="Remove them.")
@JSON
def clean(config: "Config", yes: bool, as_json: bool) -> None:
    """List what the plan does not need any more, or remove it.

    Without --yes nothing is removed, and never what cubeflow did not write, by name and content, which is named. No
    link is followed, and where inputs lie nothing is removed.

    Example: cubeflow clean config/hess-crab.yaml --yes
    """
    from cubeflow.plan.clean import clean_results

    paths, others, size = clean_results(_make(config, says_all=False), is_serious=yes)
    if as_json:
        print_json({"files": list(map(str, paths)), "left_alone": list(map(str, others)), "bytes": size})
        return
    for path in paths:
        click.echo(path)
    for path in others:
        say(f"left alone, not known as a file of cubeflow: {path}")
    done = "removed" if yes else "not needed any more (remove them with --yes)"
    click.echo(f"{counted(len(paths), 'file')}, {size / 2**20:.1f} MB {done}")


@click.command()
@partial(takes_configuration, or_folder=True)
@click.option("--set-aside", "sets_aside", is_flag=True, help="Rename what is damaged, so that it is made again.")
@JSON
def verify(config: "Config | Path", sets_aside: bool, as_json: bool) -> None:
    """Read all inputs and results, and say what is damaged.

    The plan trusts names, sizes and times; after a disk or a copy has failed, this looks at every byte of inputs,
    artifacts, products and pictures. Keys are formed again from the options and inputs that each file holds. Files that
    no plan needs are named, too. Exit status 1 if anything is damaged. Without --set-aside nothing is changed; with it
    the next start (of Snakemake or cubeflow run) makes again what is damaged.

    A folder in place of the configuration is looked at by itself, the inputs are not: how many there are is said.

    Example: cubeflow verify config/hess-crab.yaml --set-aside
             cubeflow verify results/crab
    """
    from cubeflow.plan.verify import verify_folder, verify_plan
    from cubeflow.store.keys import to_plain

    if is_folder := isinstance(config, Path):
        if sets_aside:
            raise click.UsageError("--set-aside takes a configuration, not a folder")
        found = verify_folder(config)
    else:
        found = verify_plan(_make(config, reads_all=True), sets_aside)
    damaged = {str(path): problem for path, problem in found.damaged.items()}
    if as_json:
        print_json({**to_plain(replace(found, damaged={})), "damaged": damaged})
    else:
        for name, problem in damaged.items():
            click.echo(f"{name}: {problem}")
        for path in found.orphans:
            click.echo(f"{path}: {'no certificate speaks of it' if is_folder else 'not needed by the plan'}")
        for name, keys in found.unproven.items() if is_folder else ():
            click.echo(f"not looked at, known by their digests or keys only: {len(keys)} {name}")
        counts = f"{len(found.absent)} not made, {len(found.orphans)} not needed"
        click.echo(f"inputs: {found.inputs}, files: {found.files}; {len(damaged)} damaged, {counts}")
    sys.exit(FailedError.status if damaged else 0)
