"""What a plan asks of a storage, by a small one that is written here; tests/workflow/test_storage.py has real ones."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cubeflow.config import parse_config
from cubeflow.pipeline.tasks import ExportTask, ReduceTask
from cubeflow.plan.lock import Lock, LockedError
from cubeflow.plan.make import Plan, make_plan
from cubeflow.plan.storage import damaged_copies, look, place, remove
from cubeflow.plan.workflow import PLAN_VARIABLE, WorkflowPlan, plan_workflow
from cubeflow.simulate.store import SimulationOptions, simulate_store

from .conftest import small_config

RING = {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg"}
OPTIONS = {"stack": {"batch": 2, "fanout": 2}, "backgrounds": {"fov": {"method": "fov"}, "ring": RING}}


@dataclass
class Object:
    """A file of a storage that does not list what it has; a plugin is free not to."""

    path: str
    times: dict[str, float]
    asked: list[str]

    def cache_key(self) -> str:
        return f"copies/{self.path}"

    def get_inventory_parent(self) -> str:
        return "copies"

    async def inventory(self, cache) -> None:
        pass

    async def managed_exists(self) -> bool:
        self.asked.append(self.path)
        return self.path in self.times

    async def managed_mtime(self) -> float:
        return self.times[self.path]

    async def managed_remove(self) -> None:
        del self.times[self.path]


class Listing(Object):
    """One that lists all, with their times, when it is first asked."""

    async def inventory(self, cache) -> None:
        if "copies" not in cache.exists_in_storage:
            cache.exists_in_storage["copies"] = True
            for path, time in self.times.items():
                cache.exists_in_storage[f"copies/{path}"] = True
                cache.mtime[f"copies/{path}"] = SimpleNamespace(storage=lambda time=time: time)


class Flagged(str):
    """A path as Snakemake has them."""

    flags: dict[str, Object]


@dataclass
class Workflow:
    """What is asked of Snakemake."""

    kind: type[Object] | None
    times: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.modifier = SimpleNamespace(path_modifier=self)
        usage = [SimpleNamespace(name=name) for name in ("PERSISTENCE", "INPUT_OUTPUT")]
        self.storage_settings = SimpleNamespace(default_storage_provider=self.kind, shared_fs_usage=usage)

    def modify(self, path: str) -> str:
        if self.kind is None:
            return path
        found = Flagged(f"copies/{path}")
        found.flags = {"storage_object": self.kind(path, self.times, self.asked)}
        return found

    def async_run(self, coroutine):
        return asyncio.run(coroutine)


def test_without_a_storage_all_is_where_the_rules_say() -> None:
    workflow = Workflow(None)
    assert place(workflow, "results") == "results"
    assert look(workflow, "results", ["a"]) is None


@pytest.mark.parametrize("kind", [Object, Listing])
def test_what_is_there_and_since_when(kind: type[Object]) -> None:
    workflow = Workflow(kind, {"results/a": 5.0, "results/t/b": 7.0, "other/c": 9.0})
    assert place(workflow, "results") == "copies/results"
    assert look(workflow, "results", ["a", "t/b", "c", "t/d"]) == {"a": 5.0, "t/b": 7.0}
    remove(workflow, "results/a")
    assert look(workflow, "results", ["a", "t/b"]) == {"t/b": 7.0}
    assert (workflow.asked == []) == (kind is Listing), "what is listed is not asked for one by one"


def test_copies_that_were_set_aside(tmp_path: Path) -> None:
    for name in (
        "t/stack/fov/aa.h5",
        "t/stack/fov/aa.h5.corrupt",
        "t/stack/fov/aa.h5.corrupt.2",
        "t/fov/cube.h5.corrupt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {copy.relative_to(tmp_path).as_posix(): file for copy, file in damaged_copies(tmp_path).items()}
    assert found == {
        "t/fov/cube.h5.corrupt": "t/fov/cube.h5",
        "t/stack/fov/aa.h5.corrupt": "t/stack/fov/aa.h5",
        "t/stack/fov/aa.h5.corrupt.2": "t/stack/fov/aa.h5",
    }


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    simulate_store(folder / "store", SimulationOptions(tiny=True, n_runs=4, duration_s=300.0))
    return make_plan(parse_config(json.dumps(small_config(folder, **OPTIONS))), lambda line: None)


def stored(plan: Plan) -> dict[str, float]:
    """All files of a plan in a storage, each a second after the one before."""
    return {file: float(k) for k, file in enumerate(file for task in plan.all_tasks for file in plan.files(task))}


def test_a_certificate_counts_unless_a_product_is_younger(plan: Plan) -> None:
    whole = replace(plan, stored=stored(plan))
    assert (whole.needed, whole.untrue_certificates()) == ((), [])
    task = next(task for task in plan.all_tasks if isinstance(task, ExportTask))
    *products, certificate = plan.files(task)
    same = replace(plan, stored=whole.stored | dict.fromkeys(products, whole.stored[certificate]))
    assert same.is_made(task), "a storage may tell whole seconds"
    younger = replace(plan, stored=whole.stored | {products[0]: 1e9})
    assert (younger.needed, younger.untrue_certificates()) == ((task,), [certificate])
    lost = replace(plan, stored={file: time for file, time in whole.stored.items() if file != products[0]})
    assert (lost.needed, lost.untrue_certificates()) == ((task,), [certificate])


def test_jobs_fetch_what_they_read_and_those_that_are_done_read_nothing(plan: Plan) -> None:
    """Without a storage inputs are what is yet to be made."""
    task = next(task for task in plan.all_tasks if isinstance(task, ReduceTask))
    reduced, leaf = plan.files(task)[0], plan.files(task)[-1]
    there = {file: time for file, time in stored(plan).items() if file not in (leaf, *plan.files(plan.report))}
    jobs = {job.name: job for job in replace(plan, stored=there).jobs}
    made = [job for job in jobs.values() if job.is_made]
    assert made
    assert all(job.inputs == () for job in made)
    assert jobs["reduce_1"].outputs == (leaf,)
    assert set(jobs["reduce_1"].inputs) == set(plan.files(task)) - {leaf}
    assert reduced in jobs["reduce_1"].inputs
    certificates = {file for file in jobs["report"].inputs if file.endswith(".json")}
    assert len(certificates) == 3, "of two labels and of the run table"
    ordinary = {job.name: job for job in plan.jobs}
    assert ordinary["reduce_1"].inputs == ()
    exports = [plan.files(task) for task in plan.all_tasks if task.kind == "export"]
    drawn_from = {file for files in exports for file in (files[0], files[-1])}  # the cube and the certificate of each
    assert set(ordinary["report"].inputs) == drawn_from | {
        file for file in jobs["report"].inputs if "figures" not in file
    }, "figures are drawn by the same job"


def test_dl3_files_are_inputs_where_jobs_see_the_same_files(plan: Plan) -> None:
    workflow = Workflow(None)
    job = next(job for job in plan.jobs if job.kind == "reduce")
    of_rules = WorkflowPlan("results", "results", "plan", plan.jobs, None, print, workflow)
    assert of_rules.sources(job) == [*job.sources]
    assert job.sources
    workflow.storage_settings.shared_fs_usage = []
    assert of_rules.sources(job) == []


def test_what_was_damaged_is_removed_under_the_lock_and_only_as_far_as_it_is_planned(plan: Plan, tmp_path, monkeypatch):
    """While another is at work nothing goes; of a file that this plan does not name the copy stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PLAN_VARIABLE, "")
    monkeypatch.setattr("sys.argv", ["snakemake", "--verbose"])
    config = small_config(plan.results.parent, **OPTIONS) | {"results": "results"}
    own = make_plan(parse_config(json.dumps(config)), lambda line: None)
    workflow = Workflow(Object, {f"results/{file}": time for file, time in stored(own).items()})
    workflow.times |= {"results/t/ring/other.h5": 1.0}
    workflow.storage_settings.default_storage_prefix = "far"
    workflow.modifier.namespace, workflow.is_main_process = "module", True
    workflow.config_settings = SimpleNamespace(configfiles=[], config={})
    (leaf,) = (file for task in own.all_tasks for file in own.files(task) if file.endswith("t/fov/cube.h5"))
    copies = [tmp_path / "copies/results" / f"{file}.corrupt" for file in (leaf, "t/ring/other.h5")]
    for copy in copies:
        copy.parent.mkdir(parents=True)
        copy.touch()
    before = dict(workflow.times)
    with Lock(Path("results"), own.config).held(), pytest.raises(LockedError):
        plan_workflow(workflow, config, lambda line: None)
    assert (workflow.times, [copy.exists() for copy in copies]) == (before, [True, True])
    plan_workflow(workflow, config, lambda line: None).end(is_done=False)
    assert f"results/{leaf}" not in workflow.times
    assert "results/t/ring/other.h5" in workflow.times
    assert [copy.exists() for copy in copies] == [False, True]
