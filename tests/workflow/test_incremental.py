"""What a change makes again, and that the result equals a build from nothing, byte for byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from cubeflow.dl3.simulate import SimulationOptions, simulate_run, write_index
from cubeflow.errors import FailedError
from cubeflow.plan.inventory import key_of_table
from cubeflow.steps.batch import open_batch, reduce_batch

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
    """Project of two runs that has been planned, and its only batch."""
    project.put([100001, 100002])
    project.write(stack={"batch": 64, "fanout": 2})
    planned = project.plan()
    monkeypatch.chdir(project.folder)
    (name,) = planned.workflow.index["one"]["unmade"]
    return project, open_batch(Path(planned.workflow.manifest("one", name)), lambda line: None)


def changed(before: dict, after: dict) -> set[str]:
    """Names of products that are new or were written again."""
    return {name for name in after if after[name] != before.get(name)}


def assert_as_from_nothing(project, folder: Path) -> None:
    fresh = project.fresh(folder)
    fresh.build()
    assert project.finals() == fresh.finals()
    assert len(project.finals()) >= 8


def test_second_build_writes_nothing(built):
    before = built.stamps()
    planned = built.build()
    assert built.stamps() == before
    assert not planned.workflow.missing_stacks()


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
    assert not [name for name in written if name.endswith("reduced.h5")]
    assert {f"one/obs/{run}/background-{label}.h5" for run in RUNS for label in ("fov", "ring")} <= written
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_ring_width_concerns_that_ring_alone(built, tmp_path):
    before = built.stamps()
    backgrounds = built.config["backgrounds"]
    built.write(backgrounds={**backgrounds, "ring": {**backgrounds["ring"], "width": "0.5 deg"}})
    built.build()
    written = changed(before, built.stamps())
    assert all("ring" in name or name.startswith("one/runs.") for name in written)
    assert "one/ring/cube.h5" in written
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_added_run(built, tmp_path):
    before = built.stamps()
    built.put([*RUNS, 100020])
    planned = built.build()
    written = changed(before, built.stamps())
    assert {name for name in written if "/obs/" in name} == {
        f"one/obs/100020/{name}.h5" for name in ("reduced", "background-fov", "background-ring")
    }
    assert sum(map(len, (planned.found[0].leaves["fov"], planned.found[0].nodes["fov"]))) < 6
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


@pytest.mark.parametrize(
    "pattern", ["one/obs/100002/reduced.h5", "one/obs/100002/background-ring.h5", "one/fov/cube.h5", "one/runs.ecsv"]
)
def test_deleted_product_is_made_again(built, pattern):
    content, finals = (built.results / pattern).read_bytes(), built.finals()
    (built.results / pattern).unlink()
    built.build()
    assert (built.results / pattern).read_bytes() == content
    assert built.finals() == finals


@pytest.mark.parametrize("is_leaf", [True, False])
def test_deleted_stack_is_made_again(built, is_leaf):
    path = next(p for p in sorted((built.results / "one/stack/fov").iterdir()) if ("-" in p.name) == is_leaf)
    content, before = path.read_bytes(), built.stamps()
    path.unlink()
    built.build()
    assert path.read_bytes() == content
    assert changed(before, built.stamps()) == {path.relative_to(built.results).as_posix()}


@pytest.mark.parametrize("content", [b"", b"text", None], ids=["empty", "text", "cut"])
def test_damaged_stack_is_set_aside(built, content):
    path = next(p for p in sorted((built.results / "one/stack/ring").iterdir()) if "-" in p.name)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    built.build()
    assert path.read_bytes() == whole
    assert path.with_name(f"{path.name}.corrupt").exists()


def test_stack_of_something_else_is_made_again(built):
    first, second = [p for p in sorted((built.results / "one/stack/ring").iterdir()) if "-" in p.name][:2]
    whole = first.read_bytes()
    shutil.copy(second, first)
    built.build()
    assert first.read_bytes() == whole


def test_missing_run_is_refused_and_comes_back(built, tmp_path):
    finals = built.finals()
    path = built.store / "obs_100003.fits.gz"
    path.rename(tmp_path / path.name)
    planned = built.build()
    (refusal,) = planned.targets[0].refused
    assert refusal.obs_id == 100003
    assert str(path) in refusal.reason
    table = (built.results / "one/runs.csv").read_text()
    assert [line for line in table.splitlines() if line.startswith("100003,refused")]
    assert built.finals() != finals
    shutil.move(tmp_path / path.name, path)
    assert not built.build().targets[0].refused
    assert built.finals() == finals


def test_run_with_a_wrong_md5_in_the_index_is_refused_and_comes_back(built):
    finals, index = built.finals(), built.store / "hdu-index.fits.gz"
    with fits.open(index) as old:
        table = old[1].data
        md5 = ["0" * 32 if obs_id == 100003 else "" for obs_id in table["OBS_ID"]]
        columns = [*table.columns.columns, fits.Column("MD5", "32A", array=md5)]
        fits.BinTableHDU.from_columns(columns, name="HDU_INDEX").writeto(index, overwrite=True)
    (refusal,) = built.build().targets[0].refused
    assert "MD5" in refusal.reason
    write_index(built.store, SimulationOptions(shared_irf=True, tiny=True), RUNS)
    built.build()
    assert built.finals() == finals


def test_content_that_changes_after_the_plan_gets_into_no_artifact(started):
    project, batch = started
    project.put({100001: 1, 100002: 0})
    with pytest.raises(FailedError, match=r"run 100001: .*obs_100001.fits.gz: changed since the plan was made"):
        reduce_batch(batch)
    assert not (project.results / "one/obs/100001/reduced.h5").exists()
    assert (project.results / "one/obs/100002/reduced.h5").exists()
    assert not (project.results / "one/stack").exists()


def test_run_that_vanishes_after_the_plan_is_no_refusal(started):
    project, batch = started
    (project.store / "obs_100001.fits.gz").rename(project.store / "gone")
    with pytest.raises(FailedError, match="can no longer be read"):
        reduce_batch(batch)
    assert not (project.results / "one/obs/100001/left-out.json").exists()


def test_touched_after_the_plan_is_the_same(started):
    project, batch = started
    os.utime(project.store / "obs_100001.fits.gz")
    assert [row["status"] for row in reduce_batch(batch).rows["fov"]] == ["ok", "ok"]


def test_table_holds_the_key_of_its_manifest(built):
    planned = built.plan()
    manifest = planned.workflow.index["one"]["table"]
    assert manifest == f"runs-{key_of_table(built.results / 'one/runs.ecsv')[:16]}.table.json"
