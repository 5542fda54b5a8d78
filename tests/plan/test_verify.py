"""Damage of every kind of file that a plan trusts by its name."""

import json

import pytest

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.errors import FailedError
from cubeflow.plan.clean import stale_files
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import finish, run_plan
from cubeflow.plan.verify import verify_results

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
    return path, plan


def damaged(plan):
    return {path.name: problem for path, problem in verify_results(plan) if problem is not None}


def test_all_that_was_made_is_read(made):
    _, plan = made
    found = dict(verify_results(plan))
    assert set(found.values()) == {None}
    made_files = {path for path in plan.results.rglob("*") if path.suffix in (".h5", ".gz", ".yaml", ".ecsv", ".csv")}
    assert made_files <= set(found)


@pytest.mark.parametrize("pattern", ["t/obs/*/reduced-*.h5", "t/stack/*/*.h5", "t/*/cube.h5", "t/runs.csv"])
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
    for text, status, said in ((content, 0, "0 of them damaged"), (b"x", 1, "runs.csv: has another content")):
        path.write_bytes(text)
        with pytest.raises(SystemExit) as ended:
            main(["verify", "-c", str(config)])
        assert ended.value.code == status
        assert said in capsys.readouterr().out
    path.write_bytes(content)


def test_damaged_cube_is_told_with_the_way_out(made):
    _, plan = made
    path = plan.results / "t" / "fov" / "cube.h5"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(FailedError, match=r"cube\.h5: .*; remove it, and it is made again"):
            finish(plan, print)
    finally:
        path.write_bytes(content)
    finish(plan, print)


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
