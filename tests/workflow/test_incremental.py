"""What a change makes again, and that the result equals a build from nothing, byte for byte."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from cubeflow.errors import FailedError
from cubeflow.plan.run import do_task
from cubeflow.simulate.store import SimulationOptions, simulate_run, write_index
from cubeflow.store.artifact import read_artifact

RUNS = range(100001, 100007)


@pytest.fixture(scope="module")
def template(make_project, tmp_path_factory):
    """Project of six runs that has been built."""
    project = make_project(tmp_path_factory.mktemp("template") / "project")
    project.put(RUNS)
    project.build()
    return project


@pytest.fixture
def built(template, tmp_path):
    """Copy of that project: a copied tree is as good as the one it was copied from."""
    return template.copy(tmp_path / "project")


@pytest.fixture
def started(project, monkeypatch):
    """Project of two runs that has been planned, and what does its only batch."""
    project.put([100001, 100002])
    project.write(stack={"batch": 64, "fanout": 2})
    plan = project.plan()
    monkeypatch.chdir(project.folder)
    (task,) = plan.tasks["one"].reduce
    return project, lambda: do_task(plan.results, plan.targets["one"], task, lambda line: None)


def changed(before: dict, after: dict) -> set[str]:
    """Names, without keys, of files that are new or were written again."""
    return {plain(name) for name in after if after[name] != before.get(name)}


def plain(name: str) -> str:
    """Name without the key."""
    return re.sub(r"-[0-9a-f]{16}(?=\.)", "", name)


def one(folder: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    (path,) = folder.glob(pattern)
    return path


def assert_as_from_nothing(project, folder: Path) -> None:
    fresh = project.fresh(folder)
    fresh.build()
    assert project.finals() == fresh.finals()
    assert len(project.finals()) >= 8


def test_second_build_writes_nothing(built):
    before = built.stamps()
    plan = built.build()
    assert built.stamps() == before
    assert not [task for task in plan.needed if task.kind not in ("figures", "report")]


def test_touched_inputs_write_nothing(built):
    before = built.stamps()
    for path in built.store.glob("*.fits.gz"):
        os.utime(path)
    built.build()
    assert built.stamps() == before


def test_artifacts_with_scrambled_times_are_as_good(built):
    for number, path in enumerate(sorted(built.results.rglob("*"))):
        os.utime(path, ns=(10**18 + number * 10**9,) * 2 if number % 2 else (4 * 10**18,) * 2)
    before = {name: inode for name, (inode, _) in built.stamps().items()}
    built.build()
    assert {name: inode for name, (inode, _) in built.stamps().items()} == before


def test_other_exclusion_leaves_the_reduced_runs(built, tmp_path):
    before = built.stamps()
    (built.folder / "exclusion.reg").write_text("icrs\ncircle(84.0, 22.3, 0.4)\n")
    built.build()
    written = changed(before, built.stamps())
    assert not [name for name in written if name.endswith("/reduced.h5")]
    assert {f"one/obs/{run}/background-{label}.h5" for run in RUNS for label in ("fov", "ring")} <= written
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_ring_width_concerns_that_ring_alone(built, tmp_path):
    before = built.stamps()
    backgrounds = built.config["backgrounds"]
    built.write(backgrounds={**backgrounds, "ring": {**backgrounds["ring"], "width": "0.5 deg"}})
    built.build()
    written = changed(before, built.stamps())
    assert all("ring" in name or name.startswith(("one/runs.", "one/made.")) for name in written)
    assert "one/ring/cube.h5" in written
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_added_run(built, tmp_path):
    before = built.stamps()
    built.put([*RUNS, 100020])
    built.build()
    written = changed(before, built.stamps())
    assert {name for name in written if "/obs/" in name} == {
        f"one/obs/100020/{name}.h5" for name in ("reduced", "background-fov", "background-ring")
    }
    assert len([name for name in written if name.startswith("one/stack/fov/")]) < 6
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_removed_run(built, tmp_path):
    before = built.stamps()
    built.put([run for run in RUNS if run != 100003])
    built.build()
    assert not [name for name in changed(before, built.stamps()) if "/obs/" in name]
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_excluded_run_is_a_removed_one(built, tmp_path):
    before = built.stamps()
    built.write(observations={"exclude": [100005]})
    built.build()
    assert not [name for name in changed(before, built.stamps()) if "/obs/" in name]
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_replaced_run(built, tmp_path):
    before = built.stamps()
    built.put({**dict.fromkeys(RUNS, 0), 100004: 1})
    built.build()
    written = changed(before, built.stamps())
    assert {Path(name).parent.name for name in written if "/obs/" in name} == {"100004"}
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_replaced_run_of_the_same_size_and_time(built, tmp_path):
    path = built.store / "obs_100004.fits.gz"
    content = fits.HDUList([hdu.copy() for hdu in fits.open(path)])
    content["EVENTS"].data["ENERGY"][:] *= 1.5
    replaced = tmp_path / "replaced.fits"
    content.writeto(replaced)
    plain = built.store / "plain.fits"
    fits.HDUList([hdu.copy() for hdu in fits.open(path)]).writeto(plain)
    status = plain.stat()
    shutil.move(plain, path)
    built.build()
    before = built.stamps()
    shutil.copy(replaced, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    built.build()
    assert {Path(name).parent.name for name in changed(before, built.stamps()) if "/obs/" in name} == {"100004"}


def test_index_with_other_columns_and_rows(built):
    before = built.stamps()
    for name in ("hdu-index.fits.gz", "obs-index.fits.gz"):
        with fits.open(built.store / name) as old:
            table = old[1].data[::-1]
            extra = fits.Column("EXTRA", "E", array=[1.0] * len(table))
            columns = [extra, *reversed(table.columns.columns)]
            header = old[1].header.copy(strip=True)
            hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name=old[1].name)])
            hdus[1].header.update({key: header[key] for key in ("HDUCLASS", "HDUCLAS1", "HDUCLAS2") if key in header})
        hdus.writeto(built.store / name, overwrite=True)
    built.build()
    assert built.stamps() == before


def test_store_moved_to_another_folder(built):
    before = built.stamps()
    built.store.rename(built.folder / "elsewhere")
    built.write(data={"store": "elsewhere"})
    built.build()
    assert built.stamps() == before


def test_other_shared_responses(built, tmp_path):
    before = built.stamps()
    other = tmp_path / "other"
    simulate_run(other, 100001, SimulationOptions(seed=7, tiny=True, shared_irf=True, background_scale=1.3))
    shutil.copy(other / "irf.fits.gz", built.store)
    built.build()
    written = changed(before, built.stamps())
    assert {f"one/obs/{run}/reduced.h5" for run in RUNS} <= written
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_reverted_configuration(built):
    before, config = built.stamps(), built.config
    finals = built.finals()
    built.write(significance={"radius": "0.2 deg"}, offset_max="1.2 deg")
    built.build()
    assert built.finals() != finals
    between = built.stamps()
    built.config = config
    built.build()
    assert not [name for name in changed(between, built.stamps()) if "/obs/" in name or "/stack/" in name]
    assert {name for name in before if "/stack/" in name} <= between.keys()
    assert built.finals() == finals


@pytest.mark.parametrize("name", ["one/fov/cube.h5", "one/fov/datasets.yaml", "one/runs.ecsv", "one/fov/made-*.json"])
def test_deleted_product_is_made_again(built, name):
    path, finals = one(built.results, name), built.finals()
    content = path.read_bytes()
    path.unlink()
    built.build()
    assert path.read_bytes() == content
    assert built.finals() == finals


@pytest.mark.parametrize("name", ["one/fov/cube.h5", "one/runs.csv"])
def test_product_of_another_size_than_its_certificate_says_is_made_again(built, name):
    path = built.results / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    built.build()
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["obs/100002/reduced-*.h5", "obs/100002/background-ring-*.h5"])
def test_deleted_artifact_is_made_when_a_sum_needs_it(built, name):
    path = one(built.results / "one", name)
    content, finals = path.read_bytes(), built.finals()
    path.unlink()
    built.build()
    assert not path.exists(), "its stack is there: nothing needs it"
    for leaf in (built.results / "one/stack/ring").iterdir():
        leaf.unlink()
    (built.results / "one/ring/cube.h5").unlink()
    built.build()
    assert path.read_bytes() == content
    assert built.finals() == finals


def leaves_and_nodes(project, label: str) -> tuple[list[Path], list[Path]]:
    """Leaves and nodes of the tree of a label."""
    tasks, folder = project.plan().tasks["one"], project.results / "one/stack" / label
    nodes = [folder / f"{task.key[:16]}.h5" for task in tasks.stack if task.label == label]
    return [folder / f"{task.leaves[label][:16]}.h5" for task in tasks.reduce], nodes


@pytest.mark.parametrize("is_leaf", [True, False])
def test_deleted_stack_is_made_when_products_need_it(built, is_leaf):
    leaves, nodes = leaves_and_nodes(built, "fov")
    path = leaves[0] if is_leaf else nodes[-1]
    content, finals = path.read_bytes(), built.finals()
    path.unlink()
    built.build()
    assert not path.exists()
    for each in (*nodes, built.results / "one/fov/cube.h5"):
        each.unlink(missing_ok=True)
    built.build()
    assert path.read_bytes() == content
    assert built.finals() == finals


@pytest.mark.parametrize("content", [b"", b"text", None, "other"], ids=["empty", "text", "cut", "of something else"])
def test_damaged_stack_is_set_aside_when_it_is_read(built, content):
    leaves, nodes = leaves_and_nodes(built, "ring")
    path, finals = leaves[0], built.finals()
    whole = path.read_bytes()
    cut = leaves[1].read_bytes() if content == "other" else whole[: len(whole) // 2]
    path.write_bytes(content if isinstance(content, bytes) else cut)
    for each in (*nodes, built.results / "one/ring/cube.h5"):
        each.unlink(missing_ok=True)
    with pytest.raises(FailedError, match=r"set aside as .*corrupt, start again"):
        built.build()
    built.build()
    assert path.read_bytes() == whole
    assert path.with_name(f"{path.name}.corrupt").exists()
    assert built.finals() == finals


def test_missing_run_is_refused_and_comes_back(built, tmp_path):
    finals = built.finals()
    path = built.store / "obs_100003.fits.gz"
    path.rename(tmp_path / path.name)
    (refusal,) = built.build().tasks["one"].refused
    assert refusal.obs_id == 100003
    assert str(path) in refusal.reason
    table = (built.results / "one/runs.csv").read_text()
    assert [line for line in table.splitlines() if line.startswith("100003,refused")]
    assert built.finals() != finals
    shutil.move(tmp_path / path.name, path)
    assert not built.build().tasks["one"].refused
    assert built.finals() == finals


def test_run_with_a_wrong_md5_in_the_index_is_refused_and_comes_back(built):
    finals, index = built.finals(), built.store / "hdu-index.fits.gz"
    with fits.open(index) as old:
        table = old[1].data
        md5 = ["0" * 32 if obs_id == 100003 else "" for obs_id in table["OBS_ID"]]
        columns = [*table.columns.columns, fits.Column("MD5", "32A", array=md5)]
        fits.BinTableHDU.from_columns(columns, name="HDU_INDEX").writeto(index, overwrite=True)
    built.build()
    (row,) = [line for line in (built.results / "one/runs.csv").read_text().splitlines() if line.startswith("100003,")]
    assert row.startswith("100003,refused")
    assert "MD5" in row
    write_index(built.store, SimulationOptions(shared_irf=True, tiny=True), RUNS)
    built.build()
    assert built.finals() == finals


def test_content_that_changes_after_the_plan_gets_into_no_artifact(started):
    project, reduce = started
    project.put({100001: 1, 100002: 0})
    with pytest.raises(FailedError, match=r"run 100001: .*obs_100001.fits.gz: changed since the plan was made"):
        reduce()
    assert not list(project.results.glob("one/obs/100001/*"))
    assert len(list(project.results.glob("one/obs/100002/*.h5"))) == 3
    assert not (project.results / "one/stack").exists()


def test_content_exchanged_behind_size_and_time_gets_into_no_artifact(started):
    project, reduce = started
    path = project.store / "obs_100001.fits.gz"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(FailedError, match="changed since the plan was made"):
        reduce()
    assert not list(project.results.glob("one/obs/100001/*"))


def test_run_that_vanishes_after_the_plan_is_no_refusal(started):
    project, reduce = started
    (project.store / "obs_100001.fits.gz").rename(project.store / "gone")
    with pytest.raises(FailedError, match="obs_100001"):
        reduce()
    assert not list(project.results.glob("one/obs/100001/*"))


def test_touched_after_the_plan_is_the_same(started):
    project, reduce = started
    os.utime(project.store / "obs_100001.fits.gz")
    reduce()
    assert len(list(project.results.glob("one/obs/*/*.h5"))) == 6


def test_verdicts_are_artifacts_that_are_not_made_again(project):
    project.put([100001, 100002])
    path = project.store / "obs_100002.fits.gz"
    path.write_bytes(path.read_bytes()[:-300])
    plan = project.build()
    files = {plain(path.name): path for path in project.results.glob("one/obs/100002/*")}
    assert sorted(files) == ["background-fov.h5", "background-ring.h5", "reduced.h5"]
    assert {read_artifact(path, []).kind for path in files.values()} == {"reduced", "background"}
    assert all(
        (plan.results.parent / project.folder / "results" / file).exists()
        for task in plan.all_tasks
        if task.kind in ("export", "table")
        for file in plan.files(task)
    )
    before = project.stamps()
    project.build()
    assert project.stamps() == before


def test_nothing_is_kept_of_observations_if_so_asked(built, tmp_path):
    other = built.fresh(tmp_path / "other")
    other.config["artifacts"] = {"keep": "none"}
    other.build()
    assert not (other.results / "one/obs").exists()
    assert other.finals() == built.finals()


def test_table_holds_its_key(built):
    key = built.plan().tasks["one"].table.key
    assert key in (built.results / "one/runs.ecsv").read_text()
    assert (built.results / f"one/made-{key[:16]}.json").exists()
