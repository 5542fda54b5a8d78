"""``cubeflow exclude`` on simulated sources: what is found, that it settles, and what is said of rims before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.ndimage import label

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.config.read import parse_yaml
from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.pipeline.tasks import FOUND
from cubeflow.plan import run
from cubeflow.plan.lock import Lock
from cubeflow.plan.make import make_plan
from cubeflow.products.exclusion import make_mask_exclusion
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact

from .conftest import small_config

KNOWN, UNKNOWN = (83.633, 22.014), (84.8, 22.4)  # 1.15 deg apart
PLACE = {
    "position": {"lon": f"{KNOWN[0]} deg", "lat": f"{KNOWN[1]} deg"},
    "geometry": {"width": ["4.4 deg", "4 deg"], "pixel": "0.04 deg"},
}
CONFIG = small_config(".", targets={"one": PLACE}) | {
    "offset_max": "2 deg",
    "irf_grid": {"pixel": "1 deg", "rad_bins": 6},
    "exclusion": "known.reg",
    "backgrounds": {
        "fov": {"method": "fov"},
        "ring": {"method": "ring", "r_in": "0.6 deg", "width": "0.3 deg"},
        "counts": {"method": "none"},
    },
    "significance": {"radius": "0.1 deg"},
}
MASK, REGIONS = (Path("results", "one", name) for name in FOUND)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A store with two sources, and an empty one."""
    folder = tmp_path_factory.mktemp("exclude")
    options = {"seed": 3, "n_runs": 4, "duration_s": 1600.0, "tiny": True, "shared_irf": True}
    simulate_store(folder / "store", SimulationOptions(**options, sources=((*KNOWN, 1.0), (*UNKNOWN, 1.5))))
    simulate_store(folder / "empty", SimulationOptions(**options, sources=()))
    (folder / "known.reg").write_text(f"icrs\ncircle({KNOWN[0]},{KNOWN[1]},0.3)\n")
    return folder


@pytest.fixture
def folder(pool, tmp_path, monkeypatch):
    """A working directory with all that and no results."""
    monkeypatch.chdir(tmp_path)
    for name in ("store", "empty", "known.reg"):
        (tmp_path / name).symlink_to(pool / name)
    write()
    return tmp_path


@pytest.fixture(scope="module")
def found(pool, tmp_path_factory):
    """The same after ``cubeflow exclude``, with its answer as the last file."""
    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("store", "known.reg"):
            (folder / name).symlink_to(pool / name)
        write()
        call("run", "config.yaml")
        shutil.copytree("results", "before", symlinks=True)
        (folder / "said.json").write_text(json.dumps(call("exclude", "config.yaml")))
    return folder


def write(**changes):
    Path("config.yaml").write_text(json.dumps(CONFIG | changes))


def call(*words, status=0):
    """Standard output and error of a command."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def geometry():
    return load_config("config.yaml").targets["one"].reduce_options().geometry


def mask_of(path):
    return make_mask_exclusion(read_exclusion(path), geometry())


def cube(results, name):
    return read_artifact(Path(results, "one", name, "cube.h5"))


def files(pattern):
    return {path: path.read_bytes() for path in Path("results").glob(pattern) if path.is_file()}


def test_both_sources_are_found_and_nothing_else(found, monkeypatch):
    monkeypatch.chdir(found)
    excluded = mask_of(MASK)
    areas, number = label(excluded)
    assert number == 2
    for position in (KNOWN, UNKNOWN):
        ix, iy = geometry().pixel_index(*position)
        (own,) = np.nonzero(np.bincount(areas[excluded & (geometry().offset_deg(*position) < 0.4)]))
        assert areas[iy, ix] == own
        assert 0.35 < np.sqrt(np.sum(areas == own) * 0.04**2 / np.pi) < 0.65


def test_the_mask_is_what_is_near_significant_pixels(found, monkeypatch):
    """By the distance of every pixel from every one that has 4 sigma for any label; the mask is its own answer."""
    monkeypatch.chdir(found)
    hot = np.zeros(geometry().shape, bool)
    for name in ("fov", "ring"):
        hot |= cube("results", name).datasets["disc_significance"].data[0] >= 4.0
    y, x = np.indices(hot.shape)
    distance = np.min([np.hypot(y - iy, x - ix) for iy, ix in zip(*np.nonzero(hot), strict=True)], axis=0)
    np.testing.assert_array_equal(mask_of(MASK), distance * 0.04 <= 0.3 + 1e-9)


def test_the_background_is_flat_then(found, monkeypatch):
    monkeypatch.chdir(found)
    before, after = (cube(results, "ring").attributes["off_source"] for results in ("before", "results"))
    assert before["width"] > 1.2
    assert after["width"] == pytest.approx(1.0, abs=0.08)
    assert abs(after["mean"]) < 0.1
    assert cube("results", "fov").attributes["off_source"]["width"] == pytest.approx(1.0, abs=0.08)
    assert cube("results", "ring").attributes["source"]["significance"] > 15.0


def test_runs_are_reduced_once_and_keys_are_as_ever(found, monkeypatch):
    monkeypatch.chdir(found)
    paths = [path.relative_to("before") for path in Path("before").glob("**/reduced-*.h5")]
    assert len(paths) == 4
    assert sorted(paths) == sorted(path.relative_to("results") for path in Path("results").glob("**/reduced-*.h5"))
    digests = cube("results", "fov").provenance["options"]["background"]["inputs"]
    assert len(digests) == 2
    assert cube("before", "fov").provenance["options"]["background"]["inputs"] == digests[:1]


def test_regions_exclude_what_the_mask_does(found, monkeypatch):
    monkeypatch.chdir(found)
    assert REGIONS.read_text().count("polygon") == 2
    np.testing.assert_array_equal(mask_of(REGIONS), mask_of(MASK))


def test_it_is_said_how_to_use_it(found, monkeypatch):
    monkeypatch.chdir(found)
    answer, meanwhile = json.loads(Path("said.json").read_text())
    first, line = answer.splitlines()
    assert first == f"one: made with {MASK} and {REGIONS}; in the configuration:"
    assert parse_yaml(line.encode(), "line").plain() == {"exclusion": ["known.reg", str(MASK)]}
    rounds = [each for each in meanwhile.splitlines() if each.startswith("one: round ")]
    assert 2 <= len(rounds) <= 5
    assert rounds[-1].endswith(f"; {mask_of(MASK).mean():.2%} excluded")


def test_a_second_call_changes_nothing(found, tmp_path, monkeypatch):
    shutil.copytree(found, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    before = files("one/**/*")
    call("exclude", "config.yaml")
    after = files("one/**/*")
    for path, content in before.items():
        assert after[path] == content, path
    write(exclusion=["known.reg", str(MASK)])
    call("exclude", "config.yaml")
    assert files("one/**/*") == after
    plan = make_plan(load_config("config.yaml"), print)
    assert {task.kind for task in plan.needed} <= {"figures", "report"}
    said = "".join(call("clean", "config.yaml", "--yes"))  # what is an input stays, and is not in the way
    assert "exclusion-found" not in said
    assert MASK.read_bytes() == after[MASK]
    assert REGIONS.read_bytes() == after[REGIONS]


def test_without_the_line_the_products_are_made_as_before_and_clean_knows_the_rest(found, tmp_path, monkeypatch):
    shutil.copytree(found, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    products = ("one/*/*", "one/runs.*", "one/made-*.json", "one/obs/*/*", "one/stack/*/*")
    before = {path: path.read_bytes() for each in products for path in Path("before").glob(each) if path.is_file()}
    reduced = {path: path.stat().st_mtime_ns for path in Path("results").glob("one/obs/*/reduced-*")}
    call("run", "config.yaml")
    call("clean", "config.yaml", "--yes")
    now = {Path("before", *path.parts[1:]): content for each in products for path, content in files(each).items()}
    assert now == before
    assert {path: path.stat().st_mtime_ns for path in reduced} == reduced
    assert MASK.exists()
    assert REGIONS.exists()


def test_entries_of_the_configuration_stay_as_they_were_written(folder):
    entry = {"path": "known.reg", "energy_max": "3 TeV"}
    write(exclusion=entry, backgrounds={"fov": {"method": "fov"}})
    answer, _ = call("exclude", "config.yaml", "--target", "one")
    assert parse_yaml(answer.splitlines()[1].encode(), "line").plain() == {"exclusion": [entry, str(MASK)]}
    write(exclusion=None, backgrounds={"fov": {"method": "fov"}})
    answer, _ = call("exclude", "config.yaml")
    assert answer.splitlines()[1] == f'exclusion: ["{MASK}"]'


def test_empty_sky_has_nothing_to_exclude(folder):
    write(data={"store": "empty"})
    answer, _ = call("exclude", "config.yaml", "--significance", "5")
    assert answer == "one: nothing to exclude beside what is excluded\n"
    assert not MASK.exists()


def test_what_does_not_settle_is_said(folder, monkeypatch):
    monkeypatch.setattr(run, "MAX_ROUNDS", 1)
    _, meanwhile = call("exclude", "config.yaml")
    assert "one: it still changes after 1 rounds; expected a higher significance, or a wider radius" in meanwhile
    assert mask_of(MASK).any()


def test_mistakes_are_one_line_each(folder):
    _, said = call("exclude", "config.yaml", "--target", "two", status=2)
    assert "--target: expected one of one, got 'two'" in said
    _, said = call("exclude", "config.yaml", "--radius", "0.3", status=2)
    assert "--radius: expected a quantity with a unit such as '0.5 deg', got '0.3'" in said
    _, said = call("exclude", "config.yaml", "--radius", "0 deg", status=2)
    assert "expected a quantity above 0 deg, got '0 deg'" in said
    _, said = call("exclude", "config.yaml", "--significance", "0", status=2)
    assert "--significance" in said
    plan = make_plan(load_config("config.yaml"), print)
    with Lock(plan.results, plan.config).held():
        _, said = call("exclude", "config.yaml", status=1)
    assert "is at work here" in said
    assert not Path("results/one").exists()


def test_a_rim_with_an_excess_is_told_and_kept(folder):
    """In the terminal, once for each label, and in the attributes of whole cubes; a radius that would do is silent."""
    Path("small.reg").write_text(f"icrs\ncircle({KNOWN[0]},{KNOWN[1]},0.06)\n")
    write(exclusion="small.reg", stack={"by": "run"})
    _, said = call("run", "config.yaml")
    told = [line for line in said.splitlines() if "just outside" in line]
    assert [line.split(" sigma")[0].rpartition(" ")[0] for line in told] == ["one: fov:", "one: ring:"]
    (rim,) = cube("results", "fov").attributes["rims"]
    assert rim["significance"] > 5.0
    assert angular_distance_deg((rim["ra_deg"], rim["dec_deg"]), KNOWN) < 1e-4
    wide = rim["radius_deg"] + rim["grow_deg"]
    assert told[0].endswith(f"about RA 83.633 deg, Dec +22.014 deg: a radius of {wide:.3g} deg would do")
    parts = list(Path("results/one/fov/parts").glob("*/cube.h5"))
    assert len(parts) == 4
    assert not any(read_artifact(part).attributes["rims"] for part in parts)
    Path("small.reg").write_text(f"icrs\ncircle({KNOWN[0]},{KNOWN[1]},{wide})\n")
    _, said = call("run", "config.yaml")
    assert "just outside" not in said
    assert cube("results", "fov").attributes["rims"] == []
