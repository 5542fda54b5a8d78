"""Faults 33 to 36 and 56: files that are not what was written, by accident or on purpose."""

import io
import json
from dataclasses import asdict

import h5py
import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.storage import described, envelope
from cubeflow.storage.artifact import (
    Artifact,
    ArtifactDamaged,
    ArtifactNewer,
    check_artifact,
    read_artifact,
    read_key,
    read_summary,
    write_artifact,
)
from cubeflow.storage.envelope import BLOCK, Envelope, digest, seal

pytestmark = pytest.mark.faults
KEY = "ab" * 32
GEOM = make_geometry("icrs", "TAN", 83.0, 22.0, (1.3, 0.9), 0.1)
ROOT = {"algorithm": "1", "attributes": "{}", "provenance": "{}", "format": "cubeflow artifact", "key": KEY}
ROOT |= {"kind": "reduced", "schema": "1", "complete": "yes"}
TEXT = {"dtype": "f8", "kind": "array", "unit": "", "geometry": "null", "axes": "[]"}


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(1)
    axis = energy_axis([1.0, 3.0, 7.0])
    datasets = {"counts": Cube(rng.poisson(2, (2, *GEOM.shape)), "", GEOM, (axis,)), "gti_s": rng.random((4, 2))}
    write_artifact(tmp_path / "a.h5", Artifact("reduced", KEY, 1, datasets, {"row": 1}))
    return tmp_path / "a.h5"


def refused(path):
    with pytest.raises(ArtifactDamaged, match=r"a\.h5: ") as caught:
        read_artifact(path, expect_key=KEY)
    with pytest.raises(ArtifactDamaged):
        read_summary(path)
    return caught.value.reason


def test_fault_33_truncated(path):
    whole = path.read_bytes()
    for size in sorted({0, 1, 511, 512, 513, len(whole) - 1, *np.linspace(0, len(whole) - 2, 30, dtype=int)}):
        path.write_bytes(whole[:size])
        assert refused(path)
        with pytest.raises(ArtifactDamaged):
            check_artifact(path)
        assert read_key(path) is None


def test_fault_33_something_appended(path):
    path.write_bytes(path.read_bytes() + b"\0")
    assert "bytes, " in refused(path)
    assert read_key(path) is None


def test_fault_33_any_flipped_bit(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    places = {*rng.integers(0, 8 * len(whole), 200).tolist(), *range(0, 8 * BLOCK, 13)}
    for place in sorted(places):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(ArtifactDamaged):
            check_artifact(path, expect_key=KEY)
        with pytest.raises(ArtifactDamaged):
            read_artifact(path)
        if place < 8 * BLOCK:
            assert read_key(path) is None


@pytest.mark.parametrize("content", [b"", b"not an artifact\n" * 200, b"\x89HDF\r\n\x1a\n" + bytes(4000), bytes(4000)])
def test_fault_33_emptied_or_replaced(path, content):
    path.write_bytes(content)
    assert refused(path) == "not a cubeflow artifact, or its first block is damaged"


def test_fault_33_a_plain_hdf5_file(path):
    with h5py.File(path, "w") as file:
        file["counts"] = np.zeros(3)
    assert refused(path) == "not a cubeflow artifact, or its first block is damaged"


def forge(path, fill, root=ROOT, size=None):
    """Write an artifact with a perfect first block around HDF5 content made by anyone."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110"), userblock_size=BLOCK) as file:
        for name, text in root.items():
            file.attrs[name] = np.bytes_(text)
        fill(file)
    reforge(path, buffer, size)


def reforge(path, buffer, size=None):
    length = buffer.seek(0, io.SEEK_END)
    envelope = Envelope("reduced", KEY, size or length, digest(buffer))
    buffer.seek(0)
    buffer.write(seal(envelope))
    path.write_bytes(buffer.getvalue())


def put(file, data=None, name="x", text=TEXT, **options):
    if "shape" not in options:
        options = {"data": np.arange(6.0) if data is None else data, **options}
    options = {"fletcher32": True, **options}
    dataset = file.create_dataset(name, **options)
    for key, value in text.items():
        dataset.attrs[key] = np.bytes_(value)


def test_a_forgery_that_is_right_is_read(path):
    forge(path, put)
    np.testing.assert_array_equal(read_artifact(path, expect_key=KEY).datasets["x"], np.arange(6.0))


@pytest.mark.parametrize("left_out", ["complete", "key", "algorithm", "format"])
def test_fault_34_openable_but_not_whole(path, left_out):
    forge(path, put, {name: text for name, text in ROOT.items() if name != left_out})
    assert refused(path)


def test_fault_34_lacks_an_attribute(path):
    forge(path, lambda file: put(file, text={name: TEXT[name] for name in TEXT if name != "unit"}))
    assert refused(path) == "x: lacks the attribute 'unit'"


def external(file):
    put(file, fletcher32=False, external=[("/etc/passwd", 0, 48)])


def virtual(file):
    layout = h5py.VirtualLayout((6,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (6,))
    file.create_virtual_dataset("x", layout)


def endless(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1 << 20,))
    plan.set_fletcher32()
    space = h5py.h5s.create_simple((10**12,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, space, plan)


HOSTILE = {
    "soft link": (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "is a link"),
    "external link": (lambda file: file.__setitem__("x", h5py.ExternalLink("b.h5", "/")), "is a link"),
    "group": (lambda file: file.create_group("x"), "is not a dataset"),
    "named type": (lambda file: file.__setitem__("x", np.dtype("f8")), "is not a dataset"),
    "loop": (lambda file: file.__setitem__("x", file["/"]), "is not a dataset"),
    "external storage": (external, "not in this file"),
    "virtual": (virtual, "not in this file"),
    "object references": (
        lambda file: put(file, np.array([file.ref] * 3, h5py.ref_dtype), fletcher32=False),
        "not plain numbers",
    ),
    "texts of any length": (
        lambda file: put(file, np.array(["a"], object), dtype=h5py.string_dtype(), fletcher32=False),
        "not plain numbers",
    ),
    "compound": (lambda file: put(file, np.zeros(2, [("a", "f8")])), "not plain numbers"),
    "complex": (lambda file: put(file, np.zeros(2, "c16")), "not plain numbers|no place"),
    "half": (lambda file: put(file, np.zeros(2, "f2")), "no place in an artifact"),
    "big-endian": (lambda file: put(file, np.zeros(2, ">f8")), "not plain numbers"),
    "10^12 values": (endless, "declares 1000000000000 values"),
    "contiguous": (lambda file: put(file, fletcher32=False), "not in chunks"),
    "scalar": (lambda file: put(file, np.float64(1), fletcher32=False), "1 to 5 dimensions"),
    "six dimensions": (lambda file: put(file, np.zeros((1,) * 6)), "1 to 5 dimensions"),
    "unknown filter": (lambda file: put(file, compression="lzf"), "unknown filters"),
    "no checksum": (lambda file: put(file, fletcher32=False, chunks=(2,)), "unknown filters"),
    "vast chunks": (lambda file: put(file, shape=(1 << 30,), chunks=(1 << 26,), dtype="f8"), "above the limit of"),
    "many objects": (lambda file: [put(file, name=f"x{n}") for n in range(257)], "257 objects, the limit"),
    "text as a heap": (lambda file: (put(file), file["x"].attrs.__setitem__("unit", "m")), "not a text within"),
    "array as text": (lambda file: (put(file), file["x"].attrs.__setitem__("unit", np.zeros(9))), "not a text within"),
    "not ascii": (lambda file: put(file, text={**TEXT, "unit": b"\xff"}), "ascii"),
    "many attributes": (lambda file: put(file, text={**TEXT, **{f"a{n}": "" for n in range(20)}}), "attributes, the"),
    "other type": (lambda file: put(file, text={**TEXT, "dtype": "O"}), "are not stored as"),
    "integers as floats": (lambda file: put(file, text={**TEXT, "dtype": "i8"}), "are not stored as"),
    "cube without geometry": (lambda file: put(file, text={**TEXT, "kind": "cube"}), "kind 'cube' does not fit"),
    "no JSON": (lambda file: put(file, text={**TEXT, "axes": "[[["}), "Expecting|delimiter|value"),
    "deep JSON": (lambda file: put(file, text={**TEXT, "axes": "[" * 60000}), "recursion"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_fault_35_hostile_content_is_refused_unread(path, name, monkeypatch):
    fill, match = HOSTILE[name]
    forge(path, fill)

    def read(*_):
        raise AssertionError("values were read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    with pytest.raises(ArtifactDamaged, match=match):
        read_artifact(path)


AXIS = {"name": "energy", "edges": [1.0, 2.0, 3.0], "unit": "TeV", "interp": "log"}


def geometry(**changes):
    return {**asdict(GEOM), **changes}


@pytest.mark.parametrize(
    ("axes", "geom", "match"),
    [
        ([AXIS], geometry(nx=10**12), "does not fit its geometry"),
        ([AXIS], geometry(nx=13.0), "not a geometry"),
        ([AXIS], geometry(frame=["icrs"]), "not a geometry"),
        ([AXIS], geometry(frame="fk5"), "frame: expected one of"),
        ([AXIS], geometry(extra=1), "not a geometry"),
        ([AXIS], 3, "not a geometry"),
        ([], geometry(), "does not fit its geometry"),
        ([{**AXIS, "edges": [1.0, 2.0]}], geometry(), "does not fit its geometry"),
        ([{**AXIS, "edges": [1.0, 3.0, 2.0]}], geometry(), "strictly increasing"),
        ([{**AXIS, "edges": [1.0, "2", 3.0]}], geometry(), "edges must be numbers"),
        ([{**AXIS, "interp": "cubic"}], geometry(), "interp log or lin"),
        ([{**AXIS, "more": 1}], geometry(), "not an axis"),
        ([7], geometry(), "not an axis"),
        (7, geometry(), "not iterable"),
    ],
)
def test_fault_35_shapes_must_fit_what_is_declared(path, axes, geom, match):
    text = {**TEXT, "kind": "cube", "axes": json.dumps(axes), "geometry": json.dumps(geom)}
    forge(path, lambda file: put(file, np.zeros((2, *GEOM.shape)), text=text))
    with pytest.raises(ArtifactDamaged, match=match):
        read_artifact(path)


def test_fault_35_limit_on_values(path, monkeypatch):
    for module in ("cubeflow.storage.hdf5_read", "cubeflow.storage.described"):
        monkeypatch.setattr(f"{module}.MAX_ELEMENTS", 100)
    assert refused(path) == "counts: declares 234 values, the limit is 100"
    with pytest.raises(ValueError, match=r"x: shape \(101,\)"):
        described.describe("x", np.zeros(101))


def test_fault_35_limit_on_the_file(path, monkeypatch):
    monkeypatch.setattr(envelope, "MAX_FILE_BYTES", 1000)
    assert refused(path).endswith("the limit is 1000")


def test_fault_36_key_inside_differs(path):
    forge(path, put, {**ROOT, "key": "cd" * 32})
    assert refused(path) == "root attributes ['key'] do not fit the first block"


def test_fault_56_newer_schema(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(envelope, "SCHEMA", 2)
        forge(path, put)
    for read in (read_artifact, check_artifact, read_summary):
        with pytest.raises(ArtifactNewer, match=r"a\.h5: has schema 2, this version reads 1"):
            read(path)
    assert read_key(path) is None


def test_hdf5_that_is_broken_behind_a_right_checksum(path):
    """Whatever stands there, reading ends with the content or with an error that says so."""
    whole = path.read_bytes()
    expected = read_artifact(path).datasets["counts"].data
    rng = np.random.default_rng(11)
    n_damaged = 0
    for place in rng.integers(8 * BLOCK, 8 * len(whole), 150):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        reforge(path, io.BytesIO(broken))
        try:
            found = read_artifact(path).datasets["counts"].data
        except ArtifactDamaged:
            n_damaged += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert n_damaged > 50
