"""Ways to do a case: by one worker, by plain commands, by the workflow, by gammapy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import cases
from usage import NOTHING, Usage, kept_mb, run

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PYTHON = sys.executable
CUBEFLOW = str(Path(PYTHON).parent / "cubeflow")
SNAKEMAKE = str(Path(PYTHON).parent / "snakemake")


def commands(config: Path, folder: Path) -> Usage:
    """Everything from the plan to the final products by plain commands: one, if there is a verb for all of it."""
    if has_run():
        return run(CUBEFLOW, "run", "-c", config, folder=folder)
    return verbs(config, folder)


@cache
def has_run() -> bool:
    """Whether there is a verb for the whole chain in one process."""
    from cubeflow.cli import main

    return "run" in main.commands


def verbs(config: Path, folder: Path) -> Usage:
    """Everything from the plan to the final products, a verb for each step, one after another."""
    used = run(CUBEFLOW, "plan", "-c", config, folder=folder)
    results = folder / "results"
    index = json.loads((results / "plan.json").read_text())["targets"]
    for target, entry in index.items():
        for batch in entry["unmade"]:
            used += run(CUBEFLOW, "reduce", results / target / "plan" / manifest(batch, entry), folder=folder)
        for label, final in entry["finals"].items():
            used += stack_tree(entry, results / target, label, entry["roots"][label], folder)
            used += run(CUBEFLOW, "export", results / target / "plan" / final, folder=folder)
        used += run(CUBEFLOW, "table", results / target / "plan" / entry["table"], folder=folder)
    return used


def manifest(batch: str, entry: dict) -> str:
    """File name of the manifest of a batch."""
    from cubeflow.plan.write import batch_name

    return batch_name(batch, entry["batch_tag"])


def stack_tree(entry: dict, target: Path, label: str, node: str, folder: Path) -> Usage:
    """Stack a node that is not there, its children first."""
    children = entry["nodes"][label].get(node, [])
    path = target / "stack" / label / f"{node}.h5"
    if path.is_file() or not children:
        return NOTHING
    used = NOTHING
    for child in children:
        used += stack_tree(entry, target, label, child, folder)
    files = [path.with_name(f"{child}.h5") for child in children]
    return used + run(CUBEFLOW, "stack", path, *files, folder=folder)


def reduce_only(config: Path, folder: Path) -> Usage:
    """One worker for the first batch: reading, all maps, background, artifacts and leaf stack."""
    run(CUBEFLOW, "plan", "-c", config, folder=folder)
    used = run(CUBEFLOW, "reduce", first_manifest(folder), folder=folder)
    return replace(used, disk=kept_mb(folder / "results"))


def first_manifest(folder: Path) -> Path:
    """Manifest of the first batch of the only target."""
    index = json.loads((folder / "results" / "plan.json").read_text())["targets"]
    target, entry = next(iter(index.items()))
    return folder / "results" / target / "plan" / manifest(next(iter(entry["unmade"])), entry)


def snakemake(config: Path, folder: Path, *targets: str) -> Usage:
    """Everything by the workflow, or these targets of it, on two cores."""
    options = ["--cores", "2", "--snakefile", REPOSITORY / "workflow" / "Snakefile", "--directory", folder]
    return run(SNAKEMAKE, *targets, *options, "--configfile", config, folder=folder)


def snakemake_products(config: Path, folder: Path) -> Usage:
    """What gammapy makes, too, by the workflow: everything but the report."""
    return snakemake(config, folder, "products")


def gammapy(case: cases.Case, folder: Path, *options: str) -> Usage:
    """The case by gammapy."""
    (folder / "case.json").write_text(json.dumps(case.to_plain()))
    return run(PYTHON, HERE / "gammapy_run.py", folder / "case.json", folder, *options, folder=folder)


def stages(case: cases.Case, folder: Path, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU time of each product of one run in s, by cubeflow and by gammapy."""
    run(CUBEFLOW, "plan", "-c", cases.write_config(case, folder), folder=folder)
    run(PYTHON, HERE / "stages.py", first_manifest(folder), str(repeats), folder=folder)
    ours = json.loads((folder / "log").read_text().splitlines()[-1])
    gammapy(case, folder, "--stages", str(repeats))
    return ours, json.loads((folder / "log").read_text().splitlines()[-1])
