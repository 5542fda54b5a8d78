"""``cubeflow plan`` and ``cubeflow clean``: what they say, and that only ``--yes`` removes anything."""

from __future__ import annotations

import json
import os
from copy import deepcopy

import pytest
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.errors import FailedError
from cubeflow.plan.inventory import PRODUCTS
from cubeflow.steps.clean import clean_results
from cubeflow.steps.lock import holder_of, lock_path, release_lock, take_lock

RUNS = range(100001, 100006)
DEAD = '{"pid": 999999999, "host": "HOST", "started": "x", "since": ""}'


@pytest.fixture
def inside(project, monkeypatch):
    """Project of five runs, and the working directory in it."""
    project.put(RUNS)
    project.write()
    monkeypatch.chdir(project.folder)
    return project


def cubeflow(*arguments: str, status: int = 0) -> str:
    """Run a verb in this process; give its standard output."""
    result = CliRunner().invoke(main, [*arguments, "-c", "config.yaml"])
    assert result.exit_code == status, result.output
    return result.stdout if status in (0, 3) else result.output


def plan(status: int = 0) -> dict:
    return json.loads(cubeflow("plan", "--json", status=status))


def test_plan_of_everything_of_nothing_and_of_one_more(inside):
    first = plan()
    one = first["targets"]["one"]
    n_final = 2 * len(PRODUCTS) + 1
    n_stacks = 2 * one["batches"] + one["jobs"]["stack"]
    assert one["runs"] == one["runs_to_reduce"] == 5
    assert one["jobs"]["reduce"] == one["batches"]
    assert first["total"]["artifacts"] == {"make": 5 * 3 + n_stacks + n_final, "keep": 0, "remove": 0}
    assert first["total"]["disk_mb"] >= 0
    assert 80 <= first["largest_job"]["memory_mb"] <= 200
    assert not list(inside.results.rglob("*.h5"))
    inside.build()
    second = plan()
    assert set(second["targets"]["one"]["jobs"].values()) == {0}
    assert second["total"]["artifacts"] == {"make": 0, "keep": 5 * 3 + n_stacks + n_final, "remove": 0}
    assert second["largest_job"] is None
    inside.put([*RUNS, 100009])
    third = plan()
    assert third["targets"]["one"]["runs_to_reduce"] == 1
    assert third["targets"]["one"]["jobs"]["export"] == 2
    assert third["total"]["artifacts"]["remove"] > 0


def test_plan_counts_the_jobs_that_small_targets_share(inside):
    one = inside.config["targets"]["one"]
    inside.write(targets={"one": one, "two": deepcopy(one)}, stack={"batch": 64})
    first = plan()
    assert first["total"]["jobs"] == {"reduce": 0, "restore": 0, "stack": 0, "export": 0, "table": 0, "together": 1}
    assert first["largest_job"]["target"] == "one, two"
    assert first["largest_job"]["rule"] == "together"
    assert "jobs: 1 together\n" in cubeflow("plan")
    inside.build()
    assert "jobs: none\n" in cubeflow("plan")


def test_plan_says_which_runs_are_refused_and_why(inside):
    (inside.store / "obs_100002.fits.gz").unlink()
    (refusal,) = plan(status=3)["targets"]["one"]["refused"]
    assert refusal["obs_id"] == 100002
    assert "obs_100002.fits.gz: No such file" in refusal["reason"]
    text = cubeflow("plan", status=3)
    assert "one: run 100002: refused: " in text
    assert "jobs: 2 reduce" in text or "reduce" in text


def test_map_that_cannot_fit_is_refused_with_the_key(inside):
    geometry = {**inside.config["targets"]["one"]["geometry"], "width": ["170 deg", "170 deg"], "pixel": "0.001 deg"}
    inside.write(targets={"one": {**inside.config["targets"]["one"], "geometry": geometry}})
    output = cubeflow("plan", status=2)
    assert "targets.one.geometry" in output
    assert "170000 x 170000 pixels" in output


def test_clean_removes_what_no_plan_needs_and_only_when_told(inside):
    inside.build()
    inside.put([100001, 100002, 100003])
    inside.build()
    finals, before = inside.finals(), inside.stamps()
    listed = json.loads(cubeflow("clean", "--json"))["files"]
    assert {f"results/one/obs/{run}/reduced.h5" for run in (100004, 100005)} <= set(listed)
    assert not [path for path in listed if "/100001/" in path]
    assert inside.stamps() == before
    assert "MB removed" in cubeflow("clean", "--yes")
    assert not (inside.results / "one/obs/100004").exists()
    assert json.loads(cubeflow("clean", "--json"))["files"] == []
    after = inside.stamps()
    inside.build()
    assert inside.stamps() == after
    assert inside.finals() == finals


def test_clean_names_the_products_of_a_label_that_is_gone(inside):
    inside.build()
    labels = sorted(inside.config["backgrounds"])
    inside.write(backgrounds={labels[0]: inside.config["backgrounds"][labels[0]]})
    listed = json.loads(cubeflow("clean", "--json"))["files"]
    assert f"results/one/{labels[1]}/cube.h5" in listed
    assert not [path for path in listed if path.startswith(f"results/one/{labels[0]}/")]
    cubeflow("clean", "--yes")
    assert not (inside.results / "one" / labels[1]).exists()
    assert (inside.results / "one" / labels[0] / "cube.h5").is_file()


def test_nothing_is_removed_while_a_workflow_is_at_work(inside):
    inside.build()
    inside.put([100001])
    planned = inside.plan()
    results = inside.results
    lock_path(results).write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": "x", "since": "now"}))
    with pytest.raises(FailedError, match="process 1 on elsewhere since now is at work here"):
        clean_results(planned, is_serious=True)
    assert (results / "one/obs/100005/reduced.h5").exists()


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', DEAD])
def test_lock_of_the_dead_or_of_nobody_is_taken(tmp_path, text):
    lock_path(tmp_path).parent.mkdir(parents=True)
    lock_path(tmp_path).write_text(text.replace("HOST", os.uname().nodename))
    take_lock(tmp_path)
    assert holder_of(tmp_path).pid == os.getpid()
    with pytest.raises(FailedError, match=f"process {os.getpid()} on"):
        take_lock(tmp_path)
    release_lock(tmp_path)
    assert holder_of(tmp_path) is None
    assert not list(lock_path(tmp_path).parent.iterdir())


def test_lock_of_a_process_that_took_the_number_of_another_is_taken(tmp_path):
    lock_path(tmp_path).parent.mkdir(parents=True)
    host = os.uname().nodename
    lock_path(tmp_path).write_text(json.dumps({"pid": os.getppid(), "host": host, "started": "other", "since": ""}))
    take_lock(tmp_path)
    assert holder_of(tmp_path).pid == os.getpid()
