"""The page of the comparison: a table with goals, and what limits a figure that does not reach its goal."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from usage import Usage

LIMITS = Path(__file__).with_name("limits.yaml")
PACKAGES = ("cubeflow", "gammapy", "numpy", "scipy", "astropy", "h5py", "snakemake")
HEADER = (
    "| work | cpu s | wall s | MB | gammapy: cpu s | wall s | MB | cpu ratio | wall ratio | memory ratio "
    "| goal | reached |"
)


@dataclass(frozen=True)
class Goal:
    """What is to be reached; 0 where nothing is asked. Times and disk are those of one run."""

    cpu_ratio: float = 0.0
    wall_ratio: float = 0.0
    memory_mb: float = 0.0
    cpu_ms: float = 0.0
    disk_mb: float = 0.0

    def figures(self, ours: Usage, theirs: Usage, scale: int) -> list[tuple[str, bool, str]]:
        """Each thing that is asked for, whether it is reached, and the figure."""
        found = []
        for name, asked, value in (
            ("cpu", self.cpu_ratio, theirs.cpu / ours.cpu),
            ("wall", self.wall_ratio, theirs.wall / ours.wall),
        ):
            if asked:
                found.append((f"{name} ratio {asked:g}", value >= asked, f"{name} ratio {value:.1f}"))
        for name, unit, asked, value in (
            ("memory", "MB", self.memory_mb, ours.memory),
            ("cpu", "ms a run", self.cpu_ms, 1000 * ours.cpu / scale),
            ("disk", "MB a run", self.disk_mb, ours.disk / scale),
        ):
            if asked:
                found.append((f"{name} {asked:g} {unit}", value <= asked, f"{name} {value:.3g} {unit}"))
        return found


@dataclass
class Report:
    """Lines of the table, printed as they come, and what was not reached, by line."""

    lines: list[str] = field(default_factory=list)
    missed: dict[str, list[str]] = field(default_factory=dict)
    stages: str = ""

    def add(self, key: str, name: str, ours: Usage | str, theirs: Usage | str, goal: Goal, scale: int = 1) -> None:
        """Add a comparison; `scale` runs: the times shown are those of one."""
        failures = [
            f"{who}: {used}" for who, used in (("cubeflow", ours), ("gammapy", theirs)) if isinstance(used, str)
        ]
        if isinstance(ours, str) or isinstance(theirs, str):
            self.fail(name, "; ".join(failures))
            return
        cells = [f"{ours.cpu / scale:.2f}", f"{ours.wall / scale:.2f}", f"{ours.memory:.0f}"]
        cells += [f"{theirs.cpu / scale:.2f}", f"{theirs.wall / scale:.2f}", f"{theirs.memory:.0f}"]
        cells += [f"**{theirs.cpu / ours.cpu:.1f}**", f"{theirs.wall / ours.wall:.1f}"]
        cells.append(f"{theirs.memory / ours.memory:.1f}")
        figures = goal.figures(ours, theirs, scale)
        cells.append(", ".join(asked for asked, _, _ in figures) or "–")
        cells.append(reached([good for _, good, _ in figures]))
        self.put(f"| {name} | " + " | ".join(cells) + " |")
        missed = [f"{figure} instead of {asked}" for asked, good, figure in figures if not good]
        if missed:
            self.missed[key] = [name, *missed]

    def fail(self, name: str, reason: str) -> None:
        """Add a line that says why there is no comparison."""
        self.put(f"| {name} | failed: {reason.replace('|', '/')} |" + " |" * 10)

    def put(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)
        print(line, flush=True)


def reached(good: list[bool]) -> str:
    """Word for what is reached of several goals."""
    if not good:
        return "–"
    return "yes" if all(good) else f"{sum(good)} of {len(good)}" if len(good) > 1 else "**no**"


def stage_table(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    """CPU time of each product of one run, ms, and whether writing the maps takes no longer than making them."""
    lines = ["| product, CPU ms | cubeflow | gammapy | ratio |", "|---|--:|--:|--:|"]
    for stage, mine in ours.items():
        their = theirs.get(stage)
        cells = ["–", "–"] if their is None else [f"{1000 * their:.1f}", f"{their / mine:.0f}"]
        lines.append(f"| {stage} | {1000 * mine:.1f} | {cells[0]} | {cells[1]} |")
    ratio = ours["write"] / ours["maps"]
    goal = f"at most 1 is asked for, reached: {reached([ratio <= 1])}"
    lines.append(f"\nWriting the artifacts (`write`) takes {ratio:.2f} of making their maps (`maps`); {goal}.")
    text = "\n".join(lines)
    print(text, flush=True)
    return text


def render(report: Report, how: str, loads: tuple[float, float], minutes: float) -> str:
    """Page in Markdown: machine, table, what limits, products."""
    parts = [
        "# cubeflow and gammapy side by side",
        f"Made by `python benchmarks/compare.py{how}` in {minutes:.0f} minutes. {machine()}. Load average "
        f"{loads[0]:.1f} at the start and {loads[1]:.1f} at the end.",
        "Medians of three for one run and for the four Crab runs, one after the other with gammapy in between (with "
        "`--quick`, and for all that takes longer: once). CPU and wall are sums over all processes, memory is that of "
        "the largest one. gammapy: cutouts, observations read once, `DatasetsMaker` with two processes in (c), files "
        "without compression, one thread for matrices. cubeflow: artifacts of every run are written, exports are "
        "compressed.",
        "\n".join([HEADER, "|---|" + "--:|" * 9 + "---|---|", *report.lines]),
        "## What limits the figures that are not reached",
        limits(report.missed),
    ]
    if report.stages:
        parts += ["## One run, product by product", report.stages]
        parts.append(
            "`maps` is all of them with the norm, from an observation and a geometry in memory. gammapy reads its "
            "responses inside each product; its `counts` holds the reading of the events."
        )
    return "\n\n".join(parts) + "\n"


def limits(missed: Mapping[str, list[str]]) -> str:
    """What was not reached, with what is known about it."""
    known = yaml.safe_load(LIMITS.read_text()) or {}
    lines = [
        f"- {name}: {', '.join(figures)}. {known.get(key, 'Not looked into yet.').strip()}"
        for key, (name, *figures) in missed.items()
    ]
    return "\n".join(lines) or "All that were measured are reached."


def largest(table: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Row of that name, or of all jobs of a kind the one that takes most memory."""
    if name in table:
        return table[name]
    return max((row for job, row in table.items() if job.startswith(f"{name}:")), key=lambda row: row["memory"])


def machine() -> str:
    """Processor, memory and versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores, {memory:.0f} GB, Python {platform.python_version()}; {packages}"


def processor() -> str:
    """Model of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
