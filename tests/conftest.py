"""Fixtures shared by all tests: where real data lie, if they are here at all."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


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
