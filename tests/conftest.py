"""Fixtures shared by all tests: where real data lie, if they are here at all."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to record in several processes: each would write its part of the figures over that of the others."""
    if "VALIDATION_RECORD" in os.environ and config.getoption("numprocesses", None):
        raise pytest.UsageError("VALIDATION_RECORD: figures are recorded in one process; expected no -n")


@pytest.fixture(scope="session")
def find_program() -> Callable[..., str]:
    """``find_program(package, *names)``: path of a program; of Debian's package, where that can be installed."""

    def find(package: str, *names: str) -> str:
        known = (package, *names)
        if not any(map(shutil.which, known)) and os.geteuid() == 0 and shutil.which("apt-get"):
            with Path(tempfile.gettempdir(), "cubeflow-tests-apt.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the tests may ask for it, too
                for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
                    subprocess.run(["apt-get", "-qq", *command], capture_output=True, check=False, timeout=600)
        found = next(filter(None, map(shutil.which, known)), None)
        if found is None:
            pytest.skip(f"no {package}, and it cannot be installed (needs root and apt-get)")
        return found

    return find


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the public H.E.S.S. and CTA-1DC data; skips where it is absent."""
    root = Path(os.environ.get("CUBEFLOW_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data: {root} is absent (set CUBEFLOW_DATA)")
    return root


@pytest.fixture(scope="session")
def hess_store(data_root: Path) -> Path:
    """Index folder of the H.E.S.S. DL3 public test data release 1."""
    store = data_root / "hess-dl3-dr1"
    if not (store / "hdu-index.fits.gz").is_file():
        pytest.skip(f"no H.E.S.S. DL3 DR1 store in {data_root}")
    return store


@pytest.fixture(scope="session")
def cta_store(data_root: Path) -> Path:
    """Index folder of the first CTA data challenge."""
    store = data_root / "cta-1dc" / "index" / "gps"
    if not (store / "hdu-index.fits.gz").is_file():
        pytest.skip(f"no CTA-1DC store in {data_root}")
    return store


@pytest.fixture(scope="session")
def recorded() -> Iterator[dict[str, dict[str, Any]]]:
    """Figures by name; at the end they replace those of their names in the file VALIDATION_RECORD, if that is set."""
    found: dict[str, dict[str, Any]] = {}
    yield found
    if found and "VALIDATION_RECORD" in os.environ:
        path = Path(os.environ["VALIDATION_RECORD"])
        known = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(known | found, indent=1, sort_keys=True) + "\n")


@pytest.fixture
def record(recorded: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keep a figure for the page docs/validation.md: ``record(name, value, unit, text)``.

    Several values under one name, as of a test with parameters, are all kept.
    """
    test = request.node.nodeid.partition("[")[0]

    def keep(name: str, value: float, unit: str, text: str) -> None:
        entry = recorded.setdefault(name, {"values": [], "unit": unit, "text": text, "test": test})
        entry["values"].append(float(value))

    return keep
