"""cubeflow and gammapy side by side on real data: the same work, in one sitting, as ratios.

    make bench                                     everything, an hour on two cores
    python benchmarks/compare.py --quick           fewer repeats, three of the fields in (c)
    python benchmarks/compare.py --only a b        some cases

Every case is a process of its own; what it and its children used is what the operating system says.
Real data come from the folder CUBEFLOW_DATA; without it nothing is measured. The report holds figures only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import cases

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PYTHON = sys.executable
CUBEFLOW = str(Path(PYTHON).parent / "cubeflow")
SNAKEMAKE = str(Path(PYTHON).parent / "snakemake")
PACKAGES = ("cubeflow", "gammapy", "numpy", "scipy", "astropy", "h5py", "snakemake")


@dataclass(frozen=True)
class Usage:
    """What a piece of work took: CPU and wall time in s, peak memory of its largest process in MB."""

    cpu: float
    wall: float
    memory: float

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu + other.cpu, self.wall + other.wall, max(self.memory, other.memory))


NOTHING = Usage(0.0, 0.0, 0.0)


def run(*command: str | Path, folder: Path) -> Usage:
    """Run a command in a folder and say what it and its children used.

    Raises
    ------
    RuntimeError
        If it fails; exit status 3 of cubeflow, some runs refused, is no failure.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log"
    start = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            [str(part) for part in command], cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 3):
        raise RuntimeError(f"{command}: exit status {child.returncode}\n{log.read_text()[-2000:]}")
    return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def commands(config: Path, folder: Path) -> Usage:
    """Everything from the plan to the final products by plain commands, one after another."""
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
    return run(CUBEFLOW, "reduce", first_manifest(folder), folder=folder)


def first_manifest(folder: Path) -> Path:
    """Manifest of the first batch of the only target."""
    index = json.loads((folder / "results" / "plan.json").read_text())["targets"]
    target, entry = next(iter(index.items()))
    return folder / "results" / target / "plan" / manifest(next(iter(entry["unmade"])), entry)


def snakemake(config: Path, folder: Path) -> Usage:
    """Everything by the workflow, on two cores."""
    workflow = REPOSITORY / "workflow" / "Snakefile"
    return run(
        SNAKEMAKE, "--cores", "2", "--snakefile", workflow, "--configfile", config, "--directory", folder, folder=folder
    )


def gammapy(case: cases.Case, folder: Path, *options: str) -> Usage:
    """The case by gammapy."""
    (folder / "case.json").write_text(json.dumps(case.to_plain()))
    return run(PYTHON, HERE / "gammapy_run.py", folder / "case.json", folder, *options, folder=folder)


def repeat(times: int, work: Callable[[Path], Usage]) -> Usage:
    """Medians over repeats, each in an empty folder."""
    used = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name:
            used.append(work(Path(name)))
    return Usage(*(median(getattr(each, name) for each in used) for name in ("cpu", "wall", "memory")))


@dataclass(frozen=True)
class Setting:
    """Where the data are, how often what is short is repeated, and whether (c) is cut short."""

    data: Path
    times: int
    quick: bool


class Report:
    """Lines of the table, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, name: str, ours: Usage, theirs: Usage, scale: int = 1) -> None:
        """One comparison; `scale` divides the times, for figures per run."""
        cells = [f"{ours.cpu / scale:.2f}", f"{ours.wall / scale:.2f}", f"{ours.memory:.0f}"]
        cells += [f"{theirs.cpu / scale:.2f}", f"{theirs.wall / scale:.2f}", f"{theirs.memory:.0f}"]
        cells += [f"**{theirs.cpu / ours.cpu:.1f}**", f"{theirs.wall / ours.wall:.1f}"]
        cells.append(f"{theirs.memory / ours.memory:.1f}")
        self.lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(self.lines[-1], flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=sorted(SECTIONS), default=sorted(SECTIONS))
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    options = parser.parse_args(arguments)
    data = Path(os.environ.get("CUBEFLOW_DATA", REPOSITORY.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit("no real data: set CUBEFLOW_DATA to the folder with hess-dl3-dr1 and cta-1dc")
    report, stages = Report(), ""
    if "a" in options.only:
        stages = stage_table(data, 3 if options.quick else 9)
    for name in options.only:
        SECTIONS[name](Setting(data.resolve(), 1 if options.quick else 3, options.quick), report)
    options.output.write_text(page(report.lines, stages, options.quick))


def case_a(setting: Setting, report: Report) -> None:
    """One run as a process, and in a batch of sixteen."""
    title = "(a) H.E.S.S., 250 x 250 x 17 x 24"
    one, batch = cases.one_run(setting.data), cases.sixteen_runs(setting.data)
    ours = repeat(setting.times, lambda folder: reduce_only(cases.write_config(one, folder), folder))
    theirs = repeat(setting.times, lambda folder: gammapy(one, folder, "--each"))
    report.add(f"{title}, process with one run", ours, theirs)
    ours = repeat(setting.times, lambda folder: reduce_only(cases.write_config(batch, folder), folder))
    theirs = repeat(1, lambda folder: gammapy(batch, folder, "--each"))
    report.add(f"{title}, batch, per run of 16", ours, theirs, 16)


def case_b(setting: Setting, report: Report) -> None:
    """Four Crab runs with field-of-view and ring background."""
    case = cases.crab(setting.data)
    theirs = repeat(setting.times, lambda folder: gammapy(case, folder))
    ours = repeat(setting.times, lambda folder: commands(cases.write_config(case, folder), folder))
    report.add("(b) four Crab runs, FoV and ring, commands", ours, theirs)
    ours = repeat(setting.times, lambda folder: snakemake(cases.write_config(case, folder), folder))
    report.add("(b) the same, Snakemake with report", ours, theirs)


def case_c(setting: Setting, report: Report) -> None:
    """All runs cold on two cores; one run added; nothing to do."""
    n_fields = 3 if setting.quick else None
    case = cases.every_run(setting.data, n_fields)
    n_runs = sum(len(field.runs) for field in case.fields)
    theirs = repeat(1, lambda folder: gammapy(case, folder, "--jobs", "2"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = snakemake(cases.write_config(case, folder), folder)
        title = f"{n_runs} runs in {len(case.fields)} fields"
        report.add(f"(c) {title}, cold, two cores, Snakemake", ours, theirs)
        report.add("(g) the same again: nothing to do, Snakemake", snakemake(folder / "config.yaml", folder), theirs)
        planned = run(CUBEFLOW, "plan", "-c", folder / "config.yaml", folder=folder)
        report.add("(g) nothing to do, `cubeflow plan`", planned, theirs)
        shutil.rmtree(folder / "results")
        before = cases.every_run(setting.data, n_fields, without_last=True)
        commands(cases.write_config(before, folder), folder)
        ours = commands(cases.write_config(case, folder), folder)
        report.add(f"(f) one run added to {n_runs - 1}, commands; gammapy: all again", ours, theirs)


def case_d(setting: Setting, report: Report) -> None:
    """Survey geometry."""
    case = cases.survey(setting.data)
    ours = repeat(setting.times, lambda folder: commands(cases.write_config(case, folder), folder))
    theirs = repeat(1, lambda folder: gammapy(case, folder))
    report.add("(d) 15 runs on 20 x 10 deg, 0.02 deg, 24 bins, commands", ours, theirs)


def case_e(setting: Setting, report: Report) -> None:
    """CTA-1DC."""
    case = cases.cta(setting.data)
    ours = repeat(setting.times, lambda folder: commands(cases.write_config(case, folder), folder))
    theirs = repeat(1, lambda folder: gammapy(case, folder))
    report.add("(e) two CTA-1DC runs, 350 x 300 pixels, commands", ours, theirs)


SECTIONS = {"a": case_a, "b": case_b, "c": case_c, "d": case_d, "e": case_e}


def stage_table(data: Path, repeats: int) -> str:
    """CPU time of each product of one run, ms."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = cases.one_run(data)
        run(CUBEFLOW, "plan", "-c", cases.write_config(case, folder), folder=folder)
        run(PYTHON, HERE / "stages.py", first_manifest(folder), str(repeats), folder=folder)
        ours = json.loads((folder / "log").read_text().splitlines()[-1])
        gammapy(case, folder, "--stages", str(repeats))
        theirs = json.loads((folder / "log").read_text().splitlines()[-1])
    lines = ["| product, CPU ms | cubeflow | gammapy | ratio |", "|---|--:|--:|--:|"]
    for stage in [*ours, *(stage for stage in theirs if stage not in ours)]:
        mine, their = ours.get(stage), theirs.get(stage)
        cells = ["–" if value is None else f"{1000 * value:.1f}" for value in (mine, their)]
        ratio = f"{their / mine:.0f}" if mine and their else "–"
        lines.append(f"| {stage} | {cells[0]} | {cells[1]} | {ratio} |")
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def page(lines: list[str], stages: str, quick: bool) -> str:
    """Report as Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    header = "| work | cpu s | wall s | MB | gammapy: cpu s | wall s | MB | cpu ratio | wall ratio | memory ratio |"
    parts = [
        "# cubeflow and gammapy side by side",
        f"Made by `python benchmarks/compare.py{' --quick' if quick else ''}`. {platform.machine()}, {cores()} cores, "
        f"{memory:.0f} GB, Python {platform.python_version()}; {packages}. Load at the end: {load}.",
        "Medians, except for what takes minutes. CPU and wall are sums over all processes started, memory is that of "
        "the largest process. gammapy: cutouts, observations read once, `DatasetsMaker` with two processes in (c), "
        "files without compression, one thread for matrices; cubeflow: artifacts of every run are written and read "
        "back, exports are compressed.",
        "\n".join([header, "|---|" + "--:|" * 9, *lines]),
    ]
    if stages:
        parts += ["## One run, product by product", stages]
        parts.append("gammapy reads its responses inside each product; its `counts` holds the reading of the events.")
    return "\n\n".join(parts) + "\n"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
