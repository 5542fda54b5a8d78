"""The command line as people and programs meet it: help, quiet, JSON, colours, exit status, speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.config.schema import json_schema
from cubeflow.plan.jobs import read_jobs

CONFIG = """
data: {store: store}
simulate: {runs: 2, duration: 60 s}
targets:
  crab:
    position: {lon: 83.633 deg, lat: 22.014 deg}
    geometry: {width: 4 deg, pixel: 0.1 deg}
energy: {min: 1 TeV, max: 10 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 20 TeV, bins: 4}
backgrounds: {fov: {method: fov, on_failure: keep, norm_min: 0.001, norm_max: 1000}}
"""
VERBS = sorted(main.commands)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Working directory with a configuration that has been carried out by the verbs alone."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "c.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def cubeflow(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def run(*words: object, status: int = 0) -> click.testing.Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == status, result.output
        return result

    return run


def do_jobs(cubeflow, configuration: str, *kinds: str) -> None:
    """Do the jobs of a plan, verb by verb, as the rules of the workflow do."""
    plan = Path(json.loads(cubeflow("plan", "-q", "--json", "-c", configuration).stdout)["plan"])
    for kind in kinds:
        for job in read_jobs(plan):
            if job.kind == kind and not job.is_made:
                cubeflow(kind, plan, job.name)


@pytest.fixture
def results(cubeflow, folder) -> Path:
    """Results, made step by step by the verbs; what is there is not made again."""
    do_jobs(cubeflow, "c.yaml", "reduce", "stack", "export")
    return folder / "results"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    text = CliRunner().invoke(main, [verb, "--help"], env={"COLUMNS": "200"}).output
    assert f"Example: cubeflow {verb}" in text
    assert "--quiet" in text
    assert all(option.help for option in main.commands[verb].params if isinstance(option, click.Option) and option.opts)


def test_the_help_names_every_verb_and_shell_completion():
    text = CliRunner().invoke(main, ["--help"]).output
    for verb in VERBS:
        assert f"\n  {verb} " in text
    assert "_CUBEFLOW_COMPLETE=bash_source" in text


def test_completion_knows_the_verbs():
    environment = {**os.environ, "_CUBEFLOW_COMPLETE": "bash_complete", "COMP_WORDS": "cubeflow in", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from cubeflow.cli import main; main(prog_name='cubeflow')"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,index", "plain,init", "plain,inspect"]


def test_help_is_fast_because_nothing_heavy_is_imported():
    code = "import sys; import cubeflow.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-X", "frozen_modules=on", "-c", code], capture_output=True, text=True, check=True
    )
    after = os.times()
    assert not {"numpy", "astropy", "h5py", "pydantic", "rich", "yaml", "jinja2", "matplotlib"} & set(
        done.stdout.split()
    )
    assert after.children_user - before.children_user < 0.3


def test_quiet_says_nothing_but_what_is_wrong(cubeflow):
    assert "files" in cubeflow("simulate", "x").stderr
    assert cubeflow("simulate", "-q", "x").output == ""
    assert cubeflow("plan", "-q", "-c", "absent.yaml", status=2).output.startswith("absent.yaml: expected")


def test_schema_is_that_of_the_configuration(cubeflow):
    assert json.loads(cubeflow("schema").stdout) == json_schema()


def test_workflow_names_the_snakefile_and_its_profiles(cubeflow):
    workflow = Path(__file__).resolve().parents[1] / "workflow"
    assert cubeflow("workflow").stdout == f"{workflow / 'Snakefile'}\n"
    for profile in (workflow / "profiles").iterdir():
        assert cubeflow("workflow", "--profile", profile.name).stdout == f"{profile}\n"
    assert "is not one of 'default'" in cubeflow("workflow", "--profile", "none", status=2).output


def test_inspect_for_people_and_programs(cubeflow, results):
    cube = results / "crab" / "fov" / "cube.h5"
    about = json.loads(cubeflow("inspect", "--json", cube).stdout)
    text = cubeflow("inspect", cube).stdout
    assert about["key"] in text
    assert "icrs TAN at (83.633, 22.014) deg, 40 x 40 pixels of 0.1 deg" in text
    assert "energy: 1 to 10 TeV, 3 bins, log" in text
    for name, dataset in about["datasets"].items():
        assert name in text
        assert f"{dataset['totals']['sum']:.6g}" in text
    assert "reduce.offset_max_deg" in text
    assert "\x1b" not in text  # no colours outside a terminal
    assert "2 rows" in cubeflow("inspect", results / "crab" / "runs.ecsv").stdout
    assert "COUNTS" in cubeflow("inspect", results / "crab" / "fov" / "dataset.fits.gz").stdout


def test_provenance_says_what_it_was_made_of_and_not_where_or_when(cubeflow, results, folder):
    for path in (results / "crab").rglob("*.h5"):
        about = json.loads(cubeflow("inspect", "--json", path).stdout)
        assert set(about["provenance"]) == {"kind", "version", "options", "inputs", "software"}
        assert str(folder) not in json.dumps([about["provenance"], about["attributes"]])
    run = json.loads(cubeflow("inspect", "--json", next(results.rglob("reduced-*.h5"))).stdout)
    assert all(len(digest) == 64 for digest in run["provenance"]["inputs"].values())
    assert run["provenance"]["options"]["options"]["options"]["reduce"]["energy"]["edges"][0] == 1.0


def test_diff_of_what_is_the_same(cubeflow, results):
    assert "the same: of HDF5 files, 0 differ" in cubeflow("diff", results, results).stdout
    assert json.loads(cubeflow("diff", "--json", results, results).stdout)["same"]


def test_diff_says_where_and_why(cubeflow, results, folder):
    (folder / "d.yaml").write_text(CONFIG + "offset_max: 1.5 deg\nresults: other\n")
    do_jobs(cubeflow, "d.yaml", "reduce")
    found = cubeflow("diff", "results/crab/obs", "other/crab/obs", status=1).stdout
    assert "options.reduce.offset_max_deg" in found
    plain = json.loads(cubeflow("diff", "--json", "results/crab/obs", "other/crab/obs", status=1).stdout)
    assert {"name": "options.reduce.offset_max_deg", "first": 2.0, "second": 1.5, "files": 2} in plain["causes"]
    assert not plain["same_values"]


def test_run_makes_what_the_verbs_make_one_by_one(cubeflow, results, folder):
    (folder / "whole.yaml").write_text(CONFIG + "results: whole\n")
    assert "2 runs used" in cubeflow("run", "-c", "whole.yaml").output
    made = [path.relative_to(results) for path in (results / "crab").rglob("*.*")]
    assert len(made) == 2 * 2 + 1 + 5 + 3 + 2  # maps and backgrounds, leaf, products, tables, certificates
    for path in made:
        assert (folder / "whole" / path).read_bytes() == (results / path).read_bytes(), path


def test_run_once_more_makes_nothing(cubeflow, folder):
    (folder / "twice.yaml").write_text(CONFIG + "results: twice\n")
    cubeflow("run", "-c", "twice.yaml")
    status = {path: path.stat().st_ino for path in (folder / "twice" / "crab").rglob("*.*")}
    assert len(status) == 15
    cubeflow("run", "-c", "twice.yaml")
    assert {path: path.stat().st_ino for path in status} == status


def test_run_goes_on_with_the_other_targets_and_says_which_is_empty(cubeflow, folder):
    far = "  far:\n    position: {lon: 10 deg, lat: -60 deg}\n    geometry: {width: 4 deg, pixel: 0.1 deg}\n"
    config = CONFIG.replace("energy: {min: 1 TeV", far + "energy: {min: 1 TeV").replace("  crab:", "  near:")
    (folder / "two.yaml").write_text(config + "results: two\n")
    result = cubeflow("run", "-c", "two.yaml")
    assert "far: fov: no run is left; see two/far/runs.csv\n" in result.output
    assert "far: run 100001: skipped: no pixel of the map lies within" in result.output
    assert (folder / "two" / "far" / "fov" / "cube.h5").is_file()
    assert (folder / "two" / "near" / "fov" / "cube.h5").is_file()


@pytest.mark.parametrize(("on_refused", "status"), [("continue", 0), ("fail", 3)])
def test_a_refused_run_is_named_and_shows_in_the_exit_status_where_that_is_wanted(
    cubeflow, results, folder, on_refused, status
):
    broken, name = folder / f"cut-{on_refused}", f"refused-{on_refused}"
    broken.mkdir()
    for path in (folder / "store").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "obs_100001.fits.gz").write_bytes((folder / "store" / "obs_100001.fits.gz").read_bytes()[:-200])
    config = CONFIG.replace("store: store", f"store: {broken.name}") + f"results: {name}\non_refused: {on_refused}\n"
    (folder / f"{name}.yaml").write_text(config)
    said = cubeflow("run", "-c", f"{name}.yaml", status=status).output
    assert "run 100001: refused: obs_100001.fits.gz: truncated gzip file" in said
    assert ("1 refused" if on_refused == "continue" else "1 of 2 runs refused, and on_refused is fail") in said
    assert (folder / name / "crab" / "fov" / "cube.h5").is_file() == (on_refused == "continue")
    assert "100001,refused,file: truncated gzip file" in (folder / name / "crab" / "runs.csv").read_text()
    assert "obs_100001.fits.gz: truncated gzip file" in cubeflow("check", broken.name, status=3).output


def test_a_missing_file_is_said_by_the_plan_and_found_by_check(cubeflow, results, folder):
    (folder / "broken").mkdir()
    for path in (folder / "store").iterdir():
        (folder / "broken" / path.name).write_bytes(path.read_bytes())
    (folder / "broken" / "obs_100001.fits.gz").unlink()
    (folder / "e.yaml").write_text(CONFIG.replace("store: store", "store: broken") + "results: fewer\n")
    missing = folder / "broken" / "obs_100001.fits.gz"
    assert f"crab: run 100001: refused: {missing}: No such file" in cubeflow("plan", "-c", "e.yaml").output
    assert "obs_100001.fits.gz" in cubeflow("check", "broken", status=3).output


def test_a_reader_that_has_enough_is_no_error(folder):
    """As in ``cubeflow schema | head -1``."""
    command = [sys.executable, "-c", "from cubeflow.cli import main; main()", "schema"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""


@pytest.mark.parametrize("option", [("--duration", "nan"), ("--duration", "1e9"), ("--first", str(2**63 - 1))])
def test_a_simulation_that_cannot_be_is_a_mistake(cubeflow, option):
    assert "expected" in cubeflow("simulate", "never", "--tiny", *option, status=2).output


def test_a_home_that_cannot_be_looked_into(folder, results):
    """As that of root is for the user of a container: nothing in it is needed, nor could it decide anything."""
    command = [sys.executable, "-c", "from cubeflow.cli import main; main()", "check", "store"]
    home = "/" + 300 * "h"  # of which the kernel says that it is no name
    done = subprocess.run(command, cwd=folder, env={**os.environ, "HOME": home}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_line_of_the_help_is_cut_off(cubeflow):
    text = cubeflow("--help").stdout
    for name, verb in main.commands.items():
        assert f"  {name} " in text
        assert verb.get_short_help_str(200) in text
