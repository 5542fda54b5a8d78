"""From a target and the runs of a store to its tasks: units, batches, tree and keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from cubeflow.config.sections import StackOptions
from cubeflow.dl3.entries import HduRef, RunEntry, missing_types
from cubeflow.dl3.files import InputChanged
from cubeflow.dl3.reader import ALWAYS, read_enclosure, read_gti_and_site
from cubeflow.observation import RunRefused, Unit
from cubeflow.pipeline import versions
from cubeflow.pipeline.tasks import (
    ExportTask,
    FiguresTask,
    ReduceTask,
    Refusal,
    ReportTarget,
    ReportTask,
    StackTask,
    TableTask,
    Target,
    Task,
    UnitKeys,
)
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.tree import Branch, make_batches, make_tree
from cubeflow.products.pieces import select_time, split_gti
from cubeflow.store.keys import make_key


class InputError(Exception):
    """An input file of a run is missing or cannot be read; the message names it."""


@dataclass(frozen=True)
class TargetTasks:
    """The tasks of a target."""

    reduce: tuple[ReduceTask, ...] = ()  # in order, as all that follow; none without runs
    stack: tuple[StackTask, ...] = ()
    export: tuple[ExportTask, ...] = ()
    table: TableTask | None = None  # None if the target has no run at all
    figures: tuple[FiguresTask, ...] = ()
    refused: tuple[Refusal, ...] = ()  # selected runs that cannot be used, known before anything is read
    unselected: int = 0  # runs of the store that the target did not ask for

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All of them, each after those whose files it reads."""
        return (*self.reduce, *self.stack, *self.export, *(() if self.table is None else (self.table,)), *self.figures)

    @property
    def n_runs(self) -> int:
        """Number of runs, however many pieces each is cut into."""
        return sum(len({keys.unit.obs_id for keys in task.units}) for task in self.reduce)


class TaskMaker:
    """Tasks of one target; the keys of its options are formed once.

    Parameters
    ----------
    target : Target
        Options.
    cache : DigestCache
        Digests of the input files.
    stack : StackOptions
        How runs are batched and stacked.
    """

    def __init__(self, target: Target, cache: DigestCache, stack: StackOptions) -> None:
        self.target, self.cache, self.stack = target, cache, stack
        options = {"reduce": target.reduce, "compression": target.compression}
        self.reduce = make_key("reduce-options", versions.REDUCE, options, {})
        self.labels = {}
        for label in target.backgrounds:
            about = target.background_options(label), target.exclusion_digests
            self.labels[label] = make_key("background-options", versions.BACKGROUND, *about)

    def make(self, entries: Iterable[RunEntry], refused: Sequence[Refusal], unselected: int) -> TargetTasks:
        """Tasks for some runs; those whose files are missing are refused, too."""
        units: dict[int, tuple[UnitKeys, ...]] = {}
        refusals = list(refused)
        for entry in entries:
            try:
                units[entry.obs_id] = self.units(entry)
            except InputError as error:
                refusals.append(Refusal(entry.obs_id, str(error)))
        refusals.sort(key=lambda refusal: refusal.obs_id)
        batches = make_batches(sorted(units), self.stack.batch)
        groups = ([keys for obs_id in group.obs_ids for keys in units[obs_id]] for group in batches)
        kind = self._kind(found[0] for found in units.values())
        reduce = tuple(self.reduce_task(group, kind) for group in groups)
        if not reduce:
            table = self.table_task({}, refusals) if refusals else None
            return TargetTasks(table=table, refused=tuple(refusals), unselected=unselected)
        stack: list[StackTask] = []
        roots = {label: self.nodes(label, reduce, stack) for label in self.labels}
        runs = [keys for task in reduce for keys in task.units]
        fatal = tuple(refusals) if self.target.on_refused == "fail" else ()
        export = tuple(self.export_task(label, root, runs, fatal) for label, root in roots.items())
        table = self.table_task(roots, refusals)
        figures = tuple(self.figures_task(each, table) for each in export)
        return TargetTasks(reduce, tuple(stack), export, table, figures, tuple(refusals), unselected)

    def units(self, entry: RunEntry) -> tuple[UnitKeys, ...]:
        """Units of a run with their keys; InputError if a file is missing or an HDU that every run needs."""
        digests = {ref.path: self._digest(ref) for ref in entry.hdus}
        missing = missing_types({ref.hdu_type for ref in entry.hdus}, ALWAYS)
        if missing:
            raise InputError(f"run {entry.obs_id}: {missing}")
        known = sorted((input_name(ref), ref.hdu_name, ref.size, ref.md5) for ref in entry.hdus)
        about = {"options": self.reduce, "obs_id": entry.obs_id, "hdus": known, "quirks": sorted(entry.quirks)}
        inputs = {input_name(ref): digests[ref.path] for ref in entry.hdus}
        by_path = {str(path): digest for path, digest in digests.items()}
        # Only what is in the key: neither the row of the index nor its other columns.
        kept = replace(entry, obs_info={}, hdus=tuple(ref._replace(row=None) for ref in entry.hdus))
        found = []
        pieces = {"split_s": self.target.reduce.split_s, "time_mjd": self.target.reduce.time_mjd, "hdus": known}
        for piece in self._pieces(entry, make_key("pieces", versions.REDUCE, pieces, inputs), by_path):
            unit = Unit(entry.obs_id, piece)
            key = make_key("reduced", versions.REDUCE, about | {"piece": piece}, inputs)
            backgrounds = {
                label: make_key("background", versions.BACKGROUND, options, [key])
                for label, options in self.labels.items()
            }
            found.append(UnitKeys(unit, kept, by_path, key, backgrounds))
        return tuple(found)

    def reduce_task(self, units: Sequence[UnitKeys], is_pointlike: bool | None) -> ReduceTask:
        """Batch of units, and the key of its sum for each label."""
        leaves = {}
        for label, background in self.target.backgrounds.items():
            kind = is_pointlike if background.method == "none" else None
            leaves[label] = self._stack_key([keys.backgrounds[label] for keys in units], kind)
        return ReduceTask(self.target.name, tuple(units), leaves, is_pointlike)

    def nodes(self, label: str, batches: Sequence[ReduceTask], found: list[StackTask]) -> str:
        """Add the inner nodes of a label to `found`, children first; give the key of the last one."""
        ends = [(task.units[0].unit.obs_id, task.units[-1].unit.obs_id) for task in batches]
        leaf = {first: task.leaves[label] for (first, _), task in zip(ends, batches, strict=True)}

        def key_of(group: Branch) -> str:
            if not group.children:
                return leaf[group.first]
            children = tuple(key_of(child) for child in group.children)
            key = self._stack_key(children)
            found.append(StackTask(self.target.name, label, key, children))
            return key

        return key_of(make_tree([Branch(first, last) for first, last in ends], self.stack.fanout))

    def export_task(self, label: str, root: str, units: Sequence[UnitKeys], refused: tuple[Refusal, ...]) -> ExportTask:
        """Final products of a label, which are not made if there are refused runs."""
        target, options = self.target, self.target.reduce
        content = {
            "target": target.name,
            "label": label,
            "options": self.labels[label],
            "geometries": [options.geometry, options.irf_geometry],
            "spectrum": options.spectrum,
            "on_refused": target.on_refused,
            **({"refused": refused} if refused else {}),
        }
        key = make_key("export", versions.EXPORT, content, [root])
        made_of = {keys.unit.name: keys.backgrounds[label] for keys in units}
        return ExportTask(target.name, label, key, root, made_of, refused)

    def table_task(self, roots: Mapping[str, str], refused: Sequence[Refusal]) -> TableTask:
        """Run table."""
        # The order of the labels is that of the columns, and of the reasons.
        content = {"target": self.target.name, "labels": tuple(self.labels), "refused": tuple(refused)}
        content |= {} if roots else {"on_refused": self.target.on_refused}
        key = make_key("table", versions.TABLE, content, roots)
        return TableTask(self.target.name, key, roots, tuple(refused))

    def figures_task(self, export: ExportTask, table: TableTask) -> FiguresTask:
        """Pictures of a label."""
        is_first = export.label == next(iter(self.labels))
        key = make_key("figures", versions.FIGURES, {"writes_regions": is_first}, [export.key, table.key])
        return FiguresTask(self.target.name, export.label, key, export.key, table.key, is_first)

    def _stack_key(self, children: Sequence[str], is_pointlike: bool | None = None) -> str:
        options = {"compression": self.target.compression, "is_pointlike": is_pointlike}
        return make_key("stack", versions.STACK, options, list(children))

    def _kind(self, units: Iterable[UnitKeys]) -> bool | None:
        """Whether most runs are point-like; None if it does not matter: of such runs there is never a background."""
        if self.stack.mixed or all(options.method != "none" for options in self.target.backgrounds.values()):
            return None
        total = 0
        for keys in units:
            about = {"hdus": sorted((ref.hdu_type, ref.hdu_name) for ref in keys.entry.hdus)}
            key = make_key("enclosure", 1, about, sorted(keys.inputs.values()))
            with suppress(InputChanged):  # of which the job speaks: nothing is known of the content of these digests
                total += self.cache.fact(key, partial(read_enclosure, keys.entry, keys.inputs))
        return total > 0

    def _digest(self, ref: HduRef) -> str:
        """Digest of the file of an HDU."""
        try:
            return self.cache.digest(ref.path)
        except OSError as error:
            raise InputError(f"{ref.path}: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(str(error)) from error

    def _pieces(self, entry: RunEntry, key: str, digests: Mapping[str, str]) -> Sequence[int | None]:
        """Numbers of the pieces of a run; None for a whole run, also for one that will be refused when it is read."""
        options, split_s = self.target.reduce, self.target.reduce.split_s
        if split_s is None:
            return (None,)

        def count() -> int:
            try:
                gti, site = read_gti_and_site(entry, digests)
                selected = gti if options.time_mjd is None else select_time(gti, options.time_mjd)
                return len(split_gti(selected, split_s, site)) if selected.start_s.size else 0
            except RunRefused:
                return 0
            except InputChanged as error:  # or it cannot be read: nothing is known of the content of these digests
                raise InputError(str(error)) from error

        return range(self.cache.fact(key, count)) or (None,)


def report_task(targets: Mapping[str, TargetTasks]) -> ReportTask:
    """Page of all targets that have runs."""
    shown = tuple(
        ReportTarget(name, {each.label: each.key for each in tasks.figures}, tasks.table.key)
        for name, tasks in targets.items()
        if tasks.table is not None
    )
    return ReportTask(make_key("report", versions.REPORT, {"targets": shown}, {}), shown)


def input_name(ref: HduRef) -> str:
    """Type and class of an HDU in one word."""
    return ref.hdu_type if ref.hdu_class in ("", ref.hdu_type) else f"{ref.hdu_type}:{ref.hdu_class}"
