"""The run table in its three forms."""

import numpy as np
import pytest
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.pipeline.table import make_table
from cubeflow.plan.run import run_whole
from cubeflow.store.tables import write_table

CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/results
simulate: {{runs: 3}}
targets:
  source:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: [5 deg, 5 deg], pixel: 0.1 deg}}
energy: {{min: 1 TeV, max: 20 TeV, bins: 4}}
energy_true: {{min: 0.5 TeV, max: 40 TeV, bins: 7}}
irf_grid: {{pixel: 0.5 deg, rad_bins: 20}}
backgrounds:
  fov: {{method: fov, energy_groups: 2}}
  ring: {{method: ring, r_in: 0.5 deg, width: 0.4 deg}}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    run_whole(load_config(folder / "config.yaml"), lambda line: None)
    # One run cannot be used: its file ends too early.
    broken = folder / "store" / "obs_100002.fits.gz"
    broken.write_bytes(broken.read_bytes()[:-5000])
    run_whole(load_config(folder / "config.yaml"), lambda line: None)
    return folder / "results" / "source"


def test_every_selected_run_has_a_row(results):
    table = Table.read(results / "runs.ecsv")
    assert table["obs_id"].tolist() == [100001, 100002, 100003]
    assert table["status"].tolist() == ["ok", "refused", "ok"]
    assert "obs_100002.fits.gz" in table["reason"][1]


def test_columns_with_units(results):
    table = Table.read(results / "runs.ecsv")
    used = table[table["status"] == "ok"]
    assert table["ontime"].unit == "s"
    assert table["offset"].unit == "deg"
    np.testing.assert_allclose(used["livetime"] / used["ontime"], used["deadc"])
    assert np.all((used["offset"] > 0.4) & (used["offset"] < 0.8))
    for group in (0, 1):
        assert np.all(used[f"fov_norm_err_{group}"] > 0)
    np.testing.assert_allclose(used["ring_alpha"] * used["ring_off"], used["ring_on"] - used["ring_excess"])
    assert np.all(used["fov_significance"] > 3)


def test_every_column_says_what_it_is_and_no_other(results):
    table = Table.read(results / "runs.ecsv")
    said = {name: table[name].description for name in table.colnames}
    assert [name for name, text in said.items() if not text] == []
    assert said["object"] == "object named in the file"
    assert said["dec_object"] == "declination of the object named in the file"
    assert said["header_ontime"] == "ONTIME of the header"
    assert said["counts"] == "counts in the map"
    assert said["fov_counts_1"] == "counts from which the norm was found"
    assert said["ring_off"] == "OFF counts of the ring about the target"


def test_columns_of_a_run_stay_apart_from_those_of_labels_called_alike():
    row = {"obs_id": 1, "counts_safe": 5, "n_events": 7, "x_status": "ok", "x_2_status": "ok", "x_norm_0": 1.0}
    row |= {"counts_status": "ok", "n_on": 3, "fancy": 0}
    columns = make_table([row], ["n", "x", "counts", "x_2"], "0" * 64)
    order = [
        "obs_id",
        "n_events",
        "counts_safe",
        "fancy",
        "n_on",
        "x_norm_0",
        "x_status",
        "counts_status",
        "x_2_status",
    ]
    assert columns.colnames == order
    assert columns["counts_safe"].description == "counts in safe bins of the map"
    assert columns["x_2_status"].description == columns["counts_status"].description == columns["x_status"].description
    assert columns["fancy"].description == ""


def test_the_three_forms_say_the_same(results):
    ecsv, csv, fits = (Table.read(results / f"runs.{form}") for form in ("ecsv", "csv", "fits"))
    assert ecsv.colnames == csv.colnames == fits.colnames
    for name in ("obs_id", "counts", "fov_norm_0", "ring_off"):
        used = ecsv["status"] == "ok"
        np.testing.assert_array_equal(np.asarray(ecsv[name][used]), np.asarray(csv[name][used]))
        np.testing.assert_array_equal(np.asarray(ecsv[name][used]), np.asarray(fits[name][used]))


def test_fits_has_as_many_columns_as_it_may(tmp_path):
    """One norm for each of many energies and labels: more columns than keywords with three digits can name."""
    row = {"obs_id": 7, "status": "ok", "reason": ""} | {f"fov_norm_{group}": 1.0 + group for group in range(1200)}
    write_table(tmp_path / "runs", make_table([row], ["fov"], "0" * 64))
    whole, part = Table.read(tmp_path / "runs.ecsv"), Table.read(tmp_path / "runs.fits")
    assert (len(whole.colnames), part.colnames) == (1203, whole.colnames[:999])
    assert part["fov_norm_3"][0] == 4.0


def test_cells_without_a_value_are_masked(tmp_path):
    rows = [{"obs_id": 1, "counts": 3, "object": "a"}, {"obs_id": 2}]
    table = make_table(rows, [], "0" * 64)
    assert table["counts"].mask.tolist() == table["object"].mask.tolist() == [False, True]
    assert table["counts"].dtype.kind == "i"
    write_table(tmp_path / "runs", table)
    for form in ("ecsv", "fits"):
        found = Table.read(tmp_path / f"runs.{form}")
        assert found["counts"].mask.tolist() == [False, True]
