"""Time and memory of the jobs behind the results, from Snakemake's benchmark files."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cubeflow.plan.together import make_groups


def planned_jobs(index: Mapping[str, Any]) -> list[str]:
    """Benchmark files of the jobs that make the results of a plan, relative to their folder; others are of the past.

    Parameters
    ----------
    index : mapping
        Targets of ``plan.json``. Those that share a job were made by it, or before.
    """
    groups = make_groups(index) if all("seconds" in part for part in index.values()) else ()  # an older plan has none
    names = [f"together-{group.name}.tsv" for group in groups]
    shared = {target for group in groups for target in group.targets}
    for target, part in index.items():
        if target in shared:
            continue
        jobs = [f"reduce-{batch}" for batch in part["batches"]]
        jobs += [f"stack-{label}-{node}" for label, nodes in part["nodes"].items() for node in nodes]
        jobs += [*(f"export-{label}" for label in part["finals"]), "table"]
        names += [f"{target}/{job}.tsv" for job in jobs]
    return names


def read_timing(folder: Path, jobs_of_plan: Iterable[str]) -> list[dict[str, str]]:
    """One line per rule from those of the given ``<target>/<rule>-<job>.tsv`` in the folder that are there.

    Values that Snakemake could not measure (short jobs on some systems) are left out of the sums.
    """
    jobs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in (folder / name for name in jobs_of_plan):
        rule = path.stem.partition("-")[0]
        if not path.is_file():
            continue
        with path.open(newline="") as lines:
            jobs[rule] += [_numbers(line) for line in csv.DictReader(lines, delimiter="\t")]
    return [_line(rule, jobs[rule]) for rule in sorted(jobs, key=lambda rule: -_total(jobs[rule], "s")) if jobs[rule]]


def _numbers(line: dict[str, str]) -> dict[str, float]:
    """Numbers of a line of a benchmark file."""
    found = {}
    for name in ("s", "cpu_time", "max_rss"):
        try:
            found[name] = float(line.get(name) or "nan")
        except ValueError:
            continue
    return {name: value for name, value in found.items() if value == value}


def _total(jobs: list[dict[str, float]], name: str) -> float:
    return sum(job.get(name, 0.0) for job in jobs)


def _line(rule: str, jobs: list[dict[str, float]]) -> dict[str, str]:
    memory = max((job["max_rss"] for job in jobs if "max_rss" in job), default=0.0)
    return {
        "rule": rule,
        "jobs": str(len(jobs)),
        "seconds": duration(_total(jobs, "s")),
        "longest": duration(max(job.get("s", 0.0) for job in jobs)),
        "cpu": duration(_total(jobs, "cpu_time")),
        "memory": f"{memory:.0f} MB" if memory else "",
    }


def duration(seconds: float) -> str:
    """Time in words of the right size."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
