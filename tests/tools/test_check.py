"""What ``cubeflow check`` says of a store."""

import json
import shutil

import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.simulate.array import SimulationOptions
from cubeflow.simulate.store import simulate_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "store"
    simulate_store(folder, SimulationOptions(tiny=True, n_runs=3, duration_s=300.0))
    (folder / "obs_100002.fits.gz").write_bytes((folder / "obs_100002.fits.gz").read_bytes()[:-20])
    (folder / "obs_100003.fits.gz").unlink()
    return folder


def check(*arguments):
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_table_names_every_run_and_why_it_is_refused(store):
    status, text, _ = check(store)
    assert status == 3
    words = " ".join(text.split())
    assert "100001 simulated source 945 281.4 0" in words
    assert "100002 run 100002: " in words
    assert "truncated gzip file" in words
    assert "No such file" in words
    assert "3 runs, 2 refused" in words


def test_json(store):
    status, text, _ = check(store, "--json")
    assert status == 3
    found = {run["obs_id"]: run for run in json.loads(text)["runs"]}
    assert sorted(found) == [100001, 100002, 100003]
    assert (found[100001]["reason"], found[100001]["ontime_s"]) == ("", 300.0)
    assert found[100001]["livetime_s"] == pytest.approx(300.0 * 0.938)
    assert "truncated" in found[100002]["reason"]


@pytest.mark.parametrize("is_shared", [False, True])
def test_types_of_events_that_share_a_list_or_have_their_own(tmp_path, is_shared):
    """All events count once, and so do those outside the good time: here the last of each list."""
    simulate_store(tmp_path, SimulationOptions(tiny=True, n_runs=1, duration_s=300.0))
    path, rows = tmp_path / "obs_100001.fits.gz", []
    with fits.open(path, memmap=False) as hdus:
        hdus["EVENTS"].data["TIME"][-1] += 1e5
        n_all = len(hdus["EVENTS"].data)
        if not is_shared:
            new = hdus["EVENTS"].copy()
            new.data, new.name = new.data[-n_all // 3 :], "EVENTS 2"
            n_all += len(new.data)
            hdus.append(new)
        for hdu in hdus:
            for key in ("CHECKSUM", "DATASUM"):
                hdu.header.pop(key, None)
        hdus.writeto(path, overwrite=True)
    for row in Table.read(tmp_path / "hdu-index.fits.gz"):
        row = {key: str(value) if isinstance(value, str) else int(value) for key, value in dict(row).items()}
        row = {key: value for key, value in row.items() if key not in ("SIZE", "MD5")}
        of_types = {"1": "EVENTS", "2": "EVENTS" if is_shared else "EVENTS 2"} if row["HDU_TYPE"] == "events" else {}
        rows += [{**row, "EVENT_TYPE": kind, "HDU_NAME": name} for kind, name in of_types.items()]
        rows += [] if of_types else [{**row, "EVENT_TYPE": ""}]
    Table(rows).write(tmp_path / "hdu-index.fits.gz", overwrite=True)
    status, text, _ = check(tmp_path, "--json")
    (run,) = json.loads(text)["runs"]
    n_lists = 1 if is_shared else 2
    assert (status, run["reason"], run["repairs"]) == (0, "", {"events_outside_gti": n_lists})
    assert run["n_events"] == n_all
    assert run["livetime_s"] == pytest.approx(300.0 * 0.938)


def test_some_runs(store):
    status, text, _ = check(store, "-i", 100001, "--json")
    assert (status, [run["obs_id"] for run in json.loads(text)["runs"]]) == (0, [100001])
    status, _, said = check(store, "-i", 7)
    assert (status, "no run 7" in said) == (2, True)


def test_configuration_says_where_the_store_is(store, tmp_path):
    config = tmp_path / "c.yaml"
    target = "{position: {lon: 83.6 deg, lat: 22 deg}, geometry: {width: 2 deg}}"
    axes = "energy: {min: 1 TeV, max: 10 TeV, bins: 2}\nenergy_true: {min: 1 TeV, max: 10 TeV, bins: 2}"
    config.write_text(f"data: {{store: '{store}'}}\ntargets: {{t: {target}}}\n{axes}\n")
    assert check(config, "-i", 100001)[0] == 0
    assert check(config)[0] == 3


def test_no_store(tmp_path):
    status, _, said = check(tmp_path / "nothing")
    assert (status, str(tmp_path / "nothing") in said) == (2, True)


def test_files_without_index(store, tmp_path):
    (tmp_path / "a.fits").write_bytes(b"not FITS")
    (tmp_path / "b.fits.gz").write_bytes((store / "obs_100001.fits.gz").read_bytes())
    status, text, _ = check(tmp_path)
    assert status == 3
    assert "a.fits: no FITS file" in " ".join(text.split())


@pytest.mark.real_data
def test_all_runs_of_hess(hess_store):
    status, text, _ = check(hess_store, "--json")
    runs = json.loads(text)["runs"]
    assert (status, len(runs)) == (0, 105)
    assert all("hess-dr1-background-mirrored" in run["quirks"] for run in runs)
    assert sum("events_outside_gti" in run["repairs"] for run in runs) == 89


def test_a_configuration_has_those_runs_checked_that_it_selects(store, tmp_path):
    """Of all its targets and models, also those that the index rules out; a run that is named is checked anyway."""
    place = {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": {"width": "3 deg"}}
    content = {
        "data": {"store": str(store)},
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
        "backgrounds": {"fov": {"method": "fov"}},
        "targets": {
            "one": place | {"observations": {"ids": [100001]}},
            "two": place | {"observations": {"ids": [100003]}},
        },
    }
    path = tmp_path / "some.yaml"
    for more, ids in (
        ({}, [100001, 100003]),
        (
            {"models": {"off": {"observations": {"ids": [100002]}, "energy": content["energy"]}}},
            [100001, 100002, 100003],
        ),
        ({"targets": {"one": place | {"observations": {"where": "ZEN_PNT < 1", "exclude": [100003]}}}}, []),
    ):
        path.write_text(json.dumps(content | more))
        assert [run["obs_id"] for run in json.loads(check(path, "--json")[1])["runs"]] == ids
    assert [run["obs_id"] for run in json.loads(check(path, "--json", "-i", 100002)[1])["runs"]] == [100002]


def test_a_repair_that_is_a_quirk_is_told_once(store, tmp_path):
    shutil.copytree(store, tmp_path / "store")
    path = tmp_path / "store" / "obs_100001.fits.gz"
    with fits.open(path, memmap=False) as hdus:
        hdus["BACKGROUND"].data["BKG"][..., 2:4] = 0.0
        for key in ("CHECKSUM", "DATASUM"):
            hdus["BACKGROUND"].header.remove(key)
        hdus.writeto(path, overwrite=True)
    (run,) = json.loads(check(tmp_path / "store", "--json", "-i", 100001)[1])["runs"]
    assert "background-empty-energies" in run["quirks"]
    assert run["repairs"]["background_empty_energies"] == 2
    text = check(tmp_path / "store", "-i", 100001)[1]
    assert ("background-empty-energies" in text, "background_empty_energies" in text) == (True, False)
