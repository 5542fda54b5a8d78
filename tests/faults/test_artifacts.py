"""Faults 33 to 36 and 56: artifacts that are damaged, hostile, of another key or of another version."""

import gzip
import json
import shutil

import h5py
import numpy as np
import pytest

from cubeflow.storage import envelope, hdf5_write
from cubeflow.storage.artifact import read_artifact

pytestmark = pytest.mark.faults
GOOD, BAD = 100001, 100002
DAMAGES = {
    "cut to a tenth": lambda content: content[: len(content) // 10],
    "cut by a byte": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "flipped in the first block": lambda content: flip(content, 60),
    "flipped in the middle": lambda content: flip(content, len(content) // 2),
    "flipped at the end": lambda content: flip(content, len(content) - 3),
    "emptied": lambda _: b"",
    "replaced by text": lambda _: b"Disk quota exceeded\n" * 100,
    "replaced by zeros": lambda content: bytes(len(content)),
    "packed": gzip.compress,
}


def flip(content, position):
    changed = bytearray(content)
    changed[position] ^= 4
    return bytes(changed)


@pytest.fixture
def remakes(bench, undisturbed):
    """``remakes(path)``: reducing again sets the file aside, makes it again and says so."""

    def check(path, *words):
        damaged = path.read_bytes()
        bench.leaf().unlink(missing_ok=True)
        outcome = bench.run()
        assert outcome.status == 0, outcome.text
        aside = path.with_name(path.name + ".corrupt")
        assert aside.read_bytes() == damaged
        assert f"set aside as {aside.name}" in outcome.text
        for word in words:
            assert word in outcome.text, outcome.text
        for obs_id in (GOOD, BAD):
            for name in ("reduced", "background-fov"):
                assert bench.artifact(obs_id, name).read_bytes() == undisturbed.artifact(obs_id, name).read_bytes()
        assert bench.leaf().read_bytes() == undisturbed.leaf().read_bytes()

    return check


@pytest.mark.parametrize("name", ["reduced", "background-fov"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_fault_33_damaged_artifact_of_a_run(bench, remakes, damage, name):
    bench.run()
    path = bench.artifact(BAD, name)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    remakes(path)


@pytest.mark.parametrize("damage", ["cut by a byte", "emptied", "replaced by text"])
def test_fault_33_damaged_stack_is_seen_by_the_plan(bench, undisturbed, damage):
    bench.run()
    leaf = bench.leaf()
    leaf.write_bytes(DAMAGES[damage](leaf.read_bytes()))
    outcome = bench.run()
    assert outcome.status == 0
    assert f"set aside as {leaf.name}.corrupt" in outcome.text
    assert leaf.read_bytes() == undisturbed.leaf().read_bytes()


def test_fault_33_damaged_stack_is_seen_when_it_is_read(bench, undisturbed):
    """A flipped bit shows in the checksum: the file is set aside and the next start makes it again."""
    bench.run()
    leaf = bench.leaf()
    leaf.write_bytes(DAMAGES["flipped in the middle"](leaf.read_bytes()))
    status, text = bench.finish()
    assert status == 1
    assert f"{leaf}: damaged" in text
    assert f"set aside as {leaf.name}.corrupt" in text
    assert not leaf.exists()
    assert bench.run().status == 0
    assert leaf.read_bytes() == undisturbed.leaf().read_bytes()
    assert bench.finish()[0] == 0


def test_fault_34_a_dataset_is_missing(bench, remakes):
    """Opens as HDF5, key and completeness mark are there."""
    bench.run()
    with h5py.File(bench.artifact(), "r+") as content:
        del content["exposure"]
    remakes(bench.artifact())


def test_fault_34_a_file_that_some_other_program_began(bench, remakes):
    bench.run()
    with h5py.File(bench.artifact(), "w") as content:
        content["counts"] = np.zeros((2, 20, 30))
    remakes(bench.artifact(), "not a cubeflow artifact")


def forge(path, fill):
    """Give content that `fill` makes the key and a right checksum, as an attacker would."""
    key, kind = json.loads(path.read_bytes()[:512].split(b"\n")[1])["key"], "reduced"
    root = {"format": hdf5_write.FORMAT, "schema": str(envelope.SCHEMA), "kind": kind, "key": key, "complete": "yes"}
    root |= {"algorithm": "1", "attributes": '{"row":{"livetime_s":1.0},"inputs":{}}', "provenance": "{}"}
    with h5py.File(path, "w", userblock_size=envelope.BLOCK) as content:
        for name, text in root.items():
            content.attrs.create(name, np.array(text.encode(), f"S{len(text)}"))
        fill(content)
    with path.open("r+b") as file:
        block = envelope.seal(envelope.Envelope(kind, key, path.stat().st_size, envelope.digest(file)))
        file.seek(0)
        file.write(block)


def add_objects(content):
    content.create_dataset("gti_s", (2,), dtype=h5py.string_dtype())


def add_huge(content):
    content.create_dataset("gti_s", (10**12,), dtype="f8", chunks=(1024,), fletcher32=True)


def add_external_storage(content):
    content.create_dataset("gti_s", (64,), dtype="u1", external=[("/etc/passwd", 0, 64)])


def add_virtual(content):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    content.create_virtual_dataset("gti_s", layout)


HOSTILE = {
    "soft link": (lambda content: content.__setitem__("gti_s", h5py.SoftLink("/other")), "is a link"),
    "external link": (lambda content: content.__setitem__("gti_s", h5py.ExternalLink("x.h5", "/y")), "is a link"),
    "external storage": (add_external_storage, "not in this file"),
    "virtual dataset": (add_virtual, "not in this file"),
    "object type": (add_objects, "not plain numbers"),
    "10^12 elements": (add_huge, "1000000000000 values"),
    "group": (lambda content: content.create_group("gti_s"), "not a dataset"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_fault_35_hostile_content(bench, remakes, name):
    bench.run()
    fill, words = HOSTILE[name]
    forge(bench.artifact(), fill)
    remakes(bench.artifact(), words)


def test_fault_36_right_name_other_key(bench, undisturbed):
    """Another run's artifact under the name: a sound file that is replaced, not set aside."""
    bench.run()
    shutil.copy(bench.artifact(GOOD), bench.artifact(BAD))
    bench.leaf().unlink()
    outcome = bench.run()
    assert outcome.status == 0
    assert bench.artifact(BAD).read_bytes() == undisturbed.artifact(BAD).read_bytes()
    assert not list(bench.results.rglob("*.corrupt*"))


def test_fault_36_stack_under_the_name_of_another(bench, undisturbed):
    bench.set("backgrounds.other", {"method": "fov", "fit": "tilt"})
    bench.run()
    shutil.copy(bench.leaf("other"), bench.leaf("fov"))
    outcome = bench.run()
    assert outcome.status == 0
    assert bench.leaf("fov").read_bytes() == undisturbed.leaf("fov").read_bytes()


def test_fault_36_older_schema(bench, undisturbed, monkeypatch):
    monkeypatch.setattr(envelope, "SCHEMA", 0)
    with monkeypatch.context():
        assert bench.run().status in (0, 1)  # written and maybe read back as schema 0
    monkeypatch.setattr(envelope, "SCHEMA", 1)
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert bench.artifact(BAD).read_bytes() == undisturbed.artifact(BAD).read_bytes()


@pytest.mark.parametrize("name", ["reduced", "background-fov", "leaf"])
def test_fault_56_newer_schema_is_refused(bench, name):
    """Neither read nor replaced."""
    bench.run()
    path = bench.leaf() if name == "leaf" else bench.artifact(BAD, name)
    content = path.read_bytes()
    newer = content[:512].replace(b"schema 1\n", b"schema 2\n")[: 512 - 65]
    newer += envelope.hashlib.sha256(newer).hexdigest().encode() + b"\n" + content[512:]
    path.write_bytes(newer)
    if name != "leaf":
        bench.leaf().unlink()
    outcome = bench.run()
    assert outcome.status == 1
    assert f"{path.name}: has schema 2, this version reads 1" in outcome.text
    assert path.read_bytes() == newer
    assert read_artifact(bench.artifact(GOOD)).key
