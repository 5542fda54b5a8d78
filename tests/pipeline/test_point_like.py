"""Point-like data: counts and exposure maps, and one line for what cannot be."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.errors import RunsLeftOut
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import finish, run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store

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


@pytest.fixture
def mixed(tmp_path, magic):
    """Two point-like runs, and one of full enclosure that is as good; without an index."""
    folder = tmp_path / "mixed"
    simulate_store(folder, SimulationOptions(n_runs=3, duration_s=600.0, tiny=True))
    for obs_id in (100001, 100002):
        (folder / f"obs_{obs_id}.fits.gz").write_bytes((magic.index / f"{obs_id}.fits.gz").read_bytes())
    for index in folder.glob("*-index.fits.gz"):
        index.unlink()
    return folder


def configure(tmp_path, store, method: str) -> Path:
    entry = open_store(store, [tmp_path]).runs[0]
    pointing = read_observation(entry).pointing
    path = tmp_path / f"{method}.yaml"
    folders = {"store": store, "folder": tmp_path, "results": tmp_path / f"results-{method}"}
    path.write_text(CONFIG.format(**folders, ra=pointing.ra_deg, dec=pointing.dec_deg, method=method))
    return path


def test_counts_and_exposure_of_point_like_data(tmp_path, magic):
    from gammapy.datasets import MapDataset

    lines: list[str] = []
    finish(run_whole(load_config(configure(tmp_path, magic.index, "none")), lines.append), lines.append)
    results = tmp_path / "results-none" / "source"
    cube = cubeflow.load(results / "maps" / "cube.h5")
    assert {"counts", "exposure", "exposure_reco", "mask_safe", "edisp"} <= set(cube.maps)
    assert not {"background", "acceptance", "psf"} & set(cube.maps)
    assert cube.maps["exposure"].data.max() > 0
    assert np.all(np.isnan(cube.maps["disc_significance"].data))
    dataset = MapDataset.read(results / "maps" / "dataset.fits.gz")
    assert dataset.background is None
    np.testing.assert_array_equal(dataset.counts.data, cube.maps["counts"].data)
    table = Table.read(results / "runs.ecsv")
    used = table[table["status"] == "ok"]
    assert len(used) == 2
    assert all(used["is_pointlike"])
    cut = "point-like: the exposure holds inside the cut on direction only"
    text = f"{cut}; effective area in one bin from 0 to 4 deg only"
    assert set(used["limits"]) == {text}
    assert f"source: 2 of 2 runs: {text}" in lines
    assert (cube.attributes["is_pointlike"], cube.attributes["is_mixed"]) == (True, False)
    assert dataset.exposure.meta["is_pointlike"] == True  # noqa: E712, a Quantity, as gammapy reads all values
    for name in ("dataset", "significance"):
        assert fits.getheader(results / "maps" / f"{name}.fits.gz")["HDUCLAS3"] == "POINT-LIKE"


def reduce_mixed(tmp_path, mixed, extra: str = "", exclude: str = "[]"):
    """Run table, cube and folder of the runs of `mixed`, with more settings."""
    path = configure(tmp_path, mixed, "none")
    path.write_text(path.read_text() + f"observations: {{exclude: {exclude}}}\n{extra}")
    run_whole(load_config(path), lambda line: None)
    folder = tmp_path / "results-none" / "source"
    return Table.read(folder / "runs.ecsv"), cubeflow.load(folder / "maps" / "cube.h5"), folder


def test_the_other_kind_is_refused_and_says_why(tmp_path, mixed):
    table, cube, folder = reduce_mixed(tmp_path, mixed)
    assert table["status"].tolist() == ["ok", "ok", "refused"]
    assert table["reason"][2] == (
        "full-enclosure responses, those of most runs are point-like: not stacked together unless stack.mixed is true"
    )
    assert table["is_pointlike"].tolist() == [True, True, False]
    alone = reduce_mixed(tmp_path, mixed, exclude="[100003]")[1]
    np.testing.assert_array_equal(cube.maps["exposure"].data, alone.maps["exposure"].data)
    assert cube.attributes["n_runs"] == 2
    assert len(list(folder.glob("obs/100003/reduced-*.h5"))) == 1


def test_of_as_many_the_full_enclosure_is_taken(tmp_path, mixed):
    table, cube, folder = reduce_mixed(tmp_path, mixed, exclude="[100001]")
    assert table["status"].tolist() == ["refused", "ok"]
    assert table["reason"][0].startswith("point-like responses, those of most runs are full-enclosure: ")
    assert (cube.attributes["is_pointlike"], cube.attributes["is_mixed"]) == (False, False)
    assert fits.getheader(folder / "maps" / "dataset.fits.gz")["HDUCLAS3"] == "FULL-ENCLOSURE"


def test_both_kinds_are_stacked_where_that_is_asked_for(tmp_path, mixed):
    _, most, _ = reduce_mixed(tmp_path, mixed)
    table, cube, folder = reduce_mixed(tmp_path, mixed, "stack: {mixed: true}\n")
    assert set(table["status"]) == {"ok"}
    assert cube.attributes["n_runs"] == 3
    assert (cube.attributes["is_pointlike"], cube.attributes["is_mixed"]) == (True, True)
    assert fits.getheader(folder / "maps" / "dataset.fits.gz")["HDUCLAS3"] == "MIXED"
    rest = cubeflow.load(next(folder.glob("obs/100003/reduced-*.h5")))
    assert rest.attributes["row"]["is_pointlike"] is False
    own, whole = rest.maps["counts"].geom.overlap(cube.maps["counts"].geom)
    expected = most.maps["counts"].data.copy()
    expected[:, *whole] += (rest.maps["counts"].data * rest.maps["mask_safe"].data)[:, *own]
    np.testing.assert_array_equal(cube.maps["counts"].data, expected)
    again = reduce_mixed(tmp_path, mixed)[1]  # the setting goes, and so does the run
    np.testing.assert_array_equal(again.maps["exposure"].data, most.maps["exposure"].data)


def test_kinds_are_read_for_the_plan_only_where_they_may_be_mixed(tmp_path, mixed):
    for method, number in (("fov", 0), ("none", 3)):
        facts = make_plan(load_config(configure(tmp_path, mixed, method)), lambda line: None).cache.facts
        assert sorted(facts.values()) == [-1, 1, 1][:number]


def test_a_refused_kind_fails_where_refusals_do(tmp_path, mixed):
    with pytest.raises(RunsLeftOut, match=r"1 of 3 runs refused.*run 100003: full-enclosure responses"):
        reduce_mixed(tmp_path, mixed, "on_refused: fail\n")


@pytest.mark.real_data
def test_magic_exposure_holds_in_one_bin_of_offset(tmp_path, data_root):
    store = data_root / "magic" / "data"
    if not store.is_dir():
        pytest.skip(f"no MAGIC data in {data_root}")
    lines: list[str] = []
    path = configure(tmp_path, store, "none")
    path.write_text(path.read_text().replace("pixel: 0.1 deg", "pixel: 0.02 deg"))
    finish(run_whole(load_config(path), lines.append), lines.append)
    text = "effective area in one bin from 0.39 to 0.41 deg only"
    assert sum(text in line and "2 of 2 runs: point-like" in line for line in lines) == 1
    table = Table.read(tmp_path / "results-none" / "source" / "runs.ecsv")
    assert all(text in limits for limits in table["limits"][table["status"] == "ok"])


def test_acceptance_of_point_like_data_is_refused_in_one_line(tmp_path, magic):
    lines: list[str] = []
    finish(run_whole(load_config(configure(tmp_path, magic.index, "fov")), lines.append), lines.append)
    assert any("maps: no run is left; see " in line for line in lines)
    assert any("no background response" in line and "method: none" in line for line in lines)
