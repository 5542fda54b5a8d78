"""Remembered digests: believed where a change would show, and nowhere else."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cubeflow.plan import digests
from cubeflow.plan.digests import DigestCache

MINUTE = 60 * 10**9


class Disk:
    """A file whose status is what is said here, as on a file system of some kind; counts how often it is read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.reads = path, 0
        self.status = dict.fromkeys(("st_dev", "st_ino", "st_mtime_ns", "st_ctime_ns"), 0)
        real_digest, real_stat = digests.digest_file, Path.stat

        def read(file: Path) -> str:
            self.reads += 1
            return real_digest(file)

        def stat(file: Path, **how: bool) -> os.stat_result | SimpleNamespace:
            found = real_stat(file, **how)
            return SimpleNamespace(**self.status, st_size=found.st_size) if file == path else found

        monkeypatch.setattr(digests, "digest_file", read)
        monkeypatch.setattr(Path, "stat", stat)
        monkeypatch.setattr(digests.time, "time_ns", lambda: 1_800_000_000 * 10**9)

    def put(self, content: bytes, **status: int) -> None:
        self.path.write_bytes(content)
        self.status |= status

    def digest(self) -> str:
        """What the next process takes the file for."""
        cache = DigestCache.load(self.path.with_name("digests.json"))
        found = cache.digest(self.path)
        cache.save()
        return found


@pytest.fixture
def disk(tmp_path, monkeypatch):
    return Disk(tmp_path / "run.fits", monkeypatch)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_at_rest_is_read_once(disk):
    times = {"st_mtime_ns": 1_700_000_000 * 10**9, "st_ctime_ns": 1_700_000_000_123_456_789}
    disk.put(b"one", **times)
    assert {disk.digest() for _ in range(3)} == {sha256(b"one")}
    assert disk.reads == 1


@pytest.mark.parametrize("name", ["st_dev", "st_ino", "st_mtime_ns", "st_ctime_ns"])
def test_any_other_status_is_another_file(disk, name):
    times = {"st_mtime_ns": 1_700_000_000_000_000_001, "st_ctime_ns": 1_700_000_000_000_000_001}
    disk.put(b"one", **times)
    disk.digest()
    disk.put(b"two", **{name: disk.status[name] + 1})
    assert disk.digest() == sha256(b"two")


@pytest.mark.parametrize(
    "times",
    [
        pytest.param((1_700_000_000 * 10**9,) * 2, id="no time of a change, as on squashfs, CVMFS and S3 mounts"),
        pytest.param((1_799_999_999 * 10**9,) * 2, id="clock of whole seconds"),
        pytest.param((1_799_999_999_500_000_000, 1_799_999_999_500_000_000), id="changed just before it was read"),
        pytest.param((5 * MINUTE, 1_799_999_998_500_000_000), id="renamed just before it was read"),
        pytest.param((1_900_000_000_000_000_001, 1_900_000_000_000_000_001), id="in the future"),
    ],
)
def test_times_that_tell_nothing_are_not_believed(disk, times):
    """Other content of the same size under the same status is seen."""
    status = dict(zip(("st_mtime_ns", "st_ctime_ns"), times, strict=True))
    disk.put(b"one", **status)
    assert disk.digest() == sha256(b"one")
    disk.put(b"two", **status)
    assert disk.digest() == sha256(b"two")


def test_all_is_read_when_asked_and_what_was_exchanged_is_told(disk):
    disk.put(b"one", st_mtime_ns=1, st_ctime_ns=2)
    disk.digest()
    disk.put(b"two", st_mtime_ns=1, st_ctime_ns=2)
    assert disk.digest() == sha256(b"one"), "nothing shows it: who doubts has all read"
    cache = DigestCache.load(disk.path.with_name("digests.json"), reads_all=True)
    assert cache.digest(disk.path) == sha256(b"two")
    assert cache.exchanged == [str(disk.path)]
    cache.save()
    assert disk.digest() == sha256(b"two")
    again = DigestCache.load(disk.path.with_name("digests.json"), reads_all=True)
    assert (again.digest(disk.path), again.exchanged) == (sha256(b"two"), [])
