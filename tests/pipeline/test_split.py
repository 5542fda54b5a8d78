"""Runs in pieces add up to the whole runs, and are remembered piece by piece."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time, TimeDelta

import cubeflow
from cubeflow.config import load_config
from cubeflow.plan.run import run_whole, table_lines
from cubeflow.plan.tasks import TargetTasks

CONFIG = """
data: {{store: {store}}}
results: {results}
simulate: {{runs: 3}}
observations: {observations}
gti_filter: true
targets:
  source:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: [3 deg, 2.6 deg], pixel: 0.1 deg}}
energy: {{min: 1 TeV, max: 20 TeV, bins: 3}}
energy_true: {{min: 0.5 TeV, max: 40 TeV, bins: 7}}
irf_grid: {{pixel: 0.4 deg, rad_bins: 20}}
backgrounds: {{fov: {{method: fov}}}}
"""


def run(tmp_path, name: str, observations: str):
    """Results of the simulated runs with these observations."""
    config = tmp_path / f"{name}.yaml"
    config.write_text(CONFIG.format(store=tmp_path / "store", results=tmp_path / name, observations=observations))
    lines: list[str] = []
    run_whole(load_config(config), lines.append)
    (tmp_path / name / "said.txt").write_text("\n".join(lines))
    return tmp_path / name / "source"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("split")


@pytest.fixture(scope="module")
def whole(folder):
    return cubeflow.load(run(folder, "whole", "{}") / "fov" / "cube.h5")


@pytest.mark.parametrize(("split", "pieces"), [("gti", 4), ("night", 3), ("10 min", 9)])
def test_pieces_add_up_to_the_whole(folder, whole, split, pieces):
    results = run(folder, f"pieces-{split.replace(' ', '')}", f"{{split: {split}}}")
    cube = cubeflow.load(results / "fov" / "cube.h5")
    np.testing.assert_array_equal(cube.maps["counts"].data, whole.maps["counts"].data)
    np.testing.assert_allclose(cube.maps["exposure"].data, whole.maps["exposure"].data, rtol=1e-5)
    np.testing.assert_allclose(cube.maps["acceptance"].data, whole.maps["acceptance"].data, rtol=1e-5)
    assert cube.attributes["livetime_s"] == pytest.approx(whole.attributes["livetime_s"])
    table = Table.read(results / "runs.ecsv")
    assert len(table) == pieces
    assert cube.attributes["n_runs"] == whole.attributes["n_runs"] == 3
    said = (results.parent / "said.txt").read_text()
    assert f"{results / 'runs.ecsv'}: 3 runs, 3 of them ok" in said
    assert "source: fov: 3 runs, " in said
    assert [*table_lines(results / "runs.csv", [], TargetTasks())][-1] == "3 runs used"
    assert len(set(zip(table["obs_id"], table["piece"], strict=True))) == pieces
    assert np.sum(table["ontime"]) == pytest.approx(whole.attributes["ontime_s"])
    # Each piece has a norm of its own: their spread is that of their counts.
    pull = (table["fov_norm_0"] - np.average(table["fov_norm_0"])) / table["fov_norm_err_0"]
    assert np.std(pull) < 2.5
    assert len(set(table["fov_norm_0"])) == pieces


def good_time(store):
    """Start and stop of the good time intervals of all simulated runs, shape (n, 2), MJD (TT), by astropy."""
    found = []
    for path in sorted(store.glob("obs_*.fits.gz")):
        header, rows = fits.getheader(path, "GTI"), fits.getdata(path, "GTI")
        zero = Time(header["MJDREFI"], header["MJDREFF"], format="mjd", scale=header["TIMESYS"].lower())
        found += [(zero + TimeDelta([row["START"], row["STOP"]], format="sec")).tt.mjd for row in rows]
    return np.array(found)


@pytest.mark.parametrize("split", ["gti", "10 min"])
def test_times_are_those_of_the_piece(folder, whole, split):
    expected = good_time(folder / "store")
    table = Table.read(run(folder, f"times-{split.replace(' ', '')}", f"{{split: {split}}}") / "runs.ecsv")
    start, stop = (np.asarray(table[name]) for name in ("tstart", "tstop"))
    within = (expected[:, 0] <= start[:, None] + 1e-9) & (stop[:, None] <= expected[:, 1] + 1e-9)
    if split == "gti":
        np.testing.assert_allclose(np.stack([start, stop], axis=1), expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose((stop - start) * 86400, table["ontime"], atol=1e-3)
    else:
        assert np.all(stop - start <= 600 / 86400 + 1e-9)
        assert np.all(start[1:] > stop[:-1] - 1e-9)
        assert sum(within.any(axis=1)) > len(expected)


def test_pieces_are_not_made_twice(folder):
    results = run(folder, "again", "{split: gti}")
    before = {path: path.stat().st_mtime_ns for path in results.rglob("obs/*-piece*/*.h5")}
    assert before
    for leaf in results.rglob("stack/*/*.h5"):
        leaf.unlink()
    run(folder, "again", "{split: gti}")
    assert before == {path: path.stat().st_mtime_ns for path in results.rglob("obs/*-piece*/*.h5")}


def test_selected_time_is_all_that_is_used(folder, whole):
    start, stop = np.asarray(whole.arrays["gti_s"])[1]
    middle = 51910 + (start + 0.25 * (stop - start)) / 86400
    results = run(folder, "selected", f"{{time: [[51910, {float(middle)!r}]]}}")
    cube = cubeflow.load(results / "fov" / "cube.h5")
    first = np.diff(np.asarray(whole.arrays["gti_s"])[0])[0]
    assert cube.attributes["ontime_s"] == pytest.approx(first + 0.25 * (stop - start), abs=1e-3)
    table = Table.read(results / "runs.ecsv")
    assert sorted(table["status"]) == ["ok", "ok", "skipped"]
    assert table["tstop"][1] == pytest.approx(middle, abs=1e-9)
    assert "observations.time" in str(table["reason"][table["status"] == "skipped"][0])
