"""Figures of labels and the page of them, from final cubes and a run table made by hand."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.errors import FailedError
from cubeflow.maps import Axis, Cube, energy_axis, make_geometry, rad_axis
from cubeflow.pipeline.certificate import certified, holds, read_certificate
from cubeflow.pipeline.tasks import (
    PICTURES,
    FiguresTask,
    PlannedExclusion,
    ReportTarget,
    ReportTask,
    Target,
    certificate_file,
    figures_file,
    files_of,
)
from cubeflow.plan.tasks import detail_of
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.background import NoBackground
from cubeflow.products.exclusion import ExclusionFile
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.profiles import N_SECTORS
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.report.figures import LabelSection, label_facts, make_figures, read_figures
from cubeflow.report.page import Page, TargetSection, make_page, read_timing, write_report
from cubeflow.report.runs import count_warnings, is_used, left_out, read_runs
from cubeflow.store.artifact import Artifact, write_artifact
from cubeflow.store.atomic import file_sha256
from cubeflow.store.tables import write_table

GEOM = make_geometry("icrs", "TAN", 83.633, 22.014, (4.0, 3.6), 0.1)
ENERGY, TRUE = energy_axis([1.0, 2.0, 6.0, 20.0]), energy_axis([0.3, 1.0, 4.0, 40.0], "energy_true")
WHOLE = Axis("energy", (1.0, 20.0), "TeV", "log")
EVIL = "</script><b>x"
TABLE = "77" * 32
KEYS = {"fov": "ab" * 32, "bare": "cd" * 32}
SOURCE = {"significance": 28.961, "excess": 51.5, "counts": 60.0, "background": 8.5}
FLUX = {"flux": 3.1415e-7, "flux_err": 2.25e-8, "flux_ul": None, "containment": 0.678}
RUNS = [
    {
        "obs_id": 100001,
        "status": "ok",
        "ra_pnt": 83.6,
        "dec_pnt": 22.5,
        "energy_threshold": 0.7,
        "zenith": 20.0,
        "quirks": "no_deadc time_in_days",
        "repairs": "nan_energy=12",
        "tstart": 53067.407407,
        "fov_norm_0": 1.1,
        "fov_norm_err_0": 0.1,
    },
    {
        "obs_id": 100002,
        "status": "ok",
        "object": EVIL,
        "ra_pnt": 83.6,
        "dec_pnt": 21.5,
        "quirks": "no_deadc",
        "fov_norm_0": 0.9,
        "fov_norm_err_0": 0.1,
    },
    {"obs_id": 100003, "status": "refused", "reason": "run 100003: obs_100003.fits.gz: no FITS file"},
]


def write_cube(folder, label):
    """Final cube of a label, with all that a field-of-view background has, or without a background."""
    rng = np.random.default_rng(7)

    def cube(values, unit, axis):
        return Cube(values((axis.n_bins, *GEOM.shape)).astype("f4"), unit, GEOM, (axis,))

    maps = {"counts": Cube(rng.poisson(0.4, (3, *GEOM.shape)), "", GEOM, (ENERGY,))}
    maps["mask_safe"] = Cube(rng.random((3, *GEOM.shape)) < 0.8, "", GEOM, (ENERGY,))
    maps["exposure"] = cube(lambda shape: rng.uniform(1e8, 2e9, shape), "m2 s", TRUE)
    nothing = {"background", "excess", "significance"} if label == "bare" else set()
    for name in ("counts", "background", "excess", "significance"):
        values = (lambda shape: np.full(shape, np.nan)) if name in nothing else (lambda shape: rng.normal(0, 1, shape))
        maps[f"disc_{name}"] = cube(values, "", WHOLE)
    about = {"target": "crab", "label": label, "radius_deg": 0.1, "livetime_s": 7200.0, "n_runs": 2}
    about |= {"source": {**SOURCE, "excess": None, "significance": None} if label == "bare" else SOURCE}
    about |= {"off_source": None, "profiles": None}
    if label == "fov":
        maps["background"] = cube(lambda shape: rng.uniform(0.3, 0.5, shape), "", ENERGY)
        edges = np.arange(-30, 31) / 10
        fit = {f"{name}{end}": None for name in ("fit_mean", "fit_width") for end in ("", "_err")}
        sky = {"n_pixels": 900, "n_trials": 300.0, "mean": 0.1, "mean_err": 0.1, "width": 1.0, "width_err": 0.1, **fit}
        about["off_source"] = sky | {"edges": edges.tolist(), "histogram": [15] * 60}
        rings, sectors = [[9.0, 8.0, 7.0]] * 3, [[5.0] * N_SECTORS] * 3
        about["profiles"] = dict.fromkeys(("offset_counts", "offset_background", "area_deg2"), rings)
        about["profiles"] |= dict.fromkeys(("sector_counts", "sector_background"), sectors)
    (folder / label).mkdir(parents=True, exist_ok=True)
    write_artifact(folder / label / "cube.h5", Artifact("cube", KEYS[label], 1, maps, about))


@pytest.fixture(scope="module")
def results(tmp_path_factory, table_of):
    """Results with a report."""
    folder = tmp_path_factory.mktemp("report")
    for label in KEYS:
        write_cube(folder / "crab", label)
    (folder / "x.reg").write_text("# Region file format: DS9\nicrs\ncircle(83.633,22.014,0.35)\n")
    write_runs(folder, table_of(RUNS))
    make_report(folder)
    return folder


def write_runs(results, table):
    """Run table with its certificate."""
    folder = results / "crab"
    with certified(folder / certificate_file("", TABLE), TABLE, [folder / "runs.fits"], {}):
        write_table(folder / "runs", table)


def target_of(folder):
    options = ReduceOptions(
        geometry=GEOM,
        irf_geometry=GEOM.coarse(0.2),
        energy=ENERGY,
        energy_true=TRUE,
        rad=rad_axis(0.66, 3),
        offset_max_deg=2.0,
        gti_filter=True,
        duplicates="refuse",
        time_mjd=None,
        split_s=None,
        acceptance=AcceptanceOptions(),
        safe_mask=SafeMaskOptions(),
        spectrum=PowerLaw(),
    )
    path = folder / "x.reg"
    exclusions = (PlannedExclusion(ExclusionFile(path), file_sha256(path), read_exclusion(path).content),)
    methods = {"fov": FovOptions(), "bare": NoBackground()}
    return Target("crab", (83.633, 22.014), options, methods, exclusions, SignificanceOptions())


def task_of(label, n_labels=2):
    key = ("12" if label == "fov" else "34") * 32
    return FiguresTask("crab", label, key, KEYS[label], TABLE, detail_of(n_labels), writes_regions=label == "fov")


def report_task(figures):
    return ReportTask("ef" * 32, (ReportTarget("crab", figures, TABLE),))


def make_report(folder, n_labels=2):
    tasks = [task_of(label, n_labels) for label in KEYS]
    for task in tasks:
        assert make_figures(folder, target_of(folder), task) == folder / files_of(task)[-1]
    return write_report(folder, report_task({task.label: task.key for task in tasks}))


@pytest.fixture
def text(results):
    return (results / "report.html").read_text(encoding="utf-8")


def test_every_file_is_there(results):
    for label in KEYS:
        found = {str(path.relative_to(results)) for path in (results / "crab" / label).iterdir()}
        wanted = set(files_of(task_of(label))) - {"crab/exclusion.reg", "crab/pointings.reg"}
        assert found == wanted | {f"crab/{label}/cube.h5"}
    assert (results / "crab" / "pointings.reg").read_text().count("point(") == 2
    assert "circle(83.633" in (results / "crab" / "exclusion.reg").read_text()
    assert holds(results / certificate_file("", "ef" * 32), "ef" * 32)


def test_numbers_are_those_of_the_cube(text):
    assert "29.0 σ" in text
    assert text.count("<dd>–</dd>") == 2
    assert KEYS["fov"] in text
    assert "83.6330° +22.0140°" in text
    assert "obs_100003.fits.gz: no FITS file" in text
    summary = text[text.index("<caption>What is found") :].partition("</table>")[0]
    assert summary.count('<td class="number">2</td><td class="number">1</td></tr>') == 2  # runs used, left out


def test_columns_say_what_they_are(text):
    assert '"description":"energy_threshold of a run"' in text


def test_names_in_files_are_escaped(text):
    assert EVIL not in text
    assert "\\u003c/script\\u003e\\u003cb\\u003ex" in text


def test_the_more_labels_there_are_the_smaller_are_their_images():
    found = {number: detail_of(number) for number in (1, 4, 5, 16, 17, 60, 61, 5000)}
    assert [detail.dpi for detail in found.values()] == [110, 110, 72, 72, 60, 60, 40, 40]
    assert [number for number, detail in found.items() if not detail.shows_all] == [17, 60, 61, 5000]


def test_of_many_labels_the_page_shows_one_map_each_and_the_files_hold_all(results):
    before = content_of(results)
    text = make_report(results, n_labels=20).read_text(encoding="utf-8")
    kinds = [name.split('"')[0].split("-", 3)[3] for name in text.split('<figure id="')[1:]]
    assert [kind for kind in kinds if f"{kind}.png" in PICTURES] == ["significance"]
    pictures = {path: content for path, content in content_of(results).items() if path.suffix == ".png"}
    assert pictures == {path: content for path, content in before.items() if path.suffix == ".png"}
    make_report(results)
    assert content_of(results) == before


def test_figures_in_order(text):
    kinds = ("significance", "excess", "counts", "background", "exposure", "off-source", "norms", "radial", "sectors")
    names = [name.split('"')[0] for name in text.split('<figure id="')[1:]]
    fov = [name.split("-", 3)[3] for name in names if name.startswith("crab-fov-")]
    assert fov == [*kinds, "counts-spectrum", "exposure-spectrum"]
    bare = [name.split("-", 3)[3] for name in names if name.startswith("crab-bare-")]
    assert bare == ["counts", "exposure", "counts-spectrum", "exposure-spectrum"]


def content_of(results):
    files = [path for path in results.rglob("*") if path.suffix in (".html", ".png", ".reg", ".json")]
    return {path: path.read_bytes() for path in sorted(files)}


AGAIN = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from test_figures import make_report
make_report(Path(sys.argv[2]))
"""


def test_same_bytes_in_another_process(results):
    before = content_of(results)
    assert len(before) == 2 + 10 + 2 + 4
    command = [sys.executable, "-c", AGAIN, __file__, str(results)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    assert content_of(results) == before


def test_figures_of_another_key_go(results):
    target, task, path = target_of(results), task_of("bare"), results / figures_file("crab/bare", "34" * 32)
    before = content_of(results)
    other = make_figures(results, target, replace(task, key="56" * 32))
    assert not path.exists()
    with pytest.raises(FailedError, match=r"bare/figures-34.*json: not there, or not as it was written"):
        read_figures(results, "crab", "bare", task.key)
    other.rename(path)
    assert not holds(path, task.key)
    with pytest.raises(FailedError, match=r"bare/figures-34.*json: not there, or not as it was written"):
        read_figures(results, "crab", "bare", task.key)
    make_figures(results, target, task)
    assert content_of(results) == before


def test_figures_of_another_cube_are_not_drawn(results):
    """A cube that was exchanged is set aside: it is made again, and they are drawn then."""
    cube = results / "crab/bare/cube.h5"
    with pytest.raises(FailedError, match=r"cube.h5: damaged \(has key cdcd.*, expected abab.*set aside"):
        make_figures(results, target_of(results), replace(task_of("bare"), cube_key=KEYS["fov"]))
    assert (results / figures_file("crab/bare", "34" * 32)).exists()
    cube.with_name("cube.h5.corrupt").rename(cube)


def test_figures_of_another_run_table_are_not_drawn(results, table_of):
    """Another table of the same size in its place."""
    path = results / "crab/runs.fits"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"nan_energy", b"nan_energi"))
    assert len(path.read_bytes()) == len(whole)
    with pytest.raises(FailedError, match=r"runs.fits: not as made-7777777777777777.json says; set aside"):
        make_figures(results, target_of(results), task_of("bare"))
    path.with_name("runs.fits.corrupt").unlink()
    path.write_bytes(whole)


def test_pictures_and_regions_are_in_the_certificate(results):
    for label, regions in (("fov", ["../exclusion.reg", "../pointings.reg"]), ("bare", [])):
        key = task_of(label).key
        found = read_certificate(results / figures_file(f"crab/{label}", key), key)["files"]
        assert sorted(found) == sorted([*PICTURES, *regions])
        for name, about in found.items():
            assert about["sha256"] == file_sha256(results / "crab" / label / name)


def test_damaged_figures_are_named(results):
    path = results / figures_file("crab/fov", "12" * 32)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"<svg", b"<svG", 1)):
        path.write_bytes(damaged)
        with pytest.raises(FailedError, match=r"figures-1212121212121212.json: not there, or not as it was written"):
            read_figures(results, "crab", "fov", "12" * 32)
    path.write_bytes(whole)


def test_a_target_without_usable_runs_has_its_table(tmp_path, table_of):
    (tmp_path / "crab").mkdir()
    write_runs(tmp_path, table_of(RUNS[2:]))
    text = write_report(tmp_path, report_task({})).read_text(encoding="utf-8")
    assert "obs_100003.fits.gz: no FITS file" in text
    assert "exclusion.reg" not in text
    assert 'href="crab/runs.ecsv"' in text


def test_runs_are_counted_by_what_is_wrong(results):
    runs = read_runs(results / "crab", TABLE)
    assert count_warnings(runs) == [
        ("no_deadc", 2, "deviation"),
        ("nan_energy", 1, "repair"),
        ("time_in_days", 1, "deviation"),
    ]
    refused = (100003, "", "refused", "run 100003: obs_100003.fits.gz: no FITS file")
    assert left_out(runs, []) == left_out(runs, ["fov"]) == left_out(runs, ["fov", "bare"]) == [refused]


def test_a_run_is_left_out_of_the_label_that_drops_it_only(table_of):
    """Of a run in two pieces and one whole run, the label ``fov`` drops what ``ring`` uses."""
    good = {"status": "ok", "reason": "", "ring_status": "ok", "ring_reason": "", "counts_without_acceptance": 20}
    dropped, used = ({"fov_status": status, "fov_reason": why} for status, why in (("dropped", "norm 30"), ("ok", "")))
    missed = {name: "skipped" if name.endswith("status") else "no time" for name in (*list(good)[:4], *dropped)}
    rows = [{"obs_id": 7, "piece": 0} | good | dropped, {"obs_id": 7, "piece": 1} | missed, {"obs_id": 9} | good | used]
    runs = table_of(rows)
    assert [is_used(runs, label).tolist() for label in ("", "fov", "ring")] == [
        [True, False, True],
        [False, False, True],
        [True, False, True],
    ]
    assert left_out(runs, ["fov", "ring"]) == [(7, "", "skipped", "no time"), (7, "fov", "dropped", "norm 30")]
    facts = tuple((name, "-") for name in ("significance", "excess", "counts", "background", "livetime"))
    about = [(label, "fov", (1, 2), (*facts, ("runs", n)), ()) for label, n in (("fov", "1"), ("ring", "2"))]
    sections = [LabelSection(*each) for each in about]
    target = TargetSection("crab", runs, sections)
    assert target.facts[1:] == [("runs selected", "2"), ("left out", "0"), ("counts left out without acceptance", "40")]
    assert [line["left_out"] for line in target.summary()] == ["1", "0"]
    text = b"".join(make_page(Page("12", [target], []))).decode()
    assert '<th scope="row" class="number">7</th><td>fov</td><td>dropped</td><td>norm 30</td>' in text
    assert "Every selected run was used" not in text


def test_of_many_runs_that_are_left_out_the_page_lists_the_first(table_of):
    rows = [{"obs_id": number, "status": "refused", "reason": "broken"} for number in range(302)]
    text = b"".join(make_page(Page("12", [TargetSection("crab", table_of(rows), [])], []))).decode()
    assert text.count("<td>all</td><td>refused</td><td>broken</td>") == 300
    assert "the first of them; 2 more are in the run table" in text


def test_timing(tmp_path):
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    (tmp_path / "reduce_1.tsv").write_text(head + "10.5\t0:00:10\t200\t1\t1\t1\t0\t0\t90\t9.5\n")
    (tmp_path / "reduce_made_2.tsv").write_text(head + "300.5\t0:05:00\t350.4\t1\t1\t1\t0\t0\t90\t290\n")
    (tmp_path / "export_1.tsv").write_text(head + "0.4\t0:00:00\t-\t-\t-\t-\t-\t-\t-\tNA\n")
    (tmp_path / "stack-crab-fov-00.tsv").write_text(head)
    first, second = read_timing(sorted(tmp_path.glob("*.tsv")))
    assert first == {
        "rule": "reduce",
        "jobs": "2",
        "seconds": "5.2 min",
        "longest": "5 min",
        "cpu": "5 min",
        "memory": "350 MB",
    }
    assert (second["rule"], second["seconds"], second["memory"]) == ("export", "0.4 s", "")
    assert read_timing([]) == []


def test_large_maps_stay_on_the_disk(results, monkeypatch):
    """No map is in memory as a whole: all of them are read into scratch arrays."""
    asked = []
    monkeypatch.setattr("cubeflow.store.artifact.scratch_zeros", lambda *about: asked.append(about) or np.zeros(*about))
    make_figures(results, target_of(results), task_of("fov"))
    assert (3, *GEOM.shape) in [shape for shape, _ in asked]
    assert len(asked) == 8


def test_facts_of_a_label_name_the_flux_with_its_error_and_limit():
    about = {"radius_deg": 0.1, "livetime_s": 7200.0, "n_runs": 2}
    facts = dict(label_facts({**about, "source": SOURCE | FLUX}))
    assert (facts["flux"], facts["its error"]) == ("3.14e-07 m⁻² s⁻¹", "2.2e-08 m⁻² s⁻¹")
    assert (facts["its limit (95 %)"], facts["part of the PSF"]) == ("–", "68%")
    facts = dict(label_facts({**about, "source": SOURCE | FLUX | {"flux_ul": 4.2e-7, "containment": None}}))
    assert (facts["its limit (95 %)"], facts["part of the PSF"]) == ("4.2e-07 m⁻² s⁻¹", "–")
    assert dict(label_facts({**about, "source": None}))["significance"] == "–"
