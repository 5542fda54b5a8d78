"""``cubeflow plan`` and ``cubeflow clean``: what they say, and that only ``--yes`` removes anything."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from copy import deepcopy

import pytest
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.errors import FailedError, MistakeError
from cubeflow.pipeline.tasks import PRODUCTS, TABLES
from cubeflow.plan.clean import clean_results
from cubeflow.plan.lock import Lock, LockedError
from cubeflow.store.atomic import StorageError, replacing, temporary_name

RUNS = range(100001, 100006)


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


def said(*arguments: str) -> str:
    """Run a verb in this process; give what it said beside its standard output."""
    return CliRunner().invoke(main, [*arguments, "-c", "config.yaml"]).stderr


def plan(status: int = 0) -> dict:
    return json.loads(cubeflow("plan", "--json", status=status))


def test_plan_of_everything_of_nothing_and_of_one_more(inside):
    first = plan()
    one = first["targets"]["one"]
    assert one["runs"] == one["runs_to_reduce"] == 5
    n_stacks = 2 * one["batches"] + first["jobs"]["stack"]
    n_final = 2 * (len(PRODUCTS) + 1) + len(TABLES) + 1
    n_pages = 2 * 4 + 2 + 2  # pictures and section of each label, regions, page and its certificate
    assert (first["make"], first["keep"], first["remove"]) == (5 * 3 + n_stacks + n_final + n_pages, 0, 0)
    assert first["disk_mb"] >= 0
    assert 80 <= first["largest_job"]["memory_mb"] <= 300
    assert not list(inside.results.rglob("*.h5"))
    inside.build()
    second = plan()
    assert set(second["jobs"]) == {"report"}, "cubeflow run draws nothing"
    assert (second["keep"], second["remove"]) == (5 * 3 + n_stacks + n_final, 0)
    inside.put([*RUNS, 100009])
    third = plan()
    assert third["targets"]["one"]["runs_to_reduce"] == 1
    assert third["remove"] > 0


def test_small_targets_share_jobs(inside):
    one = inside.config["targets"]["one"]
    inside.write(targets={"one": one, "two": deepcopy(one), "three": deepcopy(one)}, stack={"batch": 64})
    jobs = plan()["jobs"]
    assert jobs["reduce"] < 3
    assert jobs["export"] < 9
    inside.build()
    assert "reduce" not in plan()["jobs"]


def test_plan_says_which_runs_are_refused_and_why(inside):
    (inside.store / "obs_100002.fits.gz").unlink()
    (refusal,) = plan()["targets"]["one"]["refused"]
    assert refusal["obs_id"] == 100002
    assert "obs_100002.fits.gz: No such file" in refusal["reason"]
    assert "one: run 100002: refused: " in cubeflow("plan")


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
    assert {run for path in listed if "/obs/" in path for run in (path.split("/")[3],)} == {"100004", "100005"}
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
    assert not [path for path in listed if path.startswith(f"results/one/{labels[0]}/") and "made-" not in path]
    cubeflow("clean", "--yes")
    assert not (inside.results / "one" / labels[1]).exists()
    assert (inside.results / "one" / labels[0] / "cube.h5").is_file()


def test_what_killed_writers_left_anywhere_is_swept_and_what_is_in_the_making_is_not(inside):
    inside.build()
    places = ("", ".cubeflow", ".cubeflow/progress", "one", "one/fov", "one/ring", "one/stack/fov", "one/stack/ring")
    left = [inside.results / place / temporary_name("cube.h5") for place in places]
    for path in left:
        path.write_bytes(b"x")
    with replacing(inside.results / "one/fov/other.h5"):
        (making,) = set((inside.results / "one/fov").glob(".*.tmp")) - set(left)
        cubeflow("run")
        assert list(inside.results.rglob("*.tmp")) == [making]
        assert str(making.relative_to(inside.folder)) not in json.loads(cubeflow("clean", "--json"))["files"]


def contents(folder):
    """Every file below a folder, links as what they lead to by name."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path: str(path.readlink()) if path.is_symlink() else path.read_bytes() for path in found}


def others_wrote(inside, outside):
    """Files and links of others in every place where cubeflow writes, most under a name that it might give."""
    key, one = "0123456789abcdef", inside.results / "one"
    artifact = next(one.glob("obs/100001/reduced-*.h5")).read_bytes()
    section = next(one.glob("fov/made-*.json"))
    texts = {
        **dict.fromkeys((f"obs/100001/reduced-{key}.h5", f"stack/fov/{key}.h5", "obs/100001/notes.txt"), "mine"),
        **dict.fromkeys(("plan/thesis.final.json", "stack/fov/thesis-figure.pdf", "obs/my-own/fit.json"), "{}"),
        **dict.fromkeys((f"fov/made-{key}.json", f"figures-{key}.json", "fov/fit.svg.json", "fov/paper.tex"), "{}"),
        **dict.fromkeys(("obs/100001/left-out.json", "obs/my-own/reduced-mine.h5.corrupt"), "mine"),
        **dict.fromkeys(("talk/cube.h5", "talk/counts.png", "talk/dataset.fits.gz", "talk/datasets.yaml"), "mine"),
        f"talk/{section.name}": section.read_text(),  # copied, with products of another size beside it
    }
    for name, text in texts.items():
        (one / name).parent.mkdir(exist_ok=True, parents=True)
        (one / name).write_text(text)
    (one / "obs/my-own/analysis.h5").write_bytes(artifact)
    outside.mkdir()
    (outside / f"reduced-{key}.h5").write_bytes(artifact)
    (one / "obs/100001/linked").symlink_to(outside, target_is_directory=True)
    (one / "obs/100002" / f"reduced-{key}.h5").symlink_to(outside / f"reduced-{key}.h5")
    (one / "obs/100003/dangling").symlink_to("nowhere")
    shutil.copytree(one / "fov", one / "for-paper", ignore=lambda *_: ["paper.tex", "fit.svg.json", f"made-{key}.json"])
    shutil.rmtree(one / "ring")
    (one / "ring").symlink_to(outside, target_is_directory=True)


def test_clean_leaves_what_others_wrote(inside, tmp_path):
    """Name and content must say that cubeflow wrote a file, links are not followed, and what stays is named."""
    inside.build()
    before = contents(inside.results)
    others_wrote(inside, tmp_path / "outside")
    mine = {path: content for path, content in contents(inside.results).items() if before.get(path) != content}
    outside = contents(tmp_path / "outside")
    assert len(mine) == 22 + 6  # a copy of five products and their certificate
    stale = inside.results / "one/obs/100001/reduced-00000123456789ab.h5"
    artifacts = inside.results.glob("one/obs/100001/reduced-*.h5")
    stale.write_bytes(next(path for path in artifacts if path in before).read_bytes())
    damaged = inside.results / "one/fov/cube.h5.corrupt"  # as it is when it was set aside
    damaged.write_text("damaged")
    listed = json.loads(cubeflow("clean", "--json"))
    assert listed["files"] == [str(path.relative_to(inside.folder)) for path in (damaged, stale)]
    assert {inside.folder / path for path in listed["left_alone"]} == set(mine)
    assert "left alone, not known as a file of cubeflow: results/one/obs/100001/linked\n" in said("clean", "--yes")
    after = contents(inside.results)
    assert stale not in after
    assert {path: after.get(path) for path in mine} == mine
    assert contents(tmp_path / "outside") == outside


def test_clean_does_not_enter_a_target_that_is_a_link(inside, tmp_path):
    inside.build()
    (inside.results / "one").rename(tmp_path / "elsewhere")
    (inside.results / "one").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    inside.put([100001])
    before = contents(tmp_path / "elsewhere")
    listed = json.loads(cubeflow("clean", "--yes", "--json"))
    assert (listed["files"], listed["left_alone"]) == ([], ["results/one"])
    assert contents(tmp_path / "elsewhere") == before


def test_clean_removes_what_was_set_aside(inside):
    inside.build()
    name = next(inside.results.glob("one/obs/100001/reduced-*.h5"))
    aside = [name.with_name(f"{name.name}.corrupt{end}") for end in ("", ".2")]
    for path in aside:
        path.write_bytes(b"cut")
    assert json.loads(cubeflow("clean", "--yes", "--json"))["files"] == [
        str(path.relative_to(inside.folder)) for path in aside
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": {"store": "results/one/store"}}, "an input lies inside .*/results/one;"),
        ({"data": {"store": "one/obs"}, "results": "."}, "an input lies inside .*/one;"),
        ({"results": "store/results"}, "store/results/one: lies inside .*/store, where inputs lie;"),
        ({"data": {"store": "store", "roots": ["."]}}, "results/one: lies inside .*, where inputs lie;"),
        ({"exclusion": "results/one/mine.reg"}, "mine.reg: an input lies inside .*/results/one;"),
    ],
)
def test_clean_refuses_where_inputs_lie(inside, changes, expected):
    inside.write(**changes)
    inside.runs = {}
    inside.put(RUNS)
    (inside.results / "one").mkdir(parents=True, exist_ok=True)
    (inside.results / "one/mine.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    before = contents(inside.folder)
    with pytest.raises(MistakeError, match=f"{expected} nothing is removed there"):
        clean_results(inside.plan(), is_serious=True)
    assert contents(inside.folder) == before
    assert len(list(inside.store.glob("obs_*"))) == 5


def test_nothing_is_removed_while_a_workflow_is_at_work(inside):
    inside.build()
    inside.put([100001])
    made = inside.plan()
    before = inside.stamps()
    code = "import sys, time; from pathlib import Path; from cubeflow.plan.lock import Lock\n"
    code += "Lock(Path(sys.argv[1]), sys.argv[2]).take(); print(flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(made.results), made.config], stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(FailedError, match=f"process {holder.pid} on .* since .* is at work here"):
        clean_results(made, is_serious=True)
    holder.kill()
    holder.wait()
    assert inside.stamps() == before
    clean_results(made, is_serious=True)


def test_lock_is_free_when_its_holder_is_gone_and_between_configurations(tmp_path):
    first = Lock(tmp_path, "a")
    first.take()
    with pytest.raises(LockedError, match=f"process {os.getpid()} on"):
        Lock(tmp_path, "a").take()
    with Lock(tmp_path, "b").held():
        pass
    first.release()
    with Lock(tmp_path, "a").held():
        pass


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_lock_whose_file_cannot_be_written_is_told_with_its_name_and_free(tmp_path, monkeypatch, call):
    def fails(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    lock = Lock(tmp_path, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(StorageError, match=r"\.cubeflow/lock-a: Input/output error"):
            lock.take()
    lock.take()
    lock.take()  # it is held, and not waited for
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fails)
        with pytest.raises(StorageError, match=r"\.cubeflow/lock-a: Input/output error"):
            lock.release()
    with Lock(tmp_path, "a").held():
        pass


def test_lock_that_a_user_leaves_can_be_taken_by_another_one_of_the_folder(tmp_path):
    before = os.umask(0o022)
    try:
        with Lock(tmp_path, "a").held():
            pass
    finally:
        os.umask(before)
    assert (tmp_path / ".cubeflow/lock-a").stat().st_mode & 0o777 == 0o666
