"""Faults 37 to 39: disks that are full, read-only, gone, or fail at any call."""

import errno
import io
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from cubeflow.pipeline.tasks import PRODUCTS

pytestmark = pytest.mark.faults
GOOD = 100001
CALLS = ("open", "fsync", "replace", "mkdir")


class Failing:
    """Counts the calls of the operating system that concern the results; one of them fails."""

    def __init__(self, monkeypatch, folder):
        self.folder, self.count, self.fail_at, self.number, self.name = str(folder), 0, None, errno.EIO, ""
        opened, failing = Path.open, self

        class Raw(io.FileIO):
            """New file, each of whose calls may fail."""

            def write(self, data):
                return failing.call("write", super().write, self.name, data, of=self.name)

            def readinto(self, buffer):
                return failing.call("read", super().readinto, self.name, buffer, of=self.name)

            def truncate(self, size=None):
                return failing.call("truncate", super().truncate, self.name, size, of=self.name)

            def close(self):
                if not self.closed:
                    super().close()
                    failing.call("close", int, self.name, of=self.name)

        def open_failing(path, mode="r", *args, **kwargs):
            if mode != "x+b":
                return opened(path, mode, *args, **kwargs)
            self.call("open", opened, path, mode).close()
            return io.BufferedRandom(Raw(os.fspath(path), "r+"))

        monkeypatch.setattr(Path, "open", open_failing)
        for name in CALLS:
            original = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *a, n=name, o=original, **k: self.call(n, o, *a, **k))
        written = Path.write_text
        monkeypatch.setattr(Path, "write_text", lambda *a, **k: self.call("write_text", written, *a, **k))

    def call(self, name, original, first, *args, of=None, **kwargs):
        """Call `original`, of `first` and the others or, for a method of a file, of the others alone; or fail."""
        if self.concerns(first):
            self.count += 1
            if self.count == self.fail_at:
                self.name = name
                raise OSError(self.number, os.strerror(self.number), self.path(first))
        return original(*args, **kwargs) if of is not None else original(first, *args, **kwargs)

    def path(self, first):
        return str(Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else Path(first).absolute())

    def concerns(self, first):
        if self.fail_at is None:
            return False
        try:
            return self.path(first).startswith(self.folder)
        except OSError:
            return False


@pytest.fixture
def changed(bench):
    """A folder with the results of another configuration, which a reduction is to replace: path of a copy."""
    bench.set("safe_mask", {"methods": ["offset-max"]})
    assert bench.run().status == 0
    assert bench.finish()[0] == 0
    old = bench.folder / "old"
    shutil.copytree(bench.results, old)
    del bench.config["safe_mask"]
    return old


def contents(folder):
    names = ("*.h5", "*.fits.gz", "datasets.yaml", "models.yaml", "runs.*")
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in folder.rglob(name)}


def failures(bench, failing, work, step=1):
    """Let the n-th call of `work` fail, for every n (or some), each time from the results as they are now; yield n.

    `work` gives exit status and text.
    """
    before = bench.folder / "before"
    shutil.copytree(bench.results, before)
    failing.count, failing.fail_at = 0, 0
    assert work()[0] == 0
    for n in range(1, failing.count + 1, step):
        failing.fail_at = None
        shutil.rmtree(bench.results)
        shutil.copytree(before, bench.results)
        failing.count, failing.fail_at = 0, n
        status, text = work()
        failing.fail_at = None
        if status != 0:  # a failure to tell the progress stops nothing
            assert status == 1, text
            assert "Input/output error" in text, text
        assert bench.leftovers() == [], (n, failing.name)
        yield n


def test_fault_39_every_call_of_a_reduction_fails_once(bench, changed, undisturbed, monkeypatch):
    """Old file or new file, never a mix, never a crash; the next start ends as an undisturbed one."""
    old, new = contents(changed), contents(undisturbed.results)
    failing, failed = Failing(monkeypatch, bench.results), set()

    def work():
        status, text = bench.plan()
        return (status, text) if status else bench.reduce()

    for n in failures(bench, failing, work):
        failed.add(failing.name)
        found = contents(bench.results)
        assert found.keys() >= old.keys(), (n, failing.name)
        for name, content in found.items():
            assert content in (old.get(name), new.get(name)), (n, failing.name, name)
        if n % 5 == 0:
            assert bench.run().status == 0
            found = contents(bench.results)
            assert {name: found[name] for name in new} == new
    assert failed == {"open", "write", "read", "truncate", "close", "fsync", "replace", "mkdir", "write_text"}
    assert n > 60


@pytest.mark.usefixtures("changed")
def test_fault_39_every_fifth_call_of_an_export_fails_once(bench, monkeypatch):
    """Each product is the old or the new one; without a certificate that holds the next start makes all again."""
    assert bench.run().status == 0
    old = contents(bench.results)
    failing = Failing(monkeypatch, bench.results)
    assert bench.finish()[0] == 0
    new = contents(bench.results)
    assert new.keys() == old.keys()
    assert new["t/fov/cube.h5"] != old["t/fov/cube.h5"]
    for name, content in old.items():
        (bench.results / name).write_bytes(content)
    for certificate in bench.results.rglob("made-*.json"):
        certificate.unlink()
    for n in failures(bench, failing, bench.finish, step=5):
        found = contents(bench.results)
        assert found.keys() == new.keys(), (n, failing.name)
        for name, content in found.items():
            assert content in (old[name], new[name]), (n, failing.name, name)
        plan = bench.made()
        (task,) = plan.tasks["t"].export
        assert not plan.is_made(task) or all(found[f"t/fov/{name}"] == new[f"t/fov/{name}"] for name in PRODUCTS)
        if n % 2 == 0:
            planned = bench.planned
            assert bench.plan()[0] == 0
            assert bench.finish()[0] == 0
            assert contents(bench.results) == new
            bench.planned = planned
    assert n > 60


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_fault_37_full_disk_at_every_write(bench, undisturbed, monkeypatch, number):
    """The message says what is full; nothing stands under a final name; it works after room is made."""
    assert bench.plan()[0] == 0
    failing, new = Failing(monkeypatch, bench.results), contents(undisturbed.results)
    for n in (1, 2, 3, 8, 9, 14, 20):
        failing.number, failing.count, failing.fail_at = number, 0, n
        status, text = bench.reduce()
        failing.fail_at = None
        assert status in (0, 1)
        if status == 1:
            assert any(word in text.lower() for word in ("no space", "quota", "read-only")), text
        assert all(content == new[name] for name, content in contents(bench.results).items())
    assert bench.reduce()[0] == 0
    assert contents(bench.results) == {name: new[name] for name in contents(bench.results)}


@pytest.fixture
def small_disk(bench):
    """A tmpfs under the results: ``mount(kilobytes)`` makes or resizes it; needs root."""
    bench.results.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", bench.results], check=False)
        if done.returncode:
            pytest.skip("cannot mount a tmpfs here (needs root)")

    yield mount
    subprocess.run(["umount", "-l", bench.results], check=False)


def test_fault_37_real_disk_of_every_size(bench, undisturbed, small_disk):
    """From nothing to enough in steps of 16 kB: a clear message, no crash, and room at last."""
    expected = undisturbed.products()
    small_disk("size=16k")
    messages = 0
    for kilobytes in (*range(16, 320, 16), 8192):
        small_disk("remount", f"size={kilobytes}k")
        outcome = bench.run()
        assert outcome.status in (0, 1), outcome.text
        assert "Traceback" not in outcome.text
        if outcome.status == 1:
            messages += 1
            assert "space" in outcome.text.lower(), outcome.text
        for name, content in contents(bench.results).items():
            assert content == expected[name], (kilobytes, name)
    assert messages > 3
    assert outcome.status == 0
    assert bench.products() == expected
    assert bench.leftovers() == []


def test_fault_37_limit_on_the_size_of_files(bench, undisturbed):
    """As a quota does it: EFBIG in the middle of a file."""
    assert bench.plan()[0] == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        status, text = bench.reduce()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1
    assert "allowed file size" in text
    assert not bench.artifact().exists()
    assert bench.run().status == 0
    assert bench.products() == undisturbed.products()


@pytest.mark.parametrize("n", [1, 4, 9])
def test_fault_37_no_scratch_space(bench, undisturbed, monkeypatch, n):
    """Large sums lie in scratch files: the message says how much was asked for and where; what was done is kept."""
    assert bench.plan()[0] == 0
    allocate, calls = os.posix_fallocate, []

    def full(*args):
        calls.append(args)
        if len(calls) == n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return allocate(*args)

    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 0)
    monkeypatch.setenv("CUBEFLOW_SCRATCH", str(bench.folder))
    monkeypatch.setattr(os, "posix_fallocate", full)
    status, text = bench.reduce()
    assert status == 1
    assert f"No space left on device, for 0 MB of scratch space: '{bench.folder}'" in text
    assert bench.artifact(GOOD).exists()
    assert not bench.leaf().exists()
    assert bench.reduce()[0] == 0
    assert bench.leaf().read_bytes() == undisturbed.leaf().read_bytes()


def test_fault_38_read_only(bench, undisturbed, small_disk):
    small_disk("size=8m")
    assert bench.plan()[0] == 0
    small_disk("remount", "ro")
    status, text = bench.reduce()
    assert status == 1
    assert "read-only" in text.lower()
    small_disk("remount", "rw")
    assert bench.run().status == 0
    assert bench.products() == undisturbed.products()


def test_fault_38_folder_vanishes_while_runs_are_reduced(bench, undisturbed, monkeypatch):
    from cubeflow.pipeline import reduce as step

    read = step.read_observation

    def vanishing(entry, options):
        shutil.rmtree(bench.results, ignore_errors=True)
        return read(entry, options)

    assert bench.plan()[0] == 0
    jobs = bench.jobs("reduce")
    with monkeypatch.context() as patch:
        patch.setattr(step, "read_observation", vanishing)
        statuses = [bench.cubeflow(*job)[0] for job in jobs]
    assert set(statuses) <= {0, 1}
    assert bench.run().status == 0
    assert bench.products() == undisturbed.products()


def test_fault_38_file_where_a_folder_must_be(bench, undisturbed):
    assert bench.plan()[0] == 0
    (bench.results / "t").mkdir()
    (bench.results / "t" / "obs").write_text("")
    status, text = bench.reduce()
    assert status == 1
    assert str(bench.results / "t" / "obs") in text
    (bench.results / "t" / "obs").unlink()
    assert bench.run().status == 0
    assert bench.products() == undisturbed.products()
