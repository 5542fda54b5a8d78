"""Words on the runs of a target."""

import json

import pytest

from cubeflow.report.runs import count_warnings, date, left_out, run_names, suspicions, table_parts, without_folders

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


def test_warnings_come_with_words_what_is_to_be_looked_at_first(table_of):
    found = count_warnings(table_of([*ROWS, {"obs_id": 4, "status": "ok", "repairs": "of-a-later-edition=1"}]))
    assert [(is_suspect, name, number) for is_suspect, name, _, number in found] == [
        (True, "event-ids-repeated", 1),
        (True, "of-a-later-edition", 1),
        (False, "tdb-as-tt", 2),
        (False, "ra_wrapped", 1),
    ]
    assert found[2][2] == "TIMESYS TDB read as TT (differs by 2 ms at most)"
    assert found[3][2] == "right ascensions outside 0 to 360 deg"


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
