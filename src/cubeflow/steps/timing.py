"""Time and memory of the jobs behind the results, from Snakemake's benchmark files."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path


def read_timing(folder: Path) -> list[dict[str, str]]:
    """One line per rule from ``<target>/<rule>-<job>.tsv`` in the folder; none without files.

    Values that Snakemake could not measure (short jobs on some systems) are left out of the sums.
    """
    jobs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in sorted(folder.glob("**/*.tsv")):
        rule = path.stem.partition("-")[0]
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
