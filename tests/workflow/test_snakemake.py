"""The workflow as users start it: few runs of Snakemake, each of them needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from cubeflow.steps.lock import process_start

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RUNS = range(100001, 100006)
NOTHING = "Nothing to be done"


def jobs(output: str) -> dict[str, int]:
    """Number of jobs by rule, from what Snakemake said."""
    start = output.find("Job stats:")
    rows = re.findall(r"^([a-z_0-9]+) +(\d+)$", output[start:], flags=re.MULTILINE) if start >= 0 else []
    return {rule: int(count) for rule, count in rows if rule not in ("total", "all")}


def inodes(project, pattern: str = "**/*") -> dict[str, int]:
    """Inode of each product: one that is written again gets another."""
    return {name: inode for name, (inode, _) in project.stamps(pattern).items()}


@pytest.fixture(scope="module")
def template(make_project, tmp_path_factory):
    """Project that Snakemake has built from nothing."""
    project = make_project(tmp_path_factory.mktemp("template") / "project")
    project.put(RUNS)
    project.write(stack={"batch": 2, "fanout": 16})
    output = project.snakemake()
    assert jobs(output)["export"] == 2
    assert "one: 5 runs used" in output
    return project


@pytest.fixture
def built(template, tmp_path):
    return template.copy(tmp_path / "project")


def test_workflow_equals_the_steps_by_hand(template, tmp_path):
    fresh = template.fresh(tmp_path / "fresh")
    fresh.build()
    assert template.finals() == fresh.finals()


def test_nothing_is_done_twice_whatever_the_times(built):
    """A copied tree with scrambled times, touched inputs, and no memory of Snakemake's own."""
    for number, path in enumerate(sorted([*built.results.rglob("*"), *built.store.iterdir()])):
        os.utime(path, ns=((4 if number % 2 else 1) * 10**18,) * 2)
    before = inodes(built)
    assert NOTHING in built.snakemake()
    shutil.rmtree(built.folder / ".snakemake")
    assert NOTHING in built.snakemake()
    assert inodes(built) == before


def test_changes_are_made_and_reverted_with_and_without_metadata(built, tmp_path):
    finals, reduced = built.finals(), inodes(built, "*/obs/**/reduced.h5")
    for path in built.results.rglob("*"):
        os.utime(path, ns=(4 * 10**18,) * 2)
    built.write(significance={"radius": "0.2 deg"})
    # What each run finds at the target is kept with its background; the maps of the runs stay.
    made = {"reduce_one_1": 2, "stack": 2, "export": 2, "table": 1, "report": 1}
    assert jobs(built.snakemake()) == made
    other = built.finals()
    assert other["one/fov/cube.h5"] != finals["one/fov/cube.h5"]
    shutil.rmtree(built.folder / ".snakemake")
    del built.config["significance"]
    assert jobs(built.snakemake()) == {"export": 2, "table": 1, "report": 1}
    assert built.finals() == finals
    assert inodes(built, "*/obs/**/reduced.h5") == reduced


def test_run_added_and_another_gone(built, tmp_path):
    built.put([*RUNS, 100009])
    (built.store / "obs_100002.fits.gz").unlink()
    output = built.snakemake(status=3)
    assert "run 100002: refused: " in output
    assert "one: 5 runs used, 1 refused" in output
    assert NOTHING in built.snakemake()
    built.runs.pop(100002)
    built.put([*RUNS, 100009])
    built.snakemake()
    fresh = built.fresh(tmp_path / "fresh")
    fresh.build()
    assert built.finals() == fresh.finals()


def test_deleted_files_are_made_again(built):
    finals = built.finals()
    leaf = next(path for path in (built.results / "one/stack/fov").iterdir() if "-" in path.name)
    node = next(path for path in (built.results / "one/stack/ring").iterdir() if "-" not in path.name)
    gone = [leaf, node, built.results / "one/obs/100001/reduced.h5", built.results / "one/ring/dataset.fits.gz"]
    content = [path.read_bytes() for path in gone]
    for path in gone:
        path.unlink()
    built.snakemake()
    assert [path.read_bytes() for path in gone] == content
    assert built.finals() == finals
    assert NOTHING in built.snakemake()


def test_products_are_made_without_the_report(built):
    page = built.results / "report.html"
    for path in (page, built.results / "one/fov/cube.h5"):
        path.unlink()
    assert jobs(built.snakemake("--", "products")) == {"export": 1, "products": 1}
    assert not page.exists()
    assert jobs(built.snakemake())["report"] == 1
    assert page.exists()


def test_mistake_in_the_configuration(built):
    built.config["stacks"] = {"batch": 2}
    start = time.monotonic()
    output = built.snakemake(status=2)
    assert "config.yaml" in output
    assert "stacks" in output
    assert "Traceback" not in output
    assert time.monotonic() - start < 10


def test_results_that_cannot_be_written(built):
    """One line that names the path, as from the verbs, and no stack of calls."""
    (built.folder / "taken").write_text("a file")
    built.config["results"] = "taken/results"
    output = built.snakemake(status=1)
    assert "cubeflow: [Errno 20] Not a directory: 'taken" in output
    assert "common.smk" not in output


def test_killed_in_the_middle_and_started_again(built, tmp_path):
    """Same bytes; what was complete is not made again; the lock of the dead stands in nobody's way."""
    fresh = built.fresh(tmp_path / "killed")
    fresh.write()
    process = subprocess.Popen(
        fresh.command(),
        cwd=fresh.folder,
        env=os.environ,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    reduced = fresh.results / "one" / "obs"
    wait_for(lambda: len(list(reduced.glob("*/reduced.h5"))) >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.2)
    assert (fresh.results / ".cubeflow" / "lock").exists()
    complete = fresh.stamps("*/obs/*/reduced.h5")
    fresh.snakemake()
    after = fresh.stamps("*/obs/*/reduced.h5")
    assert {name: after[name] for name in complete} == complete
    assert fresh.finals() == built.finals()
    assert not (fresh.results / ".cubeflow" / "lock").exists()
    assert not [path for path in fresh.results.rglob(".*.tmp") if path.name.startswith((".reduced", ".background"))]


def test_second_workflow_says_who_holds_the_lock(built):
    built.put([*RUNS, 100009])
    before, lock = inodes(built), built.results / ".cubeflow" / "lock"
    holder = subprocess.Popen(["sleep", "100"])
    try:
        text = lock_of(holder.pid)
        lock.write_text(text)
        output = built.snakemake(status=1)
        assert f"process {holder.pid} on " in output
        assert lock.read_text() == text
        assert jobs(built.snakemake("-n"))["reduce_one_1"] == 1
        lock.unlink()
        assert jobs(built.snakemake("-n"))["reduce_one_1"] == 1
        assert not lock.exists()
    finally:
        holder.kill()
        holder.wait()
    assert inodes(built) == before


def lock_of(pid: int) -> str:
    """Lock as a process of that number would write it."""
    return json.dumps({"pid": pid, "host": socket.gethostname(), "started": process_start(pid), "since": "now"})


def wait_for(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    """Wait until a condition holds, as long as the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended before it could be disturbed"
        assert time.monotonic() < end
        time.sleep(0.02)
