"""Small targets in one process: the same bytes, and what is wrong with one does not stop the others."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.errors import FailedError, MistakeError
from cubeflow.steps import chain
from cubeflow.steps.entry import make_plan
from cubeflow.steps.together import make_together

POSITIONS = {"north": 22.6, "middle": 22.0, "south": 21.3}
RUNS = {"north": [100001, 100002], "middle": [100001, 100002, 100003], "south": [100002]}
CONTENT = {
    "energy": {"min": "1.2 TeV", "max": "20 TeV", "bins": 3},
    "energy_true": {"min": "0.4 TeV", "max": "50 TeV", "bins": 5},
    "irf_grid": {"pixel": "1 deg", "rad_bins": 20},
    "stack": {"batch": 64},
    "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.3 deg"}},
    "targets": {
        name: {
            "observations": {"ids": RUNS[name]},
            "position": {"lon": "83.633 deg", "lat": f"{dec} deg"},
            "geometry": {"width": ["3 deg", "2.6 deg"], "pixel": "0.2 deg"},
        }
        for name, dec in POSITIONS.items()
    },
}
QUIET = {"say": lambda line: None, "accept_refusals": True}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    simulate_store(folder, SimulationOptions(seed=4, n_runs=3, duration_s=300.0, tiny=True))
    return folder


@pytest.fixture
def planned(store, tmp_path):
    """``planned(**changes)``: plan of three targets, in ``tmp_path / "results"``."""
    shutil.copytree(store, tmp_path / "store")

    def planned(**changes):
        content = {**CONTENT, "data": {"store": str(tmp_path / "store")}, "results": str(tmp_path / "results")}
        (tmp_path / "config.yaml").write_text(json.dumps({**content, **changes}))
        return make_plan(load_config(tmp_path / "config.yaml"), lambda line: None).workflow

    return planned


def files(results: Path) -> dict[str, bytes]:
    """Every file of the targets by its name, without plans."""
    found = (path for name in POSITIONS for path in (results / name).rglob("*") if path.is_file())
    return {str(path.relative_to(results)): path.read_bytes() for path in found if path.parent.name != "plan"}


def stamps(results: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each of these files."""
    status = {name: (results / name).stat() for name in files(results)}
    return {name: (found.st_ino, found.st_mtime_ns) for name, found in status.items()}


def one_by_one(workflow) -> None:
    """What the separate rules do, each verb as a rule calls it."""
    for target in workflow.targets:
        (batch,) = workflow.index[target]["unmade"]
        verbs = [["reduce", workflow.manifest(target, batch)]]
        verbs += [["export", workflow.final(target, label)[0]] for label in ("fov", "ring")]
        for verb in [*verbs, ["table", workflow.table(target)[0]]]:
            assert CliRunner().invoke(main, verb).exit_code == 0


def test_all_files_are_those_of_the_separate_verbs(planned, tmp_path):
    workflow = planned()
    (group,) = workflow.groups.values()
    assert group.targets == ("middle", "north", "south")
    one_by_one(workflow)
    apart = files(tmp_path / "results")
    assert sum(name.endswith("cube.h5") for name in apart) == 6
    shutil.rmtree(tmp_path / "results")
    workflow = planned()
    result = CliRunner().invoke(main, ["together", workflow.path, *group.targets])
    assert result.exit_code == 0, result.output
    assert files(tmp_path / "results") == apart
    assert not list((tmp_path / "results/.cubeflow/begun").iterdir())


def test_targets_of_two_batches_have_all_their_stacks(planned, tmp_path):
    """A stack below one that is there is made again, too."""
    workflow = planned(stack={"batch": 1, "fanout": 2})
    (group,) = workflow.groups.values()
    assert len(workflow.index["middle"]["batches"]) == 3
    assert make_together(Path(workflow.path), group.targets, **QUIET)
    made = files(tmp_path / "results")
    for target in ("middle", "north"):
        nodes = workflow.index[target]["nodes"]["ring"]
        gone = min(set(nodes) - {workflow.index[target]["roots"]["ring"]}, default=next(iter(nodes)))
        (tmp_path / f"results/{target}/stack/ring/{gone}.h5").unlink()
        (tmp_path / f"results/{target}/runs.ecsv").unlink()
    workflow = planned(stack={"batch": 1, "fanout": 2})
    (group,) = workflow.groups.values()
    assert group.targets == ("middle", "north")
    assert make_together(Path(workflow.path), group.targets, **QUIET)
    assert files(tmp_path / "results") == made
    workflow = planned(stack={"batch": 1, "fanout": 2})
    assert not workflow.groups
    assert not workflow.missing_stacks()


def test_what_is_there_is_not_made_again(planned, tmp_path):
    workflow = planned()
    for target in ("north", "south"):
        assert make_together(Path(workflow.path), [target], **QUIET)
    before = stamps(tmp_path / "results")
    assert make_together(Path(workflow.path), list(POSITIONS), **QUIET)
    after = stamps(tmp_path / "results")
    assert {name: after[name] for name in before} == before
    assert not planned().groups


def test_changed_input_stops_its_target_alone(planned, tmp_path):
    workflow = planned()
    shutil.copyfile(tmp_path / "store/obs_100001.fits.gz", tmp_path / "store/obs_100003.fits.gz")
    with pytest.raises(FailedError, match=r"^middle: run 100003: [^\n]* changed since the plan was made[^\n]*$"):
        make_together(Path(workflow.path), list(POSITIONS), **QUIET)
    results = tmp_path / "results"
    assert sorted(path.parents[1].name for path in results.glob("*/fov/cube.h5")) == ["north", "south"]
    reduced = results.glob("middle/obs/*/reduced.h5")
    assert sorted(path.parent.name for path in reduced) == ["100001", "100002"]


def test_folder_that_cannot_be_written_stops_its_target_alone(planned, tmp_path):
    workflow = planned()
    middle = tmp_path / "results/middle/obs"
    middle.write_text("no folder")
    with pytest.raises(FailedError, match=r"^middle: [^\n]*middle/obs[^\n]*$"):
        make_together(Path(workflow.path), list(POSITIONS), **QUIET)
    assert not (tmp_path / "results/middle/runs.ecsv").exists()
    for target in ("north", "south"):
        assert (tmp_path / f"results/{target}/ring/cube.h5").is_file()
        assert (tmp_path / f"results/{target}/runs.fits").is_file()
    middle.unlink()
    assert planned().groups == {}  # one target is left
    assert make_together(Path(workflow.path), list(POSITIONS), **QUIET)
    assert planned().is_at_work("middle") is False


def test_target_at_which_the_process_ended_comes_last(monkeypatch, planned, tmp_path):
    """A bug, or a kill for its memory: with the next try the others are complete all the same."""
    workflow, real = planned(), chain.export_label

    def ending(manifest, say):
        if "/middle/" in str(manifest):
            raise ZeroDivisionError("a bug")
        return real(manifest, say)

    monkeypatch.setattr(chain, "export_label", ending)
    for made in (["north"], ["north", "south"], ["north", "south"]):
        with pytest.raises(ZeroDivisionError):
            make_together(Path(workflow.path), list(POSITIONS), **QUIET)
        assert [path.parents[0].name for path in sorted((tmp_path / "results").glob("*/runs.ecsv"))] == made
    monkeypatch.setattr(chain, "export_label", real)
    assert make_together(Path(workflow.path), list(POSITIONS), **QUIET)
    assert not list((tmp_path / "results/.cubeflow/begun").iterdir())


def test_refused_runs_fail_as_in_the_rule_reduce(planned, tmp_path):
    steep = {"spectrum": {"type": "power-law", "index": 900}}
    targets = {**CONTENT["targets"], "middle": {**CONTENT["targets"]["middle"], **steep}}
    workflow = planned(targets=targets, on_refused="fail")
    command = ["together", workflow.path, *POSITIONS]
    for _ in range(2):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 3, result.output
        assert "middle: 3 runs are refused, and on_refused is fail" in result.output
        assert not list((tmp_path / "results/middle/stack").rglob("*.h5"))
        assert (tmp_path / "results/north/fov/cube.h5").is_file()


def test_targets_of_another_plan_are_a_mistake(planned):
    with pytest.raises(MistakeError, match=r"expected targets of this plan \(middle, north, south\), got east"):
        make_together(Path(planned().path), ["north", "east"], **QUIET)


def test_marks_of_earlier_groups_are_forgotten(planned, tmp_path):
    (mark,) = planned().marks()
    Path(mark).parent.mkdir()
    Path(mark).touch()
    assert mark in planned().marks()
    assert not Path(mark).exists()
