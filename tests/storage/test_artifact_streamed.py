import ctypes
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry
from cubeflow.storage import atomic
from cubeflow.storage.artifact import (
    Artifact,
    CubeStream,
    StorageError,
    read_artifact,
    read_key,
    write_artifact,
    write_artifact_streamed,
)

KEY = "ab" * 32
GEOM = make_geometry("icrs", "CAR", 83.0, 0.0, (13.0, 9.0), 0.1)
ENERGY = energy_axis(log_edges(0.5, 50.0, 23))
SHAPE = (23, *GEOM.shape)


def slabs(data, lengths):
    start = 0
    for length in lengths:
        yield data[start : start + length]
        start += length


def stream(data, lengths=(5, 1, 0, 16, 1), maximum=None):
    return CubeStream(slabs(data, lengths), data.dtype.str[1:], "", GEOM, (ENERGY,), maximum)


def small_file_system(tmp_path, size):
    """Mount a file system of `size` bytes, or skip; gives the folder and what undoes it."""
    folder = tmp_path / "small"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=%d" % size):
        pytest.skip("a small file system can be mounted only by root with the right to mount")
    return folder, lambda: libc.umount2(bytes(folder), 2)


@pytest.mark.parametrize("compression", ["blosc", "gzip", "none"])
def test_bytes_equal_those_written_from_memory(tmp_path, compression):
    rng = np.random.default_rng(1)
    counts, exposure = rng.poisson(2.0, SHAPE), rng.random(SHAPE)
    masks = rng.random(SHAPE) > 0.5
    cubes = {"counts": counts, "exposure": exposure, "mask": masks}
    whole = {name: Cube(data, "", GEOM, (ENERGY,)) for name, data in cubes.items()}
    parts = {name: stream(data) for name, data in cubes.items()}
    parts["counts"] = stream(counts, (23,), int(counts.max()))
    table = np.arange(6.0).reshape(3, 2)
    write_artifact(tmp_path / "a.h5", Artifact("stack", KEY, 1, {**whole, "gti_s": table}), compression)
    write_artifact_streamed(tmp_path / "b.h5", Artifact("stack", KEY, 1, {**parts, "gti_s": table}), compression)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_memory_does_not_grow_with_the_cube(tmp_path):
    geom = make_geometry("icrs", "CAR", 83.0, 0.0, (50.0, 50.0), 0.1)
    energy = energy_axis(log_edges(0.5, 50.0, 40))
    rng = np.random.default_rng(1)
    source = (rng.random((1, *geom.shape)) for _ in range(40))
    cube = CubeStream(source, "f8", "m2 s", geom, (energy,))
    write_artifact_streamed(tmp_path / "warm.h5", Artifact("stack", KEY, 1, {"x": np.zeros(2)}))
    tracemalloc.start()
    write_artifact_streamed(tmp_path / "a.h5", Artifact("stack", KEY, 1, {"exposure": cube}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.h5").stat().st_size > 60e6
    assert peak < 20e6


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (stream(np.zeros(SHAPE), (22,)), "exposure: the slabs together do not have the declared shape"),
        (stream(np.zeros((30, *GEOM.shape)), (23, 7)), "exposure: the slabs together do not have"),
        (stream(np.zeros((23, 90, 129)), (23,)), "exposure: slab of type float64, shape"),
        (CubeStream(iter([np.zeros(SHAPE, "f4")]), "f8", "", GEOM, (ENERGY,)), "exposure: slab of type float32"),
        (stream(np.full(SHAPE, 300), (23,), 255), "exposure: values of type i8 above the maximum for u1"),
        (CubeStream(iter([]), "O", "", GEOM, (ENERGY,)), "exposure: values of type object"),
    ],
)
def test_streams_that_do_not_keep_their_word(tmp_path, given, match):
    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(ValueError, match=match):
        write_artifact_streamed(tmp_path / "a.h5", Artifact("stack", KEY, 1, {"exposure": given}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == b"old"


@pytest.mark.faults
@pytest.mark.parametrize("write", [write_artifact, write_artifact_streamed])
def test_fault_39_whatever_call_fails_the_file_is_old_or_new(tmp_path, monkeypatch, write):
    rng = np.random.default_rng(1)
    monkeypatch.setattr(atomic, "WRITE_STEP", 1 << 16)
    path = tmp_path / "a.h5"
    old, new = (Artifact("stack", key * 32, 1, {"x": rng.random((30, 500))}) for key in ("00", "11"))
    write(path, new)
    expected = path.read_bytes()
    failures = 0
    for n in range(1, 400):
        write_artifact(path, old)
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            fail_nth_call(patch, n)
            try:
                write(path, new)
            except StorageError:
                failures += 1
            else:
                break
        assert path.read_bytes() in (before, expected)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
    assert failures >= 5
    assert path.read_bytes() == expected


def fail_nth_call(patch, n):
    count = [0]

    def failing(call):
        def wrapper(*args, **kwargs):
            count[0] += 1
            if count[0] == n:
                raise OSError(5, "Input/output error")
            return call(*args, **kwargs)

        return wrapper

    for name in ("open", "write", "fsync", "replace", "preadv", "ftruncate", "lseek"):
        patch.setattr(os, name, failing(getattr(os, name)))


@pytest.mark.faults
def test_fault_39_a_process_ends_in_order_whatever_call_failed(tmp_path):
    """The errors are kept to the end: with them stays what their frames hold of HDF5."""
    code = (
        "import os, sys, numpy as np\n"
        "import h5py, hdf5plugin\n"
        "from cubeflow.storage import artifact as a\n"
        "made = a.Artifact('stack', '00' * 32, 1, {'x': np.random.default_rng(1).random((30, 500))})\n"
        "calls, left = ('open', 'write', 'fsync', 'replace', 'preadv', 'ftruncate', 'lseek'), 0\n"
        "def failing(call):\n"
        "    def wrapper(*given):\n"
        "        global left\n"
        "        left -= 1\n"
        "        if not left:\n"
        "            raise OSError(5, 'Input/output error')\n"
        "        return call(*given)\n"
        "    return wrapper\n"
        "for name in calls:\n"
        "    setattr(os, name, failing(getattr(os, name)))\n"
        "kept = []\n"
        "while left <= 0:\n"
        "    left = len(kept) + 1\n"
        "    try:\n"
        "        a.write_artifact_streamed(sys.argv[1], made)\n"
        "    except a.StorageError as error:\n"
        "        kept.append(error)\n"
        "sys.exit(f'{len(kept)} errors, the last: {kept[-1]}')\n"
    )
    done = run(code, str(tmp_path / "a.h5"))
    assert (done.returncode, done.stdout) == (1, "")
    count, line = done.stderr.split(" ", 1)
    assert int(count) > 20
    assert line == f"errors, the last: {tmp_path}/a.h5: Input/output error [EIO]\n"


@pytest.mark.faults
@pytest.mark.parametrize("writer", ["write_artifact", "write_artifact_streamed"])
def test_fault_37_disk_full_at_every_size(tmp_path, writer):
    """In a process of its own: the library could crash when the disk is full."""
    folder, unmount = small_file_system(tmp_path, 1 << 20)
    code = (
        "import sys, os, numpy as np\n"
        "from pathlib import Path\n"
        "from cubeflow.storage import artifact as a\n"
        "folder = Path(sys.argv[1])\n"
        "make = lambda: a.Artifact('stack', 'ab' * 32, 1, {'x': np.random.default_rng(0).random((8, 200, 50))})\n"
        "refused = 0\n"
        "for size in range(0, 1 << 20, 1 << 15):\n"
        "    (folder / 'filler').write_bytes(bytes((1 << 20) - size))\n"
        "    try:\n"
        f"        a.{writer}(folder / 'a.h5', make())\n"
        "    except a.StorageError as error:\n"
        "        refused += 1\n"
        "        assert str(error) == f'{folder}/a.h5: no space is left on the device [ENOSPC]', error\n"
        "        assert os.listdir(folder) == ['filler'], os.listdir(folder)\n"
        "    else:\n"
        "        (folder / 'a.h5').unlink()\n"
        "(folder / 'filler').unlink()\n"
        f"a.{writer}(folder / 'a.h5', make())\n"
        "assert a.read_artifact(folder / 'a.h5').datasets['x'].shape == (8, 200, 50)\n"
        "print(refused)\n"
    )
    try:
        done = run(code, str(folder))
    finally:
        unmount()
    assert done.returncode == 0, done.stderr
    assert 5 < int(done.stdout) < 32


@pytest.mark.faults
@pytest.mark.parametrize("writer", ["write_artifact", "write_artifact_streamed"])
def test_fault_37_file_size_limit(tmp_path, writer):
    code = (
        "import sys, os, resource, numpy as np\n"
        "from cubeflow.storage import artifact as a\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))\n"
        "x = np.random.default_rng(0).random((8, 200, 50))\n"
        "try:\n"
        f"    a.{writer}(sys.argv[1] + '/a.h5', a.Artifact('stack', 'ab' * 32, 1, {{'x': x}}))\n"
        "except a.StorageError as error:\n"
        "    print(error, os.listdir(sys.argv[1]))\n"
    )
    done = run(code, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/a.h5: the file would exceed the allowed file size [EFBIG] []\n"


@pytest.mark.faults
def test_fault_38_read_only_folder(tmp_path):
    folder, unmount = small_file_system(tmp_path, 1 << 20)
    libc = ctypes.CDLL(None)
    try:
        remount, read_only = 32, 1
        assert libc.mount(None, bytes(folder), None, remount | read_only, None) == 0
        for write in (write_artifact, write_artifact_streamed):
            with pytest.raises(StorageError, match=r"small/a\.h5: the file system is read-only"):
                write(folder / "a.h5", Artifact("stack", KEY, 1, {}))
    finally:
        unmount()


@pytest.mark.faults
def test_fault_43_two_writers_of_one_artifact(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from cubeflow.storage import artifact as a\n"
        "x = np.random.default_rng(0).random((8, 200, 50))\n"
        "for _ in range(20):\n"
        "    a.write_artifact(sys.argv[1] + '/a.h5', a.Artifact('stack', 'ab' * 32, 1, {'x': x}))\n"
        "    a.check_artifact(sys.argv[1] + '/a.h5')\n"
    )
    writers = [subprocess.Popen(command(code, str(tmp_path)), env=environment()) for _ in range(2)]
    for _ in range(200):
        assert read_key(tmp_path / "a.h5") in (None, KEY)
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    np.testing.assert_array_equal(
        read_artifact(tmp_path / "a.h5").datasets["x"], np.random.default_rng(0).random((8, 200, 50))
    )


def test_what_the_disk_gives_back_is_compared(tmp_path, monkeypatch):
    preadv = os.preadv

    def lying(descriptor, buffers, position):
        count = preadv(descriptor, buffers, position)
        if count > 10_000:
            buffers[0][5000] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", lying)
    data = np.random.default_rng(0).random((8, 200, 50))
    with pytest.raises(StorageError, match=r"a\.h5: what was written"):
        write_artifact_streamed(tmp_path / "a.h5", Artifact("stack", KEY, 1, {"x": data}))
    assert not list(tmp_path.iterdir())


def test_hdf5_ends_in_order_after_a_damaged_file(tmp_path):
    code = (
        "import sys, io\n"
        "from cubeflow.storage import artifact as a, envelope as e\n"
        "buffer = io.BytesIO(bytes(4000))\n"
        "head = e.seal(e.Envelope('stack', 'ab' * 32, 4000, e.digest(buffer)))\n"
        "open(sys.argv[1], 'wb').write(head + bytes(4000 - len(head)))\n"
        "try:\n"
        "    a.read_artifact(sys.argv[1])\n"
        "except a.ArtifactDamaged as error:\n"
        "    kept = error\n"
        "    print(error.reason)\n"
    )
    done = run(code, str(tmp_path / "a.h5"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "signature not found" in done.stdout


def run(code, *arguments):
    return subprocess.run(command(code, *arguments), env=environment(), capture_output=True, text=True, timeout=120)


def command(code, *arguments):
    return [sys.executable, "-c", code, *arguments]


def environment():
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
