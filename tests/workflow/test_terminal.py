"""What the terminal shows: what was found, refusals and failures; Snakemake's own words are in its log."""

from __future__ import annotations

import copy
import shutil

import pytest

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def project(make_project, tmp_path_factory):
    """Project of four targets and six runs, one of which cannot be read."""
    project = make_project(tmp_path_factory.mktemp("terminal") / "project")
    project.put(range(100001, 100007))
    broken = project.store / "obs_100003.fits.gz"
    broken.write_bytes(broken.read_bytes()[:5000])
    target = project.config["targets"]["one"]
    project.write(targets={name: copy.deepcopy(target) for name in ("one", "two", "three", "four")})
    return project


def shown(project, *arguments: str, status: int = 0) -> list[str]:
    """Lines of a start as a user makes it."""
    return project.snakemake(*arguments, status=status, is_talkative=False).splitlines()


def test_a_line_for_each_target_and_few_beside(project):
    lines = shown(project)
    assert len([line for line in lines if "; at the target fov " in line and "5 runs used, 1 refused; " in line]) == 4
    assert len([line for line in lines if ": run 100003: refused: " in line]) == 4
    assert "report: results/report.html" in lines
    *often, progress = [line for line in lines if line.startswith("progress: ")]
    assert progress.startswith("progress: 32 of 32 runs and figures (100 %)")  # 4 x 6 runs, one refused, and 2 figures
    assert len(lines) - len(often) <= 19  # 15, and the refusals
    assert not [line for line in lines if "Building DAG" in line or "jobid" in line]
    (log,) = (project.folder / ".snakemake" / "log").glob("*.log")
    assert "Building DAG" in log.read_text()

    # What was found is said each time.
    found = [line.partition(" (after ")[0] for line in lines if "; at the target fov " in line]
    again = shown(project)
    assert sorted(found) == sorted(line for line in again if "; at the target fov " in line)
    assert "report: results/report.html" in again
    assert any("Nothing to be done" in line for line in again)

    # Who only looks is told what would be done, and who asks is told all.
    assert any("reduce" in line for line in shown(project, "-n", "--forceall"))
    assert "Building DAG of jobs..." in shown(project, "--printshellcmds")


def test_failure_is_one_line_with_its_reason(project):
    cube = project.results / "two" / "ring" / "cube.h5"
    shown(project)
    cube.unlink()
    (cube / "kept").mkdir(parents=True)
    lines = shown(project, status=1)
    (failed,) = [line for line in lines if line.startswith("job export")]
    assert failed.endswith(".log")
    assert "two/ring/cube.h5: a folder has that name" in failed
    shutil.rmtree(cube)
    shown(project)
