"""From a configuration to a plan: what the Snakefile, ``cubeflow plan`` and ``cubeflow run`` start with."""

import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path

from cubeflow.config import Config
from cubeflow.config.sections import ModelConfig, Observations
from cubeflow.dl3.entries import RunEntry, Store, direction_of
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import require_columns
from cubeflow.dl3.tables import Conditions, parse_where
from cubeflow.errors import MistakeError, Say, counted
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.pipeline.certificate import holds
from cubeflow.pipeline.progress import progress_folder
from cubeflow.pipeline.tasks import (
    FOLDER,
    ArtifactTask,
    ModelTask,
    OffTask,
    PlannedExclusion,
    PlannedModel,
    Refusal,
    ReportTask,
    Target,
    Task,
    files_of,
    inputs_of,
)
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.estimate import Estimate, check_memory, estimate
from cubeflow.plan.exclusions import excluded_shares, plan_exclusions, plan_sky_model
from cubeflow.plan.jobs import Job, make_jobs, write_plan_file
from cubeflow.plan.select import match_runs, select_runs
from cubeflow.plan.tasks import TargetTasks, TaskMaker, joint_tasks, report_task
from cubeflow.plan.tiles import expand_tiles
from cubeflow.products.fov_background import FovOptions
from cubeflow.store.atomic import sweep_temporaries
from cubeflow.store.keys import make_key, short

# Tasks of acceptance models and their OFF runs, by name; each is made once, whoever uses it.
Models = dict[str, tuple[tuple[OffTask | ModelTask, ...], Sequence[RunEntry]]]
MAX_TOLD = 3  # files of the store that are left out
OF_A_FILE = Path("file")  # in place of the path of a sky model, whose digest is in the keys


@dataclass(frozen=True, eq=False)
class Plan:
    """All that there is to do for a configuration, and how much of it is done."""

    results: Path  # where jobs find the results: their folder, or that of copies if they lie in a storage
    store: Store  # runs
    places: tuple[Path, ...]  # folders of the store and its roots
    targets: Mapping[str, Target]  # options by name
    tasks: Mapping[str, TargetTasks]  # by name of the target
    needs: Mapping[str, Estimate]  # estimates by name of the target
    report: ReportTask | None  # page of all targets; None if none has a run
    cache: DigestCache  # digests of the inputs
    excluded: Mapping[str, Mapping[str, float]]  # share of the field that each exclusion file takes, by target
    models: tuple[str, ...]  # acceptance models that there may be, used or not
    stored: Mapping[str, float] | None = None  # time in s of each file of a storage; None: what is in the folder counts

    @property
    def all_tasks(self) -> Iterator[Task]:
        """All tasks, each after those whose files it reads."""
        for found in self.tasks.values():
            yield from found.tasks
        if self.report is not None:
            yield self.report

    def files(self, task: Task) -> list[str]:
        """Files that a task makes, below the results."""
        return files_of(task, None if isinstance(task, ReportTask) else self.targets[task.target])

    def exists(self, file: str) -> bool:
        """Whether a file below the results is there: one that is named by its content is whole and right then."""
        return (self.results / file).exists() if self.stored is None else file in self.stored

    def is_made(self, task: Task) -> bool:
        """Whether all files of a task are there; products with plain names as their certificate says.

        In a storage a certificate may have outlived its products: those of another key are younger than it.
        """
        files = self.files(task)
        if isinstance(task, ArtifactTask):
            return all(map(self.exists, files))
        if self.stored is None:
            return holds(self.results / files[-1], task.key)
        return all(map(self.exists, files)) and self.stored[files[-1]] >= max(self.stored[file] for file in files)

    def untrue_certificates(self) -> list[str]:
        """Certificates that are there, though what they say of their products is not so; below the results."""
        tasks = (task for task in self.all_tasks if not isinstance(task, ArtifactTask))
        return [file for task in tasks if not self.is_made(task) and self.exists(file := self.files(task)[-1])]

    def set_aside(self, task: Task) -> list[str]:
        """Files of a task that were damaged, and that nobody has made again."""
        lost = (file for file in self.files(task) if not self.exists(file))
        return [file for file in lost if self.exists(f"{file}.corrupt")]

    @cached_property
    def needed(self) -> tuple[Task, ...]:
        """Tasks that make what is wanted, as far as it is not made; in order.

        Wanted are final products, all after them, and what was set aside. What else lies below a stack that is there is
        not: who wants it asks for it.
        """
        found: list[Task] = []
        wanted: set[str] = set()
        for task in reversed(list(self.all_tasks)):
            is_final = not isinstance(task, ArtifactTask)
            is_wanted = is_final or not wanted.isdisjoint(files_of(task)) or self.set_aside(task)
            if is_wanted and not self.is_made(task):
                found.append(task)
                wanted |= {file for file in inputs_of(task) if not self.exists(file)}
        return tuple(reversed(found))

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Tasks put into jobs."""
        return make_jobs(self.all_tasks, self.targets, self.needs, self.exists, self.is_made, self.stored is not None)

    @cached_property
    def config(self) -> str:
        """Digest of the configuration, which names its lock."""
        return short(make_key("config", 1, {"targets": self.targets}, {}))

    @cached_property
    def path(self) -> Path:
        """File of the plan, which names its configuration and what is to be done."""
        # Files are named by all that decides them.
        jobs = [make_key("job", 1, [job.name, job.sources, job.inputs, job.outputs], {}) for job in self.jobs]
        digest = short(make_key("plan", 1, {"targets": self.targets}, jobs))
        return self.cache.path.with_name(f"plan-{self.config}-{digest}.jsonl")

    def sweep(self) -> None:
        """Remove what killed writers left beside products, stacks and plans; a batch does so beside its artifacts."""
        places = {file.rpartition("/")[0] for task in self.all_tasks for file in self.files(task)}
        folders = {self.results / place for place in places if "/obs/" not in place}
        for folder in (*folders, self.results, self.cache.path.parent, progress_folder(self.results)):
            if folder.is_dir():
                sweep_temporaries(folder)

    def write(self) -> Path:
        """Write the plan for jobs, and what is known of the inputs for the next plan."""
        self.cache.save()
        made = {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "store": self.store.path}
        write_plan_file(self.path, self.targets, self.jobs, made)
        return self.path


def make_plan(config: Config, say: Say, reads_all: bool = False) -> Plan:
    """Plan all targets of a configuration. Writes nothing but the simulated store of a demo.

    All inputs are read if `reads_all`; otherwise those that seem to have changed since they were read. MistakeError if
    there is no store, a file that the configuration names is missing, or a target is too large.
    """
    results = config.results
    for folder in (results, *results.parents):
        if os.path.lexists(folder) and not folder.is_dir():
            raise MistakeError(f"results: {folder} is no folder; expected one, or nothing, under that name")
    cache = DigestCache.load(results / FOLDER / "digests.json", reads_all)
    store = _open(config, say)
    with _placing(config):
        config = expand_tiles(config, store)
        targets = {name: make_target(config, name, cache) for name in config.targets}
        for name, target in targets.items():
            check_memory(name, estimate(target), target, config.memory_mb)
        excluded = excluded_shares(targets, cache, say)
    _look_at_energies(targets, say)
    tasks: dict[str, TargetTasks] = {}
    needs: dict[str, Estimate] = {}
    models: Models = {}
    say_once, fitting = lru_cache(None)(say), set[Conditions]()  # one that fits a run is not looked at again
    for name, target in targets.items():
        section = config.targets[name]
        with _placing(config, f"targets.{name}."):
            entries, refused, unselected = select_runs(store, section.observations, target.position_deg)
            if (where := target.reduce.events_where) is not None and where not in fitting:
                require_columns(entries, where, target.event_type)
                fitting.add(where)
        maker = TaskMaker(target, cache, section.stack)
        maker.unread = {file: why for file, _, why in (line.partition(": ") for line in store.left_out)}
        found, used = _model_tasks(config, store, maker, entries, models, say_once)
        with _placing(config, f"targets.{name}."):
            tasks[name] = maker.make(entries, refused, unselected, found)
        asked, reason = _asked(section.observations), ""
        if not tasks[name].reduce:
            reason = _why_no_runs(store, asked, target.position_deg, tasks[name].refused)
        tasks[name] = replace(tasks[name], asked=asked, reason=reason)
        refusals = {refusal.obs_id for refusal in tasks[name].refused}
        kept = [entry for entry in entries if entry.obs_id not in refusals]
        with _placing(config):
            for others in [(), used] if used else [()]:  # what fits without OFF runs is too much for their sake
                needs[name] = estimate(target, kept, others)
                check_memory(name, needs[name], target, config.memory_mb, len(others))
    for joint in joint_tasks(targets, tasks):
        last = tasks[joint.target]
        tasks[joint.target] = replace(last, series=(*last.series, joint))
    report = report_task(tasks, targets, store.left_out)
    places = tuple(path if path.is_dir() else path.parent for path in (config.data.store, *config.data.roots))
    given = store, places, targets, tasks, needs, report, cache, excluded
    return Plan(results, *given, (*config.models, *(f"self-{name}" for name in targets)))


def _model_tasks(
    config: Config, store: Store, maker: TaskMaker, entries: Sequence[RunEntry], models: Models, say: Say
) -> tuple[tuple[OffTask | ModelTask, ...], Sequence[RunEntry]]:
    """Tasks of the acceptance model of a target, and its OFF runs; none without. Those like each run are found, too."""
    if (model := maker.target.model) is None:
        return (), ()
    named = config.models.get(model.name)
    if model.name not in models:
        off_runs = entries if named is None else _select_off_runs(config, model.name, store, say)
        models[model.name] = maker.model_tasks(off_runs, say), off_runs
    found, used = models[model.name]
    if named is not None and (match := named.match) is not None:
        if named.observations.time_mjd is not None:  # the livetime in the index is that of all times
            match = replace(match, livetime_s=math.inf)
        maker.off_runs = match_runs(f"models.{model.name}.match", entries, used, match, named.fit.leave_out, say)
    return found, used


def _select_off_runs(config: Config, model: str, store: Store, say: Say) -> list[RunEntry]:
    """OFF runs of a named model; says which are left out. MistakeError if there is none."""
    with _placing(config, f"models.{model}."):
        off_runs, left_out, _ = select_runs(store, config.models[model].observations, (0.0, 0.0))
        if not off_runs:
            raise MistakeError("observations: no run of the store is left for it, expected some")
    for refusal in left_out:
        say(f"models.{model}: run {refusal.obs_id}: left out: {refusal.reason}")
    return off_runs


def make_target(config: Config, name: str, cache: DigestCache) -> Target:
    """Options of a target; MistakeError if an exclusion file cannot be used."""
    section = config.targets[name]
    exclusions = plan_exclusions(f"targets.{name}", section.exclusion, cache)
    for key, where in section.events_where or ():
        parse_where(where, f"targets.{name}.{key}")
    backgrounds, sky_models = dict(section.backgrounds), {}
    for label, options in section.backgrounds.items():
        if isinstance(options, FovOptions) and isinstance(options.sky_model, Path):
            try:
                sky_models[label] = plan_sky_model(options.sky_model, cache)
            except MistakeError as error:
                raise MistakeError(f"targets.{name}.backgrounds.{label}.sky_model: {error}") from error
            backgrounds[label] = replace(options, sky_model=OF_A_FILE)
    products = section.icrs_deg, section.reduce_options(), backgrounds, exclusions, section.significance
    files = config.artifacts.compression, config.artifacts.keep, config.on_refused, section.export
    model = _planned_model(config, name, exclusions, cache)
    return Target(name, *products, *files, model, sky_models, section.event_type)


def _planned_model(
    config: Config, target: str, exclusions: tuple[PlannedExclusion, ...], cache: DigestCache
) -> PlannedModel | None:
    """Acceptance model of a target; None without. Of its own runs it has the energies, field and exclusion."""
    section = config.targets[target]
    if section.acceptance.model is None:
        return None
    if (found := config.models.get(section.acceptance.model)) is None:
        given = replace(section.observations, within_deg=None, split_s=None)
        found = ModelConfig(section.energy, given, section.events, section.offset_max_deg, section.safe_mask)
        off = replace(found.off_options(), events_where=section.events_where)
        return PlannedModel(f"self-{target}", off, found.fit, exclusions)
    files = plan_exclusions(f"models.{section.acceptance.model}", found.exclusion, cache)
    livetime_s = found.match.livetime_s if found.match else 0.0
    return PlannedModel(section.acceptance.model, found.off_options(), found.fit, files, livetime_s)


def say_planned(plan: Plan, say: Say) -> None:
    """Say how many runs each target has, and what is left out before any job starts."""
    for name, found in plan.tasks.items():
        others = f"{len(found.refused)} refused, {found.unselected} not asked for"
        say(f"{name}: {counted(found.n_runs, 'run')} in {counted(len(found.reduce), 'batch')}, {others}")
        for note in found.notes:
            say(f"{name}: {note}")
        for line in refusal_lines(found.refused):
            say(f"{name}: {line}")


def refusal_lines(refused: Iterable[Refusal]) -> list[str]:
    """A line for each reason with its runs, as ranges; a reason that names its run has ``*`` there for several."""
    runs: dict[str, list[Refusal]] = {}
    for refusal in refused:
        runs.setdefault(refusal.reason.replace(str(refusal.obs_id), "*"), []).append(refusal)
    lines = []
    for reason, alike in runs.items():
        ids = {refusal.obs_id for refusal in alike}
        spans = ", ".join(ranges_text(ids))
        lines.append(f"runs {spans}: refused: {reason}" if len(ids) > 1 else f"run {spans}: refused: {alike[0].reason}")
    return lines


def ranges_text(numbers: Iterable[int]) -> Iterator[str]:
    """Whole numbers as ``23523``, ``33787-33801``: runs of consecutive ones are drawn together."""
    for _, alike in groupby(enumerate(sorted(numbers)), key=lambda item: item[1] - item[0]):
        run = [number for _, number in alike]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


def require_runs(plan: Plan) -> None:
    """Raise MistakeError that says why if no target has any run."""
    if not any(found.reduce for found in plan.tasks.values()):
        reasons = [f"{name}: {found.reason}" for name, found in plan.tasks.items()]
        raise MistakeError("\n".join([f"data.store: {plan.store.path}: no run is left for any target", *reasons]))


def _asked(wanted: Observations) -> str:
    """Which runs a target asks for, in words."""
    asked = [f"{name} {', '.join(ranges_text(ids))}" for name in ("ids", "exclude") if (ids := getattr(wanted, name))]
    fields = {"within_deg": " deg", "where": ""}
    asked += [f"{key.split('_')[0]} {value}{unit}" for key, unit in fields.items() if (value := getattr(wanted, key))]
    asked += [f"time MJD {start:.9g} to {stop:.9g}" for start, stop in wanted.time_mjd or ()]
    return "; ".join(asked) or "all"


def _why_no_runs(store: Store, asked: str, at_deg: tuple[float, float], refused: Sequence[Refusal]) -> str:
    """Reason, with the run whose pointing is closest to the target."""
    if refused:
        return f"no run of {len(refused)} can be used; run {refused[0].obs_id}: {refused[0].reason}"
    text = f"none of the {counted(len(store.runs), 'run')} is selected; observations asks for {asked}"
    pointings = ((entry.obs_id, direction_of(entry.obs_info)) for entry in store.runs)
    offsets = [(float(angular_distance_deg(each, at_deg)), obs_id) for obs_id, each in pointings if each]
    if not offsets:
        return text
    offset_deg, closest = min(offsets)
    return f"{text}. The run closest to the target, {closest}, points {offset_deg:.2f} deg away"


def _look_at_energies(targets: Mapping[str, Target], say: Say) -> None:
    """Say where true energies do not reach beyond the reconstructed ones: exposures would be too small there."""
    for name, target in targets.items():
        energy, true = target.reduce.energy.edges, target.reduce.energy_true.edges
        if true[0] >= energy[0] or true[-1] <= energy[-1]:
            say(
                f"targets.{name}.energy_true: {true[0]:g} to {true[-1]:g} TeV does not reach beyond energy, "
                f"{energy[0]:g} to {energy[-1]:g} TeV: exposure and flux are too small at its ends; expected wider, "
                f"such as {energy[0] / 3:.2g} to {energy[-1] * 2:.2g} TeV"
            )


def _open(config: Config, say: Say) -> Store:
    """Store of a configuration; says what in it nobody reads. For a demo it is made, with the source at a target."""
    section, folder = config.simulate, config.data.store
    if section is not None and not os.path.lexists(folder / "hdu-index.fits.gz"):
        from cubeflow.simulate.store import SimulationOptions, simulate_store  # for a demo alone

        at = (each.icrs_deg for each in config.targets.values() if each.position is not None)
        centre = next(at, SimulationOptions.centre)
        say(f"{folder}: simulating {counted(section.runs, 'run')} of {section.duration_s:g} s")
        options = SimulationOptions(seed=section.seed, n_runs=section.runs, duration_s=section.duration_s)
        simulate_store(folder, replace(options, centre=centre, sources=((*centre, 1.0),)))
    store = open_configured_store(config)
    for line in store.left_out[:MAX_TOLD]:
        say(f"data.store: left out: {line}")
    if more := len(store.left_out[MAX_TOLD:]):
        say(f"data.store: left out: {counted(more, 'more file')}; cubeflow check names them")
    if idle := [line for line in store.problems if line not in store.left_out]:
        say(f"data.store: {counted(len(idle), 'file')} that nobody reads; cubeflow check names them; {idle[0]}")
    return store


def open_configured_store(config: Config, roots: Sequence[str] = ()) -> Store:
    """Open the store of a configuration, with further roots; StoreError that names the key and its place."""
    with _placing(config, "data.store: "):
        return open_store(config.data.source, [*config.data.roots, *roots])


@contextmanager
def _placing(config: Config, key: str = "") -> Iterator[None]:
    """Tell mistakes, whose messages begin with their key after what is given of it, with the place of the key."""
    try:
        yield
    except MistakeError as error:
        raise type(error)(config.places(f"{key}{error}")) from error
