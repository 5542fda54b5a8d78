"""Faults 33 to 36 and 56: files that are not what was written, by accident or on purpose."""

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.store import artifact as store
from cubeflow.store.artifact import (
    BLOCK,
    Artifact,
    ArtifactDamaged,
    ArtifactMismatch,
    ArtifactNewer,
    read_artifact,
    write_artifact,
)

pytestmark = pytest.mark.faults
KEY = "ab" * 32
GEOM = make_geometry("icrs", "TAN", 83.0, 22.0, (1.3, 0.9), 0.1)
ROOT = {"algorithm": 1, "attributes": "{}", "provenance": "{}", "key": KEY, "kind": "reduced", "schema": 2}
WCS = "NAXIS1  = 13\nNAXIS2  = 9\nWCSAXES = 2\nCRPIX1  = 7.0\nCRPIX2  = 5.0\nCDELT1  = -0.1\nCDELT2  = 0.1\n"
WCS += "CRVAL1  = 83.0\nCRVAL2  = 22.0\nCTYPE1  = 'RA---TAN'\nCUNIT1  = 'deg'\nCTYPE2  = 'DEC--TAN'\nCUNIT2  = 'deg'\n"
WCS += "RADESYS = 'ICRS'"


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(1)
    axis = energy_axis([1.0, 3.0, 7.0])
    datasets = {"counts": Cube(rng.poisson(2, (2, *GEOM.shape)), "", GEOM, (axis,)), "gti_s": rng.random((4, 2))}
    write_artifact(tmp_path / "a.h5", Artifact("reduced", KEY, 1, datasets, {"row": 1}))
    return tmp_path / "a.h5"


def refused(path):
    with pytest.raises(ArtifactDamaged, match=r"a\.h5: ") as caught:
        read_artifact(path, key=KEY)
    return caught.value.reason


def test_fault_33_cut_at_every_length(path):
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 7), 511, 512, 513, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactDamaged):
            read_artifact(path)
    assert refused(path)


def test_fault_33_something_appended(path):
    path.write_bytes(path.read_bytes() + b"\0")
    assert "bytes, " in refused(path)


def test_fault_33_any_flipped_bit(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    for place in {*range(0, 8 * len(whole), 61), *rng.integers(0, 8 * BLOCK, 200).tolist()}:
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(ArtifactDamaged):
            read_artifact(path, key=KEY)


@pytest.mark.parametrize("content", [b"", b"not an artifact\n" * 200, b"\x89HDF\r\n\x1a\n" + bytes(4000), bytes(4000)])
def test_fault_33_emptied_or_replaced(path, content):
    path.write_bytes(content)
    assert refused(path) == "not a cubeflow artifact, or its first block is damaged"


def forge(path, fill, root=ROOT):
    """Write an artifact with a perfect first block around HDF5 content made by anyone."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110"), userblock_size=BLOCK) as file:
        file.attrs.update(root)
        fill(file)
    reforge(path, buffer.getvalue())


def reforge(path, content):
    digest = hashlib.sha256(content[BLOCK:]).hexdigest()
    path.write_bytes(store._Block("reduced", KEY, len(content), digest).seal() + content[BLOCK:])


def put(file, data=None, **options):
    return file.create_dataset("x", data=np.arange(6.0) if data is None else data, **options)


def put_cube(file, data=None, wcs=WCS, edges=(1.0, 2.0, 3.0), interp="log", place="axes/energy"):
    scale = file.create_dataset(place, data=edges)
    scale.attrs.update({"unit": "TeV", "interp": interp})
    dataset = put(file, np.zeros((2, *GEOM.shape)) if data is None else data)
    dataset.dims[0].attach_scale(scale)
    dataset.attrs.update({"unit": "", "wcs": wcs})


def test_forgeries_that_are_right_are_read(path):
    forge(path, put)
    np.testing.assert_array_equal(read_artifact(path, key=KEY).datasets["x"], np.arange(6.0))
    forge(path, put_cube)
    cube = read_artifact(path).datasets["x"]
    assert (cube.geom, cube.axes) == (GEOM, (energy_axis([1.0, 2.0, 3.0]),))


@pytest.mark.parametrize("left_out", ["key", "algorithm", "kind", "attributes"])
def test_fault_34_openable_but_not_whole(path, left_out):
    forge(path, put, {name: text for name, text in ROOT.items() if name != left_out})
    assert refused(path)


def virtual(file):
    layout = h5py.VirtualLayout((6,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (6,))
    file.create_virtual_dataset("x", layout)


def sixteen_gib(file):
    file.create_dataset("x", (1 << 31,), "f8", chunks=(1 << 17,), compression="gzip")


HOSTILE = {
    "soft link": (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "is a link"),
    "external link": (lambda file: file.__setitem__("x", h5py.ExternalLink("b.h5", "/")), "is a link"),
    "group": (lambda file: file.create_group("x"), "is not a dataset"),
    "named type": (lambda file: file.__setitem__("x", np.dtype("f8")), "is not a dataset"),
    "loop": (lambda file: file.__setitem__("x", file["/"]), "is not a dataset"),
    "external storage": (lambda file: put(file, external=[("/etc/passwd", 0, 48)]), "not in this file"),
    "virtual": (virtual, "not in this file"),
    "object references": (lambda file: put(file, np.array([file.ref] * 3, h5py.ref_dtype)), "not plain numbers"),
    "texts": (lambda file: put(file, np.array(["a"], object), dtype=h5py.string_dtype()), "not plain numbers"),
    "compound": (lambda file: put(file, np.zeros(2, [("a", "f8")])), "not plain numbers"),
    "enumeration": (lambda file: put(file, np.zeros(2, bool)), "not plain numbers"),
    "complex": (lambda file: put(file, np.zeros(2, "c16")), "not plain numbers"),
    "big-endian": (lambda file: put(file, np.zeros(2, ">f8")), "not plain numbers"),
    "16 GiB in 2 kB": (sixteen_gib, "declares 17179869184 bytes in a file of"),
    "10^12 values": (lambda file: file.create_dataset("x", (10**12,), "u1", chunks=(1024,)), "at most 2147483648"),
    "vast chunks": (lambda file: file.create_dataset("x", (6,), "f8", chunks=(1 << 28,), maxshape=(None,)), "declares"),
    "scalar": (lambda file: put(file, np.float64(1)), "1 to 5 dimensions"),
    "nothing": (lambda file: file.__setitem__("x", h5py.Empty("f8")), "1 to 5 dimensions"),
    "six dimensions": (lambda file: put(file, np.zeros((1,) * 6)), "1 to 5 dimensions"),
    "other type": (lambda file: put(file).attrs.__setitem__("dtype", "O"), "are not stored as"),
    "integers as floats": (lambda file: put(file).attrs.__setitem__("dtype", "i8"), "are not stored as"),
    "no geometry": (lambda file: put(file).attrs.__setitem__("wcs", "../x"), "not a WCS"),
    "geometry of another type": (lambda file: put(file).attrs.__setitem__("wcs", [1.0]), "not a WCS"),
    "vast map": (lambda file: put_cube(file, wcs=WCS.replace("= 13", f"= {10**12}")), "does not fit its geometry"),
    "other frame": (lambda file: put_cube(file, wcs=WCS.replace("RA---", "X----")), "not a WCS"),
    "rotated": (lambda file: put_cube(file, wcs=f"{WCS}\nCROTA2  = 10.0"), "not a WCS"),
    "no number": (lambda file: put_cube(file, wcs=WCS.replace("83.0", "nan")), "not a WCS"),
    "too large a number": (lambda file: put_cube(file, wcs=WCS.replace("= 13", "= 1e999")), "not a WCS"),
    "other shape": (lambda file: put_cube(file, data=np.zeros((3, *GEOM.shape))), "does not fit its geometry"),
    "falling axis": (lambda file: put_cube(file, edges=(1.0, 3.0, 2.0)), "strictly increasing"),
    "edges of text": (lambda file: put_cube(file, edges=np.array([b"a", b"b"])), "not plain numbers"),
    "edges in 2D": (lambda file: put_cube(file, edges=np.ones((2, 2))), "not an axis"),
    "other interp": (lambda file: put_cube(file, interp="cubic"), "not an axis"),
    "axes by link": (lambda file: file.__setitem__("axes", h5py.ExternalLink("b.h5", "/")), "is a link"),
    "axes of another kind": (lambda file: file.__setitem__("axes", np.zeros(2)), "is not a group"),
    "axis elsewhere": (lambda file: put_cube(file, place="energy"), "not an axis"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_fault_35_hostile_content_is_refused_unread(path, name):
    fill, match = HOSTILE[name]
    forge(path, fill)
    with pytest.raises(ArtifactDamaged, match=match):
        read_artifact(path)


@pytest.mark.parametrize("text", ["[[[", "[" * 60000])
def test_fault_35_attributes_that_are_no_json(path, text):
    forge(path, put, {**ROOT, "attributes": text})
    assert refused(path)


def test_fault_36_key_inside_differs(path):
    forge(path, put, {**ROOT, "key": "cd" * 32})
    assert refused(path) == "the attributes ['key'] do not fit the first block"


def sealed(schema):
    text = b'cubeflow artifact schema %d\n{"kind":"reduced"}\n' % schema
    block = text.ljust(BLOCK - 65)
    return block + hashlib.sha256(block).hexdigest().encode() + b"\n"


def test_fault_56_newer_schema(path):
    path.write_bytes(sealed(3) + bytes(2000))
    with pytest.raises(ArtifactNewer, match=r"a\.h5: has schema 3, this version reads 2"):
        read_artifact(path)


def test_fault_36_schema_of_the_first_edition(path):
    path.write_bytes(sealed(1) + bytes(2000))
    with pytest.raises(ArtifactMismatch, match="has schema 1, this version reads 2"):
        read_artifact(path)


def test_hdf5_that_is_broken_behind_a_right_checksum(path):
    """Whatever stands there, reading ends with numbers or with an error that says so."""
    whole = path.read_bytes()
    expected = read_artifact(path).datasets["counts"].data
    rng = np.random.default_rng(11)
    n_damaged = 0
    for place in rng.integers(8 * BLOCK, 8 * len(whole), 150):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        reforge(path, bytes(broken))
        try:
            found = read_artifact(path).datasets["counts"].data
        except ArtifactDamaged:
            n_damaged += 1
        else:
            assert found.shape == expected.shape
    assert n_damaged > 10


def test_hdf5_ends_in_order_after_a_damaged_file(path):
    reforge(path, bytes(4000))
    code = (
        "import sys\n"
        "from cubeflow.store import artifact as a\n"
        "try:\n"
        "    a.read_artifact(sys.argv[1])\n"
        "except a.ArtifactDamaged as error:\n"
        "    kept = error\n"
        "    print(error.reason)\n"
    )
    source = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code, path], env=source, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "signature not found" in done.stdout
