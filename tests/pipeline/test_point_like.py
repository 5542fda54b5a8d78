"""Point-like data: counts and exposure maps, and one line for what cannot be."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.errors import FailedError
from cubeflow.plan.run import run_whole

CONFIG = """
data: {{store: {store}, roots: [{folder}]}}
results: {results}
targets:
  source:
    position: {{lon: {ra} deg, lat: {dec} deg}}
    geometry: {{width: [3 deg, 2.6 deg], pixel: 0.1 deg}}
energy: {{min: 0.3 TeV, max: 3 TeV, bins: 3}}
energy_true: {{min: 0.2 TeV, max: 5 TeV, bins: 7}}
irf_grid: {{pixel: 0.4 deg}}
safe_mask: {{methods: [offset-max]}}
backgrounds: {{maps: {{method: {method}}}}}
"""


def load_instruments():
    """Writers of synthetic files of each instrument, beside the tests of the reader."""
    path = Path(__file__).parents[1] / "dl3" / "instruments.py"
    spec = importlib.util.spec_from_file_location("instruments", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def magic(tmp_path):
    """Store of a MAGIC-like run."""
    return load_instruments().magic(tmp_path / "magic")


def configure(tmp_path, store, method: str) -> Path:
    entry = open_store(store, [tmp_path]).runs[0]
    pointing = read_observation(entry).pointing
    path = tmp_path / f"{method}.yaml"
    folders = {"store": store, "folder": tmp_path, "results": tmp_path / f"results-{method}"}
    path.write_text(CONFIG.format(**folders, ra=pointing.ra_deg, dec=pointing.dec_deg, method=method))
    return path


def test_counts_and_exposure_of_point_like_data(tmp_path, magic):
    from gammapy.datasets import MapDataset

    run_whole(load_config(configure(tmp_path, magic.index, "none")), lambda line: None)
    results = tmp_path / "results-none" / "source"
    cube = cubeflow.load(results / "maps" / "cube.h5")
    assert {"counts", "exposure", "exposure_reco", "mask_safe", "edisp"} <= set(cube.maps)
    assert not {"background", "acceptance", "psf"} & set(cube.maps)
    assert cube.maps["exposure"].data.max() > 0
    assert np.all(np.isnan(cube.maps["disc_significance"].data))
    dataset = MapDataset.read(results / "maps" / "dataset.fits.gz")
    assert dataset.background is None
    np.testing.assert_array_equal(dataset.counts.data, cube.maps["counts"].data)
    assert "ok" in set(Table.read(results / "runs.ecsv")["status"])


def test_acceptance_of_point_like_data_is_refused_in_one_line(tmp_path, magic):
    lines: list[str] = []
    with pytest.raises(FailedError, match="no run is left"):
        run_whole(load_config(configure(tmp_path, magic.index, "fov")), lines.append)
    assert any("no background response" in line and "method: none" in line for line in lines)
