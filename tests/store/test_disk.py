"""Faults 37 to 39 and 43: disks that are full or read-only, calls that fail, two writers."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cubeflow.store.artifact import Artifact, read_artifact, write_artifact
from cubeflow.store.atomic import StorageError

pytestmark = pytest.mark.faults
KEY = "ab" * 32


@pytest.fixture
def small_disk(tmp_path):
    """Folder with a file system of 1 MB; skips who may not mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1048576"):
        pytest.skip("a small file system can be mounted only by root with the right to mount")
    yield folder
    libc.umount2(bytes(folder), 2)


def command(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def environment():
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}


def run(code, *arguments):
    return subprocess.run(command(code, *arguments), env=environment(), capture_output=True, text=True, timeout=120)


def test_fault_39_whatever_call_fails_the_file_is_old_or_new(tmp_path, monkeypatch, flaky):
    rng = np.random.default_rng(1)
    path, failed = tmp_path / "a.h5", set()
    old, new = (Artifact("stack", key * 32, 1, {"x": rng.random((30, 5000))}) for key in ("00", "11"))
    write_artifact(path, new)
    expected = path.read_bytes()
    for n in range(1, 400):
        write_artifact(path, old)
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            calls = flaky(patch, n)
            message = None
            try:
                write_artifact(path, new)
            except StorageError as error:
                message = str(error)
        if not calls.failed:
            break
        assert message == f"{path}: Input/output error [EIO]"
        failed.add(calls.failed)
        assert path.read_bytes() in (before, expected)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
    assert n > 20
    assert failed >= {"open", "write", "read", "fsync", "close", "replace"}
    assert path.read_bytes() == expected


def test_fault_39_a_process_ends_in_order_whatever_call_failed(tmp_path):
    """The errors are kept to the end: with them stays what their frames hold of HDF5."""
    code = (
        "import sys, numpy as np\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import h5py, hdf5plugin, pytest, conftest\n"
        "from cubeflow.store import artifact as a\n"
        "from cubeflow.store.atomic import StorageError\n"
        "made = a.Artifact('stack', '00' * 32, 1, {'x': np.random.default_rng(1).random((30, 5000))})\n"
        "kept = []\n"
        "while True:\n"
        "    with pytest.MonkeyPatch.context() as patch:\n"
        "        conftest.Flaky(patch, len(kept) + 1)\n"
        "        try:\n"
        "            a.write_artifact(sys.argv[1], made)\n"
        "            break\n"
        "        except StorageError as error:\n"
        "            kept.append(error)\n"
        "sys.exit(f'{len(kept)} errors, the last: {kept[-1]}')\n"
    )
    done = run(code, tmp_path / "a.h5", Path(__file__).parent)
    assert (done.returncode, done.stdout) == (1, "")
    count, line = done.stderr.split(" ", 1)
    assert int(count) > 20
    assert line == f"errors, the last: {tmp_path}/a.h5: Input/output error [EIO]\n"


SIGNALLED = """
import io, os, signal, sys
from pathlib import Path
import h5py, numpy as np
from cubeflow.store import artifact as a
path, number, work = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
made = a.Artifact("stack", "00" * 32, 1, {"x": np.random.default_rng(1).random((30, 5000))})
opened, kind = Path.open, io.BufferedReader if work == "read" else io.BufferedRandom
count = last = 0

class Signalled(kind):
    pass

def signalled(original):
    def call(*arguments):
        global count
        count += 1
        if count == last:
            signal.raise_signal(number)
        return original(*arguments)
    return call

if work == "import":
    h5py.h5z.register_filter = signalled(h5py.h5z.register_filter)
else:
    import hdf5plugin
    for name in ("seek", "tell", "write", "read", "readinto", "truncate", "flush"):
        setattr(Signalled, name, signalled(getattr(kind, name)))
if work == "read":
    a.write_artifact(path, made)
    a.open_regular = lambda path: Signalled(io.FileIO(path))
else:
    Path.open = lambda path, mode="r": Signalled(io.FileIO(path, "x+")) if mode == "x+b" else opened(path, mode)
if number == signal.SIGTERM:
    signal.signal(number, lambda *_: sys.exit(143))
else:
    signal.signal(number, signal.default_int_handler)  # a shell has its background jobs ignore it
while True:
    last += 1
    child = os.fork()
    if not child:
        a.read_artifact(path) if work == "read" else a.write_artifact(path, made)
        print("whole", last)
        break
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        break
    assert (status, os.listdir(path.parent)) == (int(sys.argv[4]), [path.name] * (work == "read")), (last, status)
"""


@pytest.mark.parametrize(("work", "n_calls"), [("write", 20), ("read", 20), ("import", 1)])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_fault_41_a_signal_in_whatever_call_of_hdf5_ends_the_process_in_order(tmp_path, work, n_calls, number, status):
    """With a handler that raises SystemExit, and with that of Python, KeyboardInterrupt; each in an own process."""
    done = run(SIGNALLED, tmp_path / "a.h5", number, work, status)
    text = done.stderr.replace("KeyboardInterrupt\n", "")
    assert done.returncode == 0, text
    assert not re.search("Error|ignored", text), text
    assert int(done.stdout.removeprefix("whole")) > n_calls


def test_fault_37_disk_full_at_every_size(small_disk):
    """In a process of its own: the library could crash when the disk is full."""
    code = (
        "import sys, os, numpy as np\n"
        "from pathlib import Path\n"
        "from cubeflow.store import artifact as a\n"
        "from cubeflow.store.atomic import StorageError\n"
        "folder = Path(sys.argv[1])\n"
        "made = a.Artifact('stack', 'ab' * 32, 1, {'x': np.random.default_rng(0).random((8, 200, 50))})\n"
        "refused = 0\n"
        "for size in range(0, 1 << 20, 1 << 15):\n"
        "    (folder / 'filler').write_bytes(bytes((1 << 20) - size))\n"
        "    try:\n"
        "        a.write_artifact(folder / 'a.h5', made)\n"
        "    except StorageError as error:\n"
        "        refused += 1\n"
        "        assert str(error) == f'{folder}/a.h5: no space is left on the device [ENOSPC]', error\n"
        "        assert os.listdir(folder) == ['filler'], os.listdir(folder)\n"
        "    else:\n"
        "        (folder / 'a.h5').unlink()\n"
        "(folder / 'filler').unlink()\n"
        "a.write_artifact(folder / 'a.h5', made)\n"
        "assert a.read_artifact(folder / 'a.h5').datasets['x'].shape == (8, 200, 50)\n"
        "print(refused)\n"
    )
    done = run(code, small_disk)
    assert done.returncode == 0, done.stderr
    assert 5 < int(done.stdout) < 32


def test_fault_37_file_size_limit(tmp_path):
    code = (
        "import sys, os, resource, numpy as np\n"
        "from cubeflow.store import artifact as a\n"
        "from cubeflow.store.atomic import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))\n"
        "x = np.random.default_rng(0).random((8, 200, 50))\n"
        "try:\n"
        "    a.write_artifact(sys.argv[1] + '/a.h5', a.Artifact('stack', 'ab' * 32, 1, {'x': x}))\n"
        "except StorageError as error:\n"
        "    print(error, os.listdir(sys.argv[1]))\n"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/a.h5: the file would exceed the allowed file size [EFBIG] []\n"


def test_fault_38_read_only_folder(small_disk):
    remount, read_only = 32, 1
    assert ctypes.CDLL(None).mount(None, bytes(small_disk), None, remount | read_only, None) == 0
    with pytest.raises(StorageError, match=r"small/a\.h5: the file system is read-only"):
        write_artifact(small_disk / "a.h5", Artifact("stack", KEY, 1))


def test_fault_43_two_writers_of_one_artifact(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from cubeflow.store import artifact as a\n"
        "x = np.random.default_rng(0).random((8, 200, 50))\n"
        "for _ in range(20):\n"
        "    a.write_artifact(sys.argv[1] + '/a.h5', a.Artifact('stack', 'ab' * 32, 1, {'x': x}))\n"
        "    a.read_artifact(sys.argv[1] + '/a.h5', [])\n"
    )
    writers = [subprocess.Popen(command(code, tmp_path), env=environment()) for _ in range(2)]
    for _ in range(200):
        if (tmp_path / "a.h5").exists():
            assert read_artifact(tmp_path / "a.h5", []).key == KEY
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    expected = np.random.default_rng(0).random((8, 200, 50))
    np.testing.assert_array_equal(read_artifact(tmp_path / "a.h5").datasets["x"], expected)
