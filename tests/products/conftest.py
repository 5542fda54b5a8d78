"""Simulated runs for products that take an observation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.observation import Observation
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.simulate.store import SimulationOptions, simulate_store

TARGET_DEG = 83.633, 22.014
DEFAULTS = {
    "offset_max_deg": 2.0,
    "gti_filter": True,
    "duplicates": "refuse",
    "time_mjd": None,
    "split_s": None,
    "acceptance": AcceptanceOptions(),
    "safe_mask": SafeMaskOptions(),
    "spectrum": PowerLaw(),
}


def simulated_runs(folder: Path, **options) -> Iterator[Observation]:
    """Write a store of simulated runs about the target into a folder, and read them one by one."""
    simulate_store(folder, SimulationOptions(centre=TARGET_DEG, **options))
    return (read_observation(entry) for entry in open_store(folder).runs)


def reduce_options(width_deg, pixel_deg, energy, energy_true, irf_pixel_deg=0.2, n_rad=66, **options) -> ReduceOptions:
    """Options of a map about the target; energies as limits in TeV and number of bins."""
    geometry = make_geometry("icrs", "TAN", *TARGET_DEG, width_deg, pixel_deg)
    return ReduceOptions(
        geometry=geometry,
        irf_geometry=geometry.coarse(irf_pixel_deg),
        energy=energy_axis(log_edges(*energy)),
        energy_true=energy_axis(log_edges(*energy_true), "energy_true"),
        rad=rad_axis(0.66, n_rad),
        **{**DEFAULTS, **options},
    )


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Folder for scratch files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("CUBEFLOW_SCRATCH", str(folder))
    return folder
