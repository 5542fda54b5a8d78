"""What is said at the end: only of what is there, and lines that can be pasted."""

import os
from threading import Timer

import pytest

from cubeflow.steps import finish as finish_module
from cubeflow.steps.finish import finish, significance_text, what_next
from cubeflow.steps.workflow_plan import WorkflowPlan

NOTHING = {"unmade": {}, "stale": [], "stale_table": False, "seconds": 0.0, "refused": 0}  # to do


@pytest.fixture
def plan(tmp_path):
    targets = {
        "none": {"batches": [], "labels": {"fov": "1"}, **NOTHING},
        "crab": {"batches": ["b"], "labels": {"ring": "1", "fov": "2"}, **NOTHING},
    }
    for label in ("ring", "fov"):
        (tmp_path / "crab" / label).mkdir(parents=True)
        (tmp_path / "crab" / label / "datasets.yaml").write_text("datasets: []")
    return WorkflowPlan(str(tmp_path), True, targets, "plan.json")


def test_the_lines_that_load_the_first_cube_are_python(plan, tmp_path):
    lines = what_next(plan)
    assert "report" not in lines[0]
    code = [line.strip() for line in lines if line.startswith("    ")]
    compile("\n".join(code), "lines", "exec")
    assert f"dataset = Datasets.read('{tmp_path}/crab/ring/datasets.yaml', lazy=False)[0]" in code
    assert f"cube = cubeflow.load('{tmp_path}/crab/ring/cube.h5')" in code


def test_the_report_is_named_if_it_is_there_and_else_how_to_make_it(plan, tmp_path):
    assert what_next(plan)[-1] == f"make a page of it: cubeflow report {tmp_path}"
    (tmp_path / "report.html").write_text("page")
    assert not any("cubeflow report" in line for line in what_next(plan))
    assert what_next(plan)[0] == f"report: {tmp_path}/report.html"
    os.utime(tmp_path / "report.html", (1, 1))
    assert what_next(plan)[-1] == f"the report is older than the results; make it again: cubeflow report {tmp_path}"
    assert not any(line.startswith("report:") for line in what_next(plan))


def test_only_a_cube_that_is_there_is_loaded(plan, tmp_path):
    (tmp_path / "crab" / "ring" / "datasets.yaml").unlink()
    assert not any("/crab/ring/" in line for line in what_next(plan))
    assert any("/crab/fov/" in line for line in what_next(plan))


def test_without_results_nothing_is_promised(tmp_path):
    assert what_next(WorkflowPlan(str(tmp_path), True, {}, "plan.json")) == []


def test_what_was_found_in_words():
    assert significance_text({"significance": 36.48}) == "36.5 sigma at the target"
    assert significance_text(None) == "no significance at the target"
    assert "no bin is safe or there is no background" in significance_text({"significance": None})


def test_what_is_not_there_is_not_described(tmp_path):
    """As when a single file was asked for."""
    target = {"batches": ["b"], "labels": {"fov": "2"}, **NOTHING}
    lines = []
    plan = WorkflowPlan(str(tmp_path), True, {"crab": target, "vela": target}, "plan.json")
    (tmp_path / "vela").mkdir()
    (tmp_path / "vela" / "runs.csv").write_text("obs_id,status\n1,ok\n2,refused\n")
    assert finish(plan, lines.append) == 3
    assert lines[0] == f"vela: 1 runs used, 1 refused; see {tmp_path}/vela/runs.ecsv"


def test_a_file_of_a_cluster_job_may_show_up_late(tmp_path):
    path = tmp_path / "runs.csv"
    assert not finish_module._shows_up(path, 0.0)
    Timer(0.2, path.touch).start()
    assert finish_module._shows_up(path, 10.0)
