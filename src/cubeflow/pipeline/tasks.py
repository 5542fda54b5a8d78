"""What there is to do: tasks, each of which makes files that are named by what is in them.

A task holds all that it needs beside its `Target`, so that a job reads these two and nothing else of a plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cubeflow.dl3.entries import RunEntry
from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.dl3.files import read_content
from cubeflow.errors import MistakeError, counted
from cubeflow.observation import Unit
from cubeflow.pipeline import versions
from cubeflow.products.acceptance_fit import FitOptions, OffOptions
from cubeflow.products.background import BackgroundOptions
from cubeflow.products.dataset import ExportOptions
from cubeflow.products.exclusion import EVERY_ENERGY, Areas, Exclusion, ExclusionFile, ExclusionMasks
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.sky_model import GammapySource
from cubeflow.store.keys import Recipe, short

FOLDER = ".cubeflow"  # of plans, locks and progress, below the results
PRODUCTS = ("cube.h5", "dataset.fits.gz", "datasets.yaml", "models.yaml", "significance.fits.gz")
PARTS = "parts"  # folder of the products of intervals, runs and batches, below that of a label
LIGHT_CURVE = "lightcurve.ecsv"
JOINT = ("joint.yaml", "joint-models.yaml")
TABLES = ("runs.ecsv", "runs.csv", "runs.fits")
PICTURES = tuple(f"{name}.svg" for name in ("significance", "counts", "exposure"))
PAGE = "report.html"
COVERAGE = "coverage.fits"
ON_ONE_PAGE = 3  # targets; of more, each has a page of its own
REGIONS = ("exclusion.reg", "pointings.reg")
CRATE = "ro-crate-metadata.json"
FOUND = ("exclusion-found.fits.gz", "exclusion-found.reg")  # what `cubeflow exclude` leaves; the mask may be an input


@dataclass(frozen=True)
class PlannedExclusion:
    """An exclusion file as the plan has found it."""

    file: ExclusionFile
    sha256: str  # of its content
    areas: Areas | None  # None for an image, which is read where it is used

    def read(self) -> Exclusion:
        """What it excludes; InputChanged if that is to be read, and the file is no longer the one planned with."""
        content = self.areas or read_exclusion(self.file.path, self.sha256).content
        limits = zip((self.file.energy_min_tev, self.file.energy_max_tev), EVERY_ENERGY, strict=True)
        lower, upper = (end if given is None else given for given, end in limits)
        return Exclusion(str(self.file.path), content, (lower, upper))


@dataclass(frozen=True)
class PlannedSkyModel:
    """A file of models as gammapy writes them, and the templates that it names: sha256 by path, the file first."""

    files: Mapping[str, str]

    def read(self) -> tuple[GammapySource, ...]:
        """Its sources.

        InputChanged if a file is no longer the one planned with; MistakeError if gammapy is not there, cannot read it,
        or finds what is no source with a position.
        """
        for path, sha256 in self.files.items():
            read_content(Path(path), sha256=sha256)
        name = next(iter(self.files))
        try:
            from gammapy.modeling.models import Models, SkyModel

            models = list(Models.read(name))
        except ImportError as error:
            raise MistakeError(f"{name}: expected gammapy, which reads it: pip install 'cubeflow[gammapy]'") from error
        except Exception as error:  # of gammapy, whose errors have no common class
            raise MistakeError(f"{name}: expected models as gammapy writes them: {error!r:.200}") from error
        if odd := [each.name for each in models if not isinstance(each, SkyModel) or each.position is None]:
            raise MistakeError(f"{name}: {odd[0]}: expected a SkyModel with a position")
        return tuple(map(GammapySource, models))


@dataclass(frozen=True)
class PlannedModel:
    """All that decides an acceptance model beside its runs."""

    name: str  # of its folder
    off: OffOptions
    fit: FitOptions
    exclusions: tuple[PlannedExclusion, ...]
    livetime_s: float = 0.0  # enough of OFF runs that match a run

    @property
    def key(self) -> str:
        """Key of the configuration that asks for it."""
        before, _, target = self.name.partition("self-")
        return f"models.{self.name}" if before else f"targets.{target}.acceptance.model"


@dataclass(frozen=True)
class Target:
    """All that decides the products of a target."""

    name: str  # safe in file names
    position_deg: tuple[float, float]  # right ascension and declination, ICRS
    reduce: ReduceOptions  # geometry, axes and cuts
    backgrounds: Mapping[str, BackgroundOptions]  # methods by label
    exclusions: tuple[PlannedExclusion, ...]  # what is not background
    significance: SignificanceOptions  # disc in which counts are summed, and how wrong the background may be
    compression: Literal["blosc", "gzip", "none"] = "blosc"  # filter of the artifacts
    keep: Literal["all", "none"] = "all"  # artifacts of observations, or only the sums of batches
    on_refused: Literal["continue", "fail"] = "continue"  # export without the runs that are refused, or fail
    export: ExportOptions = field(default_factory=ExportOptions)  # datasets for modelling
    model: PlannedModel | None = None  # in place of the background responses of the files
    sky_models: Mapping[str, PlannedSkyModel] = field(default_factory=dict)  # by label, where a file holds the sources
    event_type: str | None = None  # of the events that are used; None for all

    def reduce_recipe(self, model: tuple[str, str] | None) -> Recipe:
        """Options of all units; `model` is name and key of the acceptance model."""
        off_livetime_s = None if self.model is None else self.model.livetime_s
        options = {"reduce": self.reduce, "compression": self.compression, "off_livetime_s": off_livetime_s}
        return Recipe("reduced-options", versions.REDUCE, options, {} if model is None else dict([model]))

    def off_recipe(self) -> Recipe:
        """Options of the OFF runs of the acceptance model."""
        assert self.model is not None
        limits = [(each.file.energy_min_tev, each.file.energy_max_tev) for each in self.model.exclusions]
        about = {"off": self.model.off, "exclusion": limits, "compression": self.compression}
        return Recipe("off-options", versions.OFF, about, [each.sha256 for each in self.model.exclusions])

    def background_recipe(self, label: str) -> Recipe:
        """All that decides a background beside the maps."""
        about = {
            "sky_model": list(self.sky_models[label].files.values()) if label in self.sky_models else [],
            "position_deg": self.position_deg,
            "significance": {"radius_deg": self.significance.radius_deg[0]},
            "exclusion": [(each.file.energy_min_tev, each.file.energy_max_tev) for each in self.exclusions],
            "compression": self.compression,
            "method": self.backgrounds[label],
        }
        return Recipe("background-options", versions.BACKGROUND, about, [each.sha256 for each in self.exclusions])

    def stack_recipe(self, children: Sequence[str], is_pointlike: bool | None = None) -> Recipe:
        """Sum of backgrounds, which must be of runs that are point-like or not, or of sums."""
        about = {"compression": self.compression, "is_pointlike": is_pointlike}
        return Recipe("stack", versions.STACK, about, list(children))

    def exclusion_masks(self) -> ExclusionMasks:
        """Masks of what is not background; raises as `PlannedExclusion.read`."""
        return ExclusionMasks([each.read() for each in self.exclusions])


@dataclass(frozen=True)
class UnitKeys:
    """A unit with what is read for it and the keys of what is made of it."""

    unit: Unit  # run, or piece of one
    entry: RunEntry  # where its HDUs lie
    inputs: Mapping[str, str]  # sha256 of each of its files, by path
    reduced: str = ""  # key of its maps
    backgrounds: Mapping[str, str] = field(default_factory=dict)  # key of its background by label
    off_runs: tuple[int, ...] | None = None  # those that match it, the nearest first; None for all of the model

    def recipe(self, options: Recipe) -> Recipe:
        """Maps, or counts of an OFF run, from its files."""
        hdus = sorted((ref.part, ref.hdu_name, ref.size, ref.md5) for ref in self.entry.hdus)
        about = {"options": options, **vars(self.unit), "hdus": hdus, "off_runs": self.off_runs}
        inputs = {ref.part: self.inputs[str(ref.path)] for ref in self.entry.hdus}
        kind = options.kind.removesuffix("-options")
        return Recipe(kind, options.version, {**about, "quirks": sorted(self.entry.quirks)}, inputs)

    def background_recipe(self, options: Recipe) -> Recipe:
        """Background from its maps."""
        return Recipe("background", options.version, {"options": options}, [self.reduced])


@dataclass(frozen=True)
class OffTask:
    """OFF runs of an acceptance model, whose counts and exposures are made one after the other."""

    kind: Literal["off"] = field(default="off", kw_only=True)
    target: str  # the first that uses the model
    model: str
    units: tuple[UnitKeys, ...]  # in order; `reduced` is the key of the counts and the exposure


@dataclass(frozen=True)
class ModelTask:
    """An acceptance model from the artifacts of its OFF runs, given by their units and keys."""

    kind: Literal["model"] = field(default="model", kw_only=True)
    target: str
    model: str
    key: str
    runs: Mapping[str, str]

    def recipe(self, target: Target) -> Recipe:
        """Recipe of the key."""
        assert target.model is not None
        about = {"fit": target.model.fit, "off": target.off_recipe(), "compression": target.compression}
        return Recipe("model", versions.MODEL, about, self.runs)


@dataclass(frozen=True)
class ReduceTask:
    """Units of a target that are reduced one after the other, and their sum (a leaf of the tree) by label."""

    kind: Literal["reduce"] = field(default="reduce", kw_only=True)
    target: str
    units: tuple[UnitKeys, ...]  # in order
    leaves: Mapping[str, str]  # key of the sum by label
    is_pointlike: bool | None = None  # of runs that are stacked, without a background or with a model; None for any
    model: tuple[str, str] | None = None  # name and key of the acceptance model

    def kind_of(self, target: Target, label: str) -> bool | None:
        """Whether the runs of a sum must be point-like; None where that does not matter."""
        return self.is_pointlike if self.model or target.backgrounds[label].method == "none" else None

    def leaf_recipe(self, target: Target, label: str) -> Recipe:
        """Sum of the units."""
        return target.stack_recipe([keys.backgrounds[label] for keys in self.units], self.kind_of(target, label))


@dataclass(frozen=True)
class StackTask:
    """A node of the tree: the sum of its children, in order; all are given by their keys."""

    kind: Literal["stack"] = field(default="stack", kw_only=True)
    target: str
    label: str
    key: str
    children: tuple[str, ...]

    def recipe(self, target: Target) -> Recipe:
        """Recipe of the key."""
        return target.stack_recipe(self.children)


@dataclass(frozen=True)
class Refusal:
    """A run that is left out before anything of it is read, and why."""

    obs_id: int
    reason: str


@dataclass(frozen=True)
class ExportTask:
    """Final products of a label, or of a part of its runs."""

    kind: Literal["export"] = field(default="export", kw_only=True)
    target: str
    label: str
    key: str  # of the products
    root: str  # key of the last stack
    runs: Mapping[str, str]  # key of the background of each unit, for those who ask why a result changed
    refused: tuple[Refusal, ...] = ()  # runs that no stack knows, where one that is refused is a failure
    part: str = ""  # name of an interval, run or batch; empty for all runs
    model: tuple[str, str] | None = None  # name and key of the acceptance model
    unread: Mapping[str, str] = field(default_factory=dict)  # as `refused`, by file, of runs whose number is not known

    @property
    def folder(self) -> str:
        """Folder of the products, below the results."""
        return f"{self.target}/{self.label}" + (f"/{PARTS}/{self.part}" if self.part else "")

    def recipe(self, target: Target) -> Recipe:
        """Recipe of the key."""
        about: dict[str, object] = {"target": self.target, "label": self.label, "part": self.part}
        about |= {"reduce": target.reduce_recipe(self.model), "background": target.background_recipe(self.label)}
        about |= {"on_refused": target.on_refused, "refused": (*self.refused, *self.unread.items())}
        about |= {"significance": target.significance, "fit_radius_deg": target.export.fit_radius_deg}
        return Recipe("export", versions.EXPORT, about, {"stack": self.root, **self.runs})


@dataclass(frozen=True)
class SeriesTask:
    """Light curve of a label, and the list of its datasets for a joint fit."""

    kind: Literal["series"] = field(default="series", kw_only=True)
    target: str
    label: str
    key: str
    parts: Mapping[str, str]  # key of the products of each part
    intervals: tuple[str, ...]  # parts that are points of the light curve; none for no light curve
    joint: tuple[str, ...]  # parts that are fitted together; none for no list
    family: str = ""  # what all targets are called of which each has a type of events; the parts are these targets

    @property
    def folder(self) -> str:
        """Folder of the list, below the results."""
        return f"{self.family or self.target}/{self.label}"

    def part_folder(self, part: str) -> str:
        """Folder of the products of a part, below the results."""
        return f"{part}/{self.label}" if self.family else f"{self.folder}/{PARTS}/{part}"

    def recipe(self, target: Target) -> Recipe:
        """Recipe of the key."""
        about = {"target": self.family or target.name, "label": self.label, "intervals": self.intervals}
        about |= {"joint": self.joint}
        return Recipe("series", versions.SERIES, about, self.parts)


@dataclass(frozen=True)
class TableTask:
    """Run table of a target."""

    kind: Literal["table"] = field(default="table", kw_only=True)
    target: str
    key: str  # of the table
    roots: Mapping[str, str]  # key of the last stack by label
    refused: tuple[Refusal, ...]  # runs that no stack knows

    def recipe(self, target: Target) -> Recipe:
        """Recipe of the key; the order of the labels is that of the columns, and of the reasons."""
        about: dict[str, object] = {"target": self.target, "labels": tuple(target.backgrounds)}
        about |= {"refused": self.refused, "event_type": target.event_type}
        about |= {} if self.roots else {"on_refused": target.on_refused}
        return Recipe("table", versions.TABLE, about, self.roots)


@dataclass(frozen=True)
class FiguresTask:
    """Pictures of a label and its section of the report; for one label of a target, DS9 regions and what all share."""

    kind: Literal["figures"] = field(default="figures", kw_only=True)
    target: str
    label: str
    key: str
    cube_key: str
    table_key: str
    writes_regions: bool = True

    def recipe(self, target: Target) -> Recipe:
        """Recipe of the key."""
        about = {"target": target.name, "label": self.label, "writes_regions": self.writes_regions}
        return Recipe("figures", versions.FIGURES, about, {"cube": self.cube_key, "table": self.table_key})


@dataclass(frozen=True)
class ReportTarget:
    """A target in the report: key of the figures of each label, and key of the run table."""

    name: str
    labels: Mapping[str, str]  # none without runs
    table: str  # empty if no run was selected
    asked: str = ""  # which runs are wanted, in words
    reach_deg: float | None = None  # largest offset of what a run covers, for a tile
    reason: str = ""  # why it has no run


@dataclass(frozen=True)
class ReportTask:
    """The page that shows all targets; of one target it lies in its folder."""

    kind: Literal["report"] = field(default="report", kw_only=True)
    key: str
    targets: tuple[ReportTarget, ...]
    left_out: tuple[str, ...] = ()  # files of the store that may hold a run and cannot be used, with the reason

    @property
    def recipe(self) -> Recipe:
        """Recipe of the key."""
        made_of = {f"{each.name}/{label}": key for each in self.targets for label, key in each.labels.items()}
        tables, about = {each.name: each.table for each in self.targets}, {"left_out": self.left_out}
        return Recipe("report", versions.REPORT, {"targets": self.targets, **about}, made_of | tables)

    @property
    def has_tiles(self) -> bool:
        """Whether there is a coverage map beside the page."""
        return any(each.reach_deg is not None for each in self.targets)


ArtifactTask = OffTask | ModelTask | ReduceTask | StackTask  # whose files are named by their keys
Task = ArtifactTask | ExportTask | SeriesTask | TableTask | FiguresTask | ReportTask


def files_of(task: Task, target: Target | None = None) -> list[str]:
    """Files that a task makes, below the results, a certificate last; a `target` may keep no artifacts of units."""
    match task:
        case OffTask():
            return [off_file(task.model, keys.unit.name, keys.reduced) for keys in task.units]
        case ModelTask():
            return [model_file(task.model, task.key), gadf_file(task.model, task.key)]
        case ReduceTask():
            files = []
            for keys in task.units if target is None or target.keep == "all" else ():
                files += [reduced_file(task.target, keys)]
                files += [background_file(task.target, keys, label) for label in keys.backgrounds]
            return files + [stack_file(task.target, *leaf) for leaf in task.leaves.items()]
        case StackTask():
            return [stack_file(task.target, task.label, task.key)]
        case ExportTask():
            return [*(f"{task.folder}/{name}" for name in PRODUCTS), certificate_file(task.folder, task.key)]
        case SeriesTask():
            names = [LIGHT_CURVE] * bool(task.intervals) + [*JOINT] * bool(task.joint)
            return [*(f"{task.folder}/{name}" for name in names), certificate_file(task.folder, task.key, "series")]
        case TableTask():
            return [*(f"{task.target}/{name}" for name in TABLES), certificate_file(task.target, task.key)]
        case FiguresTask():
            folder = f"{task.target}/{task.label}"
            regions = [f"{task.target}/{name}" for name in REGIONS if task.writes_regions]
            return [*(f"{folder}/{name}" for name in PICTURES), *regions, certificate_file(folder, task.key, "figures")]
        case ReportTask(targets=(only,)):  # other configurations may have other targets in the same results
            names = [PAGE, *([COVERAGE] if task.has_tiles else [])]
            return [*(f"{only.name}/{name}" for name in names), certificate_file(only.name, task.key, "report")]
        case ReportTask():
            pages = [f"{each.name}/{PAGE}" for each in task.targets if len(task.targets) > ON_ONE_PAGE]
            return [PAGE, *pages, *([COVERAGE] if task.has_tiles else []), certificate_file("", task.key)]


def inputs_of(task: Task) -> list[str]:
    """Files of other tasks that a task reads, below the results."""
    match task:
        case OffTask():
            return []
        case ModelTask():
            return [off_file(task.model, unit, key) for unit, key in task.runs.items()]
        case ReduceTask():
            return [] if task.model is None else [model_file(*task.model)]
        case StackTask():
            return [stack_file(task.target, task.label, child) for child in task.children]
        case ExportTask():
            return [stack_file(task.target, task.label, task.root)]
        case SeriesTask():
            places = {task.part_folder(part): key for part, key in task.parts.items()}
            return [file for at, key in places.items() for file in (f"{at}/cube.h5", certificate_file(at, key))]
        case TableTask():
            return [stack_file(task.target, label, root) for label, root in task.roots.items()]
        case FiguresTask():
            table = [f"{task.target}/{TABLES[0]}", certificate_file(task.target, task.table_key)]
            cube = f"{task.target}/{task.label}"
            return [f"{cube}/cube.h5", certificate_file(cube, task.cube_key), *table]
        case ReportTask():
            labels = [(each.name, *item) for each in task.targets for item in each.labels.items()]
            sections = [certificate_file(f"{name}/{label}", key, "figures") for name, label, key in labels]
            tables = [each for each in task.targets if each.table]
            sections += [certificate_file(each.name, each.table) for each in tables]
            return sections + [f"{each.name}/{TABLES[0]}" for each in tables]


def describe(task: Task) -> str:
    """What a task is about, in words."""
    match task:
        case ModelTask():
            return f"{task.model}: acceptance model of {counted(len(task.runs), 'run')}"
        case ReduceTask() | OffTask():
            first, last = task.units[0].unit.name, task.units[-1].unit.name
            name = task.model if isinstance(task, OffTask) else task.target
            return f"{name}: " + (f"run {first}" if first == last else f"runs {first}-{last}")
        case StackTask():
            return f"{task.target}: {task.label}: {counted(len(task.children), 'stack')}"
        case ExportTask() | SeriesTask() | FiguresTask():
            return f"{task.target}: {task.label}"
        case TableTask():
            return f"{task.target}: run table"
        case ReportTask():
            return counted(len(task.targets), "target")


def off_file(model: str, unit: str, key: str) -> str:
    """Counts and exposure of an OFF run."""
    return f"models/{model}/off/{unit}-{short(key)}.h5"


def model_file(model: str, key: str) -> str:
    """Acceptance model."""
    return f"models/{model}/model-{short(key)}.h5"


def gadf_file(model: str, key: str) -> str:
    """Acceptance model as background responses for other programs."""
    return f"models/{model}/background-{short(key)}.fits.gz"


def reduced_file(target: str, keys: UnitKeys) -> str:
    """Maps of a unit."""
    return f"{target}/obs/{keys.unit.name}/reduced-{short(keys.reduced)}.h5"


def background_file(target: str, keys: UnitKeys, label: str) -> str:
    """Background of a unit."""
    return f"{target}/obs/{keys.unit.name}/background-{label}-{short(keys.backgrounds[label])}.h5"


def stack_file(target: str, label: str, key: str) -> str:
    """Leaf or node of the tree of a label."""
    return f"{target}/stack/{label}/{short(key)}.h5"


def certificate_file(folder: str, key: str, kind: str = "made") -> str:
    """What the products of a kind in a folder were made from; of ``figures`` it is the section in the report, too."""
    return f"{folder}/{kind}-{short(key)}.json".removeprefix("/")
