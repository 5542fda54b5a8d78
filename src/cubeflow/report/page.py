"""The report: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cubeflow.pipeline.certificate import certified, software
from cubeflow.pipeline.progress import duration
from cubeflow.pipeline.tasks import FiguresTask, ReportTask, files_of
from cubeflow.plan.jobs import read_jobs, read_targets
from cubeflow.regular import open_regular
from cubeflow.report.figures import LabelSection, make_figures, read_figures
from cubeflow.report.runs import (
    MAX_LEFT_OUT,
    count_warnings,
    is_used,
    left_out,
    n_runs,
    numbers,
    read_runs,
    shown_columns,
    table_parts,
)
from cubeflow.store.atomic import replacing

if TYPE_CHECKING:
    from astropy.table import Table

TEMPLATES = "cubeflow.report", "templates"
BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, eq=False)
class TargetSection:
    """One target on the page."""

    name: str  # also that of its folder
    runs: Table  # its run table
    labels: Sequence[LabelSection]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Position and numbers of runs."""
        where = ["{:.4f}° {:+.4f}°".format(*section.target_deg) for section in self.labels[:1]]
        selected = n_runs(self.runs)
        counted = [("runs selected", selected), ("left out", selected - n_runs(self.runs[is_used(self.runs)]))]
        if unknown := np.nansum(numbers(self.runs, "counts_without_acceptance")):
            counted.append(("counts left out without acceptance", int(unknown)))
        return [*(("position (ICRS)", position) for position in where), *((name, str(n)) for name, n in counted)]

    @property
    def links(self) -> list[tuple[str, str]]:
        """Name and path of its files."""
        names = ["runs.ecsv", "runs.csv", *(["exclusion.reg", "pointings.reg"] if self.labels else [])]
        return [(name, f"{self.name}/{name}") for name in names]

    def table_parts(self) -> Iterator[str]:
        """Run table as JSON."""
        return table_parts(self.runs, shown_columns(self.runs, [section.label for section in self.labels]))

    def summary(self) -> Iterator[dict[str, str]]:
        """Line of the summary for each label."""
        for section in self.labels:
            about = {"target": self.name, "label": section.label, "method": section.method}
            facts = dict(section.facts)
            yield {**about, **facts, "left_out": str(n_runs(self.runs) - int(facts["runs"]))}


@dataclass(frozen=True, eq=False)
class Page:
    """All of the report."""

    key: str  # of what it was made of
    targets: Sequence[TargetSection]  # in the order of the configuration
    versions: Sequence[tuple[str, str]]  # name and version of programs
    timing: Sequence[Mapping[str, str]] = ()  # per rule, from `read_timing`


def do_job(plan_file: Path, name: str, say: Callable[[str], None]) -> None:
    """Draw the figures of a job of a plan that was written, or put the report together."""
    results = plan_file.absolute().parents[1]
    (job,) = read_jobs(plan_file, [name])
    drawn = {task.target for task in job.tasks if isinstance(task, FiguresTask)}
    targets = read_targets(plan_file, drawn)
    for task in job.tasks:
        if isinstance(task, FiguresTask):
            say(f"{task.target}: {task.label}: {make_figures(results, targets[task.target], task)}")
        elif isinstance(task, ReportTask):
            path = write_report(results, task)
            say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def write_report(results: Path, task: ReportTask) -> Path:
    """Put ``report.html`` together from run tables, and from the figures of each label.

    Raises FailedError if the figures of a label are not there.
    """
    sections = []
    for target in task.targets:
        labels = [read_figures(results, target.name, label, key) for label, key in target.labels.items()]
        sections.append(TargetSection(target.name, read_runs(results / target.name, target.table), labels))
    versions = [*software().items(), ("snakemake", version("snakemake"))]
    timing = read_timing(sorted((results / "benchmarks").glob("*.tsv")))
    path = results / "report.html"
    made_from = {"inputs": {target.name: dict(target.labels) for target in task.targets}}
    with certified(results / files_of(task)[-1], task.key, [path], made_from), replacing(path) as file:
        for block in make_page(Page(task.key, sections, versions, timing)):
            file.write(block)
    return path


def make_page(page: Page) -> Iterator[bytes]:
    """HTML of a page, in blocks; every string but the SVGs is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader(*TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.trim_blocks = environment.lstrip_blocks = True
    folder = files(TEMPLATES[0]).joinpath(TEMPLATES[1])
    script, style = (folder.joinpath(name).read_text("utf-8") for name in ("report.js", "report.css"))
    parts = environment.get_template("report.html").generate(
        page=page,
        script=Markup(script),
        style=Markup(style),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        markup=Markup,
        left_out_of=left_out,
        max_left_out=MAX_LEFT_OUT,
        warnings_of=count_warnings,
        all_markup=partial(map, Markup),
    )
    block = bytearray()
    for part in parts:
        block += part.encode()
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def read_timing(files: Iterable[Path]) -> list[dict[str, str]]:
    """Jobs, times and memory of each rule, the longest first, from its benchmark files ``<rule>-<job>.tsv``.

    Values that Snakemake could not measure (short jobs on some systems) are left out of the sums.
    """
    jobs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in files:
        with TextIOWrapper(open_regular(path), newline="") as lines:
            for line in csv.DictReader(lines, delimiter="\t"):
                found = dict.fromkeys(("s", "cpu_time", "max_rss"), 0.0)
                for name in found:
                    with suppress(ValueError):  # "-", "NA"
                        found[name] = float(line.get(name) or 0.0)
                jobs[re.split("[-_]", path.stem)[0]].append(found)
    totals = {rule: {name: [job[name] for job in found] for name in found[0]} for rule, found in jobs.items()}
    return [
        {
            "rule": rule,
            "jobs": str(len(found["s"])),
            "seconds": duration(sum(found["s"])),
            "longest": duration(max(found["s"])),
            "cpu": duration(sum(found["cpu_time"])),
            "memory": f"{max(found['max_rss']):.0f} MB" if any(found["max_rss"]) else "",
        }
        for rule, found in sorted(totals.items(), key=lambda item: -sum(item[1]["s"]))
    ]
