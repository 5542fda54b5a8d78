"""The step ``report`` on a small simulated store."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cubeflow.config import load_config
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.report.page import read_key
from cubeflow.steps import report_kept
from cubeflow.steps.report import count_warnings, write_report
from cubeflow.steps.report_label import LabelInput, detail
from cubeflow.steps.report_label import make_label as make
from cubeflow.steps.report_plan import plan_report, report_content, report_files
from cubeflow.steps.rows import TargetRows
from cubeflow.steps.timing import duration, planned_jobs, read_timing
from cubeflow.steps.whole import run_whole
from cubeflow.storage.artifact import read_artifact

CONFIG = """
data: {{store: {store}}}
results: {results}
targets:
  crab:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: [4 deg, 3.6 deg], pixel: 0.1 deg}}
energy: {{min: 1 TeV, max: 20 TeV, bins: 3}}
energy_true: {{min: 0.3 TeV, max: 40 TeV, bins: 6}}
offset_max: 1.6 deg
irf_grid: {{pixel: 0.5 deg, rad_bins: 6}}
exclusion: {exclusion}
backgrounds: {{fov: {{method: fov}}, bare: {{method: none}}}}
"""
EVIL = "</script><b>x"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results with a report, in the folder in which they were made."""
    folder = tmp_path_factory.mktemp("report")
    simulate_store(folder / "store", SimulationOptions(n_runs=3, tiny=True, duration_s=600.0))
    (folder / "store" / "obs_100003.fits.gz").write_bytes(b"no FITS")
    rename_object(folder / "store" / "obs_100002.fits.gz")
    (folder / "x.reg").write_text("# Region file format: DS9\nicrs\ncircle(83.633,22.014,0.35)\n")
    paths = {"store": folder / "store", "results": folder / "results", "exclusion": folder / "x.reg"}
    (folder / "config.yaml").write_text(CONFIG.format(**paths))
    workflow = run_whole(load_config([folder / "config.yaml"], {}), lambda line: None)
    manifest, is_outdated = plan_report(workflow)
    assert is_outdated
    said: list[str] = []
    path = write_report(folder / "results", Path(manifest), said.append)
    assert said[-1].startswith(f"{path}: ")
    return workflow, path


def rename_object(path: Path) -> None:
    from astropy.io import fits

    with fits.open(path) as hdus:
        hdus["EVENTS"].header["OBJECT"] = EVIL
        hdus.writeto(path, overwrite=True, checksum=True)


@pytest.fixture
def text(made):
    return made[1].read_text(encoding="utf-8")


def test_every_file_is_there_and_the_plan_knows(made):
    workflow, path = made
    content = report_content(workflow.index)
    assert all((path.parent / name).is_file() for name in report_files(content))
    assert plan_report(workflow)[1] is False
    assert read_key(path) == content["key"]
    other = {**workflow.index, "crab": {**workflow.index["crab"], "table": "runs-0.table.json"}}
    assert report_content(other)["key"] != content["key"]


def test_numbers_are_those_of_the_cube(made, text):
    cube = read_artifact(made[1].parent / "crab" / "fov" / "cube.h5", names=[]).attributes
    assert f"{cube['source']['significance']:.1f} σ" in text
    with (made[1].parent / "crab" / "runs.csv").open(newline="") as lines:
        status = [row["status"] for row in csv.DictReader(lines)]
    assert status.count("refused") == 1
    assert "obs_100003" in text


def test_names_in_files_are_escaped(text):
    assert EVIL not in text
    assert "\\u003c/script\\u003e\\u003cb\\u003ex" in text


def test_the_more_labels_there_are_the_smaller_are_their_images():
    found = {number: detail(number) for number in (1, 4, 5, 16, 17, 60, 61, 5000)}
    assert [dpi for dpi, _ in found.values()] == [110, 110, 72, 72, 60, 60, 40, 40]
    assert [number for number, (_, is_all) in found.items() if not is_all] == [17, 60, 61, 5000]


def test_of_many_labels_the_page_shows_one_map_each_and_the_files_hold_all(made, monkeypatch):
    _, path = made
    before = content_of_report(path)
    monkeypatch.setattr("cubeflow.steps.report_label.DETAIL", ((1, 110, True), (60, 60, False)))
    write_report(path.parent, None, lambda line: None)
    text = path.read_text(encoding="utf-8")
    maps = [name.split('"')[0].rsplit("-", 1)[1] for name in text.split('<figure id="crab-fov-')[1:]]
    assert maps[0] == "significance"
    assert not {"excess", "counts", "background", "exposure"} & {name for name in maps if "spectrum" not in name}
    pictures = {file: content for file, content in content_of_report(path).items() if file.suffix == ".png"}
    assert pictures == {file: content for file, content in before.items() if file.suffix == ".png"}
    monkeypatch.undo()
    write_report(path.parent, None, lambda line: None)


def test_figures_in_order(text):
    kinds = ("significance", "excess", "counts", "background", "exposure", "off-source", "norms", "radial", "sectors")
    names = [name.split('"')[0] for name in text.split('<figure id="')[1:]]
    fov = [name for name in names if name.startswith("crab-fov-")]
    assert [name.split("-", 3)[3] for name in fov] == [*kinds, "counts-spectrum", "exposure-spectrum"]
    bare = [name for name in names if name.startswith("crab-bare-")]
    assert [name.split("-", 3)[3] for name in bare] == ["counts", "exposure", "counts-spectrum", "exposure-spectrum"]


def test_profiles_hold_every_count_outside_the_exclusion(made):
    from cubeflow.plan.write import read_json
    from cubeflow.steps.rows import target_rows

    workflow, path = made
    folder = path.parent / "crab"
    found = target_rows(read_json(folder / "plan" / workflow.index["crab"]["table"]), folder)
    profiles = found.profiles["fov"]
    cube = read_artifact(folder / "fov" / "cube.h5", names=["counts", "mask_safe"]).datasets
    keep = cube["counts"].geom.offset_deg(83.633, 22.014) >= 0.35
    # Each run's own safe mask lies inside that of the stack.
    assert profiles.offset_counts.sum() <= cube["counts"].data[:, keep].sum()
    ok = [row for row in found.rows("status", "fov_counts_0") if row["status"] == "ok"]
    used = sum(row["fov_counts_0"] for row in ok)
    assert found.used["fov"] == len(ok) == 2
    assert profiles.offset_counts.sum() == used
    # The norm makes background and counts equal there.
    assert profiles.offset_background.sum() == pytest.approx(used, rel=1e-5)
    assert not any("profiles" in line for line in (folder / "runs.csv").read_text().splitlines()[:1])


def content_of_report(path):
    files = [path, *sorted(path.parent.glob("crab/**/*.png")), *sorted(path.parent.glob("crab/*.reg"))]
    return {file: file.read_bytes() for file in files}


def test_same_bytes_by_hand_and_in_another_process(made):
    path = made[1]
    before = content_of_report(path)
    assert len(before) == 1 + 10 + 2
    shutil.rmtree(path.parent / ".cubeflow" / "drawn")
    command = [sys.executable, "-c", "from cubeflow.cli import main; main()", "report", str(path.parent)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "5"}, capture_output=True)
    assert content_of_report(path) == before


def test_labels_that_are_the_same_are_not_drawn_again(made, monkeypatch):
    path, drawn = made[1], []
    before = content_of_report(path)
    monkeypatch.setattr(report_kept, "make_label", lambda given, *rest: drawn.append(given.label) or make(given, *rest))
    for picture in path.parent.glob("crab/*/*.png"):
        picture.unlink()
    write_report(path.parent, None, str)
    assert (drawn, content_of_report(path)) == ([], before)
    kept = path.parent / ".cubeflow" / "drawn" / "crab" / "bare.json"
    whole = bytearray(kept.read_bytes())
    whole[len(whole) // 2] ^= 1
    kept.write_bytes(whole)
    write_report(path.parent, None, str)
    assert (drawn, content_of_report(path)) == (["bare"], before)


@pytest.mark.parametrize("change", ["cube", "runs", "number of labels"])
def test_labels_that_changed_are_drawn_again(change):
    def key(changed=""):
        manifest = {"key": "1" if changed == "cube" else "0", "background": {"method": "fov"}}
        table_key = "3" if changed == "runs" else "2"
        given = LabelInput("crab", "fov", manifest, Path(), TargetRows({}, {}, {}), table_key)
        return report_kept.drawn_key(given, 70 if changed == "number of labels" else 2)

    assert key() == key()
    assert key(change) != key()


def test_warnings_are_counted_by_run():
    rows = [
        {"obs_id": 1, "quirks": "no_deadc time_in_days", "repairs": "nan_energy=12"},
        {"obs_id": 2, "quirks": "no_deadc", "repairs": None},
        {"obs_id": 3},
    ]
    assert count_warnings(rows) == [
        ("no_deadc", 2, "deviation"),
        ("nan_energy", 1, "repair"),
        ("time_in_days", 1, "deviation"),
    ]


def shared_targets():
    """Two targets of a plan that share a job."""
    work = {"unmade": {"aa": ["fov"]}, "stale": ["fov"], "stale_table": True, "finals": {"fov": "f.json"}, "refused": 0}
    entry = {**work, "batches": ["aa"], "nodes": {"fov": []}, "table": "t.json", "batch_tag": "11", "seconds": 1.0}
    return {"north": entry, "south": entry}


def test_timing(tmp_path):
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    (tmp_path / "crab").mkdir()
    (tmp_path / "crab" / "reduce-aa.tsv").write_text(head + "10.5\t0:00:10\t200\t1\t1\t1\t0\t0\t90\t9.5\n")
    (tmp_path / "crab" / "reduce-bb.tsv").write_text(head + "300.5\t0:05:00\t350.4\t1\t1\t1\t0\t0\t90\t290\n")
    (tmp_path / "crab" / "table.tsv").write_text(head + "0.4\t0:00:00\t-\t-\t-\t-\t-\t-\t-\tNA\n")
    (tmp_path / "crab" / "reduce-cc.tsv").write_text(
        head + "9000\t2:30:00\t9000\t1\t1\t1\t0\t0\t90\t9000\n"
    )  # of the past
    jobs = planned_jobs({"crab": {"batches": ["aa", "bb"], "nodes": {"fov": ["ee"]}, "finals": {"fov": "f.json"}}})
    assert planned_jobs(shared_targets())[0].startswith("together-")
    assert not [name for name in planned_jobs(shared_targets()) if "/" in name]
    assert jobs[2:] == ["crab/stack-fov-ee.tsv", "crab/export-fov.tsv", "crab/table.tsv"]
    first, second = read_timing(tmp_path, jobs)
    assert first == {
        "rule": "reduce",
        "jobs": "2",
        "seconds": "5.2 min",
        "longest": "5.0 min",
        "cpu": "5.0 min",
        "memory": "350 MB",
    }
    assert (second["rule"], second["seconds"], second["memory"]) == ("table", "0.4 s", "")
    assert read_timing(tmp_path / "absent", jobs) == []
    assert duration(9000.0) == "2.5 h"
