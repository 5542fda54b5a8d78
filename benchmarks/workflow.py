"""What a change costs: the workflow on 105 H.E.S.S. runs, and on up to 10 000 simulated ones; prints tables.

    python benchmarks/workflow.py                     all of it
    python benchmarks/workflow.py hess                real runs only (CUBEFLOW_DATA, default ../shared/data)
    python benchmarks/workflow.py scale --runs 1000   simulated runs, up to this number
    python benchmarks/workflow.py execute --runs 1000 simulated runs, each really reduced

CPU seconds are those of Snakemake and all its jobs; memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workflow_scale
import yaml

from cubeflow.dl3.index import open_store
from cubeflow.maps import sphere

REPOSITORY = Path(__file__).resolve().parents[1]
# Between us and what is measured: a process inherits the largest size of the one that started it.
LAUNCH = """
import json, os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
ADDED, REMOVED = 23523, 23559  # of the Crab nebula
FIELD_DEG = 1.5


@dataclass(frozen=True)
class Cost:
    """What a command cost: time, CPU time of it and its children, memory of the largest process, jobs by rule."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    jobs: dict[str, int]

    def row(self, name: str) -> str:
        """Row of a table in Markdown."""
        jobs = ", ".join(f"{count} {rule}" for rule, count in self.jobs.items()) or "none"
        return f"| {name} | {self.wall_s:.1f} | {self.cpu_s:.1f} | {self.memory_mb:.0f} | {jobs} |"


def run(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder; SystemExit with its output if it fails."""
    log = folder / "bench.log"
    start = time.monotonic()
    launch = [sys.executable, "-S", "-c", LAUNCH, *command]
    with log.open("w") as output:
        done = subprocess.run(launch, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=output, check=True)
    wall_s = time.monotonic() - start
    status, cpu_s, memory_kb = json.loads(done.stdout)
    text = log.read_text()
    if status not in (0, 3):
        sys.exit(f"{' '.join(command)}\n{text[-3000:]}")
    return Cost(wall_s, cpu_s, memory_kb / 1024, jobs_of(text))


def environment() -> dict[str, str]:
    """Environment in which the commands of this installation are found first, compiled as after any installation."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PATH": path}


def jobs_of(text: str) -> dict[str, int]:
    """Number of jobs by kind of rule, from what Snakemake said."""
    start = text.find("Job stats:")
    rows = re.findall(r"^([a-z]\S*) +(\d+)$", text[start:], flags=re.MULTILINE) if start >= 0 else []
    jobs: dict[str, int] = {}
    for rule, count in rows[: [rule for rule, _ in rows].index("total") if rows else 0]:
        kind = rule.split("_")[0]
        if kind != "all":
            jobs[kind] = jobs.get(kind, 0) + int(count)
    return jobs


def snakemake(folder: Path, *arguments: str, cores: int = 2) -> Cost:
    """Run the workflow in a folder with its ``config.yaml``."""
    start = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", "config.yaml", *arguments]
    profile = str(REPOSITORY / "workflow" / "profiles" / "default")
    return run([*start, "-s", str(REPOSITORY / "workflow" / "Snakefile"), "--workflow-profile", profile], folder)


def cubeflow(folder: Path, *arguments: str) -> Cost:
    """Run a verb in a folder."""
    return run([sys.executable, "-c", "from cubeflow.cli import main; main()", *arguments], folder)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration of a benchmark."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def heading(title: str) -> None:
    """Begin a table."""
    print(f"\n{title}\n\n| | wall s | CPU s | largest process MB | jobs |\n|---|--:|--:|--:|---|", flush=True)


def bench_hess(folder: Path) -> None:
    """105 real runs, all targets: from nothing, again, and after each kind of change."""
    data = Path(os.environ.get("CUBEFLOW_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    os.environ["CUBEFLOW_DATA"] = str(data)
    shutil.copytree(REPOSITORY / "config", folder / "config")
    config = yaml.safe_load((REPOSITORY / "config" / "hess-all.yaml").read_text())
    observations = config["observations"]
    fields = empty_fields(data / "hess-dl3-dr1")
    heading(f"105 H.E.S.S. runs: the targets of config/hess-all.yaml, and {len(fields)} empty fields")
    config["targets"] |= fields
    write_config(folder, {**config, "observations": {**observations, "exclude": [ADDED]}})
    cold = snakemake(folder)
    print(cold.row("from nothing"), flush=True)
    print(snakemake(folder).row("again"), flush=True)
    write_config(folder, config)
    added = snakemake(folder)
    print(added.row("one run added"), flush=True)
    ring = {**config["backgrounds"]["ring"], "width": "0.35 deg"}
    config = {**config, "backgrounds": {**config["backgrounds"], "ring": ring}}
    write_config(folder, config)
    print(snakemake(folder).row("ring width changed"), flush=True)
    write_config(folder, {**config, "observations": {**observations, "exclude": [REMOVED]}})
    print(snakemake(folder).row("one run removed"), flush=True)
    print(f"\nOne run added costs 1/{cold.cpu_s / added.cpu_s:.1f} of the CPU time from nothing.")


def empty_fields(store: Path) -> dict[str, Any]:
    """Targets for the runs of the release without a source: one for pointings within 1.5 deg of its first."""
    fields: dict[str, Any] = {}
    centres: dict[str, Any] = {}
    for entry in open_store(store).runs:
        about = entry.obs_info
        if about["TARGET_NAME"].strip() == "Off data":
            pointing = sphere.unit_vectors(about["RA_PNT"], about["DEC_PNT"])
            near = [name for name, centre in centres.items() if sphere.separation_deg(centre, pointing) < FIELD_DEG]
            name = near[0] if near else f"field-{entry.obs_id}"
            centres.setdefault(name, pointing)
            position = {"lon": f"{about['RA_PNT']:.3f} deg", "lat": f"{about['DEC_PNT']:.3f} deg"}
            geometry = {"width": ["4 deg", "4 deg"], "pixel": "0.02 deg"}
            selection = {"ids": [], "where": None, "within": None}
            target = {"position": position, "geometry": geometry, "observations": selection}
            fields.setdefault(name, target)["observations"]["ids"].append(entry.obs_id)
    return fields


def bench_scale(folder: Path, runs: int) -> None:
    """Plan and dry run of many simulated runs, and of one more; memory of the largest job of each kind."""
    for number in [number for number in (100, 1_000, 10_000) if number <= runs]:
        place = folder / str(number)
        workflow_scale.simulate(place, number)
        heading(f"{number} simulated runs")
        print(cubeflow(place, "plan", "-c", "config.yaml").row("plan, files never seen before"))
        print(cubeflow(place, "plan", "-c", "config.yaml").row("plan"))
        print(snakemake(place, "-n", "--quiet", "all").row("dry run"), flush=True)
        for name, arguments in workflow_scale.pretend(place):
            print(cubeflow(place, *arguments).row(name), flush=True)
        print(snakemake(place, "-n").row("dry run, all made"))
        workflow_scale.simulate(place, number + 1)
        print(cubeflow(place, "plan", "-c", "config.yaml").row("plan, one run added"))
        print(snakemake(place, "-n").row("dry run, one run added"), flush=True)


def bench_execute(folder: Path, runs: int) -> None:
    """Simulated runs, each really reduced."""
    place = folder / "executed"
    workflow_scale.simulate(place, runs)
    heading(f"{runs} simulated runs, executed")
    print(snakemake(place).row("from nothing"), flush=True)
    print(snakemake(place).row("again"), flush=True)
    workflow_scale.simulate(place, runs + 1)
    print(snakemake(place).row("one run added"), flush=True)


def main() -> None:
    """Run the parts asked for in a folder that is removed at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["all", "hess", "scale", "execute"], default="all")
    parser.add_argument("--runs", type=int, help="largest number of simulated runs")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.part in ("all", "hess"):
            (folder / "hess").mkdir()
            bench_hess(folder / "hess")
        if arguments.part in ("all", "scale"):
            bench_scale(folder, arguments.runs or 10_000)
        if arguments.part in ("all", "execute"):
            bench_execute(folder, arguments.runs or 1_000)


if __name__ == "__main__":
    main()
