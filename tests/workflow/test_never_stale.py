"""What decides is in the key, and what stands under a key was made from it: each change equals a build from nothing."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from astropy.io import fits

from cubeflow.config.sections import StackOptions
from cubeflow.dl3 import reader
from cubeflow.errors import FailedError, MistakeError
from cubeflow.plan import tasks as plan_tasks
from cubeflow.plan.jobs import read_targets
from cubeflow.simulate.store import SimulationOptions, simulate_run
from cubeflow.store import keys
from cubeflow.store.artifact import read_artifact, write_artifact

RUNS = (100001, 100002, 100003)


@pytest.fixture
def built(project):
    """Project of three runs that has been built."""
    project.put(RUNS)
    project.build()
    return project


def of_the_plan(project) -> dict[str, bytes]:
    """Bytes of all artifacts that the plan names."""
    plan = project.plan()
    files = [file for task in plan.all_tasks if task.kind in ("reduce", "stack") for file in plan.files(task)]
    return {file: (project.results / file).read_bytes() for file in files}


def assert_as_from_nothing(project, folder: Path) -> None:
    fresh = project.fresh(folder)
    fresh.build()
    assert of_the_plan(project) == of_the_plan(fresh)
    assert project.finals() == fresh.finals()


def rewrite(path: Path, change, checksum: bool = False) -> None:
    """Change the HDUs of a file."""
    with fits.open(path) as old:
        hdus = fits.HDUList([hdu.copy() for hdu in old])
    change(hdus)
    hdus.writeto(path, overwrite=True, checksum=checksum)


def edit_index(project, change) -> None:
    """Change the rows of the HDU index: a list of mappings."""
    path = project.store / "hdu-index.fits.gz"
    with fits.open(path) as old:
        table, header = old[1].data, old[1].header
        rows = change([{name: row[name] for name in table.names} for row in table])
        formats = dict(zip(table.columns.names, table.columns.formats, strict=True))
        columns = [fits.Column(name, formats[name], array=[row[name] for row in rows]) for name in formats]
        hdu = fits.BinTableHDU.from_columns(columns, name=old[1].name)
        hdu.header.update({key: header[key] for key in ("HDUCLASS", "HDUCLAS1", "HDUCLAS2") if key in header})
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def row_of(project, obs_id: int) -> str:
    lines = (project.results / "one/runs.csv").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{obs_id},"))


def test_settings_there_and_back_leave_the_artifacts_of_the_plan(built, tmp_path):
    before = of_the_plan(built)
    built.write(offset_max="1.2 deg")
    built.build()
    assert not before.keys() & of_the_plan(built).keys()
    built.write(offset_max="1.5 deg")
    built.build()
    assert of_the_plan(built) == before
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_checksum_put_right_brings_the_run_back(project, tmp_path):
    project.put(RUNS)
    path = project.store / "obs_100002.fits.gz"
    rewrite(path, lambda hdus: None, checksum=True)
    right = path.read_bytes()

    def spoil(hdus):
        hdus["EVENTS"].header["DATASUM"] = "12345"

    rewrite(path, spoil)
    project.build()
    assert "DATASUM = '12345' does not agree" in row_of(project, 100002)
    path.write_bytes(right)
    project.build()
    assert row_of(project, 100002).startswith("100002,ok")
    assert_as_from_nothing(project, tmp_path / "fresh")


def test_no_reason_outlives_its_cause(built, tmp_path):
    path = built.store / "obs_100002.fits.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-300])
    built.build()
    assert row_of(built, 100002).startswith("100002,refused")
    path.write_bytes(whole)
    built.build()
    assert_as_from_nothing(built, tmp_path / "fresh")
    assert not list(built.results.rglob("left-out*"))
    current = of_the_plan(built)
    assert {read_artifact(built.results / file, []).attributes.get("status", "ok") for file in current} == {"ok"}


@pytest.mark.parametrize("change", ["name of the file", "rows of the index"])
def test_reasons_that_are_kept_hold_nothing_that_may_change_under_their_key(project, tmp_path, change):
    project.put(RUNS)
    path = project.store / "obs_100002.fits.gz"
    if change == "name of the file":
        path.write_bytes(path.read_bytes()[:-300])
    else:
        spoil = lambda row: {"HDU_NAME": "NONE"} if (row["OBS_ID"], row["HDU_TYPE"]) == (100002, "aeff") else {}  # noqa: E731
        edit_index(project, lambda rows: [{**row, **spoil(row)} for row in rows])
    project.build()
    before = project.stamps()
    if change == "name of the file":
        path.rename(path.with_name("other.fits.gz"))
        rename = {"obs_100002.fits.gz": "other.fits.gz"}
        edit_index(project, lambda rows: [{**r, "FILE_NAME": rename.get(r["FILE_NAME"], r["FILE_NAME"])} for r in rows])
    else:
        edit_index(project, lambda rows: rows[::-1])
    project.build()
    assert row_of(project, 100002).startswith("100002,refused")
    assert project.stamps() == before
    assert_as_from_nothing(project, tmp_path / "fresh")


def test_order_of_the_labels_is_that_of_the_table(built, tmp_path):
    before = (built.results / "one/runs.csv").read_bytes()
    built.write(backgrounds=dict(reversed(built.config["backgrounds"].items())))
    built.build()
    assert (built.results / "one/runs.csv").read_bytes() != before
    assert_as_from_nothing(built, tmp_path / "fresh")


def test_compression_set_afterwards_makes_all_again(built, tmp_path):
    (before,) = built.results.glob("one/obs/100001/reduced-*.h5")
    built.write(artifacts={"compression": "gzip"})
    built.build()
    assert_as_from_nothing(built, tmp_path / "fresh")
    for file in of_the_plan(built):
        with h5py.File(built.results / file) as content:
            assert content["counts" if "background" not in file else "background"].compression == "gzip"
    with h5py.File(before) as content:
        assert content["counts"].compression != "gzip"


def test_settings_whose_names_agree_in_part_are_told_apart(project, tmp_path, monkeypatch):
    """With names of three digits the sums of two rings soon have the same: the whole keys decide."""
    monkeypatch.setattr(keys, "SHORT_KEY_LENGTH", 3)
    project.put(RUNS)
    plan = project.plan()
    entries, target = plan.store.runs, plan.targets["one"]
    ring, seen = target.backgrounds["ring"], {}
    for step in itertools.count():
        r_in_deg = round(0.3 + step * 1e-4, 6)
        changed = replace(target, backgrounds={**target.backgrounds, "ring": replace(ring, r_in_deg=r_in_deg)})
        found = plan_tasks.TaskMaker(changed, plan.cache, StackOptions(batch=2, fanout=2)).make(entries, [], 0)
        root = found.export[1].root
        if abs(seen.setdefault(root[:3], r_in_deg) - r_in_deg) > 0.02:
            first, second = seen[root[:3]], r_in_deg
            break

    def with_radius(radius: float) -> None:
        rings = {**project.config["backgrounds"]["ring"], "r_in": f"{radius} deg"}
        project.write(backgrounds={**project.config["backgrounds"], "ring": rings})

    with_radius(first)
    project.build()
    one = (project.results / "one/ring/significance.fits.gz").read_bytes()
    with_radius(second)
    for _ in range(6):  # each start sets aside one stack of the other radius
        with contextlib.suppress(FailedError):
            project.build()
    assert (project.results / "one/ring/significance.fits.gz").read_bytes() != one
    assert list(project.results.glob("one/stack/ring/*.corrupt"))
    fresh = project.fresh(tmp_path / "fresh")
    fresh.build()
    assert project.finals() == fresh.finals()


@pytest.mark.parametrize("lost", ["psf", "edisp", "exposure_reco"])
def test_map_that_is_lost_behind_a_right_checksum_is_missed(built, lost):
    finals, kept = built.finals(), of_the_plan(built)
    for file in kept:
        path = built.results / file
        artifact = read_artifact(path)
        name = {"reduced": lost, "stack": f"irf_{lost}" if lost in ("psf", "edisp") else lost}.get(artifact.kind)
        if name is not None and ("/obs/100001/" in file or "/stack/" in file):
            less = {key: value for key, value in artifact.datasets.items() if key != name}
            assert len(less) == len(artifact.datasets) - 1
            write_artifact(path, replace(artifact, datasets=less))
    for path in built.results.glob("one/*/made-*.json"):
        path.unlink()
    for _ in range(8):  # from the last stack down to the artifact
        with contextlib.suppress(FailedError):
            built.build()
    assert built.finals() == finals
    assert of_the_plan(built) == kept
    assert list(built.results.glob("one/obs/100001/reduced-*.corrupt"))


def test_artifacts_say_with_what_they_were_made(built):
    names = {"cubeflow", "numpy", "scipy", "astropy", "h5py", "hdf5", "hdf5plugin", "blas", "python", "processor"}
    certificates = [json.loads(path.read_text()) for path in built.results.rglob("made-*.json")]
    artifacts = [read_artifact(built.results / file, []).provenance for file in of_the_plan(built)]
    artifacts.append(read_artifact(built.results / "one/fov/cube.h5", []).provenance)
    for made in (*certificates, *artifacts):
        assert set(made["software"]) == names
        assert made["software"]["hdf5"] == h5py.version.hdf5_version
        assert made["software"]["blas"].split()[1]


KEYS = """
import json, sys
from pathlib import Path
from cubeflow.config import load_config
from cubeflow.plan.make import make_plan
plan = make_plan(load_config([Path("config.yaml")]), lambda line: None)
print(json.dumps([file for task in plan.all_tasks for file in plan.files(task)]))
"""


def test_keys_do_not_depend_on_the_processor(project):
    """The last digit of a logarithm differs between AVX-512 and AVX2, that of a product between BLAS."""
    project.put(RUNS)
    place = {"frame": "galactic", "lon": "184.557 deg", "lat": "-5.784 deg"}
    target = {**project.config["targets"]["one"], "position": place}
    project.write(targets={"one": target}, energy={"min": "0.6 TeV", "max": "20 TeV", "bins": 8})
    older = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR", "OPENBLAS_CORETYPE": "Prescott"}
    found = []
    for settings in ({}, older):
        env = {**os.environ, **settings}
        command = [sys.executable, "-W", "ignore", "-c", KEYS]
        found.append(subprocess.run(command, cwd=project.folder, env=env, capture_output=True, text=True, check=True))
    assert found[0].stdout == found[1].stdout
    assert len(json.loads(found[0].stdout)) > 20


def test_pieces_are_counted_in_what_was_digested(project, tmp_path, monkeypatch):
    """Exchanged between digest and count: nothing is remembered of it, and the run is refused until the next plan."""
    project.put(RUNS)
    project.write(observations={"split": "60 s"})
    path = project.store / "obs_100002.fits.gz"
    whole, longer = path.read_bytes(), tmp_path / "longer"
    longer_run = simulate_run(longer, 100002, SimulationOptions(seed=7, duration_s=900.0, tiny=True, shared_irf=True))
    real = reader.read_gti_and_site

    def exchanged(entry, digests):
        if entry.obs_id == 100002:
            path.write_bytes(longer_run.read_bytes())
        return real(entry, digests)

    with monkeypatch.context() as patch:
        patch.setattr(plan_tasks, "read_gti_and_site", exchanged)
        (refusal,) = project.build().tasks["one"].refused
    assert "changed since the plan was made" in refusal.reason
    path.write_bytes(whole)
    plan = project.build()
    assert len({unit.unit.piece for task in plan.tasks["one"].reduce for unit in task.units}) == 5
    assert_as_from_nothing(project, tmp_path / "fresh")


def test_line_of_a_plan_that_is_damaged_is_not_followed(project):
    """An option read wrong would put other maps under a key."""
    project.put(RUNS)
    with contextlib.chdir(project.folder):
        path = project.plan().write()
        content = path.read_bytes()
        assert read_targets(path, ["one"])
        assert content.count(b'"offset_max_deg": 1.5') == 1
        path.write_bytes(content.replace(b'"offset_max_deg": 1.5', b'"offset_max_deg": 1.7'))
        with pytest.raises(MistakeError, match="target one is not as it was written"):
            read_targets(path, ["one"])


def test_snakemake_makes_products_of_another_size_again(built):
    """Dry runs say so and change nothing."""
    built.snakemake("--keep-going", "products")
    path = built.results / "one/fov/dataset.fits.gz"
    content, finals = path.read_bytes(), built.finals()
    path.write_bytes(content[:-9])
    before = built.stamps()
    assert "not true of the files that it names; they are made again" in built.snakemake("--dry-run", "products")
    assert built.stamps() == before
    assert path.read_bytes() == content[:-9]
    built.snakemake("--keep-going", "products")
    assert built.finals() == finals
    assert "Nothing to be done" in built.snakemake("--keep-going", "products")
