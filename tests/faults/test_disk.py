"""Faults 37 to 39: disks that are full, read-only, gone, or fail at any call."""

import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
CALLS = ("open", "write", "fsync", "replace", "close")


class Failing:
    """Counts the calls of the operating system that concern the results; one of them fails."""

    def __init__(self, monkeypatch, folder):
        self.folder, self.count, self.fail_at, self.number, self.name = str(folder), 0, None, errno.EIO, ""
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))
        monkeypatch.setattr(Path, "write_text", self.wrap("write_text", Path.write_text))

    def wrap(self, name, original):
        def call(first, *args, **kwargs):
            if self.concerns(first):
                self.count += 1
                if self.count == self.fail_at:
                    self.name, path = name, self.path(first)
                    if name == "close":
                        original(first)
                    raise OSError(self.number, os.strerror(self.number), path)
            return original(first, *args, **kwargs)

        return call

    def path(self, first):
        return str(Path(f"/proc/self/fd/{first}").readlink()) if isinstance(first, int) else os.fspath(first)

    def concerns(self, first):
        if self.fail_at is None:
            return False
        try:
            return str(self.path(first)).startswith(self.folder)
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
    names = ("*.h5", "*.fits.gz")
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in folder.rglob(name)}


def test_fault_39_every_call_of_a_reduction_fails_once(bench, changed, undisturbed, monkeypatch):
    """Old file or new file, never a mix, never a crash; the next start ends as an undisturbed one."""
    old, new = contents(changed), contents(undisturbed.results)
    failing = Failing(monkeypatch, bench.results)
    failing.fail_at = 0
    assert bench.plan()[0] == 0
    assert bench.reduce()[0] == 0
    total, failed = failing.count, set()
    assert total > 40
    for n in range(1, total + 1):
        failing.fail_at = None
        shutil.rmtree(bench.results)
        shutil.copytree(changed, bench.results)
        failing.count, failing.fail_at = 0, n
        status, text = bench.plan()
        if status == 0:
            status, text = bench.reduce()
        failing.fail_at = None
        failed.add(failing.name)
        if status != 0:  # a failure to tell the progress stops nothing
            assert status == 1, text
            assert "Input/output error" in text, text
        found = contents(bench.results)
        assert found.keys() >= old.keys(), (n, failing.name)
        for name, content in found.items():
            assert content in (old.get(name), new.get(name)), (n, failing.name, name)
        assert not [path for path in bench.leftovers() if path.name.endswith(".h5.tmp")], (n, failing.name)
        if n % 5 == 0:
            assert bench.run().status == 0
            found = contents(bench.results)
            assert {name: found[name] for name in new} == new
    assert {"open", "write", "fsync", "replace", "close"} <= failed


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
    from cubeflow.steps import run as step

    read = step.read_observation

    def vanishing(entry, options):
        shutil.rmtree(bench.results, ignore_errors=True)
        return read(entry, options)

    assert bench.plan()[0] == 0
    manifests = bench.manifests()
    with monkeypatch.context() as patch:
        patch.setattr(step, "read_observation", vanishing)
        statuses = [bench.cubeflow("reduce", manifest)[0] for manifest in manifests]
    assert set(statuses) <= {0, 1}
    assert bench.run().status == 0
    assert bench.products() == undisturbed.products()


def test_fault_38_file_where_a_folder_must_be(bench, undisturbed):
    assert bench.plan()[0] == 0
    (bench.results / "t" / "obs").write_text("")
    status, text = bench.reduce()
    assert status == 1
    assert str(bench.results / "t" / "obs") in text
    (bench.results / "t" / "obs").unlink()
    assert bench.run().status == 0
    assert bench.products() == undisturbed.products()
