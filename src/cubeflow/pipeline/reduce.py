"""The task ``reduce``: units one after the other into artifacts, and their sum for each label in the same pass."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.reader import ReadOptions, name_file, read_observation
from cubeflow.errors import FailedError, MistakeError, Say
from cubeflow.maps import Cube, NoOverlap
from cubeflow.observation import Observation, RunRefused, RunSkipped
from cubeflow.pipeline import versions
from cubeflow.pipeline.certificate import software
from cubeflow.pipeline.memory import memory_message
from cubeflow.pipeline.progress import Progress
from cubeflow.pipeline.stack import Row, open_made, plain_profiles, read_profiles, write_stack
from cubeflow.pipeline.tasks import ReduceTask, Target, UnitKeys, background_file, model_file, reduced_file, stack_file
from cubeflow.products.acceptance_fit import FitOptions
from cubeflow.products.acceptance_model import AcceptanceModel, RunFacts, with_model
from cubeflow.products.background import Background, BackgroundOptions, make_background, run_part
from cubeflow.products.exclusion import ExclusionMasks
from cubeflow.products.pieces import cut_pieces, in_selected_time
from cubeflow.products.reduced import Reduced, reduce_observation
from cubeflow.products.significance import Found, disc_exposure, find_flux
from cubeflow.products.sky_model import GammapySource
from cubeflow.products.stack import RunPart, Stack, StackSum, empty_stack
from cubeflow.store.artifact import UNSOUND, Artifact, read_artifact, set_aside, write_artifact
from cubeflow.store.atomic import make_folder, sweep_temporaries
from cubeflow.store.keys import from_plain

T = TypeVar("T")


@dataclass(frozen=True)
class Verdict:
    """Why a unit, or its background, is left out: what its artifact holds in place of maps."""

    status: str
    reason: str


@dataclass
class Batch:
    """What the units of a batch have in common, and the last run that was read."""

    results: Path
    target: Target
    say: Say
    task: ReduceTask
    pieces: dict[int, list[Observation]] = field(default_factory=dict)  # of the run that was read last, or it alone

    @cached_property
    def exclusions(self) -> ExclusionMasks:
        """Each mask is made once for a geometry."""
        return self.target.exclusion_masks()

    @cached_property
    def sources(self) -> dict[str, tuple[GammapySource, ...]]:
        """Sources by label that has a file of them."""
        return {label: planned.read() for label, planned in self.target.sky_models.items()}

    @cached_property
    def acceptance_model(self) -> AcceptanceModel | None:
        """Acceptance model; None if the background responses of the files are used."""
        if (made := self.task.model) is None or self.target.model is None:
            return None
        with open_made(self.results / model_file(*made), "model", made[1]) as opened:
            values = {name: np.asarray(opened.dataset(name)) for name in opened.names}
            about = opened.artifact.attributes
        runs = tuple(from_plain(RunFacts, run) for run in about["runs"])
        fit = from_plain(FitOptions, about["fit"])
        return AcceptanceModel(self.target.model.off, fit, about["held_out"], runs, **values)

    def observation(self, keys: UnitKeys) -> Observation:
        """Observation of a unit in its selected time, read if its run was not the last one.

        RunRefused or RunSkipped if it cannot be used, or no time is selected; FailedError if an input is not the one
        planned with.
        """
        options, obs_id = self.target.reduce, keys.unit.obs_id
        if obs_id not in self.pieces:
            self.pieces.clear()
            required = ReadOptions.require if self.task.model is None else ("edisp", "psf")
            read = ReadOptions(required, options.duplicates, keys.inputs, options.events_where)
            whole = in_selected_time(read_observation(keys.entry, read), options.time_mjd)
            self.pieces[obs_id] = [whole] if options.split_s is None else cut_pieces(whole, options.split_s)
        return self.pieces[obs_id][keys.unit.piece or 0]


def reduce_batch(results: Path, target: Target, task: ReduceTask, say: Say, progress: Progress) -> None:
    """Make what is missing of a batch: the artifacts of each unit, and the sum of each label.

    A unit that is refused never stops the others; `progress` hears of each that is done. FailedError if an input file
    is not the one planned with, or disk or memory failed: the other units are done then, and no sum is written.
    """
    batch = Batch(results, target, say, task)
    leaves = {label: results / stack_file(task.target, label, key) for label, key in task.leaves.items()}
    sums = {label: StackSum() for label, path in leaves.items() if not path.exists()}
    rows: dict[str, list[Row]] = {label: [] for label in sums}
    failed: list[str] = []
    for keys in task.units:
        refusals: list[str] = []
        try:
            for label, part, row in _parts(batch, keys, tuple(sums)):
                sums[label].add(part)
                rows[label].append(row)
                told = f"run {keys.unit.name}: {name_file(str(row['reason']), keys.entry)}"
                refusals += [told] if row["status"] == "refused" else []
        except FailedError as error:
            failed.append(str(error))
        except MemoryError:
            failed.append(f"run {keys.unit.name}: {memory_message()}")
        progress.step(refusals[0] if refusals else "", failed)
    if failed:
        raise FailedError("\n".join(dict.fromkeys(failed)))
    for label, total in sums.items():
        recipe = task.leaf_recipe(target, label)
        write_stack(leaves[label], total.result(), task.leaves[label], rows[label], recipe)


def _parts(batch: Batch, keys: UnitKeys, labels: tuple[str, ...]) -> Iterator[tuple[str, Stack | RunPart, Row]]:
    """What a unit gives to the sum of each label, with its row; makes the artifacts that are missing."""
    target, folder = batch.target, batch.results
    paths = {label: folder / background_file(target.name, keys, label) for label in keys.backgrounds}
    keeps = target.keep == "all"
    wanted = [label for label, path in paths.items() if label in labels or (keeps and not path.exists())]
    if not wanted and (not keeps or (folder / reduced_file(target.name, keys)).exists()):
        return
    reduced = _reduced(batch, keys)
    place: Row = {"obs_id": keys.unit.obs_id, "piece": keys.unit.piece}
    for label in wanted:
        made = _background(batch, keys, label, reduced)
        if label not in labels:
            continue
        kind = batch.task.kind_of(target, label)
        if isinstance(made, Verdict):
            yield label, empty_stack(), {**place, **vars(made)}
        elif isinstance(reduced, Reduced) and kind not in (None, reduced.row["is_pointlike"]):
            this, most = ("full-enclosure", "point-like")[:: 1 if kind else -1]
            reason = f"{this} responses, those of most runs are {most}: not stacked together unless stack.mixed is true"
            yield label, empty_stack(), {**place, "status": "refused", "reason": reason, "run": reduced.row}
        elif isinstance(reduced, Reduced):
            said = {"status": status_of(target.backgrounds[label], made), "reason": made.failed or ""}
            row = {**place, **said, "run": reduced.row, "background": made.row}
            yield label, empty_stack() if made.failed else run_part(reduced, made), row


def _reduced(batch: Batch, keys: UnitKeys) -> Reduced | Verdict:
    """Maps of a unit from its artifact, or made and kept; or why there are none."""
    path = batch.results / reduced_file(batch.target.name, keys)

    def unpack(kept: Artifact) -> Reduced | Verdict:
        found = kept.attributes
        if found["status"] != "ok":
            return Verdict(found["status"], found["reason"])
        return Reduced(cubes(kept), np.asarray(kept.datasets["gti_s"]), found["row"])

    found = read_kept(path, "reduced", keys.reduced, batch.say, unpack)
    if found is not None:
        return found
    made: Reduced | Verdict
    try:
        with guarding(f"run {keys.unit.name}", batch.say):
            observation = batch.observation(keys)
            if (model := batch.acceptance_model) is not None and (planned := batch.target.model) is not None:
                observation = with_model(planned.name, model, observation, keys.off_runs, planned.livetime_s)
            made = reduce_observation(observation, batch.target.reduce)
            _require_finite(made.maps)
    except RunRefused as error:
        made = Verdict("refused", str(error).removeprefix(f"run {keys.unit.obs_id}: "))
    except (RunSkipped, NoOverlap) as error:
        made = Verdict("skipped", str(error))
    about: dict[str, object]
    datasets: dict[str, Cube | NDArray[Any]] = {}
    if isinstance(made, Verdict):
        batch.say(f"run {keys.unit.name}: {made.status}: {name_file(made.reason, keys.entry)}")
        about = dict(vars(made))
    else:
        if keys.unit.piece is not None:
            made = replace(made, row={**made.row, "piece": keys.unit.piece})
        about, datasets = {"status": "ok", "row": made.row}, {**made.maps, "gti_s": made.gti_s}
    record = keys.recipe(batch.target.reduce_recipe(batch.task.model)).record
    _keep(batch, path, Artifact("reduced", keys.reduced, versions.REDUCE, datasets, about, record))
    return made


@contextmanager
def guarding(run: str, say: Say) -> Iterator[None]:
    """The guard about each run: what nobody foresaw refuses it, with the trace in the log, and never ends the others.

    What concerns all runs goes on: files that are not those of the plan, the disk, memory, the installation.
    """
    try:
        with np.errstate(over="ignore"):  # what overflows is not finite, and is looked for
            yield
    except RunRefused as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) is None:
            cause = cause.__cause__
        if cause is None:
            raise
        # A file system that fails, with a number, says nothing about the content of a file; gzip has none for content.
        raise FailedError(str(error)) from error
    except (RunSkipped, NoOverlap, FailedError, MistakeError, MemoryError, OSError, ImportError):
        raise
    except Exception as error:
        say(f"{run}: unexpected\n{traceback.format_exc().strip()}")
        raise RunRefused(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}") from error


def _require_finite(maps: Mapping[str, Cube]) -> None:
    """Refuse a run whose maps hold what no sum may: numbers in its files were absurd."""
    for name, cube in maps.items():
        if not np.isfinite(cube.data).all():
            raise RunRefused(f"map {name}: values that are not finite, expected none")


def _background(batch: Batch, keys: UnitKeys, label: str, reduced: Reduced | Verdict) -> Background | Verdict:
    """Background of a unit from its artifact, or made and kept; of a unit that is left out, why."""
    path = batch.results / background_file(batch.target.name, keys, label)
    options, target, key = batch.target.backgrounds[label], batch.target, keys.backgrounds[label]
    provenance = keys.background_recipe(target.background_recipe(label)).record

    def unpack(kept: Artifact) -> Background:
        about, usable = kept.attributes, np.asarray(kept.datasets["usable"])
        return Background(cubes(kept), usable, about["row"], about["failed"], read_profiles(about["profiles"]))

    if isinstance(reduced, Verdict):
        if not path.exists():
            _keep(batch, path, Artifact("background", key, versions.BACKGROUND, {}, vars(reduced), provenance))
        return reduced
    found = read_kept(path, "background", key, batch.say, unpack)
    if found is not None:
        return found
    counts = reduced.maps["counts"]
    excluded = batch.exclusions.mask(counts.geom, counts.axis("energy"))
    try:
        with guarding(f"run {keys.unit.name}", batch.say):
            place, sources = (target.position_deg, target.significance.radius_deg[0]), batch.sources.get(label, ())
            made = make_background(reduced, options, excluded, *place, sources)
            if made.maps and {"exposure_reco", "psf"} <= reduced.maps.keys():
                exposure = reduced.maps["exposure_reco"]
                photons = target.reduce.spectrum.integral(exposure.axes[0].edges)
                mean = disc_exposure(exposure, made.usable, photons, *place)
                fluxes = find_flux(cast(Found, made.row), mean)
                named = {f"{name}_per_m2_s": value for name, value in fluxes.items()}
                made = replace(made, row={**made.row, "exposure_m2_s": mean, **named})
            _require_finite(made.maps)
    except RunRefused as error:
        made = Background({}, np.zeros((1, 1, 1), bool), {}, str(error))
    if told := made.failed or made.row.get("note"):
        batch.say(f"run {keys.unit.name}: {label}: {told}")
    datasets: dict[str, Cube | NDArray[Any]] = {**made.maps, "usable": made.usable}
    about: dict[str, object] = {"status": status_of(options, made), "failed": made.failed, "row": made.row}
    about["profiles"] = plain_profiles(made.profiles)
    _keep(batch, path, Artifact("background", key, versions.BACKGROUND, datasets, about, provenance))
    return made


def status_of(options: BackgroundOptions, made: Background) -> str:
    """Status of a run for a label: whether it has a background, and what is to be done without."""
    return "ok" if not made.failed else "refused" if options.on_failure == "error" else "dropped"


def cubes(artifact: Artifact) -> dict[str, Cube]:
    """Maps of an artifact of an observation; KeyError if one is absent that it was written with."""
    return {name: artifact.maps[name] for name in artifact.attributes["maps"]}


def read_kept(path: Path, kind: str, key: str, say: Say, unpack: Callable[[Artifact], T]) -> T | None:
    """What is made of an artifact that is whole, of this kind and key; None if there is none, or it is set aside.

    What `unpack` misses in it is damage, too.
    """
    if not path.exists():
        return None
    try:
        return unpack(read_artifact(path, kind=kind, key=key))
    except (*UNSOUND, KeyError) as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else error.reason
        say(f"{path}: damaged ({reason}); set aside as {set_aside(path).name} and made again")
        return None


def _keep(batch: Batch, path: Path, artifact: Artifact) -> None:
    """Write an artifact of an observation, if they are kept, with the names of its maps: to lack one may be lawful."""
    if batch.target.keep == "all":
        make_folder(path.parent)
        sweep_temporaries(path.parent)
        about = {**artifact.attributes, "maps": sorted(artifact.maps)}
        made_from = {**artifact.provenance, "software": software()}
        write_artifact(path, replace(artifact, attributes=about, provenance=made_from), batch.target.compression)
