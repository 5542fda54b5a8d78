"""Words on the runs of a target."""

import json

import numpy as np
import pytest
from astropy.table import Table

from cubeflow.pipeline.certificate import certified
from cubeflow.pipeline.table import make_table
from cubeflow.pipeline.tasks import certificate_file
from cubeflow.report.runs import (
    Runs,
    count_warnings,
    date,
    is_used,
    left_out,
    numbers,
    read_runs,
    run_names,
    suspicions,
    table_parts,
    without_folders,
)
from cubeflow.store.tables import write_table

ROWS = [
    {
        "obs_id": 1,
        "status": "ok",
        "quirks": "tdb-as-tt event-ids-repeated",
        "repairs": "ra_wrapped=12",
        "tstart": 53067.4,
    },
    {"obs_id": 2, "status": "ok", "quirks": "tdb-as-tt", "piece": 3, "fov_note": "kept"},
    {"obs_id": 3, "status": "refused", "reason": "/data/dl3/run-3/obs_3.fits.gz: no such file"},
]


def test_a_table_is_read_as_astropy_reads_it(tmp_path):
    rows = [
        {"obs_id": 7, "status": "ok", "livetime_s": 1600.25, "is_pointlike": True, "counts": 3, "fov_norm_0": 1.5},
        {"obs_id": 8, "status": "refused", "reason": "no µ # 'a' \"b", "counts": None},
        {"obs_id": 9, "status": "ok", "livetime_s": 0.0, "is_pointlike": False, "counts": 0, "n_tels": 4},
    ]
    with certified(tmp_path / certificate_file("", "ab" * 32), "ab" * 32, [tmp_path / "runs.ecsv"], {}):
        write_table(tmp_path / "runs", make_table(rows, ["fov"], "ab" * 32))
    found, table = read_runs(tmp_path, "ab" * 32), Table.read(tmp_path / "runs.ecsv")
    assert list(found.columns) == table.colnames
    for name in table.colnames:
        assert found.columns[name] == [None if cell == "" else cell for cell in table[name].tolist()]
        assert found.about[name] == (str(table[name].unit or ""), table[name].description)
    assert found.rows(np.array([2, 0])).column("obs_id") == [9, 7]
    assert found.rows(is_used(found)).column("counts") == [3, 0]
    assert found.column("absent") == [None] * 3
    np.testing.assert_array_equal(numbers(found, "livetime"), [1600.25, np.nan, 0.0])
    assert len(Runs({}, {})) == 0


def test_warnings_come_with_words_what_is_to_be_looked_at_first(table_of):
    found = count_warnings(table_of([*ROWS, {"obs_id": 4, "status": "ok", "repairs": "of-a-later-edition=1"}]))
    assert [(found == "look at", name, number) for name, _, number, found in found] == [
        (True, "event-ids-repeated", 1),
        (True, "of-a-later-edition", 1),
        (False, "tdb-as-tt", 2),
        (False, "ra_wrapped", 1),
    ]
    assert found[2][1] == "TIMESYS TDB read as TT (differs by 2 ms at most)"
    assert found[3][1] == "right ascensions outside 0 to 360 deg"


def test_suspicions_are_of_runs_that_are_used(table_of):
    assert list(suspicions(table_of(ROWS), "fov")) == [("1", "event-ids-repeated"), ("2", "kept")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/work/data/obs_3.fits.gz: no such file", "obs_3.fits.gz: no such file"),
        ("run 3: data/sub/obs_3.fits: BKG in 1/s/MeV/sr", "run 3: obs_3.fits: BKG in 1/s/MeV/sr"),
        ("norm 12 in 1-2 TeV, expected 0.1 to 10", "norm 12 in 1-2 TeV, expected 0.1 to 10"),
        ("LIVETIME/ONTIME = 1.2", "LIVETIME/ONTIME = 1.2"),
    ],
)
def test_files_are_named_without_their_folders(text, shown):
    assert without_folders(text) == shown


def test_names_of_runs(table_of):
    assert run_names(table_of(ROWS)) == ["run 1, 2004-03-03 09:36", "run 2 piece 3", "run 3"]
    assert date(float("nan")) == ""


def test_table_has_headings_and_dates(table_of):
    columns = {
        column["name"]: column for column in json.loads("".join(table_parts(table_of(ROWS), ["reason"])))["columns"]
    }
    assert columns["obs_id"]["heading"] == "run"
    assert columns["tstart"]["digits"] == 11
    assert columns["start"]["values"] == ["2004-03-03 09:36", "", ""]
    assert columns["reason"]["values"][2] == "obs_3.fits.gz: no such file"
    assert left_out(table_of(ROWS), ["fov"])[-1][3] == "obs_3.fits.gz: no such file"
