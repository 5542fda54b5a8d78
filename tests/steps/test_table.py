"""The run table in its three forms."""

import json

import numpy as np
import pytest
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.steps import table
from cubeflow.steps.cells import Columns
from cubeflow.steps.rows import TargetRows
from cubeflow.steps.table import make_columns
from cubeflow.steps.whole import run_whole

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
    made = Columns()
    made.add([row])
    columns = {column.name: column for column in make_columns(made.sorted_by(), ["n", "x", "counts", "x_2"])}
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
    assert list(columns) == order
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


def test_fits_has_as_many_columns_as_it_may(tmp_path, monkeypatch):
    """One norm for each of many energies and labels: more columns than keywords with three digits can name."""
    row = {"obs_id": 7, "status": "ok", "reason": ""} | {f"fov_norm_{group}": 1.0 + group for group in range(1200)}
    made = Columns()
    made.add([row])
    found = TargetRows(made.sorted_by("obs_id"), {"fov": 1}, {})
    monkeypatch.setattr(table, "target_rows", lambda manifest, folder: found)
    (tmp_path / "plan").mkdir()
    manifest = tmp_path / "plan" / "runs.table.json"
    manifest.write_text(json.dumps({"leaves": {"fov": []}, "refused": {}, "key": "0" * 64}))
    lines = []
    table.write_run_table(manifest, lines.append)
    assert "runs.fits: the first 999 of 1203 columns, FITS allows no more" in lines[0]
    whole, part = Table.read(tmp_path / "runs.ecsv"), Table.read(tmp_path / "runs.fits")
    assert (len(whole.colnames), part.colnames) == (1203, whole.colnames[:999])
    assert part["fov_norm_3"][0] == 4.0


def test_the_form_with_the_key_is_written_last(results, monkeypatch):
    """A process that is ended before leaves a table that the next plan finds missing."""
    manifest = max((results / "plan").glob("*.table.json"), key=lambda path: path.stat().st_mtime_ns)
    written = []
    monkeypatch.setattr(table, "write_parts", lambda path, parts: written.append(path.name))
    table.write_run_table(manifest, lambda line: None)
    assert written == ["runs.csv", "runs.fits", "runs.ecsv"]
