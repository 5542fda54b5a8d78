import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from cubeflow.maps import Cube, energy_axis, make_geometry, rad_axis
from cubeflow.maps.scratch import scratch_zeros
from cubeflow.store.artifact import (
    Artifact,
    ArtifactDamaged,
    ArtifactMismatch,
    open_artifact,
    read_artifact,
    set_aside,
    write_artifact,
)
from cubeflow.store.atomic import StorageError

KEY = "ab" * 32
GEOM = make_geometry("galactic", "CAR", 359.7, -0.3, (0.9, 0.5), 0.1)
ENERGY, OTHER, RAD = energy_axis([0.7, 1.9, 11.3]), energy_axis([0.7, 11.3]), rad_axis(0.66, 3)
SOURCE = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}


def make_artifact(**changes):
    rng = np.random.default_rng(5)
    psf = rng.normal(size=(2, 3, *GEOM.shape))
    psf[0, 1, 2, 3], psf[1, 0, 0, 0] = np.nan, -0.0
    datasets = {
        "psf": Cube(psf, "sr-1", GEOM, (ENERGY, RAD)),
        "counts": Cube(rng.poisson(3.0, (2, *GEOM.shape)), "", GEOM, (ENERGY,)),
        "counts_off": Cube(rng.poisson(300.0, (1, *GEOM.shape)), "", GEOM, (OTHER,)),
        "mask_safe": Cube(rng.random((2, *GEOM.shape)) > 0.5, "", GEOM, (ENERGY,)),
        "image": Cube(rng.random((2, 4)).astype("f4"), "m2 s", GEOM.cutout(3, 1, 4, 2), ()),
        "gti_s": rng.random((3, 2)),
        "none": np.zeros((0, 2)),
    }
    parts = {"kind": "reduced", "key": KEY, "algorithm": 3, "datasets": datasets}
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
    assert_same(read_artifact(tmp_path / "a.h5", kind="reduced", key=KEY), artifact)
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


def test_any_hdf5_program_understands_it(tmp_path):
    artifact = make_artifact()
    write_artifact(tmp_path / "a.h5", artifact, "gzip")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["psf"][...], artifact.datasets["psf"].data)
        assert (file["counts"].dtype, file["counts"].attrs["dtype"]) == ("u1", "i8")
        assert file["psf"].attrs["unit"] == "sr-1"
        assert [list(dimension.keys()) for dimension in file["psf"].dims] == [["energy"], ["rad"], [], []]
        rad = file["psf"].dims[1]["rad"]
        assert (list(rad), rad.attrs["unit"], rad.attrs["interp"]) == (list(RAD.edges), "deg", "lin")
        assert list(file["counts_off"].dims[0][0]) == list(OTHER.edges)
        wcs = WCS(Header.fromstring(file["image"].attrs["wcs"], sep="\n"))
        np.testing.assert_array_equal(wcs.wcs.crpix, artifact.datasets["image"].geom.wcs().wcs.crpix)
        assert list(wcs.wcs.ctype) == ["GLON-CAR", "GLAT-CAR"]
        assert (file.attrs["key"], file.attrs["schema"], file.attrs["algorithm"]) == (KEY, 2, 3)
    assert (tmp_path / "a.h5").read_bytes().startswith(b"cubeflow artifact schema 2\n{")


@pytest.mark.parametrize("compression", ["blosc", "gzip", "none"])
def test_bytes_are_the_same_in_another_process(tmp_path, compression):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_artifact as t\n"
        "t.write_artifact(sys.argv[2], t.make_artifact(), sys.argv[3])"
    )
    here, other = Path(__file__).resolve().parent, tmp_path / "elsewhere.h5"
    environment = {**SOURCE, "PYTHONHASHSEED": "3", "MALLOC_PERTURB_": "165"}
    subprocess.run([sys.executable, "-c", code, here, other, compression], check=True, env=environment)
    artifact = make_artifact()
    write_artifact(tmp_path / "a.h5", make_artifact(datasets=dict(reversed(artifact.datasets.items()))), compression)
    assert other.read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_long_provenance(tmp_path):
    artifact = make_artifact(provenance={f"run-{number}": "ef" * 32 for number in range(5000)})
    write_artifact(tmp_path / "a.h5", artifact)
    assert_same(read_artifact(tmp_path / "a.h5"), artifact)


def test_some_datasets(tmp_path):
    write_artifact(tmp_path / "a.h5", make_artifact())
    assert list(read_artifact(tmp_path / "a.h5", ["psf"]).datasets) == ["psf"]
    assert read_artifact(tmp_path / "a.h5", []).attributes["row"] == {"a": None, "b": [0.1, "ä"]}
    with pytest.raises(ArtifactMismatch, match=r"has no dataset 'edisp', only \['counts', 'counts_off', 'gti_s'"):
        read_artifact(tmp_path / "a.h5", ["edisp"])


def test_parts_of_an_open_artifact(tmp_path):
    artifact = make_artifact()
    write_artifact(tmp_path / "a.h5", artifact)
    psf = artifact.datasets["psf"]
    with open_artifact(tmp_path / "a.h5", "reduced", KEY) as opened:
        assert opened.names == ("counts", "counts_off", "gti_s", "image", "mask_safe", "none", "psf")
        assert opened.artifact.attributes == artifact.attributes
        assert opened.describe("psf").shape == psf.data.shape
        out = np.full(psf.data.shape, 7.0)
        assert opened.dataset("psf", out).data is out
        np.testing.assert_array_equal(out, psf.data)
        with pytest.raises(ValueError, match="psf: float32"):
            opened.dataset("psf", out.astype("f4"))
        maps = opened.maps(("psf", "gti_s", "absent"))
        assert maps.keys() == {"psf"}
        np.testing.assert_array_equal(maps["psf"].data, psf.data)
        assert opened.maps().keys() == artifact.maps.keys()


def test_memory_does_not_grow_with_the_cube(tmp_path):
    geom = make_geometry("icrs", "CAR", 83.0, 0.0, (50.0, 50.0), 0.1)
    data = scratch_zeros((40, *geom.shape), "f8")
    rng = np.random.default_rng(1)
    for plane in data:
        plane[...] = rng.random(geom.shape)
    cube = Cube(data, "m2 s", geom, (energy_axis(np.geomspace(0.5, 50, 41)),))
    write_artifact(tmp_path / "warm.h5", make_artifact())
    tracemalloc.start()
    write_artifact(tmp_path / "a.h5", make_artifact(datasets={"exposure": cube}))
    with open_artifact(tmp_path / "a.h5") as opened:
        found = opened.maps()["exposure"]
    np.testing.assert_array_equal(found.data[17], data[17])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.h5").stat().st_size > 60e6
    assert peak < 25e6


@pytest.mark.faults
@pytest.mark.parametrize(
    ("expected", "match"),
    [({"key": "cd" * 32}, "has key abab.*expected cdcd"), ({"kind": "stack"}, "has kind reduced, expected")],
)
def test_fault_36_another_key_or_kind(tmp_path, expected, match):
    write_artifact(tmp_path / "a.h5", make_artifact())
    with pytest.raises(ArtifactMismatch, match=match):
        read_artifact(tmp_path / "a.h5", **expected)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"key": "xy"}, "key: expected the form"),
        ({"kind": "Reduced!"}, "kind: expected the form"),
        ({"attributes": {"norm": float("nan")}}, r"\$\.norm: expected a finite number, got nan"),
        ({"provenance": {"mask": np.zeros(1)}}, r"\$\.mask: expected plain"),
        ({"datasets": {"../x": np.zeros(1)}}, "dataset '../x': expected a name"),
        ({"datasets": {"axes": np.zeros(1)}}, "dataset 'axes': expected a name"),
        ({"datasets": {"x": np.zeros(1, "c16")}}, "x: values of type complex128 have no place"),
        ({"datasets": {"x": np.array(["a"])}}, "x: values of type <U1"),
        ({"datasets": {"x": np.array([{}])}}, "x: values of type object"),
        ({"datasets": {"x": np.array(1.0)}}, r"x: shape \(\); expected 1 to 5 dimensions"),
        ({"datasets": {"x": np.broadcast_to(np.uint8(1), (1 << 16, (1 << 15) + 1))}}, "x: shape .* at most 2147483648"),
    ],
)
def test_what_has_no_place_is_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        write_artifact(tmp_path / "a.h5", make_artifact(**changes))
    assert not list(tmp_path.iterdir())


def test_unknown_compression_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"compression: expected one of .* got 'lzf'"):
        write_artifact(tmp_path / "a.h5", make_artifact(), "lzf")


def test_set_aside_never_overwrites(tmp_path):
    for expected in ("a.h5.corrupt", "a.h5.corrupt.2", "a.h5.corrupt.3"):
        (tmp_path / "a.h5").write_text(expected)
        assert set_aside(tmp_path / "a.h5") == tmp_path / expected
    assert (tmp_path / "a.h5.corrupt").read_text() == "a.h5.corrupt"
    with pytest.raises(StorageError, match=r"a\.h5: there is no such file or folder"):
        set_aside(tmp_path / "a.h5")


def test_missing_file(tmp_path):
    with pytest.raises(StorageError, match=r"a\.h5: "):
        read_artifact(tmp_path / "a.h5")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_only_regular_files_are_read(tmp_path, make):
    make(tmp_path / "a.h5")
    with pytest.raises(ArtifactDamaged, match="not a regular file"):
        read_artifact(tmp_path / "a.h5")


def test_importing_costs_no_hdf5():
    modules = "{'h5py', 'hdf5plugin', 'astropy'}"
    code = f"import sys, cubeflow.store.artifact, cubeflow.store.fits; print({modules} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=SOURCE)
    assert done.stdout.strip() == "set()", done.stderr
