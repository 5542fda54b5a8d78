"""Several small targets in the workflow: one job, the same bytes, and each target for itself when something fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from copy import deepcopy

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RUNS = {"north": [100001, 100002], "middle": [100002, 100003, 100004], "south": [100005]}
NOTHING = "Nothing to be done"
PRODUCTS = "*/fov/cube.h5"


def jobs(output: str) -> dict[str, int]:
    """Number of jobs by rule, from what Snakemake said."""
    start = output.find("Job stats:")
    rows = re.findall(r"^([a-z_0-9]+) +(\d+)$", output[start:], flags=re.MULTILINE) if start >= 0 else []
    return {rule: int(count) for rule, count in rows if rule not in ("total", "all", "products")}


def targets_of(project, runs) -> None:
    """Let the targets of a project have these runs."""
    common = next(iter(project.config["targets"].values()))
    targets = {name: {**deepcopy(common), "observations": {"ids": ids}} for name, ids in runs.items()}
    project.write(targets=targets, stack={"batch": 64})


def made(project) -> list[str]:
    """Targets that have their cubes and run tables."""
    cubes = {path.parents[1].name for path in project.results.glob(PRODUCTS)}
    return sorted(cubes & {path.parent.name for path in project.results.glob("*/runs.ecsv")})


@pytest.fixture(scope="module")
def template(make_project, tmp_path_factory):
    """Three targets that Snakemake has built from nothing."""
    project = make_project(tmp_path_factory.mktemp("template") / "project")
    project.put(range(100001, 100006))
    targets_of(project, RUNS)
    assert jobs(project.snakemake("-n")) == {"together": 1, "report": 1}
    output = project.snakemake()
    assert jobs(output) == {"together": 1, "report": 1}
    assert "middle: 3 runs used" in output
    return project


@pytest.fixture
def built(template, tmp_path):
    return template.copy(tmp_path / "project")


def test_groups_give_what_the_rules_give_one_by_one(template, tmp_path):
    fresh = template.fresh(tmp_path / "fresh")
    fresh.build()
    assert template.finals() == fresh.finals()
    assert NOTHING in fresh.snakemake("--", "products")


def test_second_start_has_nothing_to_do_whatever_the_times(built):
    assert NOTHING in built.snakemake()
    for path in built.results.rglob("*"):
        os.utime(path, ns=(4 * 10**18,) * 2)
    assert NOTHING in built.snakemake()


def test_run_added_to_one_target_is_work_for_that_target_alone(built, tmp_path):
    built.put([*built.runs, 100009])
    before = built.stamps()
    targets_of(built, {**RUNS, "south": [100005, 100009]})
    assert jobs(built.snakemake()) == {"reduce_south_1": 1, "export": 2, "table": 1, "report": 1}
    after = built.stamps("[mn]*/**/*.[he]*")
    assert {name: before[name] for name in after} == after
    fresh = built.fresh(tmp_path / "fresh")
    fresh.build()
    assert built.finals() == fresh.finals()


def test_change_for_all_is_made_together_and_the_report_after_it(built, tmp_path):
    built.write(significance={"radius": "0.2 deg"})
    assert jobs(built.snakemake()) == {"together": 1, "report": 1}
    assert NOTHING in built.snakemake()
    fresh = built.fresh(tmp_path / "fresh")
    fresh.build()
    assert built.finals() == fresh.finals()


def test_single_file_is_made_by_its_rules(built):
    content = built.finals()
    for target in ("north", "south"):
        (built.results / target / "fov/cube.h5").unlink()
    assert jobs(built.snakemake("--", "results/north/fov/cube.h5")) == {"export": 1}
    assert made(built) == ["middle", "north"]
    for target in ("middle", "north"):
        next((built.results / target / "stack/fov").iterdir()).unlink()
    assert jobs(built.snakemake()) == {"together": 1, "report": 1}
    assert built.finals() == content
    for target in ("middle", "north"):  # stacks alone: no product is another, and the report stays as it is
        next((built.results / target / "stack/fov").iterdir()).unlink()
    assert jobs(built.snakemake()) == {"together": 1}
    assert built.finals() == content


def test_target_that_cannot_be_made_leaves_the_others_complete(template, tmp_path):
    fresh = template.fresh(tmp_path / "fresh")
    fresh.plan()
    obstacle = fresh.results / "middle" / "obs"
    obstacle.write_text("no folder")
    output = fresh.snakemake(status=1)
    assert output.count("Trying to restart job") == 2
    assert re.search(r"^cubeflow: middle: .*middle/obs", output, flags=re.MULTILINE)
    assert made(fresh) == ["north", "south"]
    complete = fresh.stamps("[ns]*/**/*")
    obstacle.unlink()
    assert jobs(fresh.snakemake("--", "products")) == {"reduce_middle_1": 1, "export": 2, "table": 1}
    after = fresh.stamps("[ns]*/**/*")
    assert {name: after[name] for name in complete} == complete
    assert fresh.finals() == template.finals()


def test_killed_in_the_middle_and_started_again(template, tmp_path):
    fresh = template.fresh(tmp_path / "killed")
    fresh.write()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(fresh.command(), cwd=fresh.folder, env=os.environ, start_new_session=True, **silent)
    end = time.monotonic() + 120
    while not list(fresh.results.glob(PRODUCTS)):
        assert process.poll() is None, "ended before it could be disturbed"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    complete = fresh.stamps("*/obs/*/reduced.h5")
    fresh.snakemake()
    after = fresh.stamps("*/obs/*/reduced.h5")
    assert {name: after[name] for name in complete} == complete
    assert fresh.finals() == template.finals()
    assert NOTHING in fresh.snakemake()
