"""What is estimated against what processes really need: their peak memory, and the sizes of the files they write."""

import json
import subprocess
import sys

import pytest
import yaml

from cubeflow.config import load_config
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.errors import MistakeError
from cubeflow.plan.coverage import Coverage, Pixels
from cubeflow.plan.estimate import LEAF_BYTES, ask_memory_mb, ask_minutes, disk_mb, estimate, run_seconds, sizes
from cubeflow.plan.write import read_json
from cubeflow.steps.memory import check_memory
from cubeflow.steps.specify import target_spec

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
    "deep": ("TAN", (5, 4.4), 0.02, 24, 40, 66, 0.2),
}


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
        "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg"}},
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


def spec_of(path):
    return target_spec(load_config([path]), "t")


def peak_mb(*arguments):
    """Peak memory of a verb in a process of its own."""
    verb = [sys.executable, "-c", "from cubeflow.cli import main; main()", *map(str, arguments)]
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCH, *verb], check=True, capture_output=True, text=True)
    status, peak = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return peak


def jobs(folder, target):
    """Arguments of each job of a planned target, by rule."""
    for batch in target["batches"]:
        yield "reduce", ["reduce", folder / "plan" / f"{batch}-{target['batch_tag']}.json"]
    for label, nodes in target["nodes"].items():
        stacks = folder / "stack" / label
        for node, children in reversed(nodes.items()):
            yield "stack", ["stack", stacks / f"{node}.h5", *(stacks / f"{child}.h5" for child in children)]
        yield "export", ["export", folder / "plan" / target["finals"][label]]
    yield "table", ["table", folder / "plan" / target["table"]]
    yield "report", ["report", folder.parent]


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_memory_is_one_to_two_times_what_is_needed(name, store, tmp_path):
    path = config_of(tmp_path, store, name)
    assert peak_mb("plan", "-c", path) > 0
    target = read_json(tmp_path / name / "plan.json")["targets"]["t"]
    peaks = {}
    for rule, arguments in jobs(tmp_path / name / "t", target):
        peaks[rule] = max(peaks.get(rule, 0.0), peak_mb(*arguments))
    assert set(peaks) == {"reduce", "stack", "export", "table", "report"}
    ratios = {rule: target["resources"][rule]["memory_mb"] / peak for rule, peak in peaks.items()}
    assert {rule: ratio for rule, ratio in ratios.items() if not 1.0 <= ratio <= 2.0} == {}, ratios
    check_disk(tmp_path / name, path, target)


def check_disk(results, path, target):
    """What is on the disk is less than estimated, and not by far."""
    stacks = [*results.glob("t/stack/*/*.h5")]
    made = sum(file.stat().st_size for file in [*results.glob("t/obs/*/*.h5"), *stacks]) / 2**20
    assert target["runs"] == 4
    assert made - 1 < disk_mb(spec_of(path), 4, len(stacks)) < 12 * made + 5


def test_map_that_cannot_fit_is_refused_with_estimate_and_key(store, tmp_path):
    spec = spec_of(config_of(tmp_path, store, "wide"))
    need = max(each.memory_mb for each in estimate(spec).values())
    check_memory([spec], need)
    with pytest.raises(MistakeError) as error:
        check_memory([spec], need - 1)
    said = str(error.value)
    assert "targets.t.geometry: a map of 1500 x 300 pixels" in said
    assert f"{need} MB" in said
    assert f"the limit is {need - 1} MB" in said
    assert "the key memory" in said


def test_sums_of_a_batch_are_bounded(store, tmp_path):
    spec = spec_of(config_of(tmp_path, store, "wide"))
    few, many = (Pixels(10_000, pixels, pixels, pixels) for pixels in (10**7, 10**9))
    irf = Pixels(100, 1000, 1000, 1000)
    needs = [estimate(spec, Coverage(pixels, irf))["reduce"].memory_mb for pixels in (few, many)]
    assert needs[0] == needs[1] < LEAF_BYTES / 2**20 + 250


def test_export_and_report_need_images_and_not_cubes(store, tmp_path):
    """Beyond a limit, more bins of energy do not need more memory, and more pixels do."""
    large, irf = Pixels(100, 100, 10**7, 10**7), Pixels(10, 10, 100, 100)
    few, many, rings = (
        estimate(spec_of(config_of(tmp_path, store, "wide", **changed)), Coverage(large, irf))
        for changed in (
            {},
            {"energy": {"min": "1 TeV", "max": "10 TeV", "bins": 60}},
            {"backgrounds": {"ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg", "per_energy": True}}},
        )
    )
    assert few["export"].memory_mb == many["export"].memory_mb < 2500
    assert few["report"].memory_mb == many["report"].memory_mb < 1200
    assert few["export"].memory_mb < rings["export"].memory_mb < 4000
    small = estimate(spec_of(config_of(tmp_path, store, "tiny")), Coverage(Pixels(9, 9, 1200, 1200), irf))
    assert small["export"].memory_mb < 100


def test_rows_need_memory(store, tmp_path):
    """A run takes less than a kilobyte of the run table, and a child of a node nothing that counts."""
    spec, pixels = spec_of(config_of(tmp_path, store)), Pixels(100, 100, 100, 100)
    few, many = (estimate(spec, Coverage(pixels, pixels, n_runs)) for n_runs in (100, 10_000))
    assert 5 < many["table"].memory_mb - few["table"].memory_mb < 20
    assert 10 < many["report"].memory_mb - few["report"].memory_mb < 40
    assert many["stack"].memory_mb == few["stack"].memory_mb
    assert many["reduce"] == few["reduce"]
    assert many["export"] == few["export"]


def test_voxels_of_a_label(store, tmp_path):
    spec = spec_of(config_of(tmp_path, store, "wide"))
    found = sizes(spec, Coverage(Pixels(7, 11, 13, 17), Pixels(2, 3, 5, 4)))
    per_pixel, per_irf_pixel = 5 * 6 + 12, 12 * (20 + 6 + 1)
    totals = [per_pixel * sky + per_irf_pixel * irf for sky, irf in ((7, 2), (11, 3), (17, 4))]
    assert [found.run, found.batch, found.total] == totals
    assert (found.plane, found.layer) == (5 * 20, 12 * 5 * 20)
    rings = {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg", "per_energy": True}
    spec = spec_of(config_of(tmp_path, store, "wide", backgrounds={"ring": rings}))
    assert sizes(spec, Coverage(Pixels(1, 1, 1, 1), Pixels(0, 0, 0, 0))).run == 7 * 6 + 12


def test_every_attempt_asks_for_more():
    assert [ask_memory_mb(650, attempt) for attempt in (1, 2, 3)] == [1000, 1500, 2000]
    assert [ask_minutes(10, attempt) for attempt in (1, 2, 3)] == [15, 30, 45]


def test_time_grows_with_the_map(store, tmp_path):
    tiny, deep = (spec_of(config_of(tmp_path, store, name)) for name in ("tiny", "deep"))
    assert 0.1 < run_seconds(tiny) < run_seconds(deep) < 10
    assert estimate(tiny)["reduce"].minutes <= estimate(deep)["reduce"].minutes
