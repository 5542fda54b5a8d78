"""From a target and the runs of a store to its tasks: units, batches, tree and keys."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from cubeflow.config.sections import StackOptions
from cubeflow.dl3.entries import RunEntry, missing_types
from cubeflow.dl3.files import InputChanged
from cubeflow.dl3.reader import ALWAYS, read_enclosure, read_gti_and_site
from cubeflow.errors import MistakeError, Say, counted
from cubeflow.observation import RunRefused, Unit
from cubeflow.pipeline import versions
from cubeflow.pipeline.tasks import (
    ExportTask,
    FiguresTask,
    ModelTask,
    OffTask,
    ReduceTask,
    Refusal,
    ReportTarget,
    ReportTask,
    SeriesTask,
    StackTask,
    TableTask,
    Target,
    Task,
    UnitKeys,
)
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.tree import Branch, make_batches, make_tree
from cubeflow.products.pieces import Interval, interval_of, select_time, split_gti
from cubeflow.store.keys import make_key

EDGE_S = 1e-3  # what ends on the edge of an interval does not reach over it
Times = tuple[list[tuple[float, float]], float | None]  # start and stop of each piece, TT s; longitude of the site
T = TypeVar("T", ModelTask, StackTask, ExportTask, SeriesTask, TableTask, FiguresTask)
Units = dict[Interval | None, dict[int, list[UnitKeys]]]  # by interval and run; None for those in no interval


class InputError(Exception):
    """An input file of a run is missing or cannot be read; the message names it."""


@dataclass(frozen=True)
class TargetTasks:
    """The tasks of a target."""

    model: tuple[OffTask | ModelTask, ...] = ()  # of its acceptance model
    reduce: tuple[ReduceTask, ...] = ()  # in order, as all that follow; none without runs
    stack: tuple[StackTask, ...] = ()
    export: tuple[ExportTask, ...] = ()
    parts: tuple[ExportTask, ...] = ()  # of intervals, runs and batches
    series: tuple[SeriesTask, ...] = ()
    table: TableTask | None = None  # None if the target has no run at all
    figures: tuple[FiguresTask, ...] = ()
    refused: tuple[Refusal, ...] = ()  # selected runs that cannot be used, known before anything is read
    unselected: int = 0  # runs of the store that the target did not ask for
    notes: tuple[str, ...] = ()  # what is to be known of the intervals
    asked: str = ""  # which runs are wanted, in words
    reason: str = ""  # why no run is left, if none is

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All of them, each after those whose files it reads."""
        table = () if self.table is None else (self.table,)
        made = *self.model, *self.reduce, *self.stack, *self.export, *self.parts, *self.series
        return (*made, *table, *self.figures)

    @property
    def n_runs(self) -> int:
        """Number of runs, however many pieces each is cut into."""
        return len({keys.unit.obs_id for task in self.reduce for keys in task.units})


class TaskMaker:
    """Tasks of one target, by the digests of its inputs; the keys of its options are formed once."""

    def __init__(self, target: Target, cache: DigestCache, stack: StackOptions) -> None:
        self.target, self.cache, self.stack = target, cache, stack
        per = target.export.per
        self.per = "interval" if stack.by_s == "run" and per != "none" else per
        self.model: tuple[str, str] | None = None
        self.off_runs: Mapping[int, tuple[int, ...]] = {}  # that match a run
        self.unread: Mapping[str, str] = {}  # files that may hold a run, with why they cannot be used
        self.reduce = target.reduce_recipe(None)
        self.labels = {label: target.background_recipe(label) for label in target.backgrounds}

    def model_tasks(self, entries: Iterable[RunEntry], say: Say) -> tuple[OffTask | ModelTask, ...]:
        """Tasks of the acceptance model from some OFF runs; says which of them are left out."""
        target, found = self.target, {}
        assert target.model is not None
        model, options = target.model, target.off_recipe()
        for entry in entries:
            try:
                kept, digests = self._inputs(entry)
            except InputError as error:
                say(f"{model.key}: left out: {error}")
                continue
            keys = UnitKeys(Unit(entry.obs_id, event_type=target.event_type), kept, digests)
            found[entry.obs_id] = replace(keys, reduced=keys.recipe(options).key)
        batches = make_batches(found, self.stack.batch)
        tasks = [OffTask(target.name, model.name, tuple(found[obs_id] for obs_id in batch)) for batch in batches]
        runs = {keys.unit.name: keys.reduced for task in tasks for keys in task.units}
        return (*tasks, self.keyed(ModelTask(target.name, model.name, "", runs)))

    def make(
        self,
        entries: Iterable[RunEntry],
        refused: Sequence[Refusal],
        unselected: int,
        model: tuple[OffTask | ModelTask, ...] = (),
    ) -> TargetTasks:
        """Tasks for some runs; those whose files are missing are refused, too. A model may be that of other targets.

        Raises as `batches`.
        """
        if model and isinstance(model[-1], ModelTask):
            self.model = model[-1].model, model[-1].key
            self.reduce = self.target.reduce_recipe(self.model)
            model = tuple(task for task in model if task.target == self.target.name)
        units: Units = {}
        refusals, crossing = list(refused), set[int]()
        for entry in entries:
            try:
                for interval, keys, crosses in self.units(entry):
                    units.setdefault(interval, {}).setdefault(entry.obs_id, []).append(keys)
                    crossing |= {entry.obs_id} if crosses else set()
            except InputError as error:
                refusals.append(Refusal(entry.obs_id, str(error)))
        refusals.sort(key=lambda refusal: refusal.obs_id)
        if not units:
            table = self.keyed(TableTask(self.target.name, "", {}, tuple(refusals))) if refusals else None
            return TargetTasks(model, table=table, refused=tuple(refusals), unselected=unselected)
        batches = self.batches(units)
        reduce = [task for tasks in batches.values() for task in tasks]
        stack: list[StackTask] = []
        export, parts, series = [], [], []
        fatal = tuple(refusals) if self.target.on_refused == "fail" else ()
        for label in self.labels:
            ends = {}
            for interval, tasks in batches.items():
                leaves = [(task.units[-1].unit.obs_id, task.leaves[label]) for task in tasks]
                ends[interval] = self.nodes(label, leaves, stack)
            numbered = [(interval.number if interval else 0, root) for interval, root in ends.items()]
            export.append(self.export_task(label, self.nodes(label, numbered, stack), reduce, fatal))
            found = list(self.part_tasks(label, batches, ends))
            parts += found
            series += [self.series_task(label, found, [each.name for each in batches if each])] if found else []
        roots = {each.label: each.root for each in export}
        table = self.keyed(TableTask(self.target.name, "", roots, tuple(refusals)))
        first, figures = export[0].label, []
        for each in export:
            drawn = FiguresTask(each.target, each.label, "", each.key, table.key, each.label == first)
            figures.append(self.keyed(drawn))
        made = tuple(reduce), tuple(stack), tuple(export), tuple(parts), tuple(series), table, tuple(figures)
        return TargetTasks(model, *made, tuple(refusals), unselected, self._notes(units, crossing))

    def batches(self, units: Units) -> dict[Interval | None, list[ReduceTask]]:
        """Batches of each interval, in order of time after those of none; MistakeError if edges hold no run."""
        by = self.stack.by_s
        if isinstance(by, tuple) and set(units) == {None}:
            raise MistakeError(f"stack.by: no run lies between the edges, MJD {by}; expected one that does, or null")
        size = 1 if "run" in (by, self.per) else self.stack.batch
        kind = self._kind(keys[0] for runs in units.values() for keys in runs.values())
        made: dict[Interval | None, list[ReduceTask]] = {}
        for interval in sorted(units, key=lambda each: each or ()):
            runs = units[interval]
            made[interval] = []
            for batch in make_batches(runs, size):
                group = tuple(keys for obs_id in batch for keys in runs[obs_id])
                task = ReduceTask(self.target.name, group, {}, kind, self.model)
                leaves = {label: task.leaf_recipe(self.target, label).key for label in self.labels}
                made[interval].append(replace(task, leaves=leaves))
        return made

    def part_tasks(
        self, label: str, batches: Mapping[Interval | None, Sequence[ReduceTask]], roots: Mapping[Interval | None, str]
    ) -> Iterator[ExportTask]:
        """Final products of each interval, and of each run or batch that is exported."""
        for interval, tasks in batches.items():
            start = [interval.name] if interval else []
            if interval:
                yield self.export_task(label, roots[interval], tasks, (), interval.name)
            for task in tasks if self.per in ("run", "group") else ():
                ends = dict.fromkeys(str(task.units[k].unit.obs_id) for k in (0, -1))
                yield self.export_task(label, task.leaves[label], [task], (), "-".join([*start, self.per, *ends]))

    def units(self, entry: RunEntry) -> list[tuple[Interval | None, UnitKeys, bool]]:
        """Interval of each unit of a run, its keys, and whether it reaches over an edge.

        InputError if a file is missing or an HDU that every run needs.
        """
        kept, digests = self._inputs(entry)
        found = []
        options, by = self.target.reduce, self.stack.by_s
        times, lon_deg = self._times(kept, digests)
        for piece, (start_s, stop_s) in enumerate(times or [(0.0, 0.0)]):
            number = piece if times and options.split_s is not None else None
            unit = Unit(entry.obs_id, number, self.target.event_type)
            interval, first, last = (
                None if by is None or not (times or by == "run") else interval_of(time_s, by, unit, lon_deg)
                for time_s in ((start_s + stop_s) / 2, start_s, stop_s - EDGE_S)
            )
            keys = UnitKeys(unit, kept, digests, off_runs=self.off_runs.get(entry.obs_id))
            keys = replace(keys, reduced=keys.recipe(self.reduce).key)
            backgrounds = {label: keys.background_recipe(about).key for label, about in self.labels.items()}
            found.append((interval, replace(keys, backgrounds=backgrounds), first != last))
        return found

    def _inputs(self, entry: RunEntry) -> tuple[RunEntry, dict[str, str]]:
        """What is read of a run, and the digests of its files by path; InputError as `units`."""
        digests: dict[str, str] = {}
        try:
            entry = entry.of_event_type(self.target.event_type)
        except RunRefused as error:
            raise InputError(f"run {entry.obs_id}: {error}") from error
        for path in (ref.path for ref in entry.hdus):
            try:
                digests[str(path)] = self.cache.digest(path)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror or error}") from error
            except ValueError as error:
                raise InputError(str(error)) from error
        missing = missing_types({ref.hdu_type for ref in entry.hdus}, ALWAYS)
        if missing:
            raise InputError(f"run {entry.obs_id}: {missing}")
        # Only what is in the key: neither the row of the index nor its other columns.
        return replace(entry, obs_info={}, hdus=tuple(ref._replace(row=None) for ref in entry.hdus)), digests

    def nodes(self, label: str, parts: Sequence[tuple[int, str]], found: list[StackTask]) -> str:
        """Add the inner nodes of a label to `found`, children first; give the key of the last one.

        `parts` are what is stacked, in order: the number with which each speaks in the tree, and its key.
        """

        def key_of(group: Branch) -> str:
            if not group.children:
                return group.key
            children = tuple(key_of(child) for child in group.children)
            found.append(self.keyed(StackTask(self.target.name, label, "", children)))
            return found[-1].key

        return key_of(make_tree([Branch(*part) for part in parts], self.stack.fanout))

    def export_task(
        self, label: str, root: str, tasks: Sequence[ReduceTask], refused: tuple[Refusal, ...], part: str = ""
    ) -> ExportTask:
        """Final products of a label, or of a part of its runs, which are not made if there are refused runs."""
        made_of = {keys.unit.name: keys.backgrounds[label] for task in tasks for keys in task.units}
        about = part, self.model, {} if part or self.target.on_refused == "continue" else self.unread
        return self.keyed(ExportTask(self.target.name, label, "", root, made_of, refused, *about))

    def series_task(self, label: str, parts: Sequence[ExportTask], intervals: Sequence[str]) -> SeriesTask:
        """Light curve of the intervals, and list for a joint fit, of the parts of a label."""
        keys, points = {each.part: each.key for each in parts}, set(intervals)
        joint = [name for name in keys if self.per != "none" and (name in points) == (self.per == "interval")]
        return self.keyed(SeriesTask(self.target.name, label, "", keys, tuple(intervals), tuple(joint)))

    def keyed(self, task: T) -> T:
        """Task with its key."""
        return replace(task, key=task.recipe(self.target).key)

    def _kind(self, units: Iterable[UnitKeys]) -> bool | None:
        """Whether most runs are point-like; None if it does not matter: such runs have no tables."""
        has_tables = self.model is None and all(each.method != "none" for each in self.target.backgrounds.values())
        if self.stack.mixed or has_tables:
            return None
        total = 0
        for keys in units:
            about = {"hdus": sorted((ref.hdu_type, ref.hdu_name) for ref in keys.entry.hdus)}
            key = make_key("enclosure", 1, about, sorted(keys.inputs.values()))
            with suppress(InputChanged):  # of which the job speaks: nothing is known of the content of these digests
                total += self.cache.fact(key, partial(read_enclosure, keys.entry, keys.inputs))
        return total > 0

    def _times(self, entry: RunEntry, digests: Mapping[str, str]) -> Times:
        """Times of a run; none if it will be refused when it is read, or if they do not matter."""
        options, split_s = self.target.reduce, self.target.reduce.split_s
        if split_s is None and self.stack.by_s in (None, "run"):
            return [], None

        def find() -> Times:
            try:
                gti, site = read_gti_and_site(entry, digests)
                selected = gti if options.time_mjd is None else select_time(gti, options.time_mjd)
                pieces = [selected] if split_s is None else split_gti(selected, split_s, site)
                ends = [(float(each.start_s[0]), float(each.stop_s[-1])) for each in pieces if each.start_s.size]
                return ends, None if site is None else site.lon_deg
            except RunRefused:
                return [], None
            except InputChanged as error:  # or it cannot be read: nothing is known of the content of these digests
                raise InputError(str(error)) from error

        hdus = sorted((ref.hdu_type, ref.hdu_name, digests[str(ref.path)]) for ref in entry.hdus)
        about = {"split_s": split_s, "time_mjd": options.time_mjd, "hdus": hdus}
        found: Times = self.cache.fact(make_key("times", versions.REDUCE, about, {}), find)
        return found

    def _notes(self, units: Units, crossing: Set[int]) -> tuple[str, ...]:
        """How many intervals there are, and what of the runs does not fit into them."""
        said = [counted(len(units.keys() - {None}), "interval")]
        if None in units:
            said.append(f"{counted(len(units[None]), 'run')} or parts of them in none: they are in the full stack only")
        if crossing:
            runs = f"over an edge reaches {counted(len(crossing), 'run')} (run {min(crossing)}, ...)"
            said.append(f"{runs}: each counts where its middle lies; observations.split cuts runs")
        return tuple(f"stack.by: {each}" for each in said if self.stack.by_s is not None)


def joint_tasks(targets: Mapping[str, Target], tasks: Mapping[str, TargetTasks]) -> Iterator[SeriesTask]:
    """Lists of the datasets of all types of events of a target, one for each label; by the last target of these."""
    parts: dict[tuple[str, str], dict[str, str]] = {}
    for name, target in targets.items():
        for each in tasks[name].export if target.event_type else ():
            family = name.removesuffix(f"-{target.event_type}")
            parts.setdefault((family, each.label), {})[name] = each.key
    for (family, label), keys in parts.items():
        task = SeriesTask([*keys][-1], label, "", keys, (), tuple(keys), family)
        yield replace(task, key=task.recipe(targets[task.target]).key)


def report_task(
    tasks: Mapping[str, TargetTasks], targets: Mapping[str, Target], left_out: tuple[str, ...]
) -> ReportTask | None:
    """Page of all targets, with the largest offset of those that are tiles; None if no target has runs."""
    shown = []
    for name, found in tasks.items():
        options, keys = targets[name].reduce, {each.label: each.key for each in found.figures}
        reach_deg = options.offset_max_deg if options.tile else None
        key = found.table.key if found.table else ""
        shown.append(ReportTarget(name, keys, key, found.asked, reach_deg, found.reason))
    task = ReportTask("", tuple(shown), left_out)
    return replace(task, key=task.recipe.key) if any(found.reduce for found in tasks.values()) else None
