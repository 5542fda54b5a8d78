"""YAML as configuration needs it: values after YAML 1.2 without surprises, each with the place where it was written.

Refused: duplicate keys, aliases and merge keys, tags such as ``!!python/object``, tabs, a byte order mark, more
than one document, deep nesting, large files, NaN and infinity. ``yes``, ``on``, ``12:30:00`` and ``2004-12-06``
stay the strings they look like; ``1e3`` is a number and ``023523`` the whole number 23523.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import YAMLError

from cubeflow.errors import MistakeError

KeyPath = tuple[str | int, ...]
MAX_BYTES, MAX_DEPTH, MAX_DIGITS = 500_000, 50, 64
ABSENT = object()
_NAMED = {"": None, "~": None, "null": None, "true": True, "false": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NO_CHARACTER = re.compile(r"\\U(?!000|0010)")
_UNPRINTABLE = re.compile("[\0-\t\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class ConfigError(MistakeError):
    """A configuration is wrong; each line of the message is ``file:line:key: what was expected``."""


@dataclass(frozen=True)
class Node:
    """A value as it was written (`ABSENT` if it was not), and where: file, line, and the keys that lead to it.

    The line is that of its key, or of the closest key above what is absent.
    """

    value: Any  # dict of str to Node, list of Node, str, int, float, bool or None
    source: str
    line: int | None = None
    path: KeyPath = ()

    def child(self, *keys: str | int) -> "Node":
        """Value below some keys, one below the other."""
        node = self
        for key in keys:
            held = isinstance(node.value, dict) and key in node.value
            node = node.value[key] if held else Node(ABSENT, node.source, node.line, (*node.path, key))
        return node

    def says(self, message: object) -> str:
        """``file:line:key: message``, where ``a.b[1]`` is the second item of the list b in a."""
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).removeprefix(".")
        return " ".join(f"{':'.join(str(part) for part in (self.source, self.line, key) if part)}: {message}".split())

    def plain(self) -> Any:
        """Value without places: dictionaries, lists, strings, numbers, booleans and None."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


def make_node(value: Any, source: str, path: KeyPath = (), scalar: Callable[[str], object] = str) -> Node:
    """Node of plain values that have no lines; `scalar` reads their strings, and ConfigError names what it refuses."""
    if len(path) > MAX_DEPTH:
        raise ConfigError(Node(None, source, None, path[:3]).says(f"expected at most {MAX_DEPTH} levels"))
    if type(value) is int and abs(value) >= 10**MAX_DIGITS:
        raise ConfigError(Node(None, source, None, path).says(f"expected a number of at most {MAX_DIGITS} digits"))
    if isinstance(value, Mapping):
        value = {str(key): make_node(each, source, (*path, str(key)), scalar) for key, each in value.items()}
    elif isinstance(value, list):
        value = [make_node(each, source, (*path, index), scalar) for index, each in enumerate(value)]
    elif isinstance(value, str):
        return _scalar(Node(None, source, None, path), value, scalar)
    return Node(value, source, None, path)


def read_yaml(path: Path | str) -> Node:
    """Read a YAML file that holds keys and values; ConfigError if there is none, or it is refused (see the module)."""
    path = Path(path)
    try:
        if not path.is_file():
            found = "a folder or device" if path.exists() else "nothing"
            raise ConfigError(f"{path}: expected a configuration file, found {found}")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes, source: str) -> Node:
    """Parse the bytes of a YAML file, which `source` names in messages; ConfigError if refused (see the module)."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{source}: expected at most {MAX_BYTES} bytes")
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{source}:1: expected UTF-8 without a byte order mark; save the file without it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: expected UTF-8, got byte 0x{content[error.start]:02x}") from error
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        got = "a tab" if found.group() == "\t" else f"the character U+{ord(found.group()):04X}"
        raise ConfigError(f"{source}:{line}: expected printable text and spaces, got {got}")
    stream = YAML(typ="safe", pure=True).parse(text)
    root = Node(None, source)
    try:
        next(stream)
        if not isinstance(next(stream), events.StreamEndEvent):
            root = _value(stream, next(stream), root)
            next(stream)
            if not isinstance(after := next(stream), events.StreamEndEvent):
                raise ConfigError(f"{source}:{after.start_mark.line + 1}: expected one document, got a second one")
    except ConfigError:
        raise
    except (YAMLError, ValueError, OverflowError) as error:
        mark, escape = getattr(error, "problem_mark", None), _NO_CHARACTER.search(text)
        number = mark.line + 1 if mark else text.count("\n", 0, escape.start()) + 1 if escape else None
        message = f"expected valid YAML, got: {getattr(error, 'problem', None) or error}"
        raise ConfigError(Node(None, source, number).says(message)) from error
    if not isinstance(root.value, dict):
        got = "an empty file" if root.value is None else f"{root.plain()!r:.40}"
        raise ConfigError(f"{source}: expected keys and values such as 'offset_max: 2 deg', got {got}")
    return root


def parse_scalar(text: str) -> str | int | float | bool | None:
    """Value of an unquoted scalar after the core schema of YAML 1.2; ValueError for a number that cannot be meant."""
    if text in (text.lower(), text.title(), text.upper()) and text.lower() in _NAMED:
        return _NAMED[text.lower()]
    is_int = _INT.fullmatch(text)
    if not (is_int or _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
        return text
    if len(text) > MAX_DIGITS:
        raise ValueError(f"expected a number of at most {MAX_DIGITS} digits, got {len(text)}")
    if is_int:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _NOT_FINITE.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(f"expected a finite number, got {text}")
    return float(text)


def _value(stream: Iterator[Any], event: Any, at: Node) -> Node:
    """Value that begins with an event. The library's own way would recurse as deep as the file, and resolve aliases."""
    if isinstance(event, events.AliasEvent):
        raise ConfigError(at.says(f"expected the value itself, got the alias *{event.anchor}"))
    if event.tag not in (None, "!"):
        raise ConfigError(at.says(f"expected plain values, got the tag {event.tag}"))
    if len(at.path) > MAX_DEPTH:
        raise ConfigError(replace(at, path=at.path[:3]).says(f"expected at most {MAX_DEPTH} levels"))
    if isinstance(event, events.ScalarEvent):
        return _scalar(at, event.value, parse_scalar if event.implicit[0] else str)
    if isinstance(event, events.SequenceStartEvent):
        items: list[Node] = []
        while not isinstance(item := next(stream), events.SequenceEndEvent):
            items.append(_value(stream, item, Node(None, at.source, item.start_mark.line + 1, (*at.path, len(items)))))
        return replace(at, value=items)
    values: dict[str, Node] = {}
    while not isinstance(key := next(stream), events.MappingEndEvent):
        line = key.start_mark.line + 1
        if not isinstance(key, events.ScalarEvent) or key.tag not in (None, "!") or key.value == "<<":
            got = ", got the merge key <<" if getattr(key, "value", "") == "<<" else ""
            raise ConfigError(replace(at, line=line).says(f"expected a plain word as key{got}"))
        inner = Node(None, at.source, line, (*at.path, key.value))
        if key.value in values:
            first = values[key.value].line
            raise ConfigError(inner.says(f"duplicate key, first in line {first}; expected each key once"))
        values[key.value] = _value(stream, next(stream), inner)
    return replace(at, value=values)


def _scalar(at: Node, text: str, read: Callable[[str], object]) -> Node:
    if _UNPRINTABLE.search(text):
        raise ConfigError(at.says(f"expected printable text, got {text!r:.60}"))
    try:
        return replace(at, value=read(text))
    except ValueError as error:
        raise ConfigError(at.says(error)) from error
