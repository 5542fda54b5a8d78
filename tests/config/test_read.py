"""The YAML loader against what the YAML 1.2 core schema says, and against hostile files."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.config.read import MAX_BYTES, ConfigError, Node, parse_scalar, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("+12", 12),
        ("023523", 23523),
        ("0x1F", 31),
        ("0o17", 15),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("2004-12-06", "2004-12-06"),
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("=", "="),
        ("nan", "nan"),
        ("1.5.2", "1.5.2"),
        ("٣", "٣"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = parse_scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.Inf", "1e999", "9" * 5000])
def test_numbers_that_are_not_meant_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml:2:a\.b: expected a (finite number|number of at most)"):
        parse_yaml(f"a:\n  b: {text}\n".encode(), "f.yaml")


def test_quoted_scalars_are_strings() -> None:
    assert parse_yaml(b"a: '1'\nb: \"true\"\nc: |\n  null\n", "f").plain() == {"a": "1", "b": "true", "c": "null\n"}


def test_lines_of_keys_and_items() -> None:
    document = parse_yaml(b"# comment\na:\n  b: {c: 1,\n      d: [2,\n 3]}\n", "f")
    assert document.plain() == {"a": {"b": {"c": 1, "d": [2, 3]}}}
    assert document.child("a").line == 2
    assert document.child("a", "b", "d").line == 4
    assert document.child("a", "b", "d").value[1].line == 5
    assert document.child("a", "b", "x", "y").says("expected 1") == "f:3:a.b.x.y: expected 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: {c: 1, c: 2}", "f:2:b.c: duplicate key, first in line 2"),
        (b"a: &x 1\nb: *x", "f:2:b: expected the value itself, got the alias *x"),
        (b"a: &x {c: 1}\nb:\n  <<: *x", "f:3:b: expected a plain word as key, got the merge key <<"),
        (b"a: !!python/object/apply:os.system ['true']", "f:1:a: expected plain values, got the tag tag:yaml.org"),
        (b"a:\n\tb: 1", "f:2: expected printable text and spaces, got a tab"),
        (b"a: \x00", "f:1: expected printable text and spaces, got the character U+0000"),
        (b"\xef\xbb\xbfa: 1", "f:1: expected UTF-8 without a byte order mark"),
        ("a: 1".encode("utf-16"), "f:1: expected UTF-8 without a byte order mark"),
        (b"a: 1\nb: \xe9", "f:2: expected UTF-8, got byte 0xe9"),
        (b"a: 1\n---\nb: 2", "f:2: expected one document, got a second one"),
        (b"a: 1\nb: [1, 2", "f:2: expected valid YAML, got: expected ',' or ']'"),
        (b'a: "\\UFFFFFFFF"', "f:1: expected valid YAML, got: "),
        (b'a: "\\U00110000"', "f:1: expected valid YAML, got: "),
        (b'a: "\\uD800"', "f:1:a: expected printable text, got"),
        (b'a: "x\\0"', "f:1:a: expected printable text, got 'x"),
        (b"? [1]\n: 2", "f:1: expected a plain word as key"),
        (b"- 1\n- 2", "f: expected keys and values such as"),
        (b"", "f: expected keys and values such as 'offset_max: 2 deg', got an empty file"),
        (b"a: " + b"[" * 3000, "f:1:a[0][0]: expected at most 50 levels"),
        (b"- " * 3000, "f:1:[0][0][0]: expected at most 50 levels"),
        (b"a: " + b"x" * MAX_BYTES, "f: expected at most 500000 bytes"),
    ],
)
def test_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}") as caught:
        parse_yaml(content, "f")
    assert "\n" not in str(caught.value)


def test_alias_bomb_is_refused_at_once() -> None:
    layers = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else '1'}]" for i in range(30)]
    with pytest.raises(ConfigError, match=r"f:2:l1\[0\]: expected the value itself, got the alias \*l0"):
        parse_yaml("\n".join(layers).encode(), "f")


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: expected a configuration file, found nothing"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="found a folder or device"):
        read_yaml(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="found a folder or device"):
        read_yaml(tmp_path / "fifo")


def test_dotted_path() -> None:
    assert Node(1, "f", 2, ("targets", "crab", "width", 1)).says("a\n b") == "f:2:targets.crab.width[1]: a b"
    assert Node(1, "f", path=("a",)).says("b") == "f:a: b"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc yes:'\"#é", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abz-_", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), PLAIN, max_size=4))
@settings(max_examples=60, deadline=None)
def test_json_comes_back_as_it_was(content: dict) -> None:
    import json

    assert parse_yaml(json.dumps(content, ensure_ascii=False).encode(), "f").plain() == content


@given(st.binary(max_size=200) | st.text("[]{}:,-?&*!|>'\"%@ \na1.", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    message = outcome(content)
    assert message.startswith("f:")
    assert "\n" not in message


def outcome(content: bytes) -> str:
    """Message of a refusal; ``f:`` where there is none."""
    try:
        return f"{parse_yaml(content, 'f').source}:"
    except ConfigError as error:
        return str(error)
