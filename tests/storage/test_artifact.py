import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from cubeflow.maps import Cube, energy_axis, make_geometry, rad_axis
from cubeflow.storage import hdf5_read
from cubeflow.storage.artifact import (
    Artifact,
    ArtifactDamaged,
    ArtifactMismatch,
    StorageError,
    check_artifact,
    hold_artifact,
    open_artifact,
    read_artifact,
    read_key,
    read_summary,
    set_aside,
    write_artifact,
)
from cubeflow.storage.keys import KeyContentError

KEY = "ab" * 32
GEOM = make_geometry("galactic", "CAR", 359.7, -0.3, (0.9, 0.5), 0.1)
ENERGY, RAD = energy_axis([0.7, 1.9, 11.3]), rad_axis(0.66, 3)


def make_artifact(**changes):
    rng = np.random.default_rng(5)
    psf = rng.normal(size=(2, 3, *GEOM.shape))
    psf[0, 1, 2, 3], psf[1, 0, 0, 0] = np.nan, -0.0
    datasets = {
        "psf": Cube(psf, "sr-1", GEOM, (ENERGY, RAD)),
        "counts": Cube(rng.poisson(3.0, (2, *GEOM.shape)), "", GEOM, (ENERGY,)),
        "mask_safe": Cube(rng.random((2, *GEOM.shape)) > 0.5, "", GEOM, (ENERGY,)),
        "image": Cube(rng.random(GEOM.shape).astype("f4"), "m2 s", GEOM, ()),
        "gti_s": rng.random((3, 2)),
        "none": np.zeros((0, 2)),
    }
    parts = {"kind": "reduced", "key": KEY, "algorithm": {"reduce": 3}, "datasets": datasets}
    parts |= {"attributes": {"row": {"a": None, "b": [0.1, "ä"]}}, "provenance": {"inputs": {"EVENTS": "cd" * 32}}}
    return Artifact(**{**parts, **changes})


def assert_same(found, expected):
    assert (found.kind, found.key, found.algorithm) == (expected.kind, expected.key, expected.algorithm)
    assert (found.attributes, found.provenance) == (expected.attributes, expected.provenance)
    assert sorted(found.datasets) == sorted(expected.datasets)
    for name, dataset in expected.datasets.items():
        back = found.datasets[name]
        assert type(back) is type(dataset)
        if isinstance(dataset, Cube):
            assert (back.geom, back.axes, back.unit) == (dataset.geom, dataset.axes, dataset.unit)
            back, dataset = back.data, dataset.data
        assert (back.dtype, back.shape) == (dataset.dtype, dataset.shape)
        assert back.tobytes() == dataset.tobytes()


@pytest.mark.parametrize("compression", ["blosc", "gzip", "none"])
def test_what_was_written_comes_back_to_the_bit(tmp_path, compression):
    artifact = make_artifact()
    write_artifact(tmp_path / "a.h5", artifact, compression)
    assert_same(read_artifact(tmp_path / "a.h5", expect_kind="reduced", expect_key=KEY), artifact)
    check_artifact(tmp_path / "a.h5", expect_kind="reduced", expect_key=KEY)
    assert read_key(tmp_path / "a.h5") == KEY
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st_numpy.arrays(
        st.sampled_from(["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
        st_numpy.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4),
    )
)
def test_arrays_of_any_number_come_back_to_the_bit(tmp_path, data):
    artifact = make_artifact(datasets={"data": data})
    write_artifact(tmp_path / "a.h5", artifact)
    assert_same(read_artifact(tmp_path / "a.h5"), artifact)


def test_arrays_that_are_not_contiguous_or_of_other_byte_order(tmp_path):
    data = np.arange(24.0).reshape(4, 6)
    write_artifact(tmp_path / "a.h5", make_artifact(datasets={"t": data.T[::2], "swapped": data.astype(">f8")}))
    back = read_artifact(tmp_path / "a.h5").datasets
    np.testing.assert_array_equal(back["t"], data.T[::2])
    np.testing.assert_array_equal(back["swapped"], data)
    assert back["swapped"].dtype == "<f8"


def test_geometry_of_whole_numbers(tmp_path):
    geom = make_geometry("icrs", "TAN", 83, np.float64(22), (1, 2), 0.5)
    write_artifact(tmp_path / "a.h5", make_artifact(datasets={"image": Cube(np.ones((4, 2)), "", geom, ())}))
    assert read_artifact(tmp_path / "a.h5").datasets["image"].geom == geom


def test_any_hdf5_program_reads_it(tmp_path):
    artifact = make_artifact()
    write_artifact(tmp_path / "a.h5", artifact, "gzip")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["psf"][...], artifact.datasets["psf"].data)
        assert file["counts"].dtype == "u1"
        assert file["counts"].fletcher32
        assert file["psf"].attrs["unit"] == b"sr-1"
        assert json.loads(file["psf"].attrs["geometry"]) == GEOM.to_plain()
        assert json.loads(file["psf"].attrs["axes"])[1]["edges"] == list(RAD.edges)
        assert file.attrs["complete"] == b"yes"
        assert file.attrs["key"].decode() == KEY
    assert (tmp_path / "a.h5").read_bytes().startswith(b"cubeflow artifact schema 1\n{")


@pytest.mark.parametrize("compression", ["blosc", "gzip", "none"])
def test_bytes_are_the_same_in_another_process(tmp_path, compression):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_artifact as t\n"
        "t.write_artifact(sys.argv[2], t.make_artifact(), sys.argv[3])"
    )
    here = Path(__file__).resolve()
    other = tmp_path / "elsewhere.h5"
    source = {"PYTHONPATH": str(here.parents[2] / "src"), "PYTHONHASHSEED": "3", "MALLOC_PERTURB_": "165"}
    subprocess.run([sys.executable, "-c", code, str(here.parent), str(other), compression], check=True, env=source)
    artifact = make_artifact()
    shuffled = make_artifact(datasets=dict(reversed(artifact.datasets.items())))
    write_artifact(tmp_path / "a.h5", shuffled, compression)
    assert other.read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_long_provenance(tmp_path):
    artifact = make_artifact(provenance={f"run-{number}": "ef" * 32 for number in range(5000)})
    write_artifact(tmp_path / "a.h5", artifact)
    assert_same(read_artifact(tmp_path / "a.h5"), artifact)


def test_some_datasets(tmp_path):
    write_artifact(tmp_path / "a.h5", make_artifact())
    assert list(read_artifact(tmp_path / "a.h5", names=["psf"]).datasets) == ["psf"]
    assert read_artifact(tmp_path / "a.h5", names=[]).attributes["row"] == {"a": None, "b": [0.1, "ä"]}
    with pytest.raises(ArtifactMismatch, match=r"has no dataset 'edisp', only \['counts', 'gti_s'"):
        read_artifact(tmp_path / "a.h5", names=["edisp"])


def test_held_artifact_is_opened_again_without_being_checked_again(tmp_path, monkeypatch):
    write_artifact(tmp_path / "a.h5", make_artifact())
    with hold_artifact(tmp_path / "a.h5", expect_kind="reduced") as held:
        with held.open(["psf"]) as first:
            assert list(first.descriptions) == ["psf"]
            values = first.rows("psf", 0, 1)
        monkeypatch.setattr(hdf5_read, "check_datasets", None)
        with held.open_again(first) as again:
            np.testing.assert_array_equal(again.rows("psf", 0, 1), values)
            with pytest.raises(ArtifactMismatch, match=r"has no dataset 'edisp', only \['counts', 'gti_s'"):
                again.rows("edisp", 0, 1)
    with pytest.raises(ArtifactMismatch, match="has kind"), hold_artifact(tmp_path / "a.h5", expect_kind="stack"):
        pass


def test_slabs_are_the_cube(tmp_path):
    data = np.random.default_rng(0).random((7, 300, 200))
    write_artifact(tmp_path / "a.h5", make_artifact(datasets={"data": data}))
    with open_artifact(tmp_path / "a.h5") as opened:
        slabs = list(opened.slabs("data"))
    assert len(slabs) > 3
    np.testing.assert_array_equal(np.concatenate(slabs), data)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("expected", "match"),
    [
        ({"expect_key": "cd" * 32}, "has key abab.*expected cdcd"),
        ({"expect_kind": "stack"}, "has kind reduced, expected"),
    ],
)
def test_fault_36_another_key_or_kind(tmp_path, expected, match):
    write_artifact(tmp_path / "a.h5", make_artifact())
    for read in (read_artifact, check_artifact):
        with pytest.raises(ArtifactMismatch, match=match):
            read(tmp_path / "a.h5", **expected)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"key": "xy"}, ValueError, "key: expected the form"),
        ({"kind": "Reduced!"}, ValueError, "kind: expected the form"),
        ({"attributes": {"norm": float("nan")}}, KeyContentError, r"\$\.norm: nan has no place"),
        ({"provenance": {"path": Path("x")}}, KeyContentError, r"\$\.path: expected plain"),
        ({"datasets": {"../x": np.zeros(1)}}, ValueError, "dataset '../x': expected a name"),
        ({"datasets": {"x": np.zeros(1, "c16")}}, ValueError, "x: values of type complex128 have no place"),
        ({"datasets": {"x": np.array(["a"])}}, ValueError, "x: values of type <U1"),
        ({"datasets": {"x": np.array([{}])}}, ValueError, "x: values of type object"),
        ({"datasets": {"x": np.array(1.0)}}, ValueError, r"x: shape \(\); expected 1 to 5 dimensions"),
        ({"datasets": {f"x{n}": np.zeros(1) for n in range(257)}}, ValueError, "257 datasets, at most 256"),
    ],
)
def test_what_has_no_place_is_refused(tmp_path, changes, error, match):
    with pytest.raises(error, match=match):
        write_artifact(tmp_path / "a.h5", make_artifact(**changes))
    assert not list(tmp_path.iterdir())


def test_unknown_compression_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"compression: expected one of .* got 'lzf'"):
        write_artifact(tmp_path / "a.h5", make_artifact(), "lzf")


def test_summary_tells_all_but_values(tmp_path):
    write_artifact(tmp_path / "a.h5", make_artifact())
    summary = read_summary(tmp_path / "a.h5")
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["kind"], summary["key"], summary["algorithm"]) == ("reduced", KEY, {"reduce": 3})
    assert summary["bytes"] == (tmp_path / "a.h5").stat().st_size
    counts = summary["datasets"]["counts"]
    assert (counts["shape"], counts["dtype"], counts["stored"]) == ([2, *GEOM.shape], "i8", "u1")
    assert (counts["compression"], counts["kind"], counts["geometry"]) == ("blosc", "cube", GEOM.to_plain())
    assert summary["datasets"]["none"]["kind"] == "array"


def test_set_aside_never_overwrites(tmp_path):
    for expected in ("a.h5.corrupt", "a.h5.corrupt.2", "a.h5.corrupt.3"):
        (tmp_path / "a.h5").write_text(expected)
        assert set_aside(tmp_path / "a.h5") == tmp_path / expected
    assert [(tmp_path / name).read_text() for name in ("a.h5.corrupt", "a.h5.corrupt.2")] == [
        "a.h5.corrupt",
        "a.h5.corrupt.2",
    ]
    with pytest.raises(StorageError, match=r"a\.h5: there is no such file or folder"):
        set_aside(tmp_path / "a.h5")


def test_missing_file(tmp_path):
    with pytest.raises(StorageError, match=r"a\.h5: "):
        read_artifact(tmp_path / "a.h5")
    assert read_key(tmp_path / "a.h5") is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_only_regular_files_are_read(tmp_path, make):
    make(tmp_path / "a.h5")
    with pytest.raises(ArtifactDamaged, match="not a regular file"):
        read_artifact(tmp_path / "a.h5")
    assert read_key(tmp_path / "a.h5") is None


def test_importing_costs_no_hdf5():
    modules = "{'h5py', 'hdf5plugin', 'astropy'}"
    code = f"import sys, cubeflow.storage.artifact, cubeflow.storage.fits; print({modules} & set(sys.modules))"
    source = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=source)
    assert done.stdout.strip() == "set()", done.stderr
