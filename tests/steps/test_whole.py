"""The whole chain in one process: what fails does not stop what does not need it."""

import gzip
import json
import weakref

import numpy as np
import pytest
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.errors import FailedError
from cubeflow.steps import chain, whole
from cubeflow.steps.entry import make_plan

CONTENT = {
    "energy": {"min": "1.2 TeV", "max": "20 TeV", "bins": 3},
    "energy_true": {"min": "0.4 TeV", "max": "50 TeV", "bins": 5},
    "irf_grid": {"pixel": "1 deg", "rad_bins": 20},
    "stack": {"batch": 2},
    "backgrounds": {"fov": {"method": "fov"}},
    "targets": {
        name: {
            "position": {"lon": "83.633 deg", "lat": "22.014 deg"},
            "geometry": {"width": "3 deg", "pixel": "0.2 deg"},
        }
        for name in ("first", "second")
    },
}


@pytest.fixture
def workflow(tmp_path):
    simulate_store(tmp_path / "store", SimulationOptions(seed=4, n_runs=16, duration_s=300.0, tiny=True))
    content = {**CONTENT, "data": {"store": str(tmp_path / "store")}, "results": str(tmp_path / "results")}
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    return make_plan(load_config(tmp_path / "config.yaml"), lambda line: None).workflow


def fail_for(monkeypatch, step, word):
    """Let a step fail whose first argument has a word in it; each failure says which."""
    real = getattr(chain, step)

    def guarded(first, *others):
        if word in str(first):
            raise FailedError(f"{step} failed: {first}")
        return real(first, *others)

    monkeypatch.setattr(chain, step, guarded)


def test_a_batch_that_fails_stops_neither_other_batches_nor_other_targets(monkeypatch, tmp_path, workflow):
    batches = workflow.index["first"]["batches"]
    assert len(batches) > 2
    fail_for(monkeypatch, "open_batch", f"first/plan/{batches[0]}")
    with pytest.raises(FailedError, match=f"^first: open_batch failed: .*{batches[0]}[^\n]*$"):
        whole.carry_out(workflow, lambda line: None)
    made = [batch for batch in batches if (tmp_path / workflow.leaf("first", "fov", batch)).is_file()]
    assert made == batches[1:]
    assert not (tmp_path / "results/first/fov/cube.h5").exists()
    assert (tmp_path / "results/second/fov/cube.h5").is_file()


def test_a_run_table_that_fails_does_not_stop_the_next_target(monkeypatch, tmp_path, workflow):
    fail_for(monkeypatch, "write_run_table", "/first/")
    with pytest.raises(FailedError, match=r"^first: write_run_table failed: [^\n]*$"):
        whole.carry_out(workflow, lambda line: None)
    assert (tmp_path / "results/first/fov/cube.h5").is_file()
    assert (tmp_path / "results/second/runs.ecsv").is_file()


def test_artifacts_lost_below_a_stack_are_made_again(tmp_path, workflow):
    whole.carry_out(workflow, lambda line: None)
    lost = next((tmp_path / "results/first/obs").glob("*/reduced.h5"))
    content = lost.read_bytes()
    lost.unlink()
    again = make_plan(load_config(tmp_path / "config.yaml"), lambda line: None).workflow
    assert again.index["first"]["again"]
    whole.carry_out(again, lambda line: None)
    assert lost.read_bytes() == content


def test_what_failed_keeps_nothing_in_memory(monkeypatch, workflow):
    kept = []

    def fail(*arguments):
        large = np.zeros(10)
        kept.append(weakref.ref(large))
        raise MemoryError

    monkeypatch.setattr(chain, "reduce_batch", fail)
    failed = list(chain.make_target(workflow, "first", lambda line: None))
    assert {failure.line for failure in failed} == {"first: MemoryError"}
    assert kept
    assert not any(large() is not None for large in kept)


def test_a_file_that_cannot_be_read_is_told_where_no_index_names_its_run(tmp_path, workflow):
    for index in (tmp_path / "store").glob("*index*"):
        index.unlink()
    cut = max((tmp_path / "store").glob("obs_*.fits.gz"))
    cut.write_bytes(cut.read_bytes()[:1000])
    told = CliRunner().invoke(main, ["plan", "-c", str(tmp_path / "config.yaml")])
    assert told.exit_code == 3
    assert f"data.store: left out: {cut}" in told.output
    made = CliRunner().invoke(main, ["run", "-c", str(tmp_path / "config.yaml")])
    assert made.exit_code == 3
    assert "files of the store that are left out: 1; cubeflow check names them" in made.output


@pytest.mark.parametrize("on_refused", ["continue", "fail"])
def test_refused_runs_are_a_failure_if_the_configuration_says_so(tmp_path, workflow, on_refused):
    content = json.loads((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(json.dumps({**content, "on_refused": on_refused}))
    run = min((tmp_path / "store").glob("obs_*.fits.gz"))
    run.write_bytes(gzip.compress(gzip.decompress(run.read_bytes()).replace(b"DEADC   =", b"DEADX   =")))
    planned = make_plan(load_config(tmp_path / "config.yaml"), lambda line: None).workflow
    if on_refused == "fail":
        with pytest.raises(FailedError, match=r"^first: 1 runs are refused, and on_refused is fail\nsecond: 1 runs"):
            whole.carry_out(planned, lambda line: None)
    else:
        whole.carry_out(planned, lambda line: None)
    assert (tmp_path / "results/first/fov/cube.h5").is_file() == (on_refused == "continue")
