"""The run table in its three forms."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.pipeline.certificate import certified
from cubeflow.pipeline.table import make_table
from cubeflow.pipeline.tasks import Refusal, certificate_file
from cubeflow.plan.run import finish, run_whole, table_lines, target_lines
from cubeflow.plan.tasks import TargetTasks
from cubeflow.report.runs import numbers, read_runs
from cubeflow.store.artifact import read_artifact
from cubeflow.store.tables import write_table

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
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
    assert table["reason"][1] == "file: truncated gzip file"


@pytest.mark.parametrize(
    ("energy", "true", "said"),
    [
        ("{min: 1.2 TeV, max: 20 TeV, bins: 4}", "{min: 0.5 TeV, max: 60 TeV, bins: 12}", []),
        ("{min: 1.2 TeV, max: 20 TeV, bins: 4}", "{min: 1.2 TeV, max: 20 TeV, bins: 12}", ["energy_true"]),
        ("{edges: [0.1 TeV, 1.5 TeV, 20 TeV]}", "{min: 0.05 TeV, max: 60 TeV, bins: 24}", ["energy"]),
    ],
)
def test_what_the_axes_of_energy_lose_is_said(results, tmp_path, energy, true, said):
    """The simulated responses begin at 0.3 TeV, which a first bin from 0.1 to 1.5 TeV does not hold."""
    text = CONFIG.format(folder=results.parents[1]).replace("{min: 1 TeV, max: 20 TeV, bins: 4}", energy)
    text = text.replace("{min: 0.5 TeV, max: 40 TeV, bins: 7}", true).replace("energy_groups: 2", "energy_groups: 1")
    text = text.replace(f"results: {results.parent}", f"results: {tmp_path}")
    (tmp_path / "config.yaml").write_text(text)
    plan = run_whole(load_config(tmp_path / "config.yaml"), lambda line: None)
    lines = list(target_lines(plan, "source"))
    table = Table.read(tmp_path / "source" / "runs.ecsv")
    used = table[table["status"] == "ok"]
    about = [line for line in lines if line.startswith("source: energy")]
    assert [line.split(": ")[1] for line in about] == said
    assert (used["beyond_energy_true"].max() > 0.01) == ("energy_true" in said)
    if "energy_true" in said:
        assert f"up to {100 * used['beyond_energy_true'].max():.3g} % of the counts" in about[0]
    if "energy" in said:
        cut, safe = used["counts_cut"].sum(), used["counts_safe"].sum()
        assert f"energy: {cut} of {cut + safe} counts lie in bins that are safe in part" in about[0]


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


@pytest.mark.parametrize("label", ["fov", "ring"])
def test_the_target_of_the_cube_is_that_of_its_runs(results, label):
    """With an even number of pixels the target is the corner of four."""
    used = Table.read(results / "runs.ecsv")
    used = used[used["status"] == "ok"]
    source = read_artifact(results / label / "cube.h5").attributes["source"]
    names = {"on": "counts", "background": "background", "excess": "excess"} | (
        {"off": "off"} if label == "ring" else {}
    )
    for column, name in names.items():
        assert source[name] == pytest.approx(used[f"{label}_{column}"].sum(), rel=1e-12), name
    assert source["flux"] > 3 * source["flux_err"] > 0
    assert source["flux_ul"] is None
    assert 0.5 < source["containment"] < 1


def test_every_column_says_what_it_is_and_no_other(results):
    table = Table.read(results / "runs.ecsv")
    said = {name: table[name].description for name in table.colnames}
    assert [name for name, text in said.items() if not text] == []
    assert said["object"] == "object named in the file"
    assert said["dec_object"] == "declination of the object named in the file"
    assert said["header_ontime"] == "ONTIME of the header"
    assert said["counts"] == "counts within the largest offset"
    assert said["fov_counts_1"] == "counts from which the norm was found"
    assert said["ring_off"] == "OFF counts of the ring about the target"


@pytest.mark.parametrize(
    "why", ["no overlap with the map", "no selected time", "zenith angles of the acceptance model"]
)
def test_the_status_names_every_reason_for_which_a_run_is_skipped(results, why):
    said = Table.read(results / "runs.ecsv")["status"].description
    (documented,) = (line for line in DOCS.read_text().splitlines() if line.startswith("| `status` |"))
    assert why in said
    assert why in documented


def test_times_say_what_they_count_from(results):
    for form in ("ecsv", "fits"):
        table = Table.read(results / f"runs.{form}")
        assert table["tstart"].unit == table["tstop"].unit == "d"
        assert [table.meta[key] for key in ("TIMESYS", "MJDREFI", "MJDREFF", "TIMEUNIT")] == ["TT", 0, 0.0, "d"]
    table = Table.read(results / "runs.ecsv")
    assert table["tstart"].description == "start of the first good time interval, MJD (TT)"
    assert table["tstop"].description == "end of the last good time interval, MJD (TT)"
    used = table[table["status"] == "ok"]
    assert np.all((used["tstop"] - used["tstart"]) * 86400 >= used["ontime"] - 1e-3)
    assert np.all((used["tstart"] > 51910) & (used["tstop"] < 70000))


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
    assert columns["counts_safe"].description == "counts in safe bins"
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


def test_a_column_without_any_value_keeps_its_type(tmp_path):
    """The report reads them as numbers: for the only run with counts the fov background may be dropped."""
    row = {"obs_id": 7, "zenith_deg": None, "object": None, "fov_alpha": None, "fov_norm_0": None, "fov_note": None}
    key = "0" * 64
    table = make_table([row], ["fov"], key)
    assert {name: table[name].dtype.kind for name in table.colnames if name != "obs_id"} == {
        "zenith": "f", "object": "U", "fov_alpha": "f", "fov_norm_0": "f", "fov_note": "U",
    }  # fmt: skip
    with certified(tmp_path / certificate_file("", key), key, [tmp_path / "runs.ecsv"], {}):
        write_table(tmp_path / "runs", table)
    assert np.isnan(numbers(read_runs(tmp_path, key), "fov_alpha")).tolist() == [True]
    assert Table.read(tmp_path / "runs.ecsv")["fov_alpha"].mask.tolist() == [True]


def test_a_run_that_one_label_drops_is_good_for_another(tmp_path):
    """The status of a run is the best of its labels; of a label it is what its policy says, in table and artifact."""
    strict = "{method: fov, norm_max: 0.2, on_failure: %s}"
    more = f"  strict: {strict % 'drop'}\n  sure: {strict % 'error'}\n"
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(folder=tmp_path) + more)
    lines: list[str] = []
    finish(run_whole(load_config(config), lines.append), lines.append)
    assert any(line.startswith("source: strict, sure: no run is left; see ") for line in lines)
    folder = tmp_path / "results" / "source"
    table = Table.read(folder / "runs.ecsv")
    assert table["status"].tolist() == table["fov_status"].tolist() == table["ring_status"].tolist() == ["ok"] * 3
    assert table["strict_status"].tolist() == ["dropped"] * 3
    assert table["sure_status"].tolist() == ["refused"] * 3
    assert all("outside its limits 0.1 to 0.2" in reason for reason in table["strict_reason"])
    assert not any("".join(np.ma.filled(table[name], "")) for name in ("reason", "fov_reason", "ring_reason"))
    for label, status in (("strict", "dropped"), ("sure", "refused"), ("ring", "ok")):
        for path in folder.glob(f"obs/*/background-{label}-*.h5"):
            assert read_artifact(path).attributes["status"] == status
    assert f"{folder / 'runs.ecsv'}: 3 runs, 3 of them ok" in lines
    planned = TargetTasks(refused=tuple(Refusal(obs_id, "told") for obs_id in (100001, 100002, 100003)))
    assert [*table_lines(folder / "runs.csv", [], planned)][-1] == "3 runs used"


def test_runs_that_are_never_read_are_refused_for_every_label(results):
    table = Table.read(results / "runs.ecsv")
    assert table["fov_status"].tolist() == table["ring_status"].tolist() == table["status"].tolist()
    assert table["ring_reason"][1] == table["reason"][1] != ""
