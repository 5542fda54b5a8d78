"""What a piece of work took, as the operating system says, and how ways of doing it are compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

# Between us and what is measured: a process inherits the largest size of the one that started it.
LAUNCH = """
import json, os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


@dataclass(frozen=True)
class Usage:
    """What a piece of work took: CPU and wall time in s, peak memory of its largest process and disk in MB."""

    cpu: float
    wall: float
    memory: float
    disk: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        memory, disk = max(self.memory, other.memory), max(self.disk, other.disk)
        return Usage(self.cpu + other.cpu, self.wall + other.wall, memory, disk)


NOTHING = Usage(0.0, 0.0, 0.0)
Way = Callable[[Path], Usage]
Stages = Mapping[str, Callable[[], object]]


def run(*command: str | Path, folder: Path) -> Usage:
    """Run a command in a folder and say what it and its children used; what it says is in the file ``log`` there.

    Raises
    ------
    RuntimeError
        If it fails; exit status 3 of cubeflow, some runs refused, is no failure.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as after any installation
    log = folder / "log"
    launch = [sys.executable, "-S", "-c", LAUNCH, *(str(part) for part in command)]
    start = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(launch, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=output, check=True)
    wall = time.monotonic() - start
    status, cpu, memory_kb = json.loads(done.stdout)
    if status not in (0, 3):
        name = " ".join(Path(str(part)).name for part in command[:2])
        raise RuntimeError(f"{name}: exit status {status}\n{log.read_text()[-2000:]}")
    return Usage(cpu, wall, memory_kb / 1024)


def kept_mb(results: Path, folder: str = "obs") -> float:
    """Size of what is kept of all runs, or of their sums in the folder ``stack``, MB."""
    return sum(path.stat().st_size for path in results.glob(f"*/{folder}/*/*.h5")) / 1e6


def alternate(ways: Mapping[str, tuple[int, Way]]) -> dict[str, Usage | str]:
    """Medians over repeats, each in an empty folder; one way after the other, then all again.

    Parameters
    ----------
    ways : mapping of str to (int, callable)
        By name: how often, and the work.

    Returns
    -------
    dict of str to Usage or str
        By name; for a way that failed, the last line it said.
    """
    found: dict[str, list[Usage]] = {name: [] for name in ways}
    failed: dict[str, str] = {}
    for number in range(max(times for times, _ in ways.values())):
        for name, (times, work) in ways.items():
            if number < times and name not in failed:
                with tempfile.TemporaryDirectory() as folder:
                    used = attempt(partial(work, Path(folder)))
                if isinstance(used, str):
                    failed[name] = used
                else:
                    found[name].append(used)
    return {name: failed.get(name) or medians(used) for name, used in found.items()}


def attempt(work: Callable[[], Usage]) -> Usage | str:
    """Do a piece of work; if it fails, the last line it said."""
    try:
        return work()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return str(error).strip().splitlines()[-1]


def medians(used: list[Usage]) -> Usage:
    """Medians of each figure."""
    return Usage(*(median(getattr(each, name) for each in used) for name in ("cpu", "wall", "memory", "disk")))


def cpu_seconds(stages: Stages, repeats: int) -> dict[str, float]:
    """CPU time of a call of each stage in this process, medians."""
    found: dict[str, list[float]] = {name: [] for name in stages}
    for name, stage in stages.items():
        for _ in range(repeats):
            start = time.process_time()
            stage()
            found[name].append(time.process_time() - start)
    return {name: median(times) for name, times in found.items()}
