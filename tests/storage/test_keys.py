import hashlib
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.storage.keys import KeyContentError, KeyTemplate, canonical_json, make_key, short

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_canonical_form_is_the_one_written_by_hand():
    content = {"b": (1, 2.50, True), "a": {"z": None, "ä": "é"}, "c": 1e-7}
    assert canonical_json(content) == b'{"a":{"z":null,"\\u00e4":"\\u00e9"},"b":[1,2.5,true],"c":1e-07}'


@given(PLAIN)
def test_canonical_json_is_exact_and_does_not_depend_on_the_order(content):
    text = canonical_json(content)
    assert json.loads(text) == content
    if isinstance(content, dict):
        assert canonical_json(dict(reversed(content.items()))) == text


@pytest.mark.parametrize(
    "odd",
    [Path("a"), 1 * u.deg, np.float64(1), np.int64(1), np.zeros(1), {1}, b"x", Decimal(1), object(), {1: 2}],
    ids=lambda odd: type(odd).__name__,
)
def test_what_is_not_plain_is_refused_with_its_position(odd):
    with pytest.raises(KeyContentError, match=r"^\$\.ring\[1\]: "):
        canonical_json({"ring": [0, odd]})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused(number):
    with pytest.raises(KeyContentError, match=r"^\$\.r_in: .*expected a finite number"):
        canonical_json({"r_in": number})


def test_key_is_the_sha256_of_the_canonical_form():
    key = make_key("ring", 3, {"r_in": 0.5}, {"reduced": "ab"})
    text = b'{"config":{"r_in":0.5},"inputs":{"reduced":"ab"},"step":"ring","version":3}'
    assert key == hashlib.sha256(text).hexdigest()
    assert short(key) == key[:16]


def test_key_changes_with_each_part_and_with_the_order_of_a_sequence():
    keys = {
        make_key("ring", 3, {"r_in": 0.5}, ["a", "b"]),
        make_key("fov", 3, {"r_in": 0.5}, ["a", "b"]),
        make_key("ring", 4, {"r_in": 0.5}, ["a", "b"]),
        make_key("ring", 3, {"r_in": 0.6}, ["a", "b"]),
        make_key("ring", 3, {"r_in": 0.5}, ["b", "a"]),
        make_key("ring", 3, {"r_in": 0.5}, {"0": "a", "1": "b"}),
    }
    assert len(keys) == 6
    assert make_key("ring", 3, {"a": 1, "b": 2}, {"x": "1", "y": "2"}) == make_key(
        "ring", 3, {"b": 2, "a": 1}, {"y": "2", "x": "1"}
    )


@pytest.mark.parametrize(
    ("version", "inputs", "match"),
    [
        ("3", [], "version must be an integer"),
        (True, [], "version must"),
        (1, "ab", "inputs must"),
        (1, [b""], "inputs"),
    ],
)
def test_key_refuses_wrong_parts(version, inputs, match):
    with pytest.raises(KeyContentError, match=match):
        make_key("ring", version, {}, inputs)


def test_key_module_is_cheap_to_import():
    code = "import sys, cubeflow.storage.keys; print({'numpy', 'h5py', 'astropy'} & set(sys.modules))"
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(source)})
    assert done.stdout.strip() == "set()", done.stderr


def test_template_gives_the_keys_of_make_key():
    config = {"a": [1, 2.5, None], "b": 'text with "quotes"'}
    template = KeyTemplate("step", 3, config, "reduced")
    for digest in ("0" * 64, "abcdef" * 10):
        assert template.key(digest) == make_key("step", 3, config, {"reduced": digest})
