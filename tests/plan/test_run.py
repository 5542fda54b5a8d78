"""The whole chain in one process: what fails does not stop what does not need it."""

import gzip
import html
import json
import re
from contextlib import nullcontext

import pytest
from astropy.table import Table
from click.testing import CliRunner

from cubeflow import load
from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.errors import FailedError, RunsLeftOut
from cubeflow.pipeline.export import significance_text
from cubeflow.pipeline.tasks import FiguresTask, ReportTarget, ReportTask, stack_file
from cubeflow.plan import run, workflow
from cubeflow.plan.estimate import Estimate
from cubeflow.plan.jobs import make_jobs, read_jobs
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import finish, run_plan
from cubeflow.plan.workflow import WorkflowPlan
from cubeflow.report.figures import make_figures
from cubeflow.report.page import write_report
from cubeflow.simulate.store import SimulationOptions, simulate_store

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
def config(tmp_path):
    simulate_store(tmp_path / "store", SimulationOptions(seed=4, n_runs=16, duration_s=300.0, tiny=True))
    content = {**CONTENT, "data": {"store": str(tmp_path / "store")}, "results": str(tmp_path / "results")}
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    return tmp_path / "config.yaml"


def plan_of(config):
    return make_plan(load_config(config), lambda line: None)


def fail_for(monkeypatch, step, is_bad):
    """Let a step fail for some tasks."""
    real = getattr(run, step)

    def guarded(results, target, task, *others):
        if is_bad(task):
            raise FailedError(f"{step} failed")
        return real(results, target, task, *others)

    monkeypatch.setattr(run, step, guarded)


def test_a_batch_that_fails_stops_neither_other_batches_nor_other_targets(monkeypatch, tmp_path, config):
    plan = plan_of(config)
    bad, *good = plan.tasks["first"].reduce
    assert len(good) > 1
    fail_for(monkeypatch, "reduce_batch", lambda task: task == bad)
    with pytest.raises(FailedError, match=r"^reduce_batch failed\n"):
        run_plan(plan, lambda line: None)
    made = [task for task in plan.tasks["first"].reduce if plan.exists(stack_file("first", "fov", task.leaves["fov"]))]
    assert made == good
    assert not (tmp_path / "results/first/fov/cube.h5").exists()
    assert (tmp_path / "results/second/fov/cube.h5").is_file()


def test_a_run_table_that_fails_does_not_stop_the_next_target(monkeypatch, tmp_path, config):
    fail_for(monkeypatch, "write_run_table", lambda task: task.target == "first")
    with pytest.raises(FailedError, match=r"^write_run_table failed$"):
        run_plan(plan_of(config), lambda line: None)
    assert (tmp_path / "results/first/fov/cube.h5").is_file()
    assert (tmp_path / "results/second/runs.ecsv").is_file()


def test_a_file_that_cannot_be_read_is_told_where_no_index_names_its_run(tmp_path, config):
    for index in (tmp_path / "store").glob("*index*"):
        index.unlink()
    cut = max((tmp_path / "store").glob("obs_*.fits.gz"))
    cut.write_bytes(cut.read_bytes()[:1000])
    told = CliRunner().invoke(main, ["plan", "-c", str(tmp_path / "config.yaml")])
    assert told.exit_code == 0
    why = f"{cut}: truncated gzip file"
    assert f"data.store: left out: {why}\n" in told.output
    assert "nobody reads" not in told.output
    made = CliRunner().invoke(main, ["run", "-c", str(tmp_path / "config.yaml")])
    assert made.exit_code == 0
    assert "data.store: 1 file left out; cubeflow check says which and why" in made.output
    plan = plan_of(config)
    assert plan.report.left_out == (why,)
    for task in plan.needed:
        if task.kind == "figures":
            make_figures(plan.results, plan.targets[task.target], task)
    page = html.unescape(write_report(plan.results, plan.report, {}).read_text())
    assert f"<td>{why.partition(': ')[2]}</td>" in page
    config.write_text(json.dumps({**json.loads(config.read_text()), "on_refused": "fail"}))
    assert CliRunner().invoke(main, ["plan", "-c", str(config)]).exit_code == 3
    for _ in range(2):
        failed = CliRunner().invoke(main, ["run", "-c", str(config)])
        assert failed.exit_code == 3
        assert f"first: 1 file of the store left out, and on_refused is fail; the first, {why}\n" in failed.output
    cut.unlink()
    assert CliRunner().invoke(main, ["run", "-c", str(config)]).exit_code == 0


def test_many_files_that_cannot_be_read_are_counted(tmp_path, config):
    for index in (tmp_path / "store").glob("*index*"):
        index.unlink()
    files = sorted((tmp_path / "store").glob("obs_*.fits.gz"))
    for file in files[:5]:
        file.write_bytes(file.read_bytes()[:1000])
    (tmp_path / "store" / "notes.txt").write_text("mine")
    lines = CliRunner().invoke(main, ["plan", "-c", str(config)]).stderr.splitlines()
    assert lines[:3] == [f"data.store: left out: {file}: truncated gzip file" for file in files[:3]]
    assert lines[3] == "data.store: left out: 2 more files; cubeflow check names them"
    assert lines[4].startswith("data.store: 1 file that nobody reads; cubeflow check names them; ")
    assert lines[4].endswith("notes.txt: no FITS file")


def test_a_source_that_is_not_excluded_is_told_with_the_way_to_find_it(tmp_path, config):
    """Empty sky is not told of, nor is a source that is excluded."""
    fine = {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": {"width": "3 deg", "pixel": "0.05 deg"}}
    content = json.loads(config.read_text())
    (tmp_path / "x.reg").write_text("icrs\ncircle(83.633, 22.014, 0.35)\n")
    content["targets"] = {"open": fine, "shut": {**fine, "exclusion": str(tmp_path / "x.reg")}}
    config.write_text(json.dumps(content))
    said = CliRunner().invoke(main, ["run", "-c", str(config)]).output
    cubes = {name: load(tmp_path / "results" / name / "fov/cube.h5") for name in content["targets"]}
    width = {name: cube.attributes["off_source"]["width"] for name, cube in cubes.items()}
    assert width["open"] > 1.3 > 1.2 > width["shut"]
    assert [line for line in said.splitlines() if "a source that is not excluded?" in line] == [
        f"open: fov {width['open']:.2f}: width of empty sky, expected 1: "
        "a source that is not excluded? cubeflow exclude finds it"
    ]


BREAK = {
    "read and refused": lambda run: run.write_bytes(
        gzip.compress(gzip.decompress(run.read_bytes()).replace(b"DEADC   =", b"DEADX   ="))
    ),
    "refused by the plan": lambda run: run.unlink(),
}


@pytest.mark.parametrize("broken", BREAK)
@pytest.mark.parametrize("on_refused", ["continue", "fail"])
def test_refused_runs_are_a_failure_if_the_configuration_says_so(tmp_path, config, on_refused, broken):
    """At the first start as at the second, when nothing is reduced; and what is left out is said at both."""
    content = json.loads((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(json.dumps({**content, "on_refused": on_refused}))
    run = min((tmp_path / "store").glob("obs_*.fits.gz"))
    BREAK[broken](run)
    said = []
    for _ in range(2):
        ended = CliRunner().invoke(main, ["run", "-c", str(config)])
        assert ended.exit_code == (3 if on_refused == "fail" else 0)
        said.append({line for line in ended.output.splitlines() if run.name[4:10] in line})
    if on_refused == "fail":
        failed = {line for line in said[1] if " of 16 runs refused, and on_refused is fail; the first, run 1" in line}
        assert any(line.removeprefix("cubeflow: ").startswith("first: 1 of 16 runs") for line in failed)
        assert failed <= said[0]
        with pytest.raises(RunsLeftOut, match=r"^first: 1 of 16 runs refused"):
            run_plan(plan_of(config), lambda line: None)
    else:
        (line,) = {line for line in said[1] if line.startswith("first: ")}
        assert line.startswith(f"first: run {run.name[4:10]}: refused: ")
        assert line in said[0]
    planned = CliRunner().invoke(main, ["plan", "-c", str(config)])
    assert planned.exit_code == (3 if (on_refused, broken) == ("fail", "refused by the plan") else 0)
    assert (tmp_path / "results/first/fov/cube.h5").is_file() == (on_refused == "continue")
    assert (tmp_path / "results/first/runs.ecsv").is_file()


def test_a_run_that_only_the_plan_refuses_fails_what_was_exported_without_it(tmp_path, config):
    """Its stack is the same with and without the row in the index of observations: its products are not."""
    content = json.loads((tmp_path / "config.yaml").read_text())
    index = tmp_path / "store/hdu-index.fits.gz"
    whole = index.read_bytes()
    table = Table.read(index)
    table[table["OBS_ID"] != min(table["OBS_ID"])].write(index, overwrite=True)
    observations = (tmp_path / "store/obs-index.fits.gz").rename(tmp_path / "obs-index.fits.gz")
    config.write_text(json.dumps({**content, "on_refused": "fail"}))
    assert CliRunner().invoke(main, ["run", "-c", str(config)]).exit_code == 0
    observations.rename(tmp_path / "store/obs-index.fits.gz")
    for _ in range(2):
        ended = CliRunner().invoke(main, ["run", "-c", str(config)])
        assert ended.exit_code == 3
        assert "first: 1 of 16 runs refused, and on_refused is fail; the first, run 1000" in ended.output
    index.write_bytes(whole)
    assert CliRunner().invoke(main, ["run", "-c", str(config)]).exit_code == 0


def test_target_of_which_every_run_is_refused_before_it_is_read(tmp_path, config):
    content = json.loads((tmp_path / "config.yaml").read_text())
    run = min((tmp_path / "store").glob("obs_*.fits.gz"))
    run.unlink()
    only = {**content["targets"]["second"], "observations": {"ids": [int(run.name[4:10])]}}
    content["targets"] = {**content["targets"], "second": only}
    content["targets"]["first"]["observations"] = {"exclude": [int(run.name[4:10])]}
    for on_refused, status in (("continue", 0), ("fail", 3), ("fail", 3), ("continue", 0)):
        config.write_text(json.dumps({**content, "on_refused": on_refused}))
        ended = CliRunner().invoke(main, ["run", "-c", str(config)])
        assert ended.exit_code == status, ended.output
        assert ("second: 1 of 1 runs refused, and on_refused is fail" in ended.output) == (status == 3)
        assert (tmp_path / "results/second/runs.csv").is_file()
        why = f"second: no run of 1 can be used; run {run.name[4:10]}: {run}: No such file or directory"
        assert (why in ended.output.splitlines()) == (status == 0)


def test_target_of_which_no_run_is_selected_is_told_at_the_end(tmp_path, config):
    content = json.loads(config.read_text())
    content["targets"]["second"]["observations"] = {"where": "ZEN_PNT < 1"}
    config.write_text(json.dumps(content))
    for _ in range(2):
        lines = CliRunner().invoke(main, ["run", "-c", str(config)]).output.splitlines()
        (last,) = [line for line in lines if line.startswith("first: 16 runs used")]
        said = "second: none of the 16 runs is selected; observations asks for where ZEN_PNT < 1. The run closest to"
        assert lines[lines.index(last) + 1].startswith(said)


def test_run_table_that_is_none_is_told_with_the_way_out(tmp_path, config):
    plan = plan_of(config)
    run_plan(plan, lambda line: None)
    (tmp_path / "results/first/runs.csv").write_bytes(b"obs_id\n\x00\xff")
    with pytest.raises(FailedError, match=r"runs\.csv: no run table .*; remove it, and it is made again"):
        finish(plan, lambda line: None)


def test_each_significance_is_said_once(config):
    said = CliRunner().invoke(main, ["run", "-c", str(config)]).output
    assert len(re.findall("; at the target fov .* sigma; ", said)) == 2


def test_memory_that_runs_out_is_said_with_the_limit(monkeypatch, config):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(run, "write_run_table", fail)
    ended = CliRunner().invoke(main, ["run", "-c", str(config)])
    assert ended.exit_code == 1
    assert "memory ran out: the limit is" in ended.output
    monkeypatch.setattr("cubeflow.plan.make.make_plan", fail)
    ended = CliRunner().invoke(main, ["run", "-c", str(config)])
    assert ended.exit_code == 1
    assert ended.output.startswith("cubeflow: memory ran out: the limit is")


def test_what_is_said_at_the_end(tmp_path, config):
    """What is there, and lines that can be pasted."""
    plan, said = plan_of(config), []
    finish(plan, said.append)
    assert said == []
    run_plan(plan, lambda line: None)
    finish(plan, said.append)
    said = [line for line in said if "not excluded" not in line]
    folder = re.escape(str(tmp_path / "results/first"))
    assert re.fullmatch(rf"first: 16 runs used; \d\.\d\d h; at the target fov -?\d+\.\d sigma; {folder}", said[0])
    code = said[-2:]
    compile("\n".join(code), "lines", "exec")
    assert f"import cubeflow; cube = cubeflow.load('{tmp_path}/results/first/fov/cube.h5')" in code


def test_runs_with_a_note_are_told_at_the_end(tmp_path, config):
    content = json.loads(config.read_text())
    ring = {"method": "adaptive-ring", "r_in": "0.5 deg", "width": "0.4 deg", "r_out_max": "1 deg"}
    content |= {"backgrounds": {"wide": ring, "narrow": {**ring, "threshold": 0.01}}, "observations": {"ids": [100003]}}
    config.write_text(json.dumps(content))
    plan, made, said = plan_of(config), [], []
    run_plan(plan, made.append)
    note = "run 100003: narrow: no ring reaches threshold 0.01 in 100% of the pixels; the largest is used"
    assert made.count(note) == 2  # targets
    finish(plan, said.append)
    assert any(
        line.startswith("first: narrow: 1 run with a note on the background; see column narrow_note of ")
        for line in said
    )
    assert not any("wide_note" in line for line in said)


def test_what_was_found_in_words():
    assert significance_text({"significance": 36.48}) == "36.5 sigma"
    assert significance_text(None) == "no significance"
    assert "(no bin is safe, or there is no background)" in significance_text({"significance": None})


def test_report_is_found_by_the_name_of_its_rule(config):
    """A cluster job knows the name of its rule alone."""
    (job,) = read_jobs(plan_of(config).write(), ["report"])
    assert job.kind == "report"


@pytest.mark.parametrize(
    ("n_labels", "drawn", "expected"),
    [(2, 0, {"report": 3}), (40, 0, {"figures_1": 20, "figures_2": 20, "report": 1}), (2, 2, {"report": 1})],
)
def test_few_figures_are_drawn_by_the_job_of_the_page(n_labels, drawn, expected):
    needs = {"crab": Estimate({"figures": 200, "report": 100}, 0.1, 0.3, 1.0, 1.0)}
    figures = [FiguresTask("crab", f"f{k}", f"{k:064}", "ab" * 32, "cd" * 32, k == 0) for k in range(n_labels)]
    labels = {task.label: task.key for task in figures}
    page = ReportTask("ef" * 32, (ReportTarget("crab", labels, "cd" * 32),))
    made = figures[:drawn]
    jobs = make_jobs([*figures, page], {"crab": None}, needs, lambda file: False, lambda task: task in made)
    assert {job.name: len(job.tasks) for job in jobs if not job.is_made} == expected
    report = next(job for job in jobs if job.kind == "report")
    assert report.tasks[-1] == page
    assert report.memory_mb == (200 if len(report.tasks) > 1 else 100)
    others = {file for job in jobs if job is not report and not job.is_made for file in job.outputs}
    assert set(report.inputs) == {file for file in others if "figures-" in file}


def test_figures_are_counted_where_they_are_asked_for(monkeypatch, config):
    plan, totals = plan_of(config), []
    made = WorkflowPlan(str(plan.results), str(plan.results), str(plan.path), plan.jobs, plan, print, None)
    monkeypatch.setattr(workflow, "showing", lambda results, total, *_: totals.append(total) or nullcontext())
    for asked in ((), {"all"}, {"report"}, {"products"}, {"results/first/fov/cube.h5"}):
        made.begin(False, asked)
        made.end(False)
    runs = sum(len(task.units) for task in plan.needed if task.kind == "reduce")
    figures = sum(len(found.figures) for found in plan.tasks.values())
    assert min(runs, figures) > 0
    assert totals == [runs + figures] * 3 + [runs] * 2


def test_braces_in_a_path_are_no_wildcards_of_snakemake(tmp_path, config):
    """Snakemake knows no way to write them: such files are read by the job, and not declared as its inputs."""
    (tmp_path / "store").rename(tmp_path / "st{x}ore")
    content = json.loads(config.read_text()) | {"data": {"store": str(tmp_path / "st{x}ore")}}
    config.write_text(json.dumps(content))
    plan = plan_of(config)
    jobs = [job for job in plan.jobs if job.kind == "reduce"]
    assert jobs
    assert not any(job.sources for job in jobs)
    assert all("{x}" in path for task in plan.tasks["first"].reduce for keys in task.units for path in keys.inputs)
