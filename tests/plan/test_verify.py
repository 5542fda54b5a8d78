"""Damage of every kind of file that a plan trusts by its name."""

import json

import pytest

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.errors import FailedError
from cubeflow.pipeline.tasks import PICTURES, REGIONS
from cubeflow.plan.clean import stale_files
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import finish, run_plan
from cubeflow.plan.verify import verify_plan, verify_results
from cubeflow.report.page import do_job
from cubeflow.store import artifact as store
from cubeflow.store.artifact import ArtifactNewer

WITHIN = '"observations": {"within": "5 deg"}, "geometry"'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    content = {
        "data": {"store": str(folder / "store")},
        "simulate": {"runs": 2, "duration": "300 s"},
        "results": str(folder / "results"),
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
        "targets": {
            "t": {
                "position": {"lon": "83.633 deg", "lat": "22.014 deg"},
                "geometry": {"width": ["3 deg", "3 deg"], "pixel": "0.1 deg"},
            }
        },
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content))
    plan = make_plan(load_config([path]), print)
    run_plan(plan, print)
    plan.write()
    for job in plan.jobs:
        if job.kind in ("figures", "report"):
            do_job(plan.path, job.name, print, plan.results)
    return path, plan


def damaged(plan):
    return {path.name: problem for path, problem in verify_results(plan) if problem is not None}


def test_all_that_was_made_is_read(made):
    _, plan = made
    found = dict(verify_results(plan))
    assert set(found.values()) == {None}
    made_files = {path for path in plan.results.rglob("*") if path.is_file() and ".cubeflow" not in path.parts}
    assert made_files == set(found)
    assert {*PICTURES, *REGIONS, "report.html"} <= {path.name for path in found}


def test_pages_that_are_no_longer_made_are_stale(made):
    """The page of a target that was the only one; not those of others, and no pictures of others."""
    config, plan = made
    assert stale_files(plan) == []
    content = json.loads(config.read_text())
    content["targets"]["u"] = content["targets"]["t"]
    (config.parent / "two.json").write_text(json.dumps(content))
    both = make_plan(load_config([config.parent / "two.json"]), print)
    folder = plan.results / "t"
    label = next(path.parent for path in folder.glob("*/significance.svg"))
    page, picture, others = folder / "report.html", label / "excess.png", folder / "talk/excess.png"
    (certificate,) = folder.glob("report-*.json")
    made_page = page.read_bytes()
    others.parent.mkdir()
    for path in (picture, others):
        path.write_bytes(b"PNG")
    try:
        assert stale_files(both) == [certificate, page]
        page.write_text("<!doctype html><title>mine</title>")
        assert stale_files(both) == [certificate]
    finally:
        page.write_bytes(made_page)
        for path in (picture, others):
            path.unlink()
        others.parent.rmdir()


ANY_KIND = [
    *("t/obs/*/reduced-*.h5", "t/obs/*/background-fov-*.h5", "t/stack/*/*.h5", "t/*/cube.h5", "t/*/dataset.fits.gz"),
    *("t/runs.csv", "t/*/counts.svg", "t/exclusion.reg", "t/report.html"),
    *("t/*/made-*.json", "t/made-*.json", "t/*/figures-*.json", "t/report-*.json"),
]


@pytest.mark.parametrize("pattern", ANY_KIND)
def test_one_byte_is_found(made, pattern):
    _, plan = made
    path = next(plan.results.glob(pattern))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        assert list(damaged(plan)) == [path.name]
    finally:
        path.write_bytes(content)
    assert damaged(plan) == {}


def test_artifact_under_the_name_of_another(made):
    _, plan = made
    one, other = sorted(plan.results.glob("t/obs/*/reduced-*.h5"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    try:
        assert damaged(plan)[one.name].startswith("has key ")
    finally:
        one.write_bytes(content)


def test_exit_status_says_it(made, capsys):
    config, plan = made
    path = plan.results / "t" / "runs.csv"
    content = path.read_bytes()
    for text, status, said in ((content, 0, " 0 damaged, 0 not made"), (b"x", 1, "runs.csv: has another content")):
        path.write_bytes(text)
        with pytest.raises(SystemExit) as ended:
            main(["verify", "-c", str(config)])
        assert ended.value.code == status
        assert said in capsys.readouterr().out
    path.write_bytes(content)


def test_damaged_cube_is_set_aside_when_it_is_read_and_made_again(made):
    config, plan = made
    path = plan.results / "t" / "fov" / "cube.h5"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FailedError, match=r"cube\.h5: damaged .*; set aside as cube.h5.corrupt, start again"):
        finish(plan, print)
    run_plan(make_plan(load_config([config]), print), print)
    assert path.read_bytes() == content
    finish(plan, print)
    path.with_name("cube.h5.corrupt").unlink()


@pytest.mark.parametrize("pattern", ANY_KIND)
def test_what_is_set_aside_the_next_start_makes_again(made, pattern):
    """Also an artifact below a stack that is there, which nothing needs."""
    config, plan = made
    path = next(plan.results.glob(pattern))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = verify_plan(plan, sets_aside=True)
    aside = path.with_name(f"{path.name}.corrupt")
    assert set(found.damaged) == {path}
    assert found.damaged[path].endswith(f"set aside as {aside.name}")
    assert not path.exists()
    again = make_plan(load_config([config]), print)
    assert again.needed
    run_plan(again, print)
    again.write()
    for job in again.jobs:
        if job.kind in ("figures", "report") and not job.is_made:
            do_job(again.path, job.name, print, again.results)
    assert path.read_bytes() == content
    assert not make_plan(load_config([config]), print).needed
    aside.unlink()
    assert damaged(plan) == {}


def test_newer_artifact_is_not_set_aside(made, monkeypatch):
    _, plan = made
    monkeypatch.setattr(store, "SCHEMA", store.SCHEMA - 1)
    before = sorted(plan.results.rglob("*"))
    with pytest.raises(ArtifactNewer, match="has schema"):
        verify_plan(plan, sets_aside=True)
    assert sorted(plan.results.rglob("*")) == before


def test_orphans_and_what_is_not_made_are_named(made, capsys):
    config, plan = made
    path = next(plan.results.glob("t/obs/*/reduced-*.h5"))
    orphan = path.with_name("reduced-0123456789abcdef.h5")
    path.rename(orphan)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["verify", "-c", str(config), "--json"])
        assert ended.value.code == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["absent"], found["orphans"], found["damaged"]) == ([str(path)], [str(orphan)], {})
        assert (found["inputs"], found["files"]) == (2, len(dict(verify_results(plan))))
    finally:
        orphan.rename(path)


def test_input_exchanged_behind_size_and_times_is_found(made, capsys):
    """As on a file system whose times tell nothing: what is remembered is a digest of other content."""
    config, plan = made
    cache, path = plan.cache, next((plan.results.parent / "store").glob("obs_100001*"))
    status, taken, digest = cache.files[str(path)]
    cache.files[str(path)] = status, taken + 10 * 10**9, "0" * 64
    cache._is_changed = True
    cache.save()
    assert make_plan(load_config([config]), print).cache.digest(path) == "0" * 64, "it is believed"
    for arguments, status in ((["verify"], 1), (["verify", "--set-aside"], 1), (["verify"], 0)):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "-c", str(config)])
        assert ended.value.code == status
        said = f"{path}: has another content than it had, with the same size and times"
        assert (said in capsys.readouterr().out) == (status == 1)
    assert path.exists()
    assert make_plan(load_config([config]), print).cache.digest(path) == digest


def test_wrong_position_makes_nothing_stale(made, capsys):
    """Who mistypes a position and cleans must not lose the artifacts of all runs."""
    config, plan = made
    wrong = config.with_name("wrong.yaml")
    wrong.write_text(config.read_text().replace("83.633", "183.633").replace('"geometry"', WITHIN))
    before = sorted(path for path in plan.results.rglob("*.h5"))
    with pytest.raises(SystemExit) as ended:
        main(["clean", "-c", str(wrong), "--yes"])
    assert ended.value.code == 2
    assert "no run is left for any target" in capsys.readouterr().err
    assert sorted(path for path in plan.results.rglob("*.h5")) == before
    assert stale_files(make_plan(load_config([wrong]), print)) == []
