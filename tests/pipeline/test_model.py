"""From OFF runs to the background of a target, and what makes it again."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeflow.config import ConfigError, parse_config
from cubeflow.dl3.entries import RunEntry
from cubeflow.errors import FailedError, MistakeError
from cubeflow.pipeline import model as pipeline_model
from cubeflow.pipeline.tasks import FiguresTask, ModelTask, OffTask
from cubeflow.plan.clean import clean_results, stale_files
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import run_plan, run_whole
from cubeflow.plan.verify import verify_plan
from cubeflow.products.acceptance_model import OffRun, RunFacts, fit_acceptance_model
from cubeflow.report.figures import make_figures, read_figures
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact
from cubeflow.store.atomic import temporary_name

CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/results
targets:
  source:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: 4 deg, pixel: 0.1 deg}}
energy: {{min: 1 TeV, max: 10 TeV, bins: 3}}
energy_true: {{min: 0.5 TeV, max: 20 TeV, bins: 6}}
offset_max: 1.5 deg
exclusion: {folder}/source.reg
irf_grid: {{pixel: 0.5 deg, rad_max: 0.6 deg, rad_bins: 6}}
acceptance: {{model: {model}}}
backgrounds: {{fov: {{method: fov}}}}
{models}
"""
NAMED = """
models:
  off:
    observations: {{{observations}}}
    energy: {{min: 1 TeV, max: 10 TeV, bins: 3}}
    offset_max: 1.5 deg
    exclusion: {folder}/source.reg
    fit: {{form: gradient{fit}}}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    simulate_store(tmp_path / "store", SimulationOptions(n_runs=4, duration_s=1200.0, tiny=True))
    (tmp_path / "source.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    return tmp_path


def config(folder: Path, model: str = "self", observations: str = "", fit: str = "", more: str = ""):
    models = "" if model in ("self", "null") else NAMED.format(folder=folder, observations=observations, fit=fit)
    return parse_config(CONFIG.format(folder=folder, model=model, models=models) + more)


def run(configuration) -> list[str]:
    said: list[str] = []
    run_whole(configuration, said.append)
    return said


def products(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / "results").rglob(f"{kind}-*.h5"))


def background(folder: Path) -> np.ndarray:
    return read_artifact(folder / "results/source/fov/cube.h5").datasets["background"].data


def test_a_model_from_the_runs_themselves_is_as_good_as_the_tables(folder):
    run(config(folder, "null"))
    tables = background(folder)
    said = run(config(folder))
    made = background(folder)
    assert any(line.startswith("self-source: ") and "4 of 4 runs" in line for line in said)
    assert made.sum() == pytest.approx(tables.sum(), rel=0.03)  # both are normalised to the same counts
    used = tables[0] > np.median(tables[0][tables[0] > 0])
    assert np.std(made[0][used] / tables[0][used]) < 0.12
    assert not np.array_equal(made, tables)
    assert len(products(folder, "model")) == 1
    assert len(list((folder / "results/models/self-source/off").iterdir())) == 4


@pytest.mark.parametrize("model", ["self", "off", "null"])
def test_all_records_name_the_model_and_its_key(folder, model):
    configuration = config(folder, model)
    run(configuration)
    plan = make_plan(configuration, lambda line: None)
    plan.write()
    (made,) = [task for task in plan.all_tasks if isinstance(task, ModelTask)] or [None]
    name = {"self": "self-source", "off": "off", "null": None}[model]
    known = {name: made.key} if made else {}
    cube = folder / "results/source/fov/cube.h5"
    (certificate,) = cube.parent.glob("made-*.json")
    for record in (read_artifact(cube).provenance, json.loads(certificate.read_text())):
        assert record["options"]["reduce"]["inputs"] == known
    for record in (read_artifact(path).provenance for path in products(folder, "reduced")):
        assert record["options"]["options"]["inputs"] == known
    (figures,) = (task for task in plan.all_tasks if isinstance(task, FiguresTask))
    make_figures(folder / "results", plan.targets["source"], figures)
    shown = dict(read_figures(folder / "results", "source", "fov", figures.key).settings)
    assert shown.get("acceptance model.name") == name
    assert shown.get("acceptance model.key") == (made and made.key)


def test_what_decides_a_model_makes_it_again_and_nothing_else_does(folder):
    first = config(folder, "off", "ids: [100001, 100002, 100003]")
    run(first)
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.h5")}
    assert not [task for task in make_plan(first, print).needed if isinstance(task, OffTask | ModelTask)]
    # one OFF run more: one histogram, one model, and all runs that are reduced with it
    second = config(folder, "off", "ids: [100001, 100002, 100003, 100004]")
    plan = make_plan(second, lambda line: None)
    (off,) = (task for task in plan.all_tasks if isinstance(task, OffTask))
    missing = [file for file in plan.files(off) if not plan.exists(file)]
    assert len(missing) == 1
    assert "100004" in missing[0]
    run(second)
    assert len(products(folder, "model")) == 2
    assert len(products(folder, "reduced")) == 8
    for path, time in before.items():
        if path.name != "cube.h5":
            assert path.stat().st_mtime_ns == time
    # and back again, nothing is made but the plain names
    assert {task.kind for task in make_plan(first, lambda line: None).needed} <= {
        "export",
        "table",
        "figures",
        "report",
    }
    (unused,) = {task.key[:16] for task in plan.all_tasks if isinstance(task, ModelTask)}
    stale = stale_files(make_plan(first, lambda line: None))
    assert [path for path in stale if "models" in path.parts] == [
        folder / f"results/models/off/background-{unused}.fits.gz",
        folder / f"results/models/off/model-{unused}.h5",
        folder / "results" / missing[0],
    ]


def test_a_named_model_is_shared_by_targets(folder):
    text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
    other = "{position: {lon: 83 deg, lat: 22 deg}, geometry: {width: 2 deg, pixel: 0.1 deg}}"
    text = text.replace("energy: {min: 1 TeV", f"  other: {other}\nenergy: {{min: 1 TeV", 1)
    plan = make_plan(parse_config(text), lambda line: None)
    assert len([task for task in plan.all_tasks if isinstance(task, ModelTask)]) == 1
    run_plan(plan, lambda line: None)
    assert len(products(folder, "model")) == 1
    assert (folder / "results/other/fov/cube.h5").is_file()
    files = [file for job in plan.jobs for file in job.outputs]
    assert len(files) == len(set(files))
    assert not verify_plan(plan, sets_aside=False).damaged


@pytest.mark.parametrize("name", ["self", "self-field"])
def test_models_of_targets_keep_their_names(folder, name):
    text = CONFIG.format(folder=folder, model="self", models=NAMED.format(folder=folder, observations="", fit=""))
    with pytest.raises(ConfigError, match=f"models.{name}: expected another name"):
        parse_config(text.replace("  off:", f"  {name}:"))


def test_a_damaged_model_is_set_aside_and_made_again(folder):
    configuration = config(folder)
    run(configuration)
    before = background(folder)
    (path,) = products(folder, "model")
    path.write_bytes(path.read_bytes()[:-10] + b"0123456789")
    for reduced in products(folder, "reduced"):
        reduced.unlink()
    for stack in (folder / "results/source/stack").rglob("*.h5"):
        stack.unlink()
    (folder / "results/source/fov/cube.h5").unlink()
    for certificate in (folder / "results").rglob("made-*.json"):
        certificate.unlink()
    with pytest.raises(FailedError, match=r"model-[0-9a-f]{16}\.h5: damaged .* start again"):
        run(configuration)
    run(configuration)
    assert np.array_equal(background(folder), before)


def test_gadf_tables_of_a_model_are_verified_and_made_again(folder):
    configuration = config(folder)
    run(configuration)
    plan = make_plan(configuration, lambda line: None)
    (path,) = (folder / "results/models").rglob("background-*.fits.gz")
    found = verify_plan(plan, sets_aside=False)
    assert (found.damaged, [name for name in found.absent if "models" in name.parts]) == ({}, [])
    whole = path.read_bytes()
    tables = bytearray(gzip.decompress(whole))
    tables[len(tables) // 2] ^= 1
    path.write_bytes(gzip.compress(tables))  # packed as it should be
    (problem,) = verify_plan(plan, sets_aside=True).damaged.values()
    assert "does not agree with the content; set aside as" in problem
    run(configuration)
    assert path.read_bytes() == whole


def test_files_beside_a_model_are_swept_and_cleaned_by_name_and_content(folder):
    first, second = config(folder, "off"), config(folder, "off", fit=", zenith: [0 deg, 60 deg]")
    run(first)
    place = folder / "results/models/off"
    old = sorted(place.glob("*-*"))
    left = [place / temporary_name("model.h5"), place / "off" / temporary_name("100001.h5")]
    mine = place / "sky-0123456789abcdef.fits.gz"
    for path in (*left, mine):
        path.write_bytes(b"x")
    copied = place / "background-fedcba9876543210.fits.gz"
    copied.write_bytes(next(place.glob("background-*")).read_bytes())
    assert stale_files(make_plan(first, print)) == sorted(left)
    plan = make_plan(second, lambda line: None)
    plan.sweep()
    assert not any(path.exists() for path in left)
    paths, others, _ = clean_results(plan, is_serious=False)
    assert [path for path in paths if "models" in path.parts] == old
    assert others == sorted([copied, mine])
    # of a model that no target uses any more, all is listed
    unused = replace(first, targets=config(folder, "null").targets)
    off = sorted((place / "off").iterdir())
    assert [path for path in stale_files(make_plan(unused, print)) if "models" in path.parts] == sorted([*old, *off])


@pytest.mark.parametrize(("place", "says"), [("source", "source"), ("models/off", "models/off")])
def test_nothing_is_removed_where_an_exclusion_of_a_model_lies(folder, place, says):
    inside = folder / "results" / place
    inside.mkdir(parents=True)
    shutil.copy(folder / "source.reg", inside)
    text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
    head, _, tail = text.rpartition(f"exclusion: {folder}/source.reg")
    plan = make_plan(parse_config(f"{head}exclusion: {inside}/source.reg{tail}"), print)
    with pytest.raises(MistakeError, match=rf"source\.reg: an input lies inside .*/results/{says}; nothing is removed"):
        clean_results(plan, is_serious=True)


def test_a_run_that_is_refused_is_left_out_of_the_model_with_its_reason(folder):
    (folder / "store" / "obs_100002.fits.gz").write_bytes(b"no FITS")
    said = run(config(folder))
    assert any(line.startswith("self-source: left out: run 100002: ") for line in said)
    assert any("3 of 4 runs" in line for line in said)


def test_runs_that_match_are_in_the_run_table_and_in_the_keys(folder):
    """Only what decides a run remakes it: another limit that leaves the same OFF runs does not."""

    def matching(limits: str):
        match = f"    match: {{time: null, telescopes: false, airmass: null, nsb: null, {limits}}}\n"
        text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
        return parse_config(text.replace("    offset_max: 1.5 deg\n", f"    offset_max: 1.5 deg\n{match}"))

    run(config(folder, "off"))
    plain = Table.read(folder / "results/source/runs.ecsv")
    assert "off_runs" not in plain.colnames
    assert np.all(plain["acceptance_systematic_0"] >= 0.0)
    assert plain["acceptance_systematic_0"].info.description.startswith("relative error of the acceptance model")
    azimuth = {row["obs_id"]: row["azimuth"] for row in plain}
    said = run(matching("azimuth: 150 deg"))
    table = Table.read(folder / "results/source/runs.ecsv")
    for row in table:
        away = {other: abs((azimuth[other] - row["azimuth"] + 180) % 360 - 180) for other in azimuth}
        expected = [str(other) for other in azimuth if other != row["obs_id"] and away[other] <= 150.0]
        assert row["off_runs"].split() == expected
        assert row["status"] == "ok"
    assert len({row["off_runs"] for row in table}) > 1
    files = {path: path.read_bytes() for path in products(folder, "reduced")}
    assert len(files) == 8
    run(matching("azimuth: 151 deg"))
    assert {path: path.read_bytes() for path in products(folder, "reduced")} == files
    run(matching("azimuth: 150 deg, livetime: 1 s"))
    nearest = Table.read(folder / "results/source/runs.ecsv")
    assert all(len(row["off_runs"].split()) == 1 for row in nearest)
    assert len(products(folder, "reduced")) == 12
    assert said


@pytest.mark.parametrize(("observations", "n_listed"), [("", 1), ("time: [[2000-01-01, 2040-01-01]]", 3)])
def test_all_runs_that_match_are_listed_where_the_index_does_not_know_how_long_they_count(
    folder, observations, n_listed
):
    """Its livetime is that of all times: twice as much as is enough may then be too little."""
    text = CONFIG.format(
        folder=folder, model="off", models=NAMED.format(folder=folder, observations=observations, fit="")
    )
    match = "match: {time: null, telescopes: false, airmass: null, nsb: null, azimuth: 180 deg, livetime: 300 s}"
    text = text.replace("    offset_max: 1.5 deg\n", f"    offset_max: 1.5 deg\n    {match}\n")
    found = make_plan(parse_config(text), lambda line: None).tasks["source"]
    assert {len(set(keys.off_runs) - {keys.unit.obs_id}) for task in found.reduce for keys in task.units} == {n_listed}


def test_a_limit_that_cannot_hold_is_said_once_and_asks_nothing_of_targets_without_the_model(folder):
    """Also where a model has the name of none."""
    text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
    text = text.replace("  off:\n", "  None:\n").replace("model: off", "model: null")
    text = text.replace("    offset_max: 1.5 deg\n", "    offset_max: 1.5 deg\n    match: {time: null}\n")
    head, tail = text.split("energy:", 1)
    geometry = "position: {lon: 83.6 deg, lat: 22 deg}\n    geometry: {width: 3 deg, pixel: 0.1 deg}"
    more = "".join(f"  {name}:\n    {geometry}\n    acceptance: {{model: 'None'}}\n" for name in ("a", "b"))
    said: list[str] = []
    plan = make_plan(parse_config(f"{head}{more}energy:{tail}"), said.append)
    assert [line for line in said if "NSBLEVEL" in line] == [
        "models.None.match.nsb: not compared: no NSBLEVEL in the observation index"
    ]
    near = {name: [keys.off_runs for task in found.reduce for keys in task.units] for name, found in plan.tasks.items()}
    assert near["source"] == [None] * 4
    assert all(isinstance(each, tuple) for each in near["a"] + near["b"])


def test_runs_that_match_have_no_nodes(folder):
    text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
    text = text.replace("form: gradient", "form: gradient, azimuth: east-west}\n    match: {livetime: 1 h")
    with pytest.raises(ConfigError, match=r"models\.off\.match: expected null beside fit\.zenith or fit\.azimuth"):
        parse_config(text)


def test_a_target_beyond_the_zenith_angles_of_a_model_is_left_out(folder):
    said = run(config(folder, "off", "ids: [100001]"))  # one run, at 27 deg
    assert any("skipped: run 100003: acceptance model off: zenith angle" in line for line in said)
    assert any("a run never models itself" in line for line in said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model: off", "model: of"), r"configuration:13:acceptance\.model: expected one of self, off, got 'of'"),
        (("  off:\n", "  self:\n"), r"models\.self: expected another name: self is the model"),
        (
            ("model: off}", "model: self}\nsafe_mask: {methods: [bkg-peak]}"),
            r"safe_mask\.methods: expected others than bkg-peak, as acceptance\.model is self",
        ),
        (("observations: {}", "observations: {within: 1 deg}"), r"models\.off\.observations\.within: expected null"),
        (("form: gradient", "form: round"), r"models\.off\.fit\.form: expected 'auto', 'radial', .* got 'round'"),
        (("form: gradient", "zenith: [40 deg]"), r"models\.off\.fit\.zenith: expected two or more increasing angles"),
        (
            ("  off:\n", "  off:\n    safe_mask: {methods: [bkg-peak]}\n"),
            r"models\.off\.safe_mask\.methods: expected oth",
        ),
    ],
)
def test_mistakes_are_told_at_their_key(folder, change, message):
    text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
    assert change[0] in text
    with pytest.raises(ConfigError, match=message):
        parse_config(text.replace(*change))


def test_a_model_that_selects_no_run_is_a_mistake(folder):
    with pytest.raises(MistakeError, match=r"models\.off\.observations\.?.*: (selects )?no run"):
        make_plan(config(folder, "off", "where: 'ZEN_PNT > 80'"), lambda line: None)


def test_a_selection_of_events_is_part_of_the_keys_of_runs_and_of_the_model(folder):
    text = CONFIG.format(folder=folder, model="off", models=NAMED.format(folder=folder, observations="", fit=""))
    both = text.replace("  off:\n", "  off:\n    events: {where: ENERGY > 2}\n") + "events: {where: ENERGY > 2}\n"
    plans = [make_plan(parse_config(each), lambda line: None) for each in (text, both)]
    keys = [
        {file for task in plan.all_tasks if task.kind in ("off", "reduce") for file in plan.files(task)}
        for plan in plans
    ]
    assert keys[0].isdisjoint(keys[1])
    with pytest.raises(ConfigError, match=r"models\.off\.events: expected events as of the target 'source', None, got"):
        parse_config(text.replace("  off:\n", "  off:\n    events: {where: ENERGY > 2}\n"))
    with pytest.raises(MistakeError, match=r"events\.where: Call is not allowed"):
        make_plan(
            parse_config(CONFIG.format(folder=folder, model="self", models="") + "events: {where: open()}\n"), print
        )


def off_runs(counts) -> list[OffRun]:
    """Runs with the same counts at each energy in every cell of a field of 20 x 20 cells."""
    made = np.broadcast_to(np.array(counts)[:, None, None], (len(counts), 20, 20))
    facts = (RunFacts(number, 51910, "", "DEMO DEMO", 0.9, None, 1200.0) for number in (1, 2))
    return [OffRun(each, made, np.ones(made.shape)) for each in facts]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((9, 9, 9, 9), "model: grid, 2 of 0 runs, 28800 counts"),
        ((0, 9, 0, 9), "model: grid, 2 of 0 runs, 14400 counts; none at 1.33 TeV; interpolated at 4.22 TeV"),
        ((9, 9, 9, 0), "model: grid, 2 of 0 runs, 21600 counts; none at 7.5 TeV"),
    ],
)
def test_gaps_between_energies_are_said_to_be_interpolated(folder, monkeypatch, counts, said):
    text = CONFIG.format(folder=folder, model="self", models="").replace("bins: 3}", "bins: 4}", 1)
    planned = make_plan(parse_config(text), lambda line: None)
    target = planned.targets["source"]
    runs = off_runs(counts)
    fit = replace(target.model.fit, form="grid")
    off = replace(target.model.off, cell_deg=1.5 / 9)
    monkeypatch.setattr(
        pipeline_model, "fit_acceptance_model", lambda key, _, *rest: fit_acceptance_model(key, runs, *rest)
    )
    lines: list[str] = []
    task = ModelTask("source", "model", "0" * 64, {})
    (folder / "results/models/model").mkdir(parents=True)
    target = replace(target, model=replace(target.model, off=off, fit=fit))
    pipeline_model.make_model(folder / "results", target, task, lines.append)
    assert lines == [said]


def test_a_model_from_the_runs_themselves_names_its_key(folder):
    for number in (2, 3, 4):
        (folder / "store" / f"obs_10000{number}.fits.gz").write_bytes(b"no FITS")
    with pytest.raises(
        FailedError, match=r"targets\.source\.acceptance\.model: run 100001 alone is left; expected two"
    ):
        run(config(folder))


def test_the_file_of_a_run_that_is_gone_is_told_with_the_key(folder):
    plan = make_plan(config(folder), lambda line: None)
    assert plan.targets["source"].model.key == "targets.source.acceptance.model"
    assert make_plan(config(folder, "off"), lambda line: None).targets["source"].model.key == "models.off"


@pytest.mark.parametrize(
    ("angles", "name"),
    [
        ({"ZEN_PNT": 50.0, "ALT_PNT": 90.0}, "B50"),  # a placeholder does not come before what is known
        ({"ZEN_PNT": 50.0, "ALT_PNT": 80.0}, "B50"),
        ({"ALT_PNT": 80.0}, "B10"),
        ({"ALT_PNT": 90.0}, None),
        ({"ALT_PNT": 0.0}, None),
        ({}, None),
    ],
)
def test_placeholders_are_no_zenith_angles(tmp_path, angles, name):
    nodes = [
        fits.ImageHDU(name=each, header=fits.Header({"ZEN_PNT": value}))
        for each, value in (("B10", 10.0), ("B50", 50.0))
    ]
    fits.HDUList([fits.PrimaryHDU(), *nodes]).writeto(tmp_path / "model.fits")
    entry = RunEntry(7, (), {"RA_PNT": 83.0, "DEC_PNT": 22.0, **angles})
    if name is None:
        with pytest.raises(MistakeError, match=r"^run 7: expected ZEN_PNT or ALT_PNT in the index, found neither$"):
            pipeline_model.write_index(tmp_path / "index", [entry], tmp_path / "model.fits")
        return
    assert pipeline_model.write_index(tmp_path / "index", [entry], tmp_path / "model.fits") == 1
    with fits.open(tmp_path / "index" / "hdu-index.fits.gz") as hdus:
        assert [str(each).strip() for each in hdus[1].data["HDU_NAME"]] == [name]
