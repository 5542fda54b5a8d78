"""What is estimated against what processes really need: their peak memory, and the sizes of the files they write."""

import gzip
import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.dl3.files import content_bytes
from cubeflow.dl3.index import open_store
from cubeflow.errors import MistakeError
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.estimate import check_memory, estimate, sizes
from cubeflow.plan.jobs import read_jobs
from cubeflow.plan.make import make_plan, make_target
from cubeflow.plan.select import select_runs
from cubeflow.plan.workflow import WorkflowPlan
from cubeflow.simulate.store import SimulationOptions, simulate_store

# A process inherits the largest size of the one that started it: a small one in between.
LAUNCH = """
import json, os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024]))
"""
# Projection, width, pixel; bins of energy, energy_true and rad; pixel of the responses.
GEOMETRIES = {
    "tiny": ("TAN", (4, 3), 0.1, 3, 4, 6, 0.5),
    "fine": ("TAN", (6, 5), 0.01, 6, 12, 20, 0.5),
    "wide": ("CAR", (30, 6), 0.02, 6, 12, 20, 0.5),
    "large": ("CAR", (30, 6), 0.005, 6, 12, 20, 0.5),
    "deep": ("TAN", (5, 4.4), 0.02, 24, 40, 66, 0.2),
}
NEEDED = ("TIME", "RA", "DEC", "ENERGY")  # columns of EVENTS
RINGS = {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg", "per_energy": True}


def config_of(folder, store, name="tiny", **changed):
    """Configuration of one target with two labels."""
    projection, width, pixel, n_energy, n_true, n_rad, irf_pixel = GEOMETRIES[name]
    geometry = {"projection": projection, "width": [f"{size} deg" for size in width], "pixel": f"{pixel} deg"}
    content = {
        "data": {"store": str(store)},
        "results": str(folder / name),
        "targets": {"t": {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": geometry}},
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins": n_energy},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": n_true},
        "irf_grid": {"pixel": f"{irf_pixel} deg", "rad_max": "0.6 deg", "rad_bins": n_rad},
        "backgrounds": {"fov": {"method": "fov"}, "ring": RINGS | {"per_energy": False}},
        "stack": {"batch": 2},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | changed))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate") / "store"
    simulate_store(folder, SimulationOptions(n_runs=4, duration_s=600.0))
    return folder


def target_of(path):
    return make_target(load_config([path]), "t", DigestCache(path.with_suffix(".json")))


def peak_mb(*arguments):
    """Peak memory of a verb in a process of its own."""
    verb = [sys.executable, "-c", "from cubeflow.cli import main; main()", *map(str, arguments)]
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCH, *verb], check=True, capture_output=True, text=True)
    status, peak = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "fine", "wide", "deep"])
def test_memory_is_one_to_two_times_what_is_needed(name, store, tmp_path):
    config = load_config([config_of(tmp_path, store, name)])
    plan = make_plan(config, print)
    file = plan.write()
    ratios = {}
    for job in read_jobs(file):
        ratio = job.memory_mb / peak_mb(job.kind, file, job.name)
        ratios[job.kind] = min(ratio, ratios.get(job.kind, ratio))
    assert set(ratios) == {"reduce", "stack", "export", "report"}  # which draws few figures itself
    assert {kind: ratio for kind, ratio in ratios.items() if not 1.0 <= ratio <= 2.0} == {}, ratios
    check_disk(plan)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "suffix", "n_events"),
    [
        (("EVENT_ID", *NEEDED), ".fits", 10_000_000),
        (("EVENT_ID", *NEEDED), ".fits.gz", 4_000_000),
        (NEEDED, ".fits", 4_000_000),
        (NEEDED, ".fits.gz", 4_000_000),
    ],
)
def test_memory_for_reading_grows_with_the_event_list(tmp_path, names, suffix, n_events):
    """Millions of events, not in order of time, need no more than the plan says."""
    simulate_store(tmp_path / "base", SimulationOptions(tiny=True, n_runs=1, duration_s=600.0))
    (tmp_path / "store").mkdir()
    with fits.open(tmp_path / "base" / "obs_100001.fits.gz", memmap=False) as hdus:
        events = hdus["EVENTS"]
        pick = np.random.default_rng(1).integers(0, len(events.data), n_events)
        picked = Table({name: np.asarray(events.data[name])[pick] for name in names})
        picked["TIME"] = np.random.default_rng(2).uniform(
            events.data["TIME"].min(), events.data["TIME"].max(), len(pick)
        )
        new = fits.BinTableHDU(picked.as_array(), name="EVENTS")
        for column in events.columns:
            if column.name in names:
                new.columns[column.name].unit = column.unit
        skipped = ("TTYPE", "TFORM", "TUNIT", "NAXIS", "TFIELDS", "CHECKSUM", "DATASUM")
        new.header.extend((card for card in events.header.cards if not card.keyword.startswith(skipped)), unique=True)
        hdus[hdus.index_of("EVENTS")] = new
        for hdu in hdus:
            for key in ("CHECKSUM", "DATASUM"):
                hdu.header.remove(key, ignore_missing=True)
        hdus.writeto(tmp_path / "plain.fits")
    content = (tmp_path / "plain.fits").read_bytes()
    path = tmp_path / "store" / f"run{suffix}"
    path.write_bytes(content if suffix == ".fits" else gzip.compress(content, 1))
    backgrounds = {"none": {"method": "none"}}
    file = make_plan(load_config([config_of(tmp_path, tmp_path / "store", backgrounds=backgrounds)]), print).write()
    (job,) = (job for job in read_jobs(file) if job.kind == "reduce")
    peak = peak_mb("reduce", file, job.name)
    assert 1.0 <= job.memory_mb / peak <= 2.0, (job.memory_mb, peak)
    assert peak > 250


def test_the_largest_event_list_counts(store, tmp_path):
    """Whatever the number of runs, its size when it is decompressed; a file that cannot be read counts for nothing."""
    plan = make_plan(load_config([config_of(tmp_path, store)]), print)
    target, runs = plan.targets["t"], plan.store.runs
    modelled = make_plan(model_config(tmp_path, store, [100001]), print).targets["t"]
    path, cut = tmp_path / "large.fits.gz", tmp_path / "cut.fits.gz"
    path.write_bytes(gzip.compress(bytes(100 * 2**20), 1))
    assert path.stat().st_size < 2**20
    cut.write_bytes(path.read_bytes()[:-1000] + b"\0\0\0\x30")  # its last bytes tell of 768 MiB
    large, lost, gone = (
        replace(runs[0], hdus=tuple(ref._replace(path=each) for ref in runs[0].hdus))
        for each in (path, cut, tmp_path / "gone")
    )
    usual = estimate(modelled, runs, runs).memory_mb
    assert estimate(modelled, [*runs, large], runs).memory_mb["off"] == usual["off"]  # of the OFF runs alone
    found = estimate(modelled, [*runs, gone, large, lost], [gone, large, lost]).memory_mb
    assert found["off"] - usual["off"] == pytest.approx(4 * 100 - 48, abs=1)
    usual, found = (estimate(target, each).memory_mb for each in (runs, [*runs, gone, large, lost]))
    assert found["reduce"] - usual["reduce"] == pytest.approx(4 * 100 - 48, abs=1)
    assert "off" not in usual  # nor "model": no such job
    assert {**found, "reduce": 0} == pytest.approx({**usual, "reduce": 0}, abs=1)
    for each in (gone, lost):
        assert estimate(target, [each]).memory_mb["reduce"] == pytest.approx(usual["reduce"], abs=2)


def check_disk(plan):
    """What is on the disk is less than estimated, and not by far."""
    stacks, need = [*plan.results.glob("t/stack/*/*.h5")], plan.needs["t"]
    made = sum(file.stat().st_size for file in [*plan.results.glob("t/obs/*/*.h5"), *stacks]) / 2**20
    assert made - 1 < 4 * need.run_mb + len(stacks) * need.stack_mb < 12 * made + 5


def test_map_that_cannot_fit_is_refused_with_estimate_and_key(store, tmp_path):
    target = target_of(config_of(tmp_path, store, "wide"))
    found = estimate(target)
    need = max(found.memory_mb.values())
    check_memory("t", found, target, need)
    with pytest.raises(MistakeError) as error:
        check_memory("t", found, target, need - 1)
    said = str(error.value)
    assert "targets.t.geometry: a map of 1500 x 300 pixels" in said
    assert f"{need} MB" in said
    assert f"the limit is {need - 1} MB" in said
    assert "the key memory" in said


def test_products_need_images_and_not_cubes(store, tmp_path):
    """For large maps more bins of energy need no more memory; more pixels and rings at each energy do."""
    few, many, rings, tiny = (
        estimate(target_of(config_of(tmp_path, store, name, **changed))).memory_mb
        for name, changed in (
            ("large", {}),
            ("large", {"energy": {"min": "1 TeV", "max": "10 TeV", "bins": 18}}),
            ("large", {"backgrounds": {"ring": RINGS}}),
            ("tiny", {}),
        )
    )
    for kind in ("stack", "export", "figures"):
        assert tiny[kind] < few[kind] == pytest.approx(many[kind], rel=0.02)
    assert few["reduce"] < many["reduce"]
    assert few["export"] < rings["export"]


def test_rows_need_memory(store, tmp_path):
    """A run takes some kilobytes where the run table is, and nothing where it is not."""
    plan = make_plan(load_config([config_of(tmp_path, store)]), print)
    target, (entry, *_) = plan.targets["t"], plan.store.runs
    few, many = (estimate(target, [entry] * n_runs).memory_mb for n_runs in (100, 10_000))
    assert few["reduce"] == many["reduce"]
    assert all(5 < many[kind] - few[kind] < 160 for kind in ("stack", "export", "figures", "report"))


def test_voxels_of_a_label(store, tmp_path):
    """Of the whole map: five maps over energy, exposure and responses over true energy; of a run, of all its field."""
    target = target_of(config_of(tmp_path, store, "tiny"))
    found = sizes(target)
    sky, irf = (geom.nx * geom.ny for geom in (target.reduce.geometry, target.reduce.irf_geometry))
    assert (sky, irf) == (40 * 30, irf)
    assert found.total == (5 * 3 + 4) * sky + 4 * (6 + 3 + 1) * irf
    radius, pixel = target.reduce.offset_max_deg, target.reduce.geometry.pixel_deg
    assert found.batch == found.run > (5 * 3 + 4) * (2 * radius / pixel) ** 2
    assert found.plane == max(sky, 6 * irf)
    rings = sizes(target_of(config_of(tmp_path, store, "tiny", backgrounds={"ring": RINGS})))
    assert rings.total == (7 * 3 + 4) * sky + 4 * (6 + 3 + 1) * irf


def test_a_run_covers_its_cutout_and_a_batch_all_of_them(store, tmp_path):
    plan = make_plan(load_config([config_of(tmp_path, store, "wide")]), print)
    target, runs = plan.targets["t"], plan.store.runs
    narrow = replace(target, reduce=replace(target.reduce, offset_max_deg=1.0))
    found, alone = sizes(narrow, runs), sizes(narrow, runs[:1])
    assert alone.run == alone.batch == pytest.approx(found.run, rel=0.05)
    assert alone.run < found.batch < found.total
    diameter = 2.0 / 0.02
    pixels = (found.run - 12 * (20 + 6 + 1) * 6**2) / (5 * 6 + 12)
    assert diameter**2 * 0.95 < pixels < (diameter + 3) ** 2 * 1.05


def test_every_attempt_asks_for_more():
    job = SimpleNamespace(memory_mb=650, seconds=30)
    memory_mb, minutes = WorkflowPlan.memory_mb(None, job), WorkflowPlan.minutes(None, job)
    assert [memory_mb(None, attempt) for attempt in (1, 2, 3)] == [1000, 1500, 2000]
    assert [minutes(None, attempt) for attempt in (1, 2, 3)] == [16, 32, 48]


def test_time_grows_with_the_map(store, tmp_path):
    tiny, deep = (estimate(target_of(config_of(tmp_path, store, name))) for name in ("tiny", "deep"))
    assert 0.1 < tiny.run_s < deep.run_s < 10
    assert tiny.export_s < deep.export_s


def model_config(folder, store, ids):
    models = {
        "off": {
            "observations": {"ids": ids},
            "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 30},
            "offset_max": "4 deg",
        }
    }
    more = {"acceptance": {"model": "off"}, "models": models, "observations": {"ids": [100001]}}
    return load_config([config_of(folder, store, **more)])


def test_a_model_needs_memory_for_its_off_runs_and_cells(store, tmp_path):
    """Also where the target has one run only."""
    one, all_four = (
        make_plan(model_config(tmp_path, store, ids), print).needs["t"].memory_mb
        for ids in ([100001], [100001, 100002, 100003, 100004])
    )
    cells_mb = 43**2 * 30 / 2**20  # 0.2 deg up to 4 deg, with a row beyond, edges of which are counted
    assert one["off"] == all_four["off"] == pytest.approx(150 + 27 * 64 * cells_mb, abs=1)
    assert all_four["model"] - one["model"] == pytest.approx(3 * 95 * cells_mb, abs=1.01)
    assert all_four["reduce"] - one["reduce"] == pytest.approx(3 * 32 * cells_mb, abs=1.01)


@pytest.mark.slow
def test_memory_of_a_model_is_one_to_two_times_what_is_needed(store, tmp_path):
    plan = make_plan(model_config(tmp_path, store, [100001, 100002, 100003, 100004]), print)
    file = plan.write()
    ratios = {
        job.kind: job.memory_mb / peak_mb(job.kind, file, job.name)
        for job in read_jobs(file)
        if job.kind in ("off", "model", "reduce")
    }
    assert set(ratios) == {"off", "model", "reduce"}
    assert {kind: ratio for kind, ratio in ratios.items() if not 1.0 <= ratio <= 2.0} == {}, ratios


def test_no_more_than_a_job_of_a_plan_is_in_memory_as_text(store, tmp_path):
    """The name of a plan says what is in all its jobs, and its file holds them; both are made job by job."""
    plan = make_plan(load_config([config_of(tmp_path, store)]), print)
    job = plan.jobs[0]
    many = tuple(replace(job, name=f"{job.name}_{number}") for number in range(1000))
    made = [replace(plan), replace(plan), replace(plan)]
    for each, jobs in zip(made, (many, many, many[::-1]), strict=True):
        each.__dict__["jobs"] = jobs
    tracemalloc.start()
    try:
        path = made[0].write()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read_jobs(path) == list(many)
    assert 0 < peak < path.stat().st_size / 3
    assert made[1].path == path != made[2].path


def test_the_memory_of_a_model_of_many_runs_is_held_against_the_limit(store, tmp_path, monkeypatch):
    """Known when the runs are selected: 4 of them need less than the map, 4000 more."""
    ids = [run.obs_id for run in open_store(store).runs]
    model = {"energy": {"min": "1 TeV", "max": "10 TeV", "bins": 8}, "observations": {"ids": ids}}
    written = config_of(tmp_path, store, models={"off": model}, acceptance={"model": "off"}, memory="400 MB")
    make_plan(load_config([written]), lambda line: None)
    few = select_runs

    def many(store, wanted, place):
        chosen, *others = few(store, wanted, place)
        return [chosen * (1 if wanted.ids is None else 1000), *others]

    monkeypatch.setattr("cubeflow.plan.make.select_runs", many)
    with pytest.raises(
        MistakeError,
        match=r"t\.acceptance\.model: needs about \d+ MB in the step model for 4000 OFF runs, the limit is 400",
    ):
        make_plan(load_config([written]), lambda line: None)
    monkeypatch.undo()
    fine = model | {"cell": "0.02 deg"}
    written = config_of(tmp_path, store, models={"off": fine}, acceptance={"model": "off"}, memory="400 MB")
    with pytest.raises(
        MistakeError, match=r"model: needs about \d+ MB in the step off for any OFF runs, .* larger cells"
    ):
        make_plan(load_config([written]), lambda line: None)


@pytest.mark.parametrize("model", [None, "off"])
def test_large_files_of_events_are_held_against_the_limit_and_not_laid_to_off_runs(store, tmp_path, monkeypatch, model):
    """Also without a model; where one run is too large to be read, fewer OFF runs would not help."""
    models = {"off": {"energy": {"min": "1 TeV", "max": "10 TeV", "bins": 2}, "observations": {"ids": [100002]}}}
    more = {"models": models, "acceptance": {"model": model}, "observations": {"ids": [100001]}, "memory": "400 MB"}
    config = load_config([config_of(tmp_path, store, **more)])
    make_plan(config, lambda line: None)
    usual = content_bytes
    monkeypatch.setattr(
        "cubeflow.plan.estimate.content_bytes",
        lambda path: 2**30 if path.name == "obs_100001.fits.gz" else usual(path),
    )
    with pytest.raises(MistakeError, match=r"t\.geometry: .* MB in the step reduce, .* 400 MB; .* smaller files"):
        make_plan(config, lambda line: None)
