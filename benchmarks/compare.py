"""cubeflow and gammapy side by side on real data: the same work, in one sitting, as ratios.

    make bench                               everything: about 25 minutes on two quiet cores
    python benchmarks/compare.py --quick     nothing repeated, three of the fields in (c): about 8 minutes
    python benchmarks/compare.py --only a b  some cases

Every case is a process of its own; what it and its children used is what the operating system says. A case that fails
has a line that says so, and the others go on. Real data come from the folder CUBEFLOW_DATA; without it nothing is
measured. The report holds figures only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cases
from page import Goal, Report, render, stage_table
from usage import Usage, Way, alternate, attempt, run
from ways import (
    CUBEFLOW,
    HERE,
    PYTHON,
    REPOSITORY,
    gammapy,
    reduce_only,
    snakemake,
    snakemake_products,
    stages,
    verbs,
    whole,
)

DISK_MB = 12.0  # of a run


@dataclass(frozen=True)
class Setting:
    """Where the data are, how often what is short is repeated, and of how many fields (c) is."""

    data: Path
    times: int = 3
    n_fields: int | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and write the report, anew after each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=sorted(SECTIONS), default=sorted(SECTIONS))
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    options = parser.parse_args(arguments)
    data = Path(os.environ.get("CUBEFLOW_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        sys.exit("no real data: set CUBEFLOW_DATA to the folder with hess-dl3-dr1 and cta-1dc")
    setting = Setting(data, 1, 3) if options.quick else Setting(data)
    how = " ".join(["", *(sys.argv[1:] if arguments is None else arguments)])
    report, load, start = Report(), os.getloadavg()[0], time.monotonic()
    warm_up()
    for name in options.only:
        measure(name, setting, report)
        minutes = (time.monotonic() - start) / 60
        options.output.write_text(render(report, how, (load, os.getloadavg()[0]), minutes))


def warm_up() -> None:
    """Have the packages in the cache of the disk, and compiled."""
    with tempfile.TemporaryDirectory() as name:
        modules = "gammapy.makers, gammapy.estimators, cubeflow.cli, cubeflow.plan.run"
        run(PYTHON, "-c", f"import {modules}", folder=Path(name))


def measure(name: str, setting: Setting, report: Report) -> None:
    """Measure a case; if it cannot be, its line says so."""
    try:
        SECTIONS[name](setting, report)
    except (RuntimeError, OSError, LookupError, ValueError) as error:
        print(error, file=sys.stderr)
        report.fail(f"({name})", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}")


def by(way, case: cases.Case) -> Way:
    """Do a case in one of our ways."""
    return lambda folder: way(cases.write_config(case, folder), folder)


def case_a(setting: Setting, report: Report) -> None:
    """One run as a process, and in a batch of sixteen; product by product."""
    one = Goal(4.5, memory_mb=200.0, disk_mb=DISK_MB), "process with one run", cases.one_run(setting.data)
    batch = Goal(14.0, disk_mb=DISK_MB), "batch, per run of 16", cases.sixteen_runs(setting.data)
    for n_runs, times, (goal, title, case) in ((1, setting.times, one), (16, 1, batch)):
        theirs = times, lambda folder, case=case: gammapy(case, folder, "--each")
        used = alternate({"ours": (setting.times, by(reduce_only, case)), "gammapy": theirs})
        name = f"(a) H.E.S.S., 250 x 250 x 17 x 24, {title}"
        report.add(f"a{n_runs}", name, used["ours"], used["gammapy"], goal, n_runs)
    with tempfile.TemporaryDirectory() as folder:
        report.stages = stage_table(*stages(cases.one_run(setting.data), Path(folder), max(3, 3 * setting.times)))


def case_b(setting: Setting, report: Report) -> None:
    """Four Crab runs with field-of-view and ring background."""
    case = cases.crab(setting.data)
    ways = {
        "run": (whole, "`cubeflow run`", Goal(7.0)),
        "verbs": (verbs, "a command for each job", Goal()),
        "products": (snakemake_products, "Snakemake, the same products", Goal(3.0)),
        "report": (snakemake, "Snakemake with report", Goal()),
    }
    ours = {key: (setting.times, by(way, case)) for key, (way, _, _) in ways.items()}
    used = alternate({**ours, "gammapy": (setting.times, lambda folder: gammapy(case, folder))})
    for key, (_, title, goal) in ways.items():
        report.add(f"b-{key}", f"(b) four Crab runs, FoV and ring, {title}", used[key], used["gammapy"], goal)


def case_c(setting: Setting, report: Report) -> None:
    """All runs cold on two cores; nothing to do; one run added."""
    case = cases.every_run(setting.data, setting.n_fields)
    n_runs = sum(len(field.runs) for field in case.fields)
    theirs = all_runs_by_gammapy(case)
    if isinstance(theirs, str):  # its parallel makers end now and then in "Execution of a sub-process failed"
        theirs = all_runs_by_gammapy(case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = cases.write_config(case, folder)
        cold, rest = (
            f"(c) {n_runs} runs in {len(case.fields)} fields, cold, two cores, Snakemake",
            "(g) nothing to do, ",
        )
        for key, title, goal, work in (
            ("c", cold, Goal(8.0), lambda: snakemake_products(config, folder)),
            ("c-report", "(c) then pictures and page of all fields", Goal(), lambda: snakemake(config, folder)),
            ("g-Snakemake", f"{rest}Snakemake", Goal(), lambda: snakemake(config, folder)),
            ("g-plan", f"{rest}`cubeflow plan`", Goal(), lambda: run(CUBEFLOW, "plan", "-c", config, folder=folder)),
            (
                "f",
                f"(f) one run added to {n_runs - 1}, `cubeflow run`; gammapy: all again",
                Goal(60.0),
                lambda: add_one_run(setting, folder),
            ),
        ):
            report.add(key, title, attempt(work), theirs, goal)


def all_runs_by_gammapy(case: cases.Case) -> Usage | str:
    """All runs by gammapy, with two processes."""
    return alternate({"gammapy": (1, lambda folder: gammapy(case, folder, "--jobs", "2"))})["gammapy"]


def add_one_run(setting: Setting, folder: Path) -> Usage:
    """Reduce all runs but one, then all; what the second took."""
    shutil.rmtree(folder / "results", ignore_errors=True)
    before, after = (cases.every_run(setting.data, setting.n_fields, without_last=less) for less in (True, False))
    whole(cases.write_config(before, folder), folder)
    return whole(cases.write_config(after, folder), folder)


def case_once(key: str, title: str, make: Callable[[Path], cases.Case], goal: Goal, setting: Setting, report: Report):
    """Compare `cubeflow run` with gammapy, which is not repeated."""
    case = make(setting.data)
    ours = setting.times, by(whole, case)
    used = alternate({"ours": ours, "gammapy": (1, lambda folder: gammapy(case, folder))})
    report.add(key, f"({key}) {title}, `cubeflow run`", used["ours"], used["gammapy"], goal)


SECTIONS = {
    "a": case_a,
    "b": case_b,
    "c": case_c,
    "d": partial(case_once, "d", "15 runs on 20 x 10 deg, 0.02 deg, 24 bins", cases.survey, Goal(8.0)),
    "e": partial(case_once, "e", "two CTA-1DC runs, 350 x 300 pixels", cases.cta, Goal(9.0)),
}


if __name__ == "__main__":
    main()
