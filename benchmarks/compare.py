"""cubeflow and gammapy side by side on real data: the same work, in one sitting, as ratios.

    make bench                                     everything: about 25 minutes on two quiet cores
    python benchmarks/compare.py --quick           nothing repeated, three of the fields in (c): about 8 minutes
    python benchmarks/compare.py --only a b        some cases
    python benchmarks/compare.py --form factored   what is kept of a run; (a) is measured in both forms by default

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cases
from page import Goal, Report, render, stage_table
from usage import Usage, Way, alternate, attempt, run
from ways import (
    CUBEFLOW,
    HERE,
    PYTHON,
    REPOSITORY,
    commands,
    gammapy,
    has_run,
    reduce_only,
    snakemake,
    snakemake_products,
    stages,
    verbs,
)

DISK_MB = {"dense": 12.0, "factored": 0.5}  # of a run


@dataclass(frozen=True)
class Setting:
    """Where the data are, how often what is short is repeated, whether (c) is cut short, and the forms."""

    data: Path
    times: int
    quick: bool
    forms: tuple[str, ...]

    @property
    def form(self) -> str:
        """Form of all cases but (a)."""
        return self.forms[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and write the report, anew after each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=sorted(SECTIONS), default=sorted(SECTIONS))
    parser.add_argument("--form", choices=["dense", "factored", "both"], default="both")
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    options = parser.parse_args(arguments)
    data = Path(os.environ.get("CUBEFLOW_DATA", REPOSITORY.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit("no real data: set CUBEFLOW_DATA to the folder with hess-dl3-dr1 and cta-1dc")
    forms = ("dense", "factored") if options.form == "both" else (options.form,)
    setting = Setting(data.resolve(), 1 if options.quick else 3, options.quick, forms)
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
        run(CUBEFLOW, "reduce", "--help", folder=Path(name))
        run(PYTHON, "-c", "import gammapy.makers, gammapy.estimators, cubeflow.steps.batch", folder=Path(name))


def measure(name: str, setting: Setting, report: Report) -> None:
    """Measure a case; if it cannot be, its line says so."""
    try:
        SECTIONS[name](setting, report)
    except (RuntimeError, OSError, LookupError, ValueError) as error:
        print(error, file=sys.stderr)
        report.fail(f"({name})", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}")


def case_a(setting: Setting, report: Report) -> None:
    """One run as a process, and in a batch of sixteen, in each form; product by product."""
    for n_runs, case in ((1, cases.one_run(setting.data)), (16, cases.sixteen_runs(setting.data))):
        ways = {form: (setting.times, by(reduce_only, case, form)) for form in setting.forms}
        times = setting.times if n_runs == 1 else 1
        used = alternate({**ways, "gammapy": (times, lambda folder, case=case: gammapy(case, folder, "--each"))})
        for form in setting.forms:
            title = "process with one run" if n_runs == 1 else "batch, per run of 16"
            goal = Goal(7.0, memory_mb=200.0, disk_mb=DISK_MB[form])
            if n_runs == 16:
                goal = Goal(20.0, cpu_ms=150.0, disk_mb=DISK_MB[form])
            name = f"(a) H.E.S.S., 250 x 250 x 17 x 24, {title}, {form}"
            report.add(f"a{n_runs}-{form}", name, used[form], used["gammapy"], goal, n_runs)
    with tempfile.TemporaryDirectory() as folder:
        report.stages = stage_table(*stages(cases.one_run(setting.data), Path(folder), 3 if setting.quick else 9))


def by(way, case: cases.Case, form: str) -> Way:
    """Do a case in one of our ways and forms."""
    return lambda folder: way(cases.write_config(case, folder, form), folder)


def case_b(setting: Setting, report: Report) -> None:
    """Four Crab runs with field-of-view and ring background."""
    case, times = cases.crab(setting.data), setting.times
    ways = {
        "commands": commands,
        **({"verbs": verbs} if has_run() else {}),
        "products": snakemake_products,
        "Snakemake": snakemake,
    }
    ours = {name: (times, by(way, case, setting.form)) for name, way in ways.items()}
    used = alternate({**ours, "gammapy": (times, lambda folder: gammapy(case, folder))})
    titles = {"commands": plainly(), "verbs": "a command for each step"}
    titles |= {"products": "Snakemake, the same products", "Snakemake": "Snakemake with report"}
    goals = {"commands": Goal(10.0), "verbs": Goal(), "products": Goal(3.0), "Snakemake": Goal(3.0)}
    for name in ours:
        title = f"(b) four Crab runs, FoV and ring, {titles[name]}"
        report.add(f"b-{name}", title, used[name], used["gammapy"], goals[name])


def plainly() -> str:
    """What is meant by plain commands."""
    return "`cubeflow run`" if has_run() else "commands"


def case_c(setting: Setting, report: Report) -> None:
    """All runs cold on two cores; nothing to do; one run added."""
    case = cases.every_run(setting.data, 3 if setting.quick else None)
    n_runs = sum(len(field.runs) for field in case.fields)
    theirs = all_runs_by_gammapy(case)
    if isinstance(theirs, str):  # its parallel makers end now and then in "Execution of a sub-process failed"
        theirs = all_runs_by_gammapy(case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = cases.write_config(case, folder, setting.form)
        title = f"{n_runs} runs in {len(case.fields)} fields"
        cold = attempt(lambda: snakemake_products(config, folder))
        report.add("c", f"(c) {title}, cold, two cores, Snakemake", cold, theirs, Goal(15.0, 10.0))
        pictures = attempt(lambda: snakemake(config, folder))
        report.add(
            "c-report", "(c) then the report: pictures and page of all fields, Snakemake", pictures, theirs, Goal()
        )
        again = attempt(lambda: snakemake(config, folder))
        report.add("g-Snakemake", "(g) the same again: nothing to do, Snakemake", again, theirs, Goal())
        planned = attempt(lambda: run(CUBEFLOW, "plan", "-c", config, folder=folder))
        report.add("g-plan", "(g) nothing to do, `cubeflow plan`", planned, theirs, Goal())
        added = attempt(lambda: add_one_run(setting, folder))
        title = f"(f) one run added to {n_runs - 1}, {plainly()}; gammapy: all again"
        report.add("f", title, added, theirs, Goal(60.0))


def all_runs_by_gammapy(case: cases.Case) -> Usage | str:
    """All runs by gammapy, with two processes."""
    return alternate({"gammapy": (1, lambda folder: gammapy(case, folder, "--jobs", "2"))})["gammapy"]


def add_one_run(setting: Setting, folder: Path) -> Usage:
    """Reduce all runs but one, then all; what the second took."""
    n_fields = 3 if setting.quick else None
    shutil.rmtree(folder / "results", ignore_errors=True)
    before = cases.every_run(setting.data, n_fields, without_last=True)
    commands(cases.write_config(before, folder, setting.form), folder)
    return commands(cases.write_config(cases.every_run(setting.data, n_fields), folder, setting.form), folder)


def case_d(setting: Setting, report: Report) -> None:
    """Survey geometry."""
    compare_once("d", "15 runs on 20 x 10 deg, 0.02 deg, 24 bins", cases.survey(setting.data), setting, report)


def case_e(setting: Setting, report: Report) -> None:
    """CTA-1DC."""
    compare_once("e", "two CTA-1DC runs, 350 x 300 pixels", cases.cta(setting.data), setting, report)


def compare_once(key: str, title: str, case: cases.Case, setting: Setting, report: Report) -> None:
    """Compare commands with gammapy, which is not repeated."""
    ours = setting.times, by(commands, case, setting.form)
    used = alternate({"ours": ours, "gammapy": (1, lambda folder: gammapy(case, folder))})
    report.add(key, f"({key}) {title}, {plainly()}", used["ours"], used["gammapy"], Goal(20.0))


SECTIONS = {"a": case_a, "b": case_b, "c": case_c, "d": case_d, "e": case_e}


if __name__ == "__main__":
    main()
