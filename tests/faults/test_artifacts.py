"""Faults 33 to 36 and 56: artifacts that are damaged, hostile, of another key or of another version."""

import gzip
import hashlib
import os
import shutil
import time

import h5py
import numpy as np
import pytest

from cubeflow.store import artifact as store
from cubeflow.store.artifact import read_artifact
from cubeflow.store.content import USER_BLOCK as BLOCK

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


@pytest.mark.parametrize("damage", DAMAGES)
def test_fault_33_damaged_stack(bench, undisturbed, damage):
    """Seen when it is read: the file is set aside and the next start makes it again, from what is there."""
    bench.run()
    leaf = bench.leaf()
    damaged = DAMAGES[damage](leaf.read_bytes())
    leaf.write_bytes(damaged)
    status, text = bench.finish()
    assert status == 1
    assert f"{leaf}: damaged" in text
    aside = leaf.with_name(f"{leaf.name}.corrupt")
    assert f"set aside as {aside.name}, start again" in text
    assert aside.read_bytes() == damaged
    assert not leaf.exists()
    assert not list(bench.results.rglob("cube.h5"))
    assert bench.run().status == 0
    assert leaf.read_bytes() == undisturbed.leaf().read_bytes()
    assert bench.finish()[0] == 0


def test_fault_33_damaged_leaf_below_a_node(bench):
    bench.set("stack", {"batch": 1})
    assert bench.run().status == 0
    expected = bench.products()
    (task,) = bench.made().tasks["t"].stack
    node, leaf = (bench.results / "t" / "stack" / "fov" / f"{key[:16]}.h5" for key in (task.key, task.children[1]))
    node.unlink()
    leaf.write_bytes(DAMAGES["flipped in the middle"](leaf.read_bytes()))
    outcome = bench.run()
    assert outcome.status == 1
    assert f"{leaf}: damaged" in outcome.text
    assert not node.exists()
    assert bench.run().status == 0
    assert {name: content for name, content in bench.products().items() if "corrupt" not in name} == expected


@pytest.mark.parametrize("damage", [*DAMAGES, "another digest"])
def test_fault_33_damaged_digests_of_the_inputs(bench, undisturbed, damage):
    """They save time and decide nothing: a wrong one would make the input seem changed at every start."""
    old = time.time() - 60
    for path in bench.store.iterdir():
        os.utime(path, (old, old))
    time.sleep(2.1)  # what was at rest is believed
    assert bench.plan()[0] == 0
    path = bench.results / ".cubeflow" / "digests.json"
    content = path.read_bytes()
    digest = hashlib.sha256(bench.file().read_bytes()).hexdigest().encode()
    assert digest in content
    path.write_bytes(content.replace(digest, b"0" * 64) if damage == "another digest" else DAMAGES[damage](content))
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert bench.leaf().read_bytes() == undisturbed.leaf().read_bytes()


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
    kind, key = identity(path)
    root = {"schema": store.SCHEMA, "kind": kind, "key": key, "algorithm": 1, "provenance": "{}"}
    root |= {"attributes": '{"status":"ok","row":{"livetime_s":1.0}}', "format": "cubeflow artifact"}
    with h5py.File(path, "w", libver=("v110", "v110"), userblock_size=BLOCK) as content:
        content.attrs.update(root)
        fill(content)
    seal(path, kind, key)


def identity(path):
    """Kind and key of an artifact."""
    found = read_artifact(path, names=[])
    return found.kind, found.key


def seal(path, kind, key):
    """Write the first block that fits the rest of a file."""
    rest = path.read_bytes()[BLOCK:]
    path.write_bytes(store._Block(kind, key, BLOCK + len(rest), hashlib.sha256(rest).hexdigest()).seal() + rest)


def add_objects(content):
    content.create_dataset("gti_s", (2,), dtype=h5py.string_dtype())


def add_huge(content):
    content.create_dataset("gti_s", (10**12,), dtype="f8", chunks=(1024,), fletcher32=True)


def add_16_gib(content):
    content.create_dataset("gti_s", (2**31,), dtype="f8", chunks=(2**17,))


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
    "10^12 elements": (add_huge, "at most 2147483648 values"),
    "16 GiB": (add_16_gib, "declares 17179869184 bytes in a file of"),
    "group": (lambda content: content.create_group("gti_s"), "not a dataset"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_fault_35_hostile_content(bench, remakes, name):
    bench.run()
    fill, words = HOSTILE[name]
    forge(bench.artifact(), fill)
    remakes(bench.artifact(), words)


def test_fault_36_right_name_other_key(bench, remakes):
    """Another run's artifact under the name."""
    bench.run()
    shutil.copy(bench.artifact(GOOD), bench.artifact(BAD))
    remakes(bench.artifact(BAD), "has key")


def test_fault_36_stack_under_the_name_of_another(bench, undisturbed):
    bench.set("backgrounds.other", {"method": "fov", "fit": "tilt"})
    bench.run()
    leaf = bench.leaf("fov")
    shutil.copy(bench.leaf("other"), leaf)
    status, text = bench.finish()
    assert status == 1
    assert f"set aside as {leaf.name}.corrupt" in text
    assert bench.run().status == 0
    assert leaf.read_bytes() == undisturbed.leaf().read_bytes()


def test_fault_36_older_schema(bench, undisturbed, monkeypatch):
    """Stacks first, as they are read, then the artifacts of the runs."""
    with monkeypatch.context() as patch:
        patch.setattr(store, "SCHEMA", 1)
        assert bench.run().status == 0
    status, text = bench.finish()
    assert status == 1
    assert f"{bench.leaf()}: damaged (has schema 1, this version reads 2); set aside" in text
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    for obs_id in (GOOD, BAD):
        for name in ("reduced", "background-fov"):
            assert f"{bench.artifact(obs_id, name)}: damaged (has schema 1" in outcome.text
            assert bench.artifact(obs_id, name).read_bytes() == undisturbed.artifact(obs_id, name).read_bytes()


@pytest.mark.parametrize("name", ["reduced", "background-fov", "leaf"])
def test_fault_56_newer_schema_is_refused(bench, monkeypatch, name):
    """Neither read nor replaced."""
    bench.run()
    path = bench.leaf() if name == "leaf" else bench.artifact(BAD, name)
    with monkeypatch.context() as patch:
        kind, key = identity(path)
        patch.setattr(store, "SCHEMA", 3)
        seal(path, kind, key)
    newer = path.read_bytes()
    if name != "leaf":
        bench.leaf().unlink()
    outcome = bench.run()
    assert outcome.status == 1
    assert f"{path.name}: has schema 3, this version reads 2" in outcome.text
    assert path.read_bytes() == newer
    assert read_artifact(bench.artifact(GOOD)).key
