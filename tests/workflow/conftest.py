"""Projects of a few seconds: simulated stores of tiny runs, a configuration, and two ways to run it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cubeflow.config import load_config
from cubeflow.plan.make import Plan, make_plan
from cubeflow.plan.run import run_plan
from cubeflow.simulate.store import SimulationOptions, simulate_run, write_index

REPOSITORY = Path(__file__).resolve().parents[2]
FINALS = ("cube.h5", "dataset.fits.gz", "significance.fits.gz")
EXCLUSION = "icrs\ncircle(83.633, 22.014, 0.3)\n"
CONFIG: dict[str, Any] = {
    "data": {"store": "store"},
    "targets": {
        "one": {
            "position": {"frame": "icrs", "lon": "83.633 deg", "lat": "22.014 deg"},
            "geometry": {"frame": "icrs", "projection": "TAN", "width": ["4 deg", "3 deg"], "pixel": "0.1 deg"},
        }
    },
    "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
    "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
    "offset_max": "1.5 deg",
    "irf_grid": {"pixel": "0.5 deg", "rad_max": "0.6 deg", "rad_bins": 6},
    "exclusion": "exclusion.reg",
    "backgrounds": {
        "fov": {"method": "fov", "fit": "scale", "on_failure": "keep"},
        "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg"},
    },
    "stack": {"batch": 2, "fanout": 2},
    "results": "results",
}


def options_of(variant: int = 0, **changes: Any) -> SimulationOptions:
    """What the runs of a store are; another variant has other events."""
    return SimulationOptions(seed=7 + variant, duration_s=300.0, tiny=True, shared_irf=True, **changes)


@dataclass
class Project:
    """A folder with a store, a configuration and results.

    Parameters
    ----------
    folder : Path
        Working directory of the workflow.
    pool : Path
        Where runs that were simulated before are kept.
    config : dict
        Configuration; `write` puts it on the disk.
    runs : dict of int to int
        Variant of each run of the store.
    """

    folder: Path
    pool: Path
    config: dict[str, Any] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / self.config["data"]["store"]

    @property
    def results(self) -> Path:
        return self.folder / self.config["results"]

    def put(self, runs: dict[int, int] | Iterable[int]) -> None:
        """Make the store hold just these runs, and write its index."""
        wanted = dict(runs) if isinstance(runs, dict) else dict.fromkeys(runs, 0)
        self.store.mkdir(parents=True, exist_ok=True)
        if not (self.store / "irf.fits.gz").exists():
            shutil.copy(simulated(self.pool, 100001, 0).parent / "irf.fits.gz", self.store)
        for obs_id in self.runs.keys() - wanted.keys():
            (self.store / f"obs_{obs_id}.fits.gz").unlink()
        for obs_id, variant in wanted.items():
            if self.runs.get(obs_id) != variant:
                shutil.copy(simulated(self.pool, obs_id, variant), self.store)
        self.runs = wanted
        write_index(self.store, options_of(), sorted(wanted))

    def write(self, **changes: Any) -> Path:
        """Change sections of the configuration and write it."""
        self.config = {**self.config, **changes}
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def plan(self) -> Plan:
        """Plan in this process."""
        with contextlib.chdir(self.folder):
            return make_plan(load_config(self.write()), lambda line: None)

    def build(self) -> Plan:
        """Do in this process what the workflow would do."""
        plan = self.plan()
        with contextlib.chdir(self.folder):
            run_plan(plan, lambda line: None)
        return plan

    def snakemake(self, *arguments: str, status: int = 0, is_talkative: bool = True) -> str:
        """Run the workflow as a user does; give what it said, and what Snakemake itself says if `is_talkative`."""
        self.write()
        talk = ["--printshellcmds"] if is_talkative else []
        done = subprocess.run(self.command(*talk, *arguments), cwd=self.folder, env=environment(), **CAPTURED)
        assert done.returncode == status, done.stdout[-4000:]
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """Command line of the workflow."""
        snakefile = str(REPOSITORY / "workflow" / "Snakefile")
        start = [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", snakefile]
        profile = str(REPOSITORY / "workflow" / "profiles" / "default")
        return [*start, "--workflow-profile", profile, "--configfile", "config.yaml", *arguments]

    def stamps(self, pattern: str = "**/*") -> dict[str, tuple[int, int]]:
        """Inode and time of each file that was made; plans and logs are none."""
        found = {}
        for path in self.results.glob(pattern):
            name = path.relative_to(self.results).as_posix()
            if path.is_file() and not name.startswith((".cubeflow", "logs", "benchmarks")):
                found[name] = path.stat().st_ino, path.stat().st_mtime_ns
        return found

    def finals(self) -> dict[str, bytes]:
        """Bytes of the final products of all targets."""
        found = {path.relative_to(self.results).as_posix(): path for path in self.results.glob("*/*/*.*")}
        finals = {name: path.read_bytes() for name, path in found.items() if path.name in FINALS}
        tables = {
            path.relative_to(self.results).as_posix(): path.read_bytes() for path in self.results.glob("*/runs.*")
        }
        return finals | tables

    def copy(self, folder: Path) -> Project:
        """Copy of the whole project, with new times."""
        shutil.copytree(self.folder, folder, copy_function=shutil.copyfile)
        return Project(folder, self.pool, dict(self.config), dict(self.runs))

    def fresh(self, folder: Path) -> Project:
        """Project with the same store and configuration, and no results."""
        folder.mkdir(parents=True)
        (folder / "store").symlink_to(self.store, target_is_directory=True)
        shutil.copy(self.folder / "exclusion.reg", folder)
        return Project(folder, self.pool, {**self.config, "data": {"store": "store"}}, dict(self.runs))


CAPTURED: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 300}


def environment() -> dict[str, str]:
    """Environment in which the commands of this installation are found first."""
    source = str(REPOSITORY / "src")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path}


def simulated(pool: Path, obs_id: int, variant: int) -> Path:
    """File of a run, simulated when it is first asked for."""
    folder = pool / str(variant)
    path = folder / f"obs_{obs_id}.fits.gz"
    return path if path.exists() else simulate_run(folder, obs_id, options_of(variant))


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where simulated runs are kept."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def project(tmp_path: Path, pool: Path) -> Project:
    """Project without runs."""
    return new_project(tmp_path / "project", pool)


def new_project(folder: Path, pool: Path) -> Project:
    """Project without runs in a folder that is made."""
    folder.mkdir(parents=True)
    (folder / "exclusion.reg").write_text(EXCLUSION)
    return Project(folder, pool, dict(CONFIG))


@pytest.fixture(scope="session")
def make_project(pool: Path):
    """Make a project in a folder."""
    return lambda folder: new_project(folder, pool)
