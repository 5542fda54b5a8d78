"""Commands of jobs as CWL tools: valid, with what the commands take, and they make what the commands make."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cubeflow.cli import main
from cubeflow.plan.jobs import read_jobs

pytestmark = pytest.mark.workflow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cwl")
    subprocess.run([sys.executable, REPOSITORY / "workflow" / "cwl.py", folder], check=True)
    return folder


def cwltool(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "cwltool", "--disable-color", "--preserve-entire-environment", *arguments]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize("verb", ["reduce", "stack", "export", "model"])
def test_a_tool_is_valid_and_takes_what_its_command_takes(tools: Path, verb: str) -> None:
    assert "is valid CWL" in cwltool("--validate", tools / f"{verb}.cwl")
    inputs = json.loads((tools / f"{verb}.cwl").read_text())["inputs"]
    assert inputs.keys() - {"before"} == {each.name for each in main.commands[verb].params} - {"results"}
    assert [inputs[name]["type"] for name in ("plan", "job")] == ["File", "string"]


def test_every_command_of_a_job_has_a_tool(tools: Path) -> None:
    found = {path.stem for path in tools.glob("*.cwl")}
    assert found == {"off", "model", "reduce", "stack", "export", "figures", "report"}
    assert found <= main.commands.keys()


@pytest.mark.slow
def test_jobs_of_a_plan_one_after_the_other(project, tools: Path, tmp_path: Path) -> None:
    """What the tools make of it equals what the plan makes in one process, to the byte."""
    project.put([100001, 100002, 100003])
    plan = project.plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        file = plan.write().absolute()
        jobs = [job for job in read_jobs(file) if job.kind in ("reduce", "stack", "export")]
        assert {job.kind for job in jobs} == {"reduce", "stack", "export"}
        before: list[str | Path] = []
        for number, job in enumerate(jobs):
            folder = tmp_path / str(number)
            cwltool("--outdir", folder, tools / f"{job.kind}.cwl", "--plan", file, "--job", job.name, *before)
            before = ["--before", folder / "results"]
    fresh = project.fresh(tmp_path / "fresh")
    fresh.build()
    expected = {path.relative_to(fresh.results): path.read_bytes() for path in fresh.results.glob("one/**/*.*")}
    assert {name: (folder / "results" / name).read_bytes() for name in expected} == expected
