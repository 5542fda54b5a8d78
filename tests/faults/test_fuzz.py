"""Damaged bytes at random: only the declared errors may come out of a reader, with bounded memory.

The seeds are fixed, so that every run is the same. FUZZ_EXAMPLES (``make fuzz``) asks for more examples than the few
that fit into every test run; each reader then gets that many.
"""

import gzip
import hashlib
import io
import json
import os
import random
import resource

import h5py
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cubeflow.config import load_config
from cubeflow.config.load import ConfigError
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.errors import FailedError, MistakeError
from cubeflow.observation import RunRefused
from cubeflow.store import artifact as store
from cubeflow.store.artifact import open_artifact, read_artifact
from cubeflow.store.content import USER_BLOCK as BLOCK

pytestmark = pytest.mark.faults
GOOD = 100001
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
MAX_GROWTH = 2**29  # bytes of memory by which a fuzzed process may grow

mutation = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["flip", "set", "cut", "insert", "remove", "repeat", "card", "number"]),
    st.integers(0, 255),
)
mutations = st.lists(mutation, min_size=1, max_size=6)
VALUES = (
    b"-1",
    b"0",
    b"1E999",
    b"NAN",
    b"99999999999999999999",
    b"'x'",
    b"T",
    b"",
    b"'\xff\xfe'",
    b"2.5",
    b"'(0,0)'",
    b"'1PE(9)'",
)


def rounds(number):
    """Settings of a fuzz test: the same examples every time, no limit on the time of one."""
    return settings(
        max_examples=EXAMPLES or number,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def refusal(errors, work, *arguments) -> str | None:
    """Message of the declared error that comes out of `work`, None if none does; any other error is passed on."""
    try:
        work(*arguments)
    except errors as error:
        return str(error)
    return None


def read_file(path):
    """Read the only run of a file."""
    (entry,) = open_store(path).runs
    return read_observation(entry)


def mutate(content: bytes, changes) -> bytes:
    """Apply mutations one after the other."""
    for where, kind, value in changes:
        position = int(where * max(1, len(content)))
        content = CHANGES[kind](content, position, value)
    return content


def change_card(content, position, value):
    """Another value in the header card at this place, or in the next one that has a value."""
    start = content.find(b"= ", position // 80 * 80)
    return (
        content[: start + 2] + VALUES[value % len(VALUES)].rjust(20) + content[start + 22 :] if start > 0 else content
    )


def change_number(content, position, value):
    """Another digit in the text at this place, or in the next that there is."""
    for index in range(position, min(position + 4000, len(content))):
        if content[index : index + 1].isdigit():
            return content[:index] + b"%d" % (value % 10) + content[index + 1 :]
    return content


CHANGES = {
    "flip": lambda c, p, v: c[:p] + bytes([c[p] ^ (1 << v % 8)]) + c[p + 1 :] if c else c,
    "set": lambda c, p, v: c[:p] + bytes([v]) * min(1 + v % 9, len(c) - p) + c[p + 1 + v % 9 :],
    "cut": lambda c, p, v: c[:p],
    "insert": lambda c, p, v: c[:p] + bytes([v]) * (v + 1) + c[p:],
    "remove": lambda c, p, v: c[:p] + c[p + v + 1 :],
    "repeat": lambda c, p, v: c[:p] + c[max(0, p - 2880) : p] * (1 + v % 3) + c[p:],
    "card": change_card,
    "number": change_number,
}


@pytest.fixture(scope="module")
def without_sums(base_store):
    """A run without checksums, so that changes get past them; decompressed."""
    content = gzip.decompress((base_store / f"obs_{GOOD}.fits.gz").read_bytes())
    return content.replace(b"CHECKSUM=", b"COMMENT  ").replace(b"DATASUM =", b"COMMENT  ")


@pytest.fixture(autouse=True)
def bounded_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_GROWTH


def test_fuzz_run_file(without_sums, tmp_path):
    """A changed file is read, or refused in one line."""
    path = tmp_path / "run.fits"
    outcomes = {"read": 0, "refused": 0}

    @rounds(400)
    @given(mutations)
    @example([(0.0, "cut", 0)])
    def check(changes):
        path.write_bytes(mutate(without_sums, changes))
        message = refusal((RunRefused, MistakeError), read_file, path)
        outcomes["read" if message is None else "refused"] += 1
        assert "\n" not in (message or "")

    check()
    assert min(outcomes.values()) > 20, outcomes


def test_fuzz_packed_run_file(base_store, tmp_path):
    """gzip has a checksum of its own: no change behind its header is accepted."""
    packed, path = (base_store / f"obs_{GOOD}.fits.gz").read_bytes(), tmp_path / "run.fits.gz"

    @rounds(150)
    @given(mutations)
    def check(changes):
        content = packed[:10] + mutate(packed[10:], changes)
        path.write_bytes(content)
        try:
            runs = open_store(path).runs
        except MistakeError:
            return
        assert content == packed or gzip.decompress(content) == gzip.decompress(packed), runs

    check()


@pytest.mark.parametrize("name", ["hdu-index", "obs-index"])
def test_fuzz_index(base_store, tmp_path, name):
    plain = gzip.decompress((base_store / f"{name}.fits.gz").read_bytes())
    plain = plain.replace(b"CHECKSUM=", b"COMMENT  ").replace(b"DATASUM =", b"COMMENT  ")
    for path in base_store.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    @rounds(150)
    @given(mutations)
    def check(changes):
        (tmp_path / f"{name}.fits.gz").write_bytes(gzip.compress(mutate(plain, changes), 1))
        messages = [refusal(MistakeError, open_store, tmp_path)]
        if messages == [None]:
            messages += [refusal(RunRefused, read_observation, entry) for entry in open_store(tmp_path).runs]
        assert not any("\n" in (message or "") for message in messages)

    check()


def test_fuzz_configuration(bench, tmp_path):
    """Changed text, and changed values of every key."""
    text = bench.write_config().read_bytes()
    path = tmp_path / "fuzzed.yaml"

    @rounds(300)
    @given(mutations)
    def check(changes):
        path.write_bytes(mutate(text, changes))
        message = refusal(ConfigError, load_config, path)
        assert message is None or message.startswith(str(path))

    check()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1 deg", "0 TeV", "-1 s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_fuzz_values_of_the_configuration(bench, tmp_path):
    path = tmp_path / "fuzzed.yaml"
    places = list(paths_in(bench.config))

    @rounds(300)
    @given(st.sampled_from(places), anything)
    def check(place, value):
        config = json.loads(json.dumps(bench.config))
        section = config
        for key in place[:-1]:
            section = section[key]
        section[place[-1]] = value
        path.write_text(json.dumps(config))
        message = refusal(ConfigError, load_config, path)
        assert message is None or message.startswith(str(path))

    check()


def paths_in(section, path=()):
    items = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def test_fuzz_artifact(undisturbed, tmp_path):
    """Changed bytes without the checksum made right: never accepted."""
    content, path = undisturbed.artifact(GOOD).read_bytes(), tmp_path / "a.h5"

    @rounds(300)
    @given(mutations)
    def check(changes):
        changed = mutate(content, changes)
        path.write_bytes(changed)
        try:
            read_artifact(path)
        except FailedError:
            return
        assert changed == content

    check()


def test_fuzz_artifact_behind_a_right_checksum(undisturbed, tmp_path):
    """Content made to deceive: read, or refused as damaged; in a child, for HDF5 itself may break on such bytes."""
    path, seed = tmp_path / "a.h5", tmp_path / "seed"
    source = undisturbed.artifact(GOOD, "background-fov")
    content, about = source.read_bytes(), read_artifact(source)
    number = EXAMPLES or 300
    child = os.fork()
    if not child:
        os._exit(fuzz_forged(content, (about.kind, about.key), path, seed, number))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"seed {seed.read_text()}"


def fuzz_forged(content, identity, path, seed, number):
    """0 if only declared errors come out, else 1; the last seed is left in a file."""
    for index in range(number):
        seed.write_text(str(index))
        rng = random.Random(index)
        kinds = ("flip", "set", "number")
        changes = [(rng.random(), rng.choice(kinds), rng.randrange(256)) for _ in range(rng.randrange(1, 6))]
        path.write_bytes(seal_again(content[:BLOCK] + mutate(content[BLOCK:], changes), *identity))
        try:
            read_artifact(path)
            with open_artifact(path) as opened:
                for name in opened.names:
                    opened.dataset(name)
        except FailedError:
            continue
        except Exception as error:
            seed.write_text(f"{index}: {error!r}")
            return 1
    return 0


def seal_again(content, kind, key):
    """Content with the first block that fits it."""
    rest = content[BLOCK:]
    return store._Block(kind, key, len(content), hashlib.sha256(rest).hexdigest()).seal() + rest


def test_the_forged_artifact_opens_as_hdf5(undisturbed):
    """The fuzzing above is of what it says it is."""
    source = undisturbed.artifact(GOOD, "background-fov")
    about = read_artifact(source)
    content = seal_again(source.read_bytes(), about.kind, about.key)
    assert content == source.read_bytes()
    with h5py.File(io.BytesIO(content), "r") as opened:
        assert opened.attrs["kind"] == "background"
