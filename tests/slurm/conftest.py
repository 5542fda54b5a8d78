"""A SLURM cluster of one node, installed and started when it is not there; and workflows that run on it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ONE_NODE = Path(__file__).with_name("one-node.sh")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "slurmdbd", "mariadb-server")
DAEMONS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
FINALS = ("cube.h5", "dataset.fits.gz", "significance.fits.gz")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """The cluster; ended only by those who started it."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no snakemake-executor-plugin-slurm: pip install 'cubeflow[slurm]'")
    if os.getuid() != 0:
        pytest.skip("needs root to start a SLURM cluster")
    install()
    done = subprocess.run([ONE_NODE, "start"], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"no SLURM cluster can be had on this machine: {done.stderr.strip()[-300:]}")
    require_a_job()
    yield
    if done.stdout.strip() == "started":
        subprocess.run([ONE_NODE, "stop"], check=True, timeout=60)


def require_a_job() -> None:
    """Run a job that does nothing; skips where even that cannot be, as where jobs may not be put into groups."""
    command = ["srun", "--ntasks=1", "--time=1", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment())
    except subprocess.TimeoutExpired:
        pytest.skip("no SLURM cluster can be had on this machine: a job that does nothing did not end in 90 s")
    if done.returncode != 0:
        pytest.skip(f"no SLURM cluster can be had on this machine: {done.stderr.strip()[-300:]}")


def install() -> None:
    """Install Debian's packages unless all are there; skips where that cannot be."""
    if all(shutil.which(daemon, path=f"{os.environ['PATH']}:/usr/sbin") for daemon in DAEMONS):
        return
    if shutil.which("apt-get") is None:
        pytest.skip("SLURM is not installed, and there is no apt-get to do it")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            pytest.skip(f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}")


@dataclass(frozen=True)
class Workflow:
    """A workflow in a folder of its own.

    Parameters
    ----------
    folder : Path
        Working directory, with copies of configuration and rules.
    configfile : str
        Configuration, relative to it.
    results : str
        Folder of the results, relative to it.
    targets : tuple of str
        Targets of the configuration; each has the labels ``fov`` and ``ring``.
    """

    folder: Path
    configfile: str
    results: str
    targets: tuple[str, ...]

    def start(self, *arguments: str, first_on_path: Path | None = None) -> subprocess.Popen[str]:
        """Start Snakemake; what it says goes to the file ``said``."""
        command = [sys.executable, "-m", "snakemake", "--configfile", self.configfile, "--printshellcmds", *arguments]
        with (self.folder / "said").open("w") as said:
            env = environment(first_on_path)
            return subprocess.Popen(command, cwd=self.folder, env=env, stdout=said, stderr=said, text=True)

    def end(self, process: subprocess.Popen[str], seconds: float = 600) -> str:
        """Wait until it has ended well; give what it said."""
        status = process.wait(seconds)
        assert status == 0, self.said[-6000:]
        return self.said

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def finals(self) -> list[str]:
        """Paths of the final products and run tables, relative to the working directory."""
        labels = [f"{self.results}/{target}/{label}" for target in self.targets for label in ("fov", "ring")]
        tables = [f"{self.results}/{target}/runs.ecsv" for target in self.targets]
        return [f"{label}/{name}" for label in labels for name in FINALS] + tables

    def digests(self) -> dict[str, str]:
        """SHA-256 of each final product and run table."""
        return {name: hashlib.sha256((self.folder / name).read_bytes()).hexdigest() for name in self.finals()}


def environment(first_on_path: Path | None = None) -> dict[str, str]:
    """Environment in which the commands of this installation are found first, but for those of a folder."""
    folders = [str(first_on_path)] if first_on_path else []
    path = os.pathsep.join([*folders, str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([str(REPOSITORY / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path}


@pytest.fixture(scope="session")
def new_workflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Workflow]:
    """Copy configuration and rules to a new folder."""

    def make(configfile: str, results: str, *targets: str) -> Workflow:
        folder = tmp_path_factory.mktemp("workflow")
        for name in ("config", "workflow"):
            shutil.copytree(REPOSITORY / name, folder / name)
        shutil.copy(REPOSITORY / "environment.yml", folder)
        return Workflow(folder, configfile, results, targets)

    return make
