"""What is said at the end of a workflow: what was found, where it lies, and what was left out."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote

from cubeflow.plan.inventory import names_in
from cubeflow.steps.datasets_yaml import FILE_NAME
from cubeflow.steps.workflow_plan import WorkflowPlan
from cubeflow.storage.artifact import read_artifact

REFUSED = 3
WAIT_S = 60.0


def finish(plan: WorkflowPlan, say: Callable[[str], None] = print) -> int:
    """Say what a workflow has made, as far as it is there: who asked for a single file has no more.

    Parameters
    ----------
    plan : WorkflowPlan
        The plan that was carried out.
    say : callable
        Takes one line.

    Returns
    -------
    int
        Exit status: 0, or 3 if runs were refused or files of the store are left out.
    """
    refused = 0
    for target in plan.tables:
        folder = Path(plan.results) / target
        for label in plan.index[target]["labels"] if target in plan.targets else ():
            if (folder / label / "cube.h5").is_file():
                say(describe(folder / label / "cube.h5"))
        if not _shows_up(folder / "runs.csv", WAIT_S if plan.is_marked(target) else 0.0):
            continue
        status = count_status(folder / "runs.csv")
        refused += status["refused"]
        left_out = ", ".join(f"{number} {name}" for name, number in sorted(status.items()) if name != "ok")
        say(f"{target}: {status['ok']} runs used{', ' + left_out if left_out else ''}; see {folder / 'runs.ecsv'}")
    if plan.left_out:
        say(f"files of the store that are left out: {len(plan.left_out)}; cubeflow check names them")
    for line in what_next(plan):
        say(line)
    return REFUSED if refused or plan.left_out else 0


def _shows_up(path: Path, wait_s: float) -> bool:
    """Whether a file is there: one that a cluster job has made may show up late on a shared file system."""
    end = time.monotonic() + wait_s
    while path.name not in names_in(path.parent):
        if time.monotonic() >= end:
            return False
        time.sleep(0.5)
    return True


def what_next(plan: WorkflowPlan) -> list[str]:
    """Where the report lies, and the lines that load the first of the cubes."""
    results = Path(plan.results)
    report = results / "report.html"
    finals = [pair for pair in plan.finals() if results.joinpath(*pair, FILE_NAME).is_file()]
    is_there = report.is_file()
    made_ns = report.stat().st_mtime_ns if is_there else 0
    is_old = is_there and any(results.joinpath(*pair, FILE_NAME).stat().st_mtime_ns > made_ns for pair in finals)
    lines = [f"report: {report}"] if is_there and not is_old else []
    for target, label in finals[:1]:
        lines += [
            "load it with gammapy:",
            "    from gammapy.datasets import Datasets",
            f"    dataset = Datasets.read({str(results / target / label / FILE_NAME)!r}, lazy=False)[0]",
            "or as plain arrays:",
            "    import cubeflow",
            f"    cube = cubeflow.load({str(results / target / label / 'cube.h5')!r})",
        ]
    if finals and (is_old or not is_there):
        why = "the report is older than the results; make it again" if is_old else "make a page of it"
        lines.append(f"{why}: cubeflow report {quote(str(results))}")
    return lines


def describe(cube: Path) -> str:
    """One line on a final cube."""
    about = read_artifact(cube, names=[], expect_kind="cube").attributes
    found = significance_text(about["source"])
    return f"{about['target']}: {about['label']}: {found}, {about['livetime_s'] / 3600:.2f} h; {cube.parent}"


def significance_text(source: Mapping[str, float | None] | None) -> str:
    """What a cube has found at the target, in words; `source` is the attribute of that name."""
    if source is None:
        return "no significance at the target"
    if source["significance"] is None:
        return "no significance at the target, where no bin is safe or there is no background"
    return f"{source['significance']:.1f} sigma at the target"


def count_status(table: Path) -> Counter[str]:
    """Number of runs by status in a run table (CSV)."""
    with table.open(newline="") as lines:
        return Counter(row["status"] for row in csv.DictReader(lines))
