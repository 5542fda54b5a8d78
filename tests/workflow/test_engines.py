"""Profiles of engines that are not here: what they say, and the jobs that their plugins would start."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

PROFILES = Path(__file__).resolve().parents[2] / "workflow" / "profiles"
ENGINES = ("slurm", "htcondor", "kubernetes")
JOBS = {"reduce_1": 1, "stack": 2, "export_1": 1, "report": 1}


def read(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ENGINES)
def test_a_profile_names_its_engine_and_nothing_that_the_default_profile_overrides(name: str) -> None:
    assert read(name)["executor"] == name
    assert read(name).keys() & read("default").keys() == set()


def test_a_job_that_was_killed_is_tried_again() -> None:
    assert read("default")["retries"] == 2


@pytest.mark.workflow
@pytest.mark.parametrize("name", ["htcondor", "kubernetes"])
def test_jobs_of_a_dry_run(project, tmp_path: Path, name: str) -> None:
    """All, with what they ask for; on Kubernetes with results in a storage, and none kept here for its DL3 files."""
    if find_spec(f"snakemake_executor_plugin_{name}") is None:
        pytest.skip(f"the plugin for {name} is not installed: make test-engines")
    project.put([100001, 100002, 100003])
    storage = ("--default-storage-provider", "fs", "--default-storage-prefix", str(tmp_path / "stored"))
    where = storage if name == "kubernetes" else ()
    output = project.snakemake("--profile", str(PROFILES / name), "--dry-run", *where)
    found = {job: int(count) for job, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}
    assert JOBS.items() <= found.items()
    folder = f".snakemake/storage/fs{tmp_path}/stored/results" if where else "results"
    assert f"reduce_1 --results {folder} > results/logs/reduce_1.log" in output
    assert ("request_memory=4000" in output) == (name == "htcondor")
    assert not project.results.exists(), "a dry run writes nothing"
