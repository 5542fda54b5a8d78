"""YAML as configuration needs it: YAML 1.2 scalars, no surprises, and the line of every key (floor 0).

Refused: duplicate keys, aliases and merge keys, tags such as ``!!python/object``, tabs, a byte order mark, more
than one document, deep nesting, large files, NaN and infinity. ``yes``, ``on``, ``12:30:00`` and ``2004-12-06``
stay the strings they look like; ``1e3`` is a number and ``023523`` the whole number 23523.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
MAX_BYTES = 500_000
MAX_DEPTH = 50
MAX_DIGITS = 64
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile(f"\t|{yaml.reader.Reader.NON_PRINTABLE.pattern}")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class YamlError(ValueError):
    """A YAML file is refused; the message is one line ``file:line:key: what was expected``."""


@dataclass(frozen=True)
class Document:
    """A YAML file that holds one mapping.

    Parameters
    ----------
    content : mapping
        Plain dictionaries, lists, strings, numbers, booleans and None.
    source : str
        Name of the file.
    lines : mapping of tuple to int
        Line (from 1) of every key and list item, by its path.
    """

    content: Mapping[str, Any]
    source: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)


def read_yaml(path: Path | str) -> Document:
    """Read a YAML file.

    Raises
    ------
    YamlError
        If there is no such file, or it is refused (see the module).
    """
    path = Path(path)
    try:
        if not path.exists():
            raise YamlError(f"{path}: expected a configuration file, found nothing")
        if not path.is_file():
            raise YamlError(f"{path}: expected a configuration file, found a folder or device")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes, source: str) -> Document:
    """Parse the bytes of a YAML file; `source` names it in messages.

    Raises
    ------
    YamlError
        If it is refused (see the module).
    """
    text = _decode(content, source)
    loader = yaml.SafeLoader(text)
    reader = _Reader(loader, source)
    try:
        value = reader.read_document()
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise YamlError(f"{place}: expected valid YAML, got: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(f"{source}: expected valid YAML, got: {' '.join(str(error).split())}") from error
    except (OverflowError, ValueError) as error:
        raise YamlError(f"{source}:{loader.line + 1}: expected a character, got an escape that is none") from error
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise YamlError(f"{source}: expected keys and values such as 'offset_max: 2 deg', got {_shown(value)}")
    return Document(value, source, reader.lines)


def parse_scalar(text: str) -> str | int | float | bool | None:
    """Value of an unquoted scalar after the core schema of YAML 1.2.

    Raises
    ------
    ValueError
        For NaN, infinity, and numbers too large or too long to be meant.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"expected a finite number, got {text}")
    is_int, is_float = _INT.fullmatch(text), _FLOAT.fullmatch(text)
    if not (is_int or is_float):
        return text
    if len(text) > MAX_DIGITS:
        raise ValueError(f"expected a number of at most {MAX_DIGITS} digits, got {len(text)}")
    if is_int:
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text}")
    return value


def _decode(content: bytes, source: str) -> str:
    """Text of the file, free of what must not be in it."""
    if len(content) > MAX_BYTES:
        raise YamlError(f"{source}: expected at most {MAX_BYTES} bytes")
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise YamlError(f"{source}:1: expected UTF-8 without a byte order mark; save the file without it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(f"{source}:{line}: expected UTF-8, got byte 0x{content[error.start]:02x}") from error
    found = _UNPRINTABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        got = "a tab" if found.group() == "\t" else f"the character U+{ord(found.group()):04X}"
        raise YamlError(f"{source}:{line}: expected printable text and spaces, got {got}")
    return text


def _shown(value: object) -> str:
    return "an empty file" if value is None else f"{value!r:.40}"


def _line(event: yaml.Event) -> int:
    """Line of an event, from 1."""
    return event.start_mark.line + 1 if event.start_mark else 1


class _Reader:
    """Builds plain values from the events of the parser and remembers the line of every key."""

    def __init__(self, loader: yaml.SafeLoader, source: str) -> None:
        self.loader, self.source = loader, source
        self.lines: dict[KeyPath, int] = {}

    def read_document(self) -> Any:
        """Value of the only document."""
        self.loader.get_event()
        if self.loader.check_event(yaml.StreamEndEvent):
            return None
        self.loader.get_event()
        value = self.read(())
        self.loader.get_event()
        if not self.loader.check_event(yaml.StreamEndEvent):
            raise self.refuse(self.loader.peek_event(), (), "expected one document, got a second one")
        return value

    def refuse(self, event: yaml.Event, path: KeyPath, message: str) -> YamlError:
        """Error that names source, line and key."""
        key = f"{dotted(path)}:" if path else ""
        return YamlError(f"{self.source}:{_line(event)}:{key} {message}")

    def read(self, path: KeyPath) -> Any:
        """Value at the next event."""
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            raise self.refuse(event, path, f"expected the value itself, got the alias *{event.anchor}")
        if event.tag not in (None, "!"):
            raise self.refuse(event, path, f"expected plain values, got the tag {event.tag}")
        if len(path) > MAX_DEPTH:
            raise self.refuse(event, path[:3], f"expected at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.MappingStartEvent):
            return self.read_mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.read_sequence(path)
        if _UNPRINTABLE.search(event.value):
            raise self.refuse(event, path, f"expected printable text, got {event.value!r:.60}")
        try:
            return parse_scalar(event.value) if event.implicit[0] else event.value
        except ValueError as error:
            raise self.refuse(event, path, str(error)) from error

    def read_mapping(self, path: KeyPath) -> dict[str, Any]:
        """Keys are the text as written."""
        mapping: dict[str, Any] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            event = self.loader.get_event()
            if not isinstance(event, yaml.ScalarEvent) or event.tag not in (None, "!"):
                raise self.refuse(event, path, "expected a plain word as key")
            if event.value == "<<":
                raise self.refuse(event, path, "expected a plain word as key, got the merge key <<")
            inner = (*path, event.value)
            if event.value in mapping:
                message = f"duplicate key, first in line {self.lines[inner]}; expected each key once"
                raise self.refuse(event, inner, message)
            self.lines[inner] = _line(event)
            mapping[event.value] = self.read(inner)
        self.loader.get_event()
        return mapping

    def read_sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            inner = (*path, len(items))
            self.lines[inner] = _line(self.loader.peek_event())
            items.append(self.read(inner))
        self.loader.get_event()
        return items


def dotted(path: KeyPath) -> str:
    """Path of a key as people write it: ``targets.crab.geometry.width[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
