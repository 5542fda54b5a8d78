"""The workflow as users start it: few runs of Snakemake, each of them needed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cubeflow.plan.lock import Lock

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RUNS = range(100001, 100006)
NOTHING = "Nothing to be done"
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def jobs(output: str) -> dict[str, int]:
    """Number of jobs by kind, from what Snakemake said."""
    start = output.find("Job stats:")
    rows = re.findall(r"^([a-z_0-9]+) +(\d+)$", output[start:], flags=re.MULTILINE) if start >= 0 else []
    found: dict[str, int] = {}
    for rule, count in rows:
        kind = re.sub(r"_\d+$", "", rule)
        if kind not in ("total", "all"):
            found[kind] = found.get(kind, 0) + int(count)
    return found


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
    assert jobs(output)["export"] >= 1
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
    finals, reduced = built.finals(), inodes(built, "*/obs/**/reduced-*.h5")
    for path in built.results.rglob("*"):
        os.utime(path, ns=(4 * 10**18,) * 2)
    built.write(significance={"radius": "0.2 deg"})
    # What each run finds at the target is kept with its background; the maps of the runs stay.
    made = jobs(built.snakemake())
    assert set(made) == {"reduce", "stack", "export", "report"}
    other = built.finals()
    assert other["one/fov/cube.h5"] != finals["one/fov/cube.h5"]
    shutil.rmtree(built.folder / ".snakemake")
    del built.config["significance"]
    assert set(jobs(built.snakemake())) == {"export", "report"}
    assert built.finals() == finals
    assert inodes(built, "*/obs/**/reduced-*.h5") == reduced


def test_run_added_and_another_gone(built, tmp_path):
    built.put([*RUNS, 100009])
    (built.store / "obs_100002.fits.gz").unlink()
    output = built.snakemake()
    assert "run 100002: refused: " in output
    assert "one: 5 runs used, 1 refused" in output
    assert NOTHING in built.snakemake()
    built.runs.pop(100002)
    built.put([*RUNS, 100009])
    built.snakemake()
    fresh = built.fresh(tmp_path / "fresh")
    fresh.build()
    assert built.finals() == fresh.finals()


def test_refused_runs_are_a_failure_where_that_is_asked(built):
    built.write(on_refused="fail")
    path = built.store / "obs_100002.fits.gz"
    path.write_bytes(path.read_bytes()[:-300])
    output = built.snakemake(status=1)
    assert "1 of 5 runs refused, and on_refused is fail; the first, run 100002: " in output
    assert list(built.results.glob("one/obs/100002/reduced-*.h5")), "its verdict is kept all the same"


def test_deleted_files_are_made_by_who_asks_for_them(built):
    finals = built.finals()
    artifact = next(built.results.glob("one/obs/100001/reduced-*.h5"))
    product = built.results / "one/ring/dataset.fits.gz"
    content = [path.read_bytes() for path in (artifact, product)]
    artifact.unlink()
    product.unlink()
    assert jobs(built.snakemake())["export"] == 1
    assert product.read_bytes() == content[1]
    assert not artifact.exists()
    assert NOTHING in built.snakemake()
    assert jobs(built.snakemake("--", str(artifact.relative_to(built.folder))))["reduce"] == 1
    assert artifact.read_bytes() == content[0]
    artifact.unlink()
    assert jobs(built.snakemake("--", "observations"))["reduce"] == 1
    assert artifact.read_bytes() == content[0]
    assert built.finals() == finals


def test_one_observation_is_made_by_its_name(template, tmp_path):
    fresh = template.fresh(tmp_path / "fresh")
    name = next(template.results.glob("one/obs/100003/reduced-*.h5")).relative_to(template.folder)
    fresh.snakemake("--", str(name))
    assert (fresh.folder / name).read_bytes() == (template.folder / name).read_bytes()
    assert not list(fresh.results.glob("*/*/cube.h5"))


def test_summary_and_graph_name_every_observation(built):
    built.write()
    summary = built.snakemake("--summary")
    files = list(built.results.glob("one/obs/*/*.h5"))
    assert len(files) == 15
    assert all(str(path.relative_to(built.folder)) in summary for path in files)
    dry = built.snakemake("-n", "--forceall")
    assert {"reduce", "stack", "export", "report"} <= set(jobs(dry))
    assert re.search(r"one: runs? 10000\d", dry)


def test_everything_is_made_again_by_force(built):
    finals, before = built.finals(), built.stamps("*/obs/**/*.h5")
    built.snakemake("--forceall")
    assert built.finals() == finals
    after = built.stamps("*/obs/**/*.h5")  # the inode of a file that is removed may be given to the next one
    assert set(after) == set(before)
    assert not [name for name in before if after[name] == before[name]]


def test_dry_run_writes_nothing_and_locks_nothing(template, tmp_path):
    """In a folder of results that may only be read, and where there are none."""
    fresh = template.fresh(tmp_path / "fresh")
    fresh.write()
    assert jobs(fresh.snakemake("-n"))["reduce"] >= 1
    assert not fresh.results.exists()
    built = template.copy(tmp_path / "built")
    built.put([*RUNS, 100009])
    built.write()
    before = {path: path.stat().st_mtime_ns for path in built.results.rglob("*") if path.is_file()}
    with Lock(built.results, "0123456789abcdef").held(), read_only(built.results):
        assert jobs(built.snakemake("-n"))["reduce"] >= 1
    after = {path: path.stat().st_mtime_ns for path in built.results.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= {*built.results.glob(".cubeflow/lock-0*")}


def test_failed_job_loses_nothing_that_it_finished(template, tmp_path, monkeypatch):
    """A job that ends badly after it has reduced its runs, as often as it is tried."""
    fresh = template.fresh(tmp_path / "fresh")
    fresh.write(stack={"batch": 64, "fanout": 2})
    real, bad = Path(sys.executable).with_name("cubeflow"), tmp_path / "bin" / "cubeflow"
    bad.parent.mkdir()
    bad.write_text(f'#!/bin/bash\n"{real}" "$@"\n[ "$1" != reduce ]\n')
    bad.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bad.parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(fresh.command(), cwd=fresh.folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    before = inodes(fresh, "one/*/**/*.h5")
    assert len(before) == 5 * 3 + 2
    monkeypatch.undo()
    assert "reduce" not in jobs(fresh.snakemake())
    assert inodes(fresh, "one/obs/**/*.h5") == {name: inode for name, inode in before.items() if "/obs/" in name}


def test_two_configurations_at_once_in_one_folder(template, tmp_path):
    """Of other targets they don't meet; of the same ones, run table and page are those of the last."""
    first = template.fresh(tmp_path / "first")
    first.write()
    ring = {**first.config["backgrounds"]["ring"], "width": "0.5 deg"}
    other = {**first.config, "targets": {"two": first.config["targets"]["one"]}, "backgrounds": {"ring": ring}}
    (first.folder / "other.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    command = [each if each != "config.yaml" else "other.yaml" for each in first.command("--", "products")]
    process = subprocess.Popen(command, cwd=first.folder, **PIPES)
    first.snakemake("--", "products")
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said[-3000:]
    found, expected = first.finals(), template.finals()
    assert {name: content for name, content in found.items() if name in expected} == expected
    assert "two/ring/cube.h5" in found
    assert set(jobs(first.snakemake())) == {"report"}


def test_use_as_a_module(template, tmp_path):
    """The configuration that is given is used, and no other file."""
    fresh = template.fresh(tmp_path / "fresh")
    (fresh.folder / "config").mkdir()
    (fresh.folder / "config/config.yaml").write_text(yaml.safe_dump({**fresh.config, "results": "elsewhere"}))
    snakefile = Path(__file__).parents[2] / "workflow" / "Snakefile"
    (fresh.folder / "Snakefile").write_text(
        f"""
module cubeflow:
    snakefile: {str(snakefile)!r}
    config: {fresh.config!r}

use rule * from cubeflow as cubeflow_*

rule mine:
    default_target: True
    input: rules.cubeflow_products.input
    output: "done"
    shell: "touch {{output}}"
"""
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--workflow-profile", "none"]

    def start(*arguments):
        return subprocess.run([*command, *arguments], cwd=fresh.folder, timeout=300, check=False, **PIPES)

    looked = start("-n")
    assert looked.returncode == 0, looked.stdout[-3000:]
    assert not fresh.results.exists()
    with Lock(fresh.results, fresh.plan().config).held():
        refused = start()
        assert f"process {os.getpid()} on " in refused.stdout
        assert refused.returncode == 1
    done = start()
    assert done.returncode == 0, done.stdout[-3000:]
    assert (fresh.folder / "done").exists()
    assert fresh.finals() == template.finals()
    assert not (fresh.folder / "elsewhere").exists()


def test_conda_and_containers_need_nothing_of_their_own(template, tmp_path, monkeypatch):
    """Of the program conda there is only what Snakemake asks before the first job: no environment can be looked into.

    The jobs run where Snakemake does, and there cubeflow is. No rule names a file from which an environment without it
    would be made, nor an image.
    """
    fresh = template.fresh(tmp_path / "fresh")
    (tmp_path / "bin").mkdir()
    conda = tmp_path / "bin" / "conda"
    conda.write_text(f"""#!/bin/sh
[ "$*" = "info --json" ] || {{ echo "$*" >> {tmp_path}/asked; exit 1; }}
echo '{{"conda_prefix": "/nowhere", "conda_version": "25.1.0", "platform": "linux-64", "virtual_pkgs": []}}'
""")
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", f"{conda.parent}{os.pathsep}{os.environ['PATH']}")
    fresh.snakemake("--sdm", "conda", "apptainer", "--", "products")
    assert not (tmp_path / "asked").exists()
    assert fresh.finals() == template.finals()
    rules = [path.read_text() for path in (Path(__file__).parents[2] / "workflow" / "rules").glob("*.smk")]
    assert {*re.findall(r"(?:conda|container):\n +(.*)\n", "".join(rules))} == {"PLAN.environment"}


def test_products_are_made_without_the_report(built):
    page = built.results / "one/report.html"
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
    output = built.snakemake(status=2)
    assert "results: taken is no folder; expected one, or nothing, under that name" in output
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
    wait_for(lambda: len(list(reduced.glob("*/reduced-*.h5"))) >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.2)
    complete = fresh.stamps("*/obs/*/reduced-*.h5")
    fresh.snakemake()
    after = fresh.stamps("*/obs/*/reduced-*.h5")
    assert {name: after[name] for name in complete} == complete
    assert fresh.finals() == built.finals()
    assert not [path for path in fresh.results.rglob(".*.tmp") if path.name.startswith((".reduced", ".background"))]


def test_second_workflow_says_who_holds_the_lock(built):
    built.put([*RUNS, 100009])
    before, plan = inodes(built), built.plan()
    with Lock(built.results, plan.config).held():
        for ways in ([], ["--delete-all-output"], ["--no-hooks"]):
            output = built.snakemake(*ways, status=1)
            assert f"process {os.getpid()} on " in output
            assert "Traceback" not in output
            assert ".py" not in output, "no stack of calls, as of an error in a hook"
        assert jobs(built.snakemake("-n"))["reduce"] >= 1
        assert "Would delete" in built.snakemake("-n", "--delete-all-output")
        cube = built.results / "one/fov/cube.h5"
        cube.write_bytes((content := cube.read_bytes())[:-1])
        assert "is at work here" in built.snakemake("products", status=1)
        assert list(cube.parent.glob("made-*.json")), "who is at work may be about to write what it is about"
        cube.write_bytes(content)
    assert inodes(built) == before
    assert jobs(built.snakemake("--no-hooks"))["reduce"] >= 1
    built.snakemake("--delete-all-output")
    assert inodes(built, "*/*/cube.h5") == {}


@contextlib.contextmanager
def read_only(folder: Path):
    """Take the right to write from a folder and all below it; for root, what is written shows in the times of files."""
    paths = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in paths:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def wait_for(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    """Wait until a condition holds, as long as the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended before it could be disturbed"
        assert time.monotonic() < end
        time.sleep(0.02)
