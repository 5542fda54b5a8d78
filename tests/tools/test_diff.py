"""Differences of artifacts against changes put in by hand."""

from pathlib import Path

import numpy as np
import pytest

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.store.artifact import Artifact, write_artifact
from cubeflow.tools.diff import compare, compare_values, plain_differences

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (0.5, 0.3), 0.1)
AXIS = energy_axis([1.0, 2.0, 5.0])
KEY = "ab" * 32
SERIES = ("lightcurve.ecsv", "joint.yaml", "joint-models.yaml")


def write(path: Path, *, data: np.ndarray | None = None, key: str = KEY, r_in: float = 0.5, norm: float = 1.0) -> Path:
    """Artifact with one map, one result and one value of the configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(30.0).reshape(2, 3, 5) if data is None else data
    made_of = {"config": {"r_in_deg": r_in, "edges": [1.0, 2.0]}, "inputs": {"events": "12"}}
    artifact = Artifact("background", key, 1, {"background": Cube(values, "", GEOM, (AXIS,))}, {"norm": norm}, made_of)
    write_artifact(path, artifact)
    return path


def test_equal_artifacts_are_the_same(tmp_path):
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5"))
    assert found["same"]
    assert found["same_values"]
    assert found["files"] == []


def test_a_changed_bin_is_found_where_it_is(tmp_path):
    data = np.arange(30.0).reshape(2, 3, 5)
    data[1, 2, 3] += 2.0
    data[0, 0, 1] *= 1.5
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", data=data))
    (dataset,) = found["files"][0]["datasets"]
    assert not found["same"]
    assert (dataset["count"], dataset["max_abs"], dataset["index"]) == (2, 2.0, [1, 2, 3])
    assert dataset["max_rel"] == pytest.approx(1 / 3)
    assert (dataset["first"], dataset["second"]) == (28.0, 30.0)
    lon, lat = GEOM.wcs().wcs_pix2world(3, 2, 0)
    assert dataset["place"] == f"energy 2-5 TeV, ra {lon:.3f} dec {lat:.3f} deg"


def test_the_configuration_says_why(tmp_path):
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", r_in=0.7, key="cd" * 32))
    assert found["causes"] == [{"name": "config.r_in_deg", "first": 0.5, "second": 0.7, "files": 1}]
    assert found["same_values"]
    assert not found["same"]


def test_another_key_alone_is_a_difference(tmp_path):
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", key="cd" * 32))
    assert not found["same"]
    assert found["same_values"]


def test_results_are_compared(tmp_path):
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", norm=1.25))
    assert found["files"][0]["results"] == [{"name": "norm", "first": 1.0, "second": 1.25}]


def test_a_tolerance_covers_values_and_results(tmp_path):
    data = np.arange(30.0).reshape(2, 3, 5) * (1 + 1e-7)
    paths = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", data=data, norm=1 + 1e-7)
    assert not compare(*paths)["same"]
    assert compare(*paths, rtol=1e-6)["same"]


def test_folders_are_compared_file_by_file(tmp_path):
    for side in ("one", "other"):
        write(tmp_path / side / "crab" / "obs" / "1" / "background-fov.h5", r_in=0.5 if side == "one" else 0.6)
        write(tmp_path / side / "crab" / "obs" / "2" / "background-fov.h5")
        write(tmp_path / side / "crab" / "stack" / "fov" / f"{side}.h5")  # named by content: never compared
    write(tmp_path / "other" / "crab" / "obs" / "3" / "background-fov.h5")
    found = compare(tmp_path / "one", tmp_path / "other")
    assert found["only"] == {"first": [], "second": ["crab/obs/3/background-fov.h5"]}
    assert found["equal"] == 1
    assert [each["names"][0] for each in found["files"]] == [str(tmp_path / "one/crab/obs/1/background-fov.h5")]
    assert found["causes"][0]["files"] == 1


def test_files_named_by_their_keys_are_compared(tmp_path):
    keys = {side: digit * 16 for side, digit in (("one", "a"), ("other", "b"))}
    for side, key in keys.items():
        write(tmp_path / side / "obs" / "1" / f"background-fov-{key}.h5", r_in=0.5 if side == "one" else 0.6)
        write(tmp_path / side / "obs" / "1" / f"background-ring-{key}.h5")
    write(tmp_path / "other" / "obs" / "1" / f"background-ring-{'a' * 16}.h5")  # of another configuration
    found = compare(tmp_path / "one", tmp_path / "other")
    assert [Path(each["names"][1]).name for each in found["files"]] == [f"background-fov-{keys['other']}.h5"]
    assert found["only"] == {"first": [], "second": [f"obs/1/background-ring-{keys['other']}.h5"]}
    assert found["equal"] == 1


def test_maps_on_another_grid_are_not_compared_bin_by_bin(tmp_path):
    first = write(tmp_path / "a.h5")
    other = Cube(np.ones((2, 3, 4)), "", GEOM.cutout(0, 0, 4, 3), (AXIS,))
    write_artifact(tmp_path / "b.h5", Artifact("background", KEY, 1, {"background": other}))
    (dataset,) = compare(first, tmp_path / "b.h5")["files"][0]["datasets"]
    assert dataset["problem"] == "another geometry; the sums are 435 and 24"


def test_a_map_of_one_side_is_named(tmp_path):
    first = write(tmp_path / "a.h5")
    write_artifact(tmp_path / "b.h5", Artifact("background", KEY, 1, {}))
    assert compare(first, tmp_path / "b.h5")["files"][0]["datasets"] == [
        {"name": "background", "problem": "only in the first"}
    ]


def test_nan_equals_nan_and_nothing_else():
    first, second = np.array([[np.nan, 1.0, 2.0]]), np.array([[np.nan, np.nan, 3.0]])
    assert compare_values(first, first) == {}
    found = compare_values(first, second)
    assert (found["count"], found["index"], found["max_abs"]) == (2, [0, 1], 1.0)
    assert (found["first"], found["second"]) == (1.0, None)


def test_truth_values_and_empty_arrays():
    assert compare_values(np.array([True, False]), np.array([True, True]))["count"] == 1
    assert compare_values(np.zeros((0, 2)), np.zeros((0, 2))) == {}


def test_plain_content_is_compared_key_by_key():
    first = {"energy": {"edges": [1.0, 2.0]}, "runs": {"1": "a"}}
    second = {"energy": {"edges": [1.0, 3.0]}, "runs": {"1": "a", "2": "b"}}
    assert list(plain_differences(first, second)) == [
        {"name": "energy.edges", "first": [1.0, 2.0], "second": [1.0, 3.0]},
        {"name": "runs.2", "first": "absent", "second": "b"},
    ]


@pytest.mark.parametrize(("second", "match"), [("folder", "one of each"), ("a.h5", "no artifact")])
def test_what_cannot_be_compared(tmp_path, second, match):
    (tmp_path / "folder").mkdir()
    if second == "a.h5":
        with pytest.raises(MistakeError, match=match):
            compare(tmp_path / "folder", tmp_path / "folder")
    else:
        with pytest.raises(MistakeError, match=match):
            compare(write(tmp_path / "a.h5"), tmp_path / second)


def test_products_of_folders_are_compared_by_their_bytes(tmp_path):
    for side in ("one", "other"):
        write(tmp_path / side / "crab/fov/cube.h5")
        for name in ("dataset.fits.gz", "significance.fits.gz", "report.html", *SERIES):
            (tmp_path / side / "crab/fov" / name).write_bytes(b"1")
    assert compare(tmp_path / "one", tmp_path / "other")["same"]
    (tmp_path / "other/crab/fov/dataset.fits.gz").write_bytes(b"2")
    (tmp_path / "other/crab/fov/report.html").write_bytes(b"2")
    (tmp_path / "one/crab/runs.csv").write_bytes(b"1")
    for name in SERIES:
        (tmp_path / "other/crab/fov" / name).write_bytes(b"2")
    found = compare(tmp_path / "one", tmp_path / "other")
    others = sorted(f"crab/fov/{name}" for name in SERIES)
    assert found["products"] == ["crab/fov/dataset.fits.gz", *others, "crab/runs.csv"]
    assert "GADF tables of models" in found["not_compared"]
    assert (found["same"], found["same_values"]) == (False, True)
    assert compare(tmp_path / "one", tmp_path / "other", rtol=1e-9)["same"], "bytes know no tolerance"
    assert "report" in found["not_compared"]
    assert compare(*[tmp_path / side / "crab/fov/cube.h5" for side in ("one", "other")])["not_compared"] == []
