"""One bad run never ends the others: what nobody foresaw refuses it; what concerns all runs ends the work."""

import errno

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.errors import FailedError
from cubeflow.pipeline import reduce
from cubeflow.plan.run import run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store

BAD, GOOD = 100001, 100002
CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/{results}
observations: {observations}
targets:
  t:
    position: {{frame: icrs, lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{frame: icrs, projection: TAN, width: 3 deg, pixel: 0.2 deg}}
energy: {{min: 1 TeV, max: 20 TeV, bins: 2}}
energy_true: {{min: 0.4 TeV, max: 50 TeV, bins: 6}}
backgrounds: {{fov: {{method: fov}}}}
"""


@pytest.fixture
def folder(tmp_path):
    simulate_store(tmp_path / "store", SimulationOptions(tiny=True, n_runs=2, duration_s=600.0, first_obs_id=BAD))
    return tmp_path


def run(folder, results="results", observations="{}"):
    """Reduce the store: rows of the run table by run, counts of the cube, and what was said."""
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, results=results, observations=observations))
    lines: list[str] = []
    run_whole(load_config(path), lines.append)
    rows = {int(row["obs_id"]): row for row in Table.read(folder / results / "t/runs.ecsv")}
    return rows, cubeflow.load(folder / results / "t/fov/cube.h5").maps["counts"].data, "\n".join(lines)


def failing(monkeypatch, name: str, error: BaseException) -> None:
    """Let one step of the bad run raise an error."""
    step, row = getattr(reduce, name), {}

    def fail(first, *more):
        row["obs_id"] = first.obs_id if name == "reduce_observation" else first.row["obs_id"]
        if row["obs_id"] == BAD:
            raise error
        return step(first, *more)

    monkeypatch.setattr(reduce, name, fail)


ERRORS = [ZeroDivisionError("division by zero"), KeyError("TIME"), RecursionError("too deep"), TypeError("two\nlines")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["reduce_observation", "make_background"])
def test_an_unexpected_error_leaves_that_run_out(folder, monkeypatch, step, error):
    _, alone, _ = run(folder, "alone", f"{{ids: [{GOOD}]}}")
    failing(monkeypatch, step, error)
    rows, counts, said = run(folder)
    assert (rows[BAD]["status"], rows[GOOD]["status"]) == (
        "refused" if step == "reduce_observation" else "dropped",
        "ok",
    )
    assert rows[BAD]["reason"] == f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    np.testing.assert_array_equal(counts, alone)
    assert "Traceback (most recent call last)" in said
    assert f"run {BAD}: unexpected" in said
    monkeypatch.undo()
    rows, again, _ = run(folder)  # a verdict is kept as all else is
    assert rows[BAD]["reason"].startswith(f"unexpected {type(error).__name__}")
    np.testing.assert_array_equal(again, alone)


CONCERN_ALL = [
    FailedError("an input is another"),
    MemoryError(),
    OSError(errno.ENOSPC, "No space left"),
    ImportError("x"),
]


@pytest.mark.parametrize("error", CONCERN_ALL, ids=lambda error: type(error).__name__)
def test_what_concerns_all_runs_is_no_verdict_on_one(folder, monkeypatch, error):
    failing(monkeypatch, "reduce_observation", error)
    with pytest.raises((FailedError, OSError, ImportError)):
        run(folder)
    assert not list((folder / "results" / "t" / "obs" / str(BAD)).glob("*.h5"))
    monkeypatch.undo()
    rows, _, _ = run(folder)
    assert [rows[obs_id]["status"] for obs_id in (BAD, GOOD)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("hdu", "column", "value", "reason"),
    [
        ("GTI", "STOP", 1e300, "next to no flux"),
        ("EFFECTIVE AREA", "EFFAREA", 1e38, "next to no flux"),
        ("BACKGROUND", "BKG", 1e35, "map acceptance: values that are not finite, expected none"),
    ],
)
def test_absurd_numbers_are_refused_before_they_reach_a_sum(folder, hdu, column, value, reason):
    with fits.open(folder / "store" / f"obs_{BAD}.fits.gz", mode="update") as hdus:
        hdus[hdu].data[column][:] = value
        for key in ("CHECKSUM", "DATASUM"):
            hdus[hdu].header.remove(key)
    rows, _, _ = run(folder)
    assert (rows[BAD]["status"], rows[GOOD]["status"]) == ("refused", "ok")
    assert reason in rows[BAD]["reason"]


def test_absurd_times_do_not_stop_a_plan_of_pieces(folder):
    with fits.open(folder / "store" / f"obs_{BAD}.fits.gz", mode="update") as hdus:
        hdus["GTI"].data["STOP"][-1] = 1e308
        for key in ("CHECKSUM", "DATASUM"):
            hdus["GTI"].header.remove(key)
    rows, _, _ = run(folder, observations="{split: 300 s}")
    assert rows[BAD]["status"] == "refused"
    assert "1e+308 s, expected at most 10000 pieces" in rows[BAD]["reason"]
    assert rows[GOOD]["status"] == "ok"


@pytest.mark.parametrize("write", [str, float], ids=["text", "float"])
def test_ids_of_ten_digits_as_text_or_float_come_through_to_the_end(tmp_path, write):
    first = 2200000001
    simulate_store(tmp_path / "store", SimulationOptions(tiny=True, n_runs=2, duration_s=600.0, first_obs_id=first))
    expected, counts, _ = run(tmp_path, "expected")
    for path in (tmp_path / "store").glob("*.fits.gz"):
        with fits.open(path) as hdus:
            parts = [hdus[0]]
            for hdu in hdus[1:]:
                if hdu.header.get("OBS_ID") is not None:
                    hdu.header["OBS_ID"] = write(hdu.header["OBS_ID"])
                if "OBS_ID" in hdu.columns.names:
                    table = Table(hdu.data)
                    table["OBS_ID"] = [write(obs_id) for obs_id in hdu.data["OBS_ID"]]
                    hdu = fits.table_to_hdu(table)
                for key in ("CHECKSUM", "DATASUM"):
                    hdu.header.remove(key, ignore_missing=True)
                parts.append(hdu)
            content = fits.HDUList([part.copy() for part in parts])
        content.writeto(path, overwrite=True)
    rows, found, _ = run(tmp_path, observations=f"{{where: 'OBS_ID > {first - 1}', exclude: [7]}}")
    np.testing.assert_array_equal(found, counts)
    assert list(rows) == list(expected) == [first, first + 1]
    assert {str(row["quirks"]) for row in rows.values()} == {"odd-whole-number"}
    runs = Table.read(tmp_path / "results/t/runs.fits")
    assert runs["obs_id"].tolist() == [first, first + 1]
    assert (tmp_path / "results/t/obs" / str(first)).is_dir()
