"""Figures of labels and the page of them, from final cubes and a run table made by hand."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gammaincc

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.errors import FailedError
from cubeflow.maps import Axis, Cube, energy_axis, make_geometry, rad_axis
from cubeflow.pipeline.certificate import certified, holds, read_certificate
from cubeflow.pipeline.table import make_table
from cubeflow.pipeline.tasks import (
    PICTURES,
    FiguresTask,
    PlannedExclusion,
    ReportTarget,
    ReportTask,
    Target,
    certificate_file,
    files_of,
)
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.background import NoBackground
from cubeflow.products.exclusion import ExclusionFile
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.profiles import N_SECTORS
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.report.charts import chance, chi2_text
from cubeflow.report.figures import (
    LabelSection,
    _band_images,
    flux_text,
    label_facts,
    make_figures,
    read_figures,
    verdict,
)
from cubeflow.report.page import Page, TargetSection, make_page, write_report
from cubeflow.report.runs import is_used, left_out
from cubeflow.report.skymap import HotSpot
from cubeflow.store.artifact import Artifact, open_artifact, write_artifact
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
        "telescope": "SST",
        "counts": 500,
        "counts_safe": 420,
        "counts_cut": 20,
        "counts_without_acceptance": 7,
        "beyond_energy_true": 0.0153,
        "repairs": "nan_energy=12",
        "tstart": 53067.407407,
        "livetime": 3600.0,
        "fov_norm_0": 1.1,
        "fov_norm_err_0": 0.1,
        "fov_on": 40.0,
        "fov_background": 5.0,
        "fov_significance": 10.0,
        "fov_flux": 1.75e-11,
        "fov_flux_err": 3.2e-12,
    },
    {
        "obs_id": 100002,
        "status": "ok",
        "object": EVIL,
        "ra_pnt": 83.6,
        "dec_pnt": 21.5,
        "quirks": "no_deadc event-ids-repeated",
        "telescope": "SST",
        "counts": 400,
        "counts_safe": 380,
        "tstart": 53068.0,
        "livetime": 3600.0,
        "fov_norm_0": 0.9,
        "fov_norm_err_0": 0.1,
        "fov_on": 20.0,
        "fov_background": 3.5,
        "fov_significance": 6.0,
        "fov_flux": 8.25e-12,
        "fov_flux_err": 2.2e-12,
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
    nothing = {"significance"} if label == "bare" else set()
    for name in ("counts", "significance"):
        values = (lambda shape: np.full(shape, np.nan)) if name in nothing else (lambda shape: rng.normal(0, 1, shape))
        maps[f"disc_{name}"] = cube(values, "", WHOLE)
    about = {"target": "crab", "label": label, "radius_deg": 0.1, "livetime_s": 7200.0, "n_runs": 2}
    about["is_pointlike"] = label == "bare"
    about |= {"source": {**SOURCE, "excess": None, "significance": None} if label == "bare" else SOURCE}
    further = {"radius_deg": 0.25, "energy_tev": [1.0, 3.16], "source": {"significance": 4.44, "flux": None}}
    about |= {"off_source": None, "profiles": None, "rims": [], "further": [further] if label == "fov" else []}
    about["systematic"] = {"used": [0.0] * 4}
    if label == "fov":
        maps["background"] = cube(lambda shape: rng.uniform(0.3, 0.5, shape), "", ENERGY)
        edges = np.arange(-30, 31) / 10
        fit = {f"{name}{end}": None for name in ("fit_mean", "fit_width") for end in ("", "_err")}
        sky = {"n_pixels": 900, "n_trials": 300.0, "mean": 0.1, "mean_err": 0.1, "width": 1.0, "width_err": 0.1, **fit}
        about["off_source"] = sky | {"edges": edges.tolist(), "histogram": [15] * 60}
        rim = {"ra_deg": 83.633, "dec_deg": 22.014, "radius_deg": 0.35, "significance": 4.4, "grow_deg": 0.1}
        about["rims"] = [rim]
        rings = [[9.0, 8.0, 7.0]] * 3
        about["profiles"] = {key: [[each] * N_SECTORS for each in rings] for key in ("counts", "background")}
        about["profiles"]["area_deg2"] = rings
        about["systematic"] = {"used": [0.02, 0.01, None, 0.1], "total": [0.02, 0.004]}
        about["systematic"] |= {"band": [[0.01, None, 0.1], [0.002, None, 0.03]], "ring": [[[0.1] * 3] * 3] * 2}
    (folder / label).mkdir(parents=True, exist_ok=True)
    made_from = {"options": {"reduce": {"inputs": {}}}}
    cube, key = folder / label / "cube.h5", KEYS[label]
    with certified(folder / certificate_file(label, key), key, [cube], made_from):
        write_artifact(cube, Artifact("cube", key, 1, maps, about, made_from))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results with a report."""
    folder = tmp_path_factory.mktemp("report")
    for label in KEYS:
        write_cube(folder / "crab", label)
    (folder / "x.reg").write_text("# Region file format: DS9\nicrs\ncircle(83.633,22.014,0.35)\n")
    write_runs(folder, RUNS)
    make_report(folder)
    return folder


def write_runs(results, rows):
    """Run table with its certificate."""
    folder = results / "crab"
    with certified(folder / certificate_file("", TABLE), TABLE, [folder / "runs.ecsv"], {}):
        write_table(folder / "runs", make_table(rows, list(KEYS), TABLE))


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


def task_of(label):
    key = ("12" if label == "fov" else "34") * 32
    return FiguresTask("crab", label, key, KEYS[label], TABLE, writes_regions=label == "fov")


def report_task(figures):
    return ReportTask("ef" * 32, (ReportTarget("crab", figures, TABLE),))


def make_report(folder):
    tasks = [task_of(label) for label in KEYS]
    for task in tasks:
        assert make_figures(folder, target_of(folder), task) == folder / files_of(task)[-1]
    return write_report(folder, report_task({task.label: task.key for task in tasks}), {})


@pytest.fixture
def text(results):
    return (results / "crab" / "report.html").read_text(encoding="utf-8")


def test_every_file_is_there(results):
    for label in KEYS:
        found = {str(path.relative_to(results)) for path in (results / "crab" / label).iterdir()}
        wanted = set(files_of(task_of(label))) - {"crab/exclusion.reg", "crab/pointings.reg"}
        assert found == wanted | {f"crab/{label}/cube.h5", certificate_file(f"crab/{label}", KEYS[label])}
    assert (results / "crab" / "pointings.reg").read_text().count("point(") == 2
    assert "circle(83.633" in (results / "crab" / "exclusion.reg").read_text()
    assert holds(results / certificate_file("crab", "ef" * 32, "report"), "ef" * 32)
    assert not (results / "report.html").exists()


def answers(results):
    return {label: dict(read_figures(results, "crab", label, task_of(label).key).answers) for label in ("fov", "bare")}


def test_answers_are_those_of_cube_and_table(results, text):
    found = answers(results)["fov"]
    assert found["Is there a source?"] == "Detected: 29.0 σ at the target"
    assert found["Flux, 1 to 20 TeV"] == "no answer: no exposure, or no significance, at the target"
    assert found["Events at the target"] == "60 ON, 8.5 background, excess 51.5"
    assert found["Brightest"] == "run 100001, 2004-03-03 09:46: (1.75 ± 0.32) × 10⁻¹⁵ cm⁻² s⁻¹ within 0.1°"
    flux, error = np.array([17.5, 8.25]), np.array([3.2, 2.2])
    mean = np.average(flux, weights=error**-2)
    chi2 = np.sum(((flux - mean) / error) ** 2)
    assert found["Steady?"].startswith(
        f"doubtful (errors {np.median(error) / mean:.0%}): χ² / dof = {chi2:.1f} / 1, p = "
    )
    assert found["Within 0.25°, 1 to 3.16 TeV"] == "4.4 σ; –"
    assert found["Is the background flat?"].startswith("cannot tell (errors 11%): χ² / dof = 0.0 / 23, p = 1 by")
    assert found["Norms of the runs"] == "alike (errors 10%): χ² / dof = 2.0 / 1, p = 0.16; median 1"
    assert (
        found["Runs to look at"]
        == "100001: nan_energy; 100001, 100002: no_deadc; 100001: time_in_days; 100002: event-ids-repeated"
    )
    assert found["Left out"] == "1 of 3 runs: 100003 refused: run 100003: obs_100003.fits.gz: no FITS file"
    assert found["Excluded from the background"].startswith(
        "x.reg: a circle of 0.35° about RA 83.633°, Dec +22.014°; 2.2%"
    )
    told = "4.4 σ just outside what is excluded about RA 83.633°, Dec +22.014°: a radius of 0.45° would do"
    assert found["Excluded from the background"].endswith(f" of the map; {told}")
    assert "just outside" not in answers(results)["bare"]["Excluded from the background"]
    assert found["Target (ICRS)"] == "RA 83.633°, Dec +22.014°"
    assert found["True energies"].startswith(
        "up to 1.53 % of the counts of an energy bin come from outside energy_true:"
    )
    said = "2 runs, 2.00 h, 2004-03-03 to 2004-03-04; telescope SST; object </script><b>x"
    assert found["Data"] == said
    cut = "20 of them in bins that a threshold cuts (finer bins keep more)"
    assert (
        found["Counts not used"] == f"100 of 900 outside the safe energies of their runs, {cut}; 7 without acceptance"
    )
    assert '<p class="verdict">Detected or No answer: 29.0 σ (fov), – (bare)</p>' in text
    assert KEYS["fov"] in text


def test_peak_is_that_of_the_map(results):
    with open_artifact(results / "crab/fov/cube.h5", "cube") as opened:
        data = opened.dataset("disc_significance").data[0]
    iy, ix = np.unravel_index(np.argmax(data), data.shape)
    place = GEOM.wcs().pixel_to_world(ix, iy)
    text = f"{data.max():.1f} σ at RA {place.ra.deg:.3f}°, Dec +{place.dec.deg:.3f}°, "
    assert answers(results)["fov"]["Peak of the map"].startswith(text)


def test_without_a_background_there_is_no_answer(results):
    found = answers(results)["bare"]
    assert found["Is there a source?"] == "No answer: – at the target"
    assert (found["Peak of the map"], found["Is the background flat?"]) == ("–", "–")
    assert found["Counts not used"].endswith("7 without acceptance")
    assert "Norms of the runs" not in found
    why = "a point-like exposure holds inside the cut on direction, which the disc is not"
    assert found["Flux, 1 to 20 TeV"] == f"no answer: {why}"
    assert "Brightest" not in found


@pytest.mark.parametrize(
    ("significance", "words"),
    [(None, "No answer"), (-6.0, "Not detected"), (2.99, "Not detected"), (3.0, "Hint"), (5.0, "Detected")],
)
def test_verdict(significance, words):
    assert verdict(significance) == words


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (FLUX, "(3.14 ± 0.23) × 10⁻¹¹ cm⁻² s⁻¹ within 0.1°, which holds 68% of the PSF"),
        (
            {"flux": -1e-9, "flux_err": 2e-9, "flux_ul": 4.2e-9},
            "below 4.20 × 10⁻¹³ cm⁻² s⁻¹ (95 %); (−1.00 ± 2.00) × 10⁻¹³ cm⁻² s⁻¹ within 0.1°",
        ),
        (FLUX | {"flux_err": None}, "–"),
        ({}, "–"),
    ],
)
def test_flux_is_given_for_square_centimetres_with_error_and_limit(found, text):
    assert flux_text(found, 0.1) == text


def test_a_source_away_from_the_target_is_in_the_verdict(table_of):
    """Such as a shell about a target in its middle."""
    spot = HotSpot(12.3, 83.1, -22.0, 0.5, 40, True)
    facts = dict.fromkeys(("significance", "excess", "counts", "background", "livetime"), "2.5 σ") | {"runs": "1"}
    faint = LabelSection("fov", "fov", 2.5, facts, (), (), (spot,))
    target = TargetSection("shell", table_of(RUNS), [faint])
    away = "12.3 σ at RA 83.100°, Dec −22.000°, 0.5° from the target"
    assert target.verdict == f"Not detected: 2.5 σ (fov); but {away}"
    assert [row["peak"] for row in target.summary()] == ["12.3 σ, 0.50°"]
    assert [row["verdict"] for row in target.summary()] == ["Not detected, but elsewhere"]
    for other in (replace(faint, significance=6.0), replace(faint, hot_spots=(replace(spot, significance=4.2),))):
        assert away not in TargetSection("shell", table_of(RUNS), [other]).verdict
    assert TargetSection("none", table_of(RUNS), []).verdict == "No run is left: see below"


@pytest.mark.parametrize(
    ("chi2", "dof", "error", "text"),
    [
        (3.84, 1, 0.2, "steady (errors 20%): χ² / dof = 3.8 / 1, p = 0.05"),
        (6.1, 2, 0.2, "steady (errors 20%): χ² / dof = 6.1 / 2, p = 0.047"),
        (6.2, 2, 0.6, "doubtful (errors 60%): χ² / dof = 6.2 / 2, p = 0.045"),
        (11.8, 2, 0.2, "doubtful (errors 20%): χ² / dof = 11.8 / 2, p = 0.0027"),
        (11.9, 2, 0.2, "varies (errors 20%): χ² / dof = 11.9 / 2, p = 0.0026"),
        (3.84, 1, 0.6, "cannot tell (errors 60%): χ² / dof = 3.8 / 1, p = 0.05"),
        (900.0, 9, 0.6, "varies (errors 60%): χ² / dof = 900.0 / 9, p < 1e-09"),
        (0.0, 0, np.inf, "cannot tell"),
    ],
)
def test_verdict_of_a_chi_square(chi2, dof, error, text):
    assert chi2_text(chi2, dof, error, 0.5, ("steady", "varies")) == text


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 19, 20, 3001])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 1.05, 1.6])
def test_chance_is_the_incomplete_gamma_function(dof, ratio):
    assert chance(dof * ratio, dof) == pytest.approx(gammaincc(dof / 2, dof * ratio / 2), rel=1e-9)


def test_columns_say_what_they_are(text):
    assert '"description":"lower edge of the first safe bin of reconstructed energy"' in text


def test_names_in_files_are_escaped(text):
    assert EVIL not in text
    assert "\\u003c/script\\u003e\\u003cb\\u003ex" in text


def kinds_of(text, label):
    names = [name.split('"')[0] for name in text.split('<figure id="')[1:]]
    return [name.split("-", 3)[3] for name in names if name.startswith(f"crab-{label}-")]


def test_figures_in_order(text):
    """What labels share, such as counts and exposure, is shown of the first alone."""
    kinds = ["significance", "theta2", "energies", "evolution", "off-source", "norms", "profiles"]
    assert kinds_of(text, "fov") == [*kinds, "counts", "exposure"]
    assert kinds_of(text, "bare") == ["theta2", "energies"]


def test_labels_stand_beside_each_other(text):
    rows = [re.findall(r'<figure id="crab-(\w+)-\w+-([\w-]+)"', row) for row in text.split('<div class="figures">')[1:]]
    assert [("fov", "theta2"), ("bare", "theta2")] in rows
    assert [("fov", "counts"), ("fov", "exposure")] in rows


def test_bands_of_energy_are_there_to_slide_through(results, text):
    titles = re.findall(r'data-title="(significance[^"]*)"', text)
    assert titles == [
        "significance within 0.1°",
        *(f"significance, {band} TeV" for band in ("1 to 2", "2 to 6", "6 to 20")),
    ]
    assert (results / "crab/fov/significance.svg").read_text().count("<image") == 1


def test_a_band_is_the_significance_of_its_bins(results):
    with open_artifact(results / "crab/fov/cube.h5", "cube") as opened:
        maps = opened.maps()
    images = list(_band_images(maps, 0.1, np.array([0.1, 0.0, 0.2]), 5.0))
    counts, background, safe = (maps[name].data[1] for name in ("counts", "background", "mask_safe"))
    on = np.where(safe, counts, 0).astype(float)
    for iy, ix in ((18, 20), (3, 30)):
        near = np.s_[iy - 1 : iy + 2, ix - 1 : ix + 2]
        inside = np.hypot(*np.mgrid[-1:2, -1:2]) <= 1.0
        n, mu = on[near][inside].sum(), np.where(safe, background, 0.0)[near][inside].sum()
        wanted = np.sign(n - mu) * np.sqrt(2 * (n * np.log(n / mu) - n + mu if n else mu))
        if safe[iy, ix]:
            assert images[1].data[iy, ix] == pytest.approx(wanted, rel=1e-5)
    alone = list(_band_images(maps, 0.1, np.zeros(3), 5.0))
    assert np.all(np.abs(images[2].data) <= np.abs(alone[2].data), where=np.isfinite(alone[2].data))


def test_how_wrong_a_background_is_stands_in_the_answers(results):
    found = answers(results)["fov"]
    assert found["Systematic error of the background"] == (
        "2.0% ± 0.4%, by which counts outside the exclusions scatter about it beyond chance, by offset and "
        "direction; significance and flux include 2.0% of it. By energy: 1 to 2 TeV 1.0% ± 0.2%; "
        "2 to 6 TeV not known; 6 to 20 TeV 10.0% ± 3.0%"
    )
    assert "Systematic error of the background" not in answers(results)["bare"]


def content_of(results):
    files = [path for path in results.rglob("*") if path.suffix in (".html", ".svg", ".reg", ".json")]
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
    assert len(before) == 2 + 6 + 2 + 4 + 2
    command = [sys.executable, "-c", AGAIN, __file__, str(results)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    assert content_of(results) == before


def test_figures_of_another_key_go(results):
    target, task, path = (
        target_of(results),
        task_of("bare"),
        results / certificate_file("crab/bare", "34" * 32, "figures"),
    )
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
    assert (results / certificate_file("crab/bare", "34" * 32, "figures")).exists()
    cube.with_name("cube.h5.corrupt").rename(cube)


def test_figures_of_another_run_table_are_not_drawn(results, table_of):
    """Another table of the same size in its place."""
    path = results / "crab/runs.ecsv"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"nan_energy", b"nan_energi"))
    assert len(path.read_bytes()) == len(whole)
    with pytest.raises(FailedError, match=r"runs.ecsv: not as made-7777777777777777.json says; set aside"):
        make_figures(results, target_of(results), task_of("bare"))
    path.with_name("runs.ecsv.corrupt").unlink()
    path.write_bytes(whole)


def test_pictures_and_regions_are_in_the_certificate(results):
    for label, regions in (("fov", ["../exclusion.reg", "../pointings.reg"]), ("bare", [])):
        key = task_of(label).key
        found = read_certificate(results / certificate_file(f"crab/{label}", key, "figures"), key)["files"]
        assert sorted(found) == sorted([*PICTURES, *regions])
        for name, about in found.items():
            assert about["sha256"] == file_sha256(results / "crab" / label / name)


def test_damaged_figures_are_named(results):
    path = results / certificate_file("crab/fov", "12" * 32, "figures")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"<svg", b"<svG", 1)):
        path.write_bytes(damaged)
        with pytest.raises(FailedError, match=r"figures-1212121212121212.json: not there, or not as it was written"):
            read_figures(results, "crab", "fov", "12" * 32)
    path.write_bytes(whole)


def test_a_target_without_usable_runs_has_its_table(tmp_path, table_of):
    (tmp_path / "crab").mkdir()
    write_runs(tmp_path, RUNS[2:])
    text = write_report(tmp_path, report_task({}), {}).read_text(encoding="utf-8")
    assert "obs_100003.fits.gz: no FITS file" in text
    assert "exclusion.reg" not in text
    assert 'href="../crab/runs.ecsv"' in text


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
    assert left_out(runs, ["fov", "ring"]) == [(7, "all", "skipped", "no time"), (7, "fov", "dropped", "norm 30")]
    facts = dict.fromkeys(("significance", "excess", "counts", "background", "livetime"), "-")
    sections = [
        LabelSection(name, "fov", None, facts | {"runs": n}, (), ()) for name, n in (("fov", "1"), ("ring", "2"))
    ]
    target = TargetSection("crab", runs, sections)
    assert [line["left_out"] for line in target.summary()] == ["1", "0"]
    text = b"".join(make_page(Page("12", [target], {}))).decode()
    assert '<th scope="row">7</th><td>fov</td><td>dropped</td><td>norm 30</td>' in text
    assert "Every selected run was used" not in text
    assert "In runs that could be read nothing deviates from the format" in text


def test_of_many_runs_that_are_left_out_the_page_lists_the_first(table_of):
    rows = [{"obs_id": number, "status": "refused", "reason": "broken"} for number in range(302)]
    text = b"".join(make_page(Page("12", [TargetSection("crab", table_of(rows), [])], {}))).decode()
    assert text.count("<td>all</td><td>refused</td><td>broken</td>") == 300
    assert "the first of them; 2 more are in the run table" in text


def test_large_maps_stay_on_the_disk(results, monkeypatch):
    """No map is in memory as a whole: all of them are read into scratch arrays."""
    asked = []
    monkeypatch.setattr("cubeflow.store.artifact.scratch_zeros", lambda *about: asked.append(about) or np.zeros(*about))
    make_figures(results, target_of(results), task_of("fov"))
    assert (3, *GEOM.shape) in [shape for shape, _ in asked]
    assert len(asked) == 6


def test_facts_of_a_label():
    about = {"radius_deg": 0.1, "livetime_s": 7200.0, "n_runs": 2}
    facts = label_facts({**about, "source": {**SOURCE, "excess": -3.25}})
    assert (facts["significance"], facts["excess"], facts["livetime"]) == ("29.0 σ", "−3.2", "2.00 h")
    assert label_facts({**about, "source": None})["significance"] == "–"
    nearly = label_facts({**about, "source": {**SOURCE, "significance": -0.04, "excess": -0.04}})
    assert (nearly["significance"], nearly["excess"]) == ("0.0 σ", "0.0")


@pytest.mark.parametrize("n_targets", [3, 4])
def test_of_many_targets_each_has_a_page(results, n_targets, tmp_path):
    """The first page then holds no table of runs and no figure."""
    names = ["crab", *(f"copy{k}" for k in range(1, n_targets))]
    for name in names:
        shutil.copytree(results / "crab", tmp_path / name, ignore=shutil.ignore_patterns("report*"))
    figures = {label: task_of(label).key for label in KEYS}
    task = ReportTask("ef" * 32, tuple(ReportTarget(name, figures, TABLE) for name in names))
    index = write_report(tmp_path, task, {}).read_text(encoding="utf-8")
    assert holds(tmp_path / files_of(task)[-1], "ef" * 32)
    own = [tmp_path / name / "report.html" for name in names]
    if n_targets == 3:
        assert index.count('<section class="target"') == 3
        assert not any(path.exists() for path in own)
        return
    assert "<figure" not in index
    assert re.findall(r'<th scope="row"><a href="([^"]*)"', index) == [
        f"{name}/report.html" for name in names for _ in KEYS
    ]
    pages = [path.read_text(encoding="utf-8") for path in own]
    assert [page.count('<section class="target"') for page in pages] == [1] * 4
    for page, name in zip(pages, names, strict=True):
        links = [link for link in re.findall(r'href="([^"#:]+)"', page) if link]
        assert "../report.html" in links
        assert f"../{name}/fov/cube.h5" in links


def test_targets_without_a_run_stand_on_the_page_with_the_reason(results, tmp_path):
    shutil.copytree(results / "crab", tmp_path / "crab", ignore=shutil.ignore_patterns("report*"))
    shown = ReportTarget("crab", {label: task_of(label).key for label in KEYS}, TABLE, "within 2 deg")
    why = "no run of 1 can be used; run 7: /data/run7.fits: no <FITS> file"
    task = ReportTask("ef" * 32, (shown, ReportTarget("vela", {}, "", "ids 7", reason=why)))
    made = {"command": "snakemake", "store": "/data"}
    text = write_report(tmp_path, task, made).read_text(encoding="utf-8")
    assert ">No run is left: no run of 1 can be used; run 7: run7.fits: no &lt;FITS&gt; file<" in text
    assert text.count("<section class=") == 2
    rows = dict(re.findall(r'<th scope="row">([\w, ]+)</th><td>(.*?)</td>', text.partition('id="made"')[2]))
    asked = {"runs of crab": "within 2 deg", "runs of vela": "ids 7"}
    assert (made | asked | {"crab, fov": KEYS["fov"]}).items() <= rows.items()
    assert replace(task, targets=(shown,)).recipe.key != task.recipe.key
