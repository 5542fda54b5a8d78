"""Carrying out a plan: one task, the tasks of a job, or all of them in this process."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cubeflow.config import Config
from cubeflow.dl3.reader import name_file
from cubeflow.errors import FailedError, MistakeError, RunsLeftOut, Say, counted
from cubeflow.maps import Cube
from cubeflow.pipeline.export import MUCH, NO_FLUX, beyond_text, export_label, significance_text
from cubeflow.pipeline.lightcurve import write_series
from cubeflow.pipeline.memory import memory_message
from cubeflow.pipeline.model import make_model, make_off_batch
from cubeflow.pipeline.progress import Progress, duration, progress_folder
from cubeflow.pipeline.reduce import reduce_batch
from cubeflow.pipeline.stack import open_made, stack_node
from cubeflow.pipeline.table import SEVERITY, write_run_table
from cubeflow.pipeline.tasks import (
    FOUND,
    ArtifactTask,
    ExportTask,
    ModelTask,
    OffTask,
    ReduceTask,
    SeriesTask,
    StackTask,
    TableTask,
    Target,
)
from cubeflow.plan.jobs import read_jobs, read_targets
from cubeflow.plan.make import Plan, make_plan, require_runs
from cubeflow.plan.tasks import TargetTasks
from cubeflow.products.convolve import Annulus, count_around
from cubeflow.products.exclusion import ExclusionFile, Rim
from cubeflow.store.fits import write_image_fits
from cubeflow.store.keys import short

RunTask = ArtifactTask | ExportTask | SeriesTask | TableTask  # others draw pictures and page
# What is wrong with a target, a file or the machine, and no bug: it says nothing about the next task.
FAILURES = (FailedError, MistakeError, OSError, MemoryError)
LOST = ("counts_without_acceptance", "counts_cut", "counts_safe")  # columns that are summed over the runs used
OWN = ("tstart", "tstop", "ra_pnt", "dec_pnt", "n_events")  # columns of the run table that no two runs share
MAX_ROUNDS = 5
MAX_LIMITS = 5  # lines on where counts and exposure of runs end
MAX_NAMED = 20  # runs that are left out; all of them are in the run table
WIDE = 1.2  # width of the significances of empty sky, above which a source is likely there
UNEXCLUDED = "width of empty sky, expected 1: a source that is not excluded? cubeflow exclude finds it"


def do_task(results: Path, target: Target, task: RunTask, say: Say) -> None:
    """Make the files of a task; what is there of a batch is read, all else is made again."""
    match task:
        case OffTask():
            make_off_batch(results, target, task, say)
        case ModelTask():
            make_model(results, target, task, say)
        case ReduceTask():
            name = f"{task.target}-{short(next(iter(task.leaves.values())))}"
            reduce_batch(results, target, task, say, Progress(progress_folder(results) / name))
        case StackTask():
            stack_node(results, target, task, say)
        case ExportTask():
            export_label(results, target, task, say)
        case SeriesTask():
            write_series(results, target, task, say)
        case TableTask():
            write_run_table(results, target, task, say)


def do_tasks(results: Path, targets: Mapping[str, Target], tasks: Iterable[RunTask], say: Say) -> None:
    """Do tasks one after the other; what fails does not stop what does not need it.

    FailedError with a line for each that failed; RunsLeftOut if nothing but refused runs made tasks fail.
    """
    failed: list[str] = []
    is_refusal = True
    for task in tasks:
        try:
            do_task(results, targets[task.target], task, say)
        except FAILURES as error:
            failed.append(memory_message() if isinstance(error, MemoryError) else str(error))
            is_refusal &= isinstance(error, RunsLeftOut)
    if failed:
        raise (RunsLeftOut if is_refusal else FailedError)("\n".join(dict.fromkeys(failed)))


def do_job(plan_file: Path, name: str, say: Say, results: Path) -> None:
    """Do a job of a plan that was written, in a folder of results; raises as `do_tasks`."""
    (job,) = read_jobs(plan_file, [name])
    tasks = [task for task in job.tasks if isinstance(task, RunTask)]
    do_tasks(results, read_targets(plan_file, {task.target for task in tasks}), tasks, say)


def run_plan(plan: Plan, say: Say) -> None:
    """Do all that is not done in this process, but figures and report; raises as `do_tasks`."""
    tasks = [task for task in plan.needed if isinstance(task, RunTask)]
    do_tasks(plan.results, plan.targets, tasks, say)


def run_whole(config: Config, say: Say) -> Plan:
    """Plan, reduce, stack and export all targets of a configuration; what is there is not made again.

    For notebooks, tests and small analyses. Raises as `make_plan` and `do_tasks`.
    """
    plan = make_plan(config, say)
    require_runs(plan)
    run_plan(plan, say)
    return plan


def find_exclusion(config: Config, name: str, significance: float, radius_deg: float, say: Say) -> Path | None:
    """Exclude what is significant from the background of a target, too, and again until that does not change.

    Each round does what `run_whole` does. The result lies in the folder of the target: a FITS mask of the pixels up to
    `radius_deg` from those that have `significance` for any label; None without any. If the configuration names it, the
    first round begins with it.
    """
    path, section = config.results / name / FOUND[0], config.targets[name]
    given = [each for each in section.exclusion if each.path.absolute() != path.absolute()]
    files, before = section.exclusion, path.read_bytes() if len(given) < len(section.exclusion) else b""
    for number in range(1, MAX_ROUNDS + 1):
        plan = run_whole(replace(config, targets={name: replace(section, exclusion=files)}), say)
        geom = plan.targets[name].reduce.geometry
        hot = np.zeros(geom.shape, bool)
        for label in plan.targets[name].backgrounds:
            with open_made(plan.results / name / label / "cube.h5", "cube") as opened:
                hot |= opened.maps(["disc_significance"])["disc_significance"].data[0] >= significance
        excluded = count_around(hot, Annulus(0.0, radius_deg / geom.pixel_deg)) > 0
        say(f"{name}: round {number}: {hot.sum()} pixels have {significance:g} sigma; {excluded.mean():.2%} excluded")
        if not before and not hot.any():
            return None
        write_image_fits(path, Cube(~excluded, "", geom, ()))
        if path.read_bytes() == before:
            return path
        files, before = (*given, ExclusionFile(path)), path.read_bytes()
    say(f"{name}: it still changes after {MAX_ROUNDS} rounds; expected a higher significance, or a wider radius")
    return path


def finish(plan: Plan, say: Say, told: Set[str] = frozenset()) -> None:
    """Say what a workflow has made, but for targets already `told`; who asked for a single file has no more."""
    for name in plan.tasks:
        if name not in told:
            for line in target_lines(plan, name):
                say(line)
    if plan.store.left_out:
        say(f"data.store: {counted(len(plan.store.left_out), 'file')} left out; cubeflow check says which and why")
    if plan.report is not None and plan.is_made(plan.report):
        say(f"report: {plan.results / plan.files(plan.report)[0]}")
    tasks = [task for found in plan.tasks.values() for task in found.export]
    for task in [task for task in tasks if plan.is_made(task)][:1]:
        cube, listed = (str(plan.results / task.folder / name) for name in ("cube.h5", "datasets.yaml"))
        say(f"import cubeflow; cube = cubeflow.load({cube!r})")
        say(f"from gammapy.datasets import Datasets; (dataset,) = Datasets.read({listed!r}, lazy=False)")


def target_lines(plan: Plan, name: str, after_s: float | None = None) -> Iterator[str]:
    """What is said of a target, as far as it is there: what was left out, then what was found, in one line.

    Without any run that is why. FailedError if its run table, or a cube, is none.
    """
    found, folder = plan.tasks[name], plan.results / name
    labels, used, said, hours = [task.label for task in found.export], "", [], 0.0
    common = defaultdict[str, list[str]](list)  # labels of which the same is said
    if found.reason:
        yield f"{name}: {found.reason}"
    table = folder / "runs.csv"
    if found.table is not None and table.is_file():
        *lines, used = table_lines(table, labels, found)
        yield from (f"{name}: {line}" for line in lines)
    for cube in (folder / label / "cube.h5" for label in labels):
        if cube.is_file():
            with open_made(cube, "cube") as opened:
                about = opened.artifact.attributes
            said.append(f"{cube.parent.name} {significance_text(about['source'])}")
            yield from (f"{name}: {cube.parent.name}: {Rim(**rim).text}" for rim in about.get("rims", ()))
            if not about["n_runs"]:
                common[f"no run is left; see {table}"].append(cube.parent.name)
            if about["is_pointlike"]:
                common[f"no flux: {NO_FLUX}"].append(cube.parent.name)
            width, error = ((about["off_source"] or {}).get(key) or 0.0 for key in ("width", "width_err"))
            if width > max(WIDE, 1 + 3 * error):
                common[UNEXCLUDED].append(f"{cube.parent.name} {width:.2f}")
            hours = max(hours, about["livetime_s"] / 3600)
    yield from (f"{name}: {', '.join(of)}: {line}" for line, of in common.items())
    parts = [*filter(None, [used]), *([f"{hours:.2f} h", f"at the target {', '.join(said)}"] if said else []), folder]
    if len(parts) > 1:
        yield f"{name}: {'; '.join(map(str, parts))}" + ("" if after_s is None else f" (after {duration(after_s)})")


def table_lines(table: Path, labels: Sequence[str], planned: TargetTasks) -> Iterator[str]:
    """What is said of a run table (CSV): runs left out, but those that the plan has named; what is lost.

    At the end how many runs are used. FailedError if it is no run table.
    """
    entries = {keys.unit.obs_id: keys.entry for task in planned.reduce for keys in task.units}
    named = {refusal.obs_id for refusal in planned.refused}
    runs: dict[int, tuple[str, str]] = {}  # status and reason: a run is used if any of its pieces is
    noted, lost, beyond, limits = Counter[str](), Counter[str](), 0.0, dict[int, str]()
    first: dict[tuple[str, ...], int] = {}
    twins: dict[int, int] = {}
    try:
        with table.open(newline="") as lines:
            for row in csv.DictReader(lines):
                obs_id, reason = int(row["obs_id"]), row["reason"]
                found = row["status"], name_file(reason, entries[obs_id]) if obs_id in entries else reason
                runs[obs_id] = min(found, runs.get(obs_id, found), key=lambda each: SEVERITY.index(each[0]))
                if found[0] == "ok":
                    if (other := first.setdefault(tuple(row[name] for name in OWN), obs_id)) != obs_id:
                        twins[obs_id] = other
                    limits[obs_id] = row.get("limits", "")
                    lost.update({key: int(row.get(key) or 0) for key in LOST})
                    beyond = max(beyond, float(row.get("beyond_energy_true") or 0.0))
                noted.update(label for label in labels if row.get(f"{label}_note"))
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise FailedError(f"{table}: no run table ({error}); remove it, and it is made again") from error
    left_out = [f"run {key}: {': '.join(said)}" for key, said in runs.items() if said[0] != "ok" and key not in named]
    yield from left_out[:MAX_NAMED]
    if more := len(left_out[MAX_NAMED:]):
        yield f"and {counted(more, 'more run')} left out; see {table}"
    for limit, count in Counter(filter(None, limits.values())).most_common(MAX_LIMITS):
        yield f"{count} of {len(limits)} runs: {limit}"
    if (unknown := lost["counts_without_acceptance"]) > 0:
        yield f"left out: {counted(unknown, 'safe count')} without acceptance: there the background response ends"
    if beyond > MUCH:
        yield f"energy_true: {beyond_text(beyond, 'it')}; expected wider"
    if (cut := lost["counts_cut"]) > MUCH * (safe := lost["counts_safe"]):
        yield f"energy: {cut} of {cut + safe} counts lie in bins that are safe in part, not used; finer ones keep more"
    for obs_id, other in twins.items():
        yield f"run {obs_id}: times, pointing and number of events as of run {other}; exclude one if it is a copy"
    for label, count in noted.items():
        yield f"{label}: {counted(count, 'run')} with a note on the background; see column {label}_note of {table}"
    counts = Counter(status for status, _ in runs.values())
    others = "".join(f", {count} {status}" for status, count in sorted(counts.items()) if status != "ok")
    yield f"{counted(counts['ok'], 'run')} used{others}"


def forget_other_plans(plan: Plan) -> None:
    """Remove the files of earlier plans of this configuration: nobody follows them any more."""
    for path in plan.path.parent.glob(f"plan-{plan.config}-*.jsonl"):
        if path != plan.path:
            with suppress(OSError):
                path.unlink()
