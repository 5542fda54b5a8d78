"""What a change costs: the workflow on 105 H.E.S.S. runs, and on up to 10 000 simulated ones.

    make bench-workflow                               all of it, into benchmarks/workflow.json and workflow.md
    python benchmarks/workflow.py hess                real runs only (CUBEFLOW_DATA, default ../shared/data)
    python benchmarks/workflow.py scale               100, 1 000 and 10 000 simulated runs, of which one job is reduced
    python benchmarks/workflow.py execute             1 000 simulated runs, each really reduced
    python benchmarks/workflow.py scale --runs 100    fewer runs, for a trial: printed, nothing is written

CPU seconds are those of Snakemake and all its jobs; memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cases
import workflow_scale
import yaml
from page import largest, machine
from usage import Usage, run
from ways import CUBEFLOW, HERE, REPOSITORY
from ways import snakemake as two_cores

FIGURES, PAGE = HERE / "workflow.json", HERE / "workflow.md"
HESS, EXECUTED = (
    "105 H.E.S.S. runs: the targets of config/hess-all.yaml, and empty fields",
    "1000 simulated runs, executed",
)
SIZES = (100, 1_000, 10_000)
HEADER = "| | wall s | CPU s | largest process MB | jobs |\n|---|--:|--:|--:|---|"
ADDED, REMOVED = 23523, 23559  # of the Crab nebula
Row = dict[str, Any]


@dataclass
class Tables:
    """Rows by name, of each table by title; printed as they come."""

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)

    def begin(self, title: str) -> None:
        """Begin a table."""
        self.rows[title] = {}
        print(f"\n{title}\n\n{HEADER}", flush=True)

    def put(self, name: str, used: Usage, folder: Path) -> Row:
        """Add a row to the last table: what a command used, and the jobs that Snakemake names in its log."""
        table = next(reversed(self.rows.values()))
        table[name] = {**asdict(used), "jobs": count_jobs((folder / "log").read_text())}
        print(line(name, table[name]), flush=True)
        return table[name]


def line(name: str, row: Row) -> str:
    """Row of a table in Markdown."""
    jobs = ", ".join(f"{count} {rule}" for rule, count in row["jobs"].items()) or "none"
    return f"| {name} | {row['wall']:.1f} | {row['cpu']:.1f} | {row['memory']:.0f} | {jobs} |"


def count_jobs(text: str) -> dict[str, int]:
    """Number of jobs by kind of rule, from what Snakemake said."""
    stats = text.partition("Job stats:")[2].partition("\ntotal ")[0]
    jobs: dict[str, int] = {}
    for rule, count in re.findall(r"^([a-z]\S*) +(\d+)$", stats, flags=re.MULTILINE):
        kind = rule.split("_")[0]
        if kind != "all":
            jobs[kind] = jobs.get(kind, 0) + int(count)
    return jobs


def snakemake(folder: Path, *arguments: str) -> Usage:
    """Run the workflow in a folder with its ``config.yaml``."""
    return two_cores(folder / "config.yaml", folder, *arguments)


def bench_hess(folder: Path, tables: Tables) -> None:
    """105 real runs, all targets: from nothing, again, and after each kind of change."""
    data = Path(os.environ.get("CUBEFLOW_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    config = yaml.safe_load((REPOSITORY / "config" / "hess-all.yaml").read_text())
    config |= {"data": {"store": str(data / "hess-dl3-dr1")}, "exclusion": str(REPOSITORY / config["exclusion"])}
    for empty in cases.all_fields(data, "Off data"):
        section = cases.target(empty, 0.02)
        section["observations"] |= {"where": None, "within": None}
        config["targets"][empty.name] = section
    tables.begin(HESS)
    without = {**config["observations"], "exclude": [ADDED]}, {**config["observations"], "exclude": [REMOVED]}
    ring = config["backgrounds"] | {"ring": {**config["backgrounds"]["ring"], "width": "0.35 deg"}}
    for name, change in (
        ("from nothing", {"observations": without[0]}),
        ("again", {"observations": without[0]}),
        ("one run added", {}),
        ("ring width changed", {"backgrounds": ring}),
        ("one run removed", {"backgrounds": ring, "observations": without[1]}),
    ):
        changed = {**config, **change, "results": str(folder / "results")}
        (folder / "config.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
        tables.put(name, snakemake(folder), folder)


def bench_scale(folder: Path, runs: int, tables: Tables) -> None:
    """Plan and dry run of many simulated runs, and of one more; memory of the largest job of each kind."""
    for number in [number for number in SIZES if number <= runs]:
        place = folder / str(number)
        workflow_scale.simulate(place, number)
        tables.begin(f"{number} simulated runs")
        plan = CUBEFLOW, "plan", "-c", "config.yaml"
        tables.put("plan, files never seen before", run(*plan, folder=place), place)
        tables.put("plan", run(*plan, folder=place), place)
        tables.put("dry run", snakemake(place, "-n", "--quiet", "all"), place)
        for name, arguments in workflow_scale.pretend(place):
            tables.put(name, run(CUBEFLOW, *arguments, folder=place), place)
        tables.put("dry run, all made", snakemake(place, "-n"), place)
        workflow_scale.simulate(place, number + 1)
        tables.put("plan, one run added", run(*plan, folder=place), place)
        tables.put("dry run, one run added", snakemake(place, "-n"), place)


def bench_execute(folder: Path, runs: int, tables: Tables) -> None:
    """Simulated runs, each really reduced."""
    workflow_scale.simulate(folder, runs)
    tables.begin(EXECUTED.replace("1000", str(runs)))
    tables.put("from nothing", snakemake(folder), folder)
    tables.put("again", snakemake(folder), folder)
    workflow_scale.simulate(folder, runs + 1)
    tables.put("one run added", snakemake(folder), folder)


def render(found: dict[str, Any]) -> str:
    """Page in Markdown."""
    parts = [
        "# What a change costs: measured",
        f"Made by `make bench-workflow`: {found['machine']}. Load average {found['load'][0]:.1f} at the start and "
        f"{found['load'][1]:.1f} at the end. CPU seconds are those of Snakemake and all jobs.",
    ]
    for title, rows in found["tables"].items():
        parts += [f"## {title}", "\n".join([HEADER, *(line(name, row) for name, row in rows.items())])]
    follows = ["| | goal | measured |", "|---|---|---|", *what_follows(found["tables"])]
    return "\n\n".join([*parts, "## What follows from it", "\n".join(follows)]) + "\n"


def what_follows(tables: dict[str, dict[str, Row]]) -> list[str]:
    """Goals, and what was measured: rows of a table."""
    rows = []
    if hess := tables.get(HESS):
        cold, again, added = (hess[name] for name in ("from nothing", "again", "one run added"))
        rows.append(f"| nothing new, 105 runs in 29 targets | under 4 s | {again['wall']:.1f} s |")
        part = f"1/{cold['cpu'] / added['cpu']:.1f}"
        rows.append(f"| one run added to 105: CPU time | under 1/8 of that from nothing | {part} |")
    sizes = [(size, found) for size in SIZES if (found := tables.get(f"{size} simulated runs"))]
    for size, found in sizes[-1:]:
        jobs = ", ".join(f"{count} {rule}" for rule, count in found["dry run, one run added"]["jobs"].items())
        rows.append(f"| jobs, one run added to {size} | 2 and the depth of the tree for a label | {jobs} |")
        for name in ("plan", "plan, files never seen before", "dry run", "dry run, all made", "dry run, one run added"):
            measured = f"{found[name]['wall']:.1f} s and {found[name]['memory']:.0f} MB"
            rows.append(f"| {name}, {size} runs | under 30 s and 500 MB | {measured} |")
    for kind in ("reduce", "stack", "export", "report") if sizes else ():
        measured = ", ".join(f"{largest(found, kind)['memory']:.0f}" for _, found in sizes)
        numbers = ", ".join(str(size) for size, _ in sizes)
        rows.append(f"| memory of `{kind}` at {numbers} runs | within 10 % | {measured} MB |")
    return rows


def main() -> None:
    """Run the parts asked for in a folder that is removed at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["all", "hess", "scale", "execute"], default="all")
    parser.add_argument("--runs", type=int, help="largest number of simulated runs")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    arguments = parser.parse_args()
    tables, load = Tables(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name).resolve()
        for part, bench, runs in (
            ("hess", bench_hess, ()),
            ("scale", bench_scale, (10_000,)),
            ("execute", bench_execute, (1_000,)),
        ):
            if arguments.part in ("all", part):
                (folder / part).mkdir()
                bench(folder / part, *((arguments.runs,) if arguments.runs and runs else runs), tables)
    if arguments.runs is None:
        known = json.loads(FIGURES.read_text())["tables"] if FIGURES.is_file() else {}
        found = {"machine": machine(), "load": [load, os.getloadavg()[0]], "tables": {**known, **tables.rows}}
        FIGURES.write_text(json.dumps(found, indent=1) + "\n")
        PAGE.write_text(render(found))


if __name__ == "__main__":
    main()
