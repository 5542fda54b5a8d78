import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cubeflow.store.atomic import (
    StorageError,
    file_sha256,
    naming,
    replacing,
    sweep_temporaries,
    temporary_name,
    write_atomic,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.faults
def test_fault_39_whatever_call_fails_the_file_is_old_or_new(tmp_path, monkeypatch, flaky):
    path, failed = tmp_path / "a.h5", set()
    old, new = b"old", bytes(range(256)) * 200
    for n in range(1, 100):
        path.write_bytes(old)
        with monkeypatch.context() as patch:
            calls = flaky(patch, n)
            message = None
            try:
                write_atomic(path, new)
            except StorageError as error:
                message = str(error)
        if not calls.failed:
            break
        assert message == f"{path}: Input/output error [EIO]"
        failed.add(calls.failed)
        assert path.read_bytes() in (old, new)
        assert names(tmp_path) == ["a.h5"]
    assert failed == {"open", "write", "fsync", "close", "replace"}
    assert path.read_bytes() == new


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (errno.ENOSPC, r"a\.h5: no space is left on the device \[ENOSPC\]"),
        (errno.EDQUOT, r"a\.h5: the disk quota is used up"),
        (errno.EROFS, r"a\.h5: the file system is read-only"),
    ],
)
def test_messages_name_file_and_cause(tmp_path, monkeypatch, flaky, number, match):
    with monkeypatch.context() as patch:
        flaky(patch, 2, number)
        with pytest.raises(StorageError, match=match):
            write_atomic(tmp_path / "a.h5", b"new")
    assert names(tmp_path) == []
    write_atomic(tmp_path / "a.h5", b"new")
    assert (tmp_path / "a.h5").read_bytes() == b"new"


@pytest.mark.faults
def test_fault_38_vanished_folder(tmp_path):
    with pytest.raises(StorageError, match=r"gone/a\.h5: there is no such file or folder \(any more\)"):
        write_atomic(tmp_path / "gone" / "a.h5", b"new")


def test_a_folder_of_that_name_is_not_replaced(tmp_path):
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(StorageError, match=r"a\.h5: a folder has that name"):
        write_atomic(tmp_path / "a.h5", b"new")
    assert names(tmp_path) == ["a.h5"]


def test_the_new_file_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_an_interrupt_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def interrupted():
        with replacing(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_leftovers_are_swept_and_files_in_the_making_are_not(tmp_path):
    """Whatever host or process a name tells of: who holds the file lives."""
    left = [temporary_name("a.h5"), ".a.h5.01234567-1-0123456789abcdef.tmp"]
    kept = ["a.h5", ".a.h5.tmp", "results.tmp"]
    for name in (*left, *kept):
        (tmp_path / name).write_bytes(b"x")
    with replacing(tmp_path / "c.h5") as file:
        (making,) = set(names(tmp_path)) - {*left, *kept}
        assert sweep_temporaries(tmp_path) == sorted(tmp_path / name for name in left)
        assert names(tmp_path) == sorted([making, *kept])
        file.write(b"new")
    assert names(tmp_path) == sorted(["c.h5", *kept])
    assert sweep_temporaries(tmp_path) == []


WRITER = """
import sys
from cubeflow.store.atomic import replacing
with replacing(sys.argv[1]) as file:
    print(flush=True)
    sys.stdin.read()
    file.write(b"new")
"""
SWEEPER = "import sys; from cubeflow.store.atomic import sweep_temporaries; print(len(sweep_temporaries(sys.argv[1])))"


@pytest.mark.parametrize("prefix", [[], ["unshare", "--pid", "--fork", "--mount-proc"], ["unshare", "--uts"]])
def test_who_writes_in_another_container_lives(tmp_path, prefix):
    """Its process number means nothing here, nor does the name of its host."""
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"not allowed here: {' '.join(prefix)}")
    source = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": source}
    with subprocess.Popen([*prefix, *command], **pipes) as writer:
        writer.stdout.readline()
        sweep = [sys.executable, "-c", SWEEPER, str(tmp_path)]
        assert sweep_temporaries(tmp_path) == []
        assert int(subprocess.run([*prefix, *sweep], capture_output=True, env=source, check=True).stdout) == 0
        writer.stdin.close()
    assert writer.returncode == 0
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Files are written all the same; what may still be written is left."""
    (tmp_path / temporary_name("a")).write_bytes(b"x")

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", flock)
        write_atomic(tmp_path / "a", b"new")
        assert sweep_temporaries(tmp_path) == []
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(sweep_temporaries(tmp_path)) == 1


def test_a_writer_that_is_swept_before_it_holds_its_file_takes_another(tmp_path, monkeypatch):
    real, swept = fcntl.flock, []

    def flock(file, how):
        if how == fcntl.LOCK_EX and not swept:
            swept.extend(sweep_temporaries(tmp_path))
        real(file, how)

    monkeypatch.setattr("fcntl.flock", flock)
    write_atomic(tmp_path / "a", b"new")
    assert len(swept) == 1
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.faults
def test_fault_40_a_killed_writer_leaves_only_a_leftover(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from cubeflow.store.atomic import replacing\n"
        "with replacing(sys.argv[1]) as file:\n"
        "    file.write(b'new' * 10000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    source = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    (tmp_path / "a.h5").write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.h5")], env=source).returncode == -9
    assert (tmp_path / "a.h5").read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    assert len(sweep_temporaries(tmp_path)) == 1
    assert names(tmp_path) == ["a.h5"]


def test_names_are_never_too_long(tmp_path):
    for name in ("a" * 240, "ä" * 120):
        write_atomic(tmp_path / name, b"x")
    assert len(names(tmp_path)) == 2


def test_sweeping_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StorageError, match="gone: there is no such file or folder"):
        sweep_temporaries(tmp_path / "gone")


def test_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(StorageError, match="gone: there is no such file"):
        file_sha256(tmp_path / "gone")


@pytest.mark.parametrize("kind", ["file", "link to nothing", "loop"])
def test_what_stands_in_place_of_a_folder_is_said(tmp_path, kind):
    folder = tmp_path / "results"
    if kind == "file":
        folder.write_text("")
    else:
        folder.symlink_to("results" if kind == "loop" else "nowhere/at/all")
    words = "a link that leads to itself" if kind == "loop" else "in place of a folder"
    with pytest.raises(StorageError, match=words), naming(folder):
        folder.mkdir(exist_ok=True) if kind != "loop" else folder.stat()
