"""Ways to do a case: in one process, by a command for each job, by the workflow, by gammapy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cases
from usage import NOTHING, Usage, kept_mb, run

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PYTHON = sys.executable
CUBEFLOW = str(Path(PYTHON).parent / "cubeflow")
SNAKEMAKE = str(Path(PYTHON).parent / "snakemake")


def whole(config: Path, folder: Path) -> Usage:
    """Everything from the plan to the final products in one process."""
    return run(CUBEFLOW, "run", "-c", config, folder=folder)


def verbs(config: Path, folder: Path) -> Usage:
    """The same by a command for each job of the plan, in order."""
    used, plan = write_plan(config, folder)
    for kind in ("reduce", "stack", "export"):
        used += do(kind, plan, folder)
    return used


def reduce_only(config: Path, folder: Path) -> Usage:
    """Reading, all maps, background, artifacts and sums of the batches alone."""
    used = do("reduce", write_plan(config, folder)[1], folder)
    return replace(used, disk=kept_mb(folder / "results"))


def write_plan(config: Path, folder: Path) -> tuple[Usage, Path]:
    """Plan, for results in `folder`; also the file of the plan."""
    used = run(CUBEFLOW, "plan", "-c", config, folder=folder)
    (path,) = (folder / "results" / ".cubeflow").glob("plan-*.jsonl")
    return used, path


def do(kind: str, plan: Path, folder: Path) -> Usage:
    """All jobs of a kind of a plan."""
    from cubeflow.plan.jobs import read_jobs

    used = NOTHING
    for job in read_jobs(plan):
        if job.kind == kind:
            used += run(CUBEFLOW, kind, plan, job.name, folder=folder)
    return used


def snakemake(config: Path, folder: Path, *arguments: str) -> Usage:
    """Everything by the workflow, or what arguments ask for, on two cores."""
    options = ["--cores", "2", "--snakefile", REPOSITORY / "workflow" / "Snakefile", "--directory", folder]
    return run(SNAKEMAKE, *arguments, *options, "--configfile", config, folder=folder)


def snakemake_products(config: Path, folder: Path) -> Usage:
    """What gammapy makes, too, by the workflow: everything but pictures and report."""
    return snakemake(config, folder, "products")


def gammapy(case: cases.Case, folder: Path, *options: str) -> Usage:
    """The case by gammapy."""
    (folder / "case.json").write_text(json.dumps(case.to_plain()))
    return run(PYTHON, HERE / "gammapy_run.py", folder / "case.json", folder, *options, folder=folder)


def stages(case: cases.Case, folder: Path, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU time of each product of one run in s, by cubeflow and by gammapy."""
    _, plan = write_plan(cases.write_config(case, folder), folder)
    run(PYTHON, HERE / "stages.py", plan, str(repeats), folder=folder)
    ours = json.loads((folder / "log").read_text().splitlines()[-1])
    gammapy(case, folder, "--stages", str(repeats))
    return ours, json.loads((folder / "log").read_text().splitlines()[-1])
