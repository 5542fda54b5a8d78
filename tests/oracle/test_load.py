"""A loaded cube gives gammapy the same dataset as the exported file."""

import numpy as np
import pytest

import cubeflow
from cubeflow.config import load_config
from cubeflow.plan.run import run_whole

CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/results
simulate: {{runs: 2}}
targets:
  source:
    position: {{frame: galactic, lon: 184.5 deg, lat: -5.8 deg}}
    geometry: {{frame: galactic, projection: CAR, width: [3.2 deg, 2.6 deg], pixel: 0.1 deg}}
energy: {{min: 1 TeV, max: 20 TeV, bins: 3}}
energy_true: {{min: 0.5 TeV, max: 40 TeV, bins: 7}}
irf_grid: {{pixel: 0.4 deg, rad_bins: 20}}
backgrounds:
  fov: {{method: fov}}
  ring: {{method: ring, r_in: 0.5 deg, width: 0.3 deg, per_energy: false}}
  planes: {{method: ring, r_in: 0.5 deg, width: 0.3 deg, per_energy: true}}
"""


def quiet(line: str) -> None:
    """Take a line of the log."""


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Final products of a small simulated store, by label."""
    folder = tmp_path_factory.mktemp("products")
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    run_whole(load_config(folder / "config.yaml"), quiet)
    return folder / "results" / "source"


@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.parametrize("label", ["fov", "ring", "planes"])
def test_loaded_dataset_is_the_exported_one(products, label):
    from gammapy.datasets import MapDataset, MapDatasetOnOff

    dataset = cubeflow.load(products / label / "cube.h5").to_gammapy()
    kind = MapDataset if label == "fov" else MapDatasetOnOff
    read = kind.read(products / label / "dataset.fits.gz")
    assert isinstance(dataset, kind)
    names = ["counts", "exposure", "mask_safe", "background"]
    names += [] if label == "fov" else ["counts_off", "acceptance", "acceptance_off", "alpha"]
    for name in names:
        ours, theirs = getattr(dataset, name), getattr(read, name)
        assert ours.geom == theirs.geom
        assert ours.unit == theirs.unit
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-6)
    np.testing.assert_array_equal(dataset.psf.psf_map.data, read.psf.psf_map.data)
    np.testing.assert_allclose(dataset.edisp.edisp_map.data, read.edisp.edisp_map.data, rtol=1e-6)
    assert dataset.gti.time_sum == read.gti.time_sum
    assert dataset.exposure.meta["livetime"] == read.exposure.meta["livetime"] > 0
    assert dataset.info_dict()["livetime"] == read.info_dict()["livetime"]
    assert len(dataset.counts.geom.axes["energy"].edges) == (2 if label == "ring" else 4)


def test_maps_of_a_run(products):
    run = sorted((products / "obs").iterdir())[0]
    loaded = cubeflow.load(next(run.glob("reduced-*.h5")))
    assert repr(loaded).startswith("<reduced ")
    assert "\n  counts: <Cube energy 3 x lat " in repr(loaded)
    maps = loaded.to_gammapy()
    assert maps["counts"].data.sum() == loaded.attributes["row"]["counts"]
    assert maps["exposure"].unit == "m2 s"
    assert [axis.name for axis in maps["psf"].geom.axes] == ["rad", "energy_true"]


@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.parametrize("label", ["fov", "ring"])
def test_the_list_of_datasets_opens(products, label):
    from gammapy.datasets import Datasets

    (dataset,) = Datasets.read(products / label / "datasets.yaml", lazy=False)
    assert dataset.name == f"source-{label}"
    assert type(dataset).__name__ == ("MapDataset" if label == "fov" else "MapDatasetOnOff")
    assert dataset.counts.data.sum() == cubeflow.load(products / label / "cube.h5").maps["counts"].data.sum()
