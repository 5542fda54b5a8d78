"""From what was written to the dataclass that is meant: one way for every section.

The key of a field is its name without the unit at its end: a quantity is written with its unit, and kept as a number.
So a setting is declared once, in the dataclass that is the section, the argument of the method and part of the key.
"""

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cubeflow.config.read import ABSENT, Node
from cubeflow.products.setting import Setting

# What the end of a name says about the value; the first that fits holds.
ENDINGS = {
    "lon_deg": Setting("deg", least=-360.0, most=360.0),
    "lat_deg": Setting("deg", least=-90.0, most=90.0),
    "_deg": Setting("deg", above=0.0, most=180.0),
    "_tev": Setting("TeV", above=0.0, most=1e6),
    "_mb": Setting("MB", least=1.0),
    "_mjd": Setting("MJD"),
    "_s": Setting("s", above=0.0),
}
_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,63}")
FORMER = {
    "form": "no longer a key; expected keep: all, or keep: none to leave the sums of a batch only",
    "auto": "no key: cubeflow exclude finds a mask, round by round, and prints the line that uses it",
}
_QUANTITY = re.compile(r"(?a)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ][A-Za-z0-9µ ^*/.()-]{0,39})")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|([A-Za-z_]\w*))")
_EXAMPLES = {"deg": "0.5 deg", "TeV": "1 TeV", "s": "28 min", "MB": "16 GB", "m-2 s-1 TeV-1": "3.45e-11 cm-2 s-1 TeV-1"}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
_WORDS |= {tuple: "a list", dict: "keys and values"}
_ORDINAL_OF_MJD_0 = 678_576  # date(1858, 11, 17).toordinal()


class KeyMistake(ValueError):
    """A value does not fit another one; it is told at the key at `path` below the section that raises it."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a section: the attribute that it becomes, its type, and what it is where it is not written."""

    name: str
    kind: Any
    setting: Setting
    default: Any = ABSENT


@cache
def keys_of(section: type) -> dict[str, Key]:
    """Keys of a section as a file writes them. One that tells which of several sections it is must be written.

    What does not count where sections are compared is no key.
    """
    keys: dict[str, Key] = {}
    hints = get_type_hints(section, include_extras=True)
    for field in filter(lambda field: field.compare, dataclasses.fields(section)):
        setting = next((ENDINGS[ending] for ending in ENDINGS if field.name.endswith(ending)), Setting())
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is dataclasses.MISSING or (not keys and _tag_of(section)):
            default = ABSENT
        name = field.name.rpartition("_")[0] if setting.unit else field.name
        keys[name] = Key(field.name, hints[field.name], setting, default)
    return keys


def _tag_of(section: type) -> str | None:
    """Value of the first key that tells a section from others of its kind; None if there is no such key."""
    kind = next(iter(get_type_hints(section, include_extras=True).values()))
    return get_args(kind)[0] if get_origin(kind) is Literal and len(get_args(kind)) == 1 else None


def alternatives(kind: Any, setting: Setting) -> list[tuple[Any, Setting]]:
    """Types that a value may have, each with its setting; None is one of them."""
    if get_origin(kind) is Annotated:
        given = kind.__metadata__[0]
        return alternatives(kind.__origin__, dataclasses.replace(given, unit=given.unit or setting.unit))
    if get_origin(kind) in (Union, UnionType):
        return [each for part in get_args(kind) for each in alternatives(part, setting)]
    return [(kind, setting)]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, and which one may have been meant."""
    if key in FORMER:
        return FORMER[key]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; expected one of {', '.join(known)}"


class WrongKind(ValueError):
    """A value is of none of the kinds that were expected."""

    def __init__(self, got: object, *expected: str) -> None:
        words = " or ".join(filter(None, (", ".join(expected[:-1]), expected[-1])))
        super().__init__(f"expected {words}, got {'nothing' if got in (None, ABSENT) else f'{got!r:.60}'}")
        self.expected = expected


def parse_value(kinds: list[tuple[Any, Setting]], value: Any) -> Any:
    """Value of the first type that it fits: WrongKind if there is none, ValueError beyond the limits of one."""
    expected: list[str] = []
    for kind, setting in kinds:
        if kind is NoneType:
            continue
        try:
            return _parse_one(kind, setting, value)
        except WrongKind as error:
            expected += error.expected
    raise WrongKind(value, *expected)


def _parse_one(kind: Any, setting: Setting, value: Any) -> Any:
    if kind is Path:
        return parse_path(value)
    if kind is float and setting.unit == "MJD":
        return parse_time(value)
    if kind is float and setting.unit:
        return _within(parse_quantity(value, setting.unit), setting, value)
    if kind in (int, float) and type(value) in (int, kind):
        return _within(kind(value), setting, value)
    if (kind in (bool, str) and type(value) is kind) or (get_origin(kind) is Literal and value in get_args(kind)):
        return value
    words = map(repr, get_args(kind)) if get_origin(kind) is Literal else [_WORDS[get_origin(kind) or kind]]
    raise WrongKind(value, *words)


def _within(value: float, setting: Setting, written: object) -> float:
    unit = f" {setting.unit}" if setting.unit else ""
    above, least, below, most = setting.above, setting.least, setting.below, setting.most
    for holds, limit in (
        (math.isfinite(value), "a finite number"),
        (above is None or value > above, f"a {'quantity' if unit else 'number'} above {above}"),
        (least is None or value >= least, f"at least {least}"),
        (below is None or value < below, f"less than {below}"),
        (most is None or value <= most, f"at most {most}"),
    ):
        if not holds:
            raise ValueError(f"expected {limit.removesuffix('.0')}{unit}, got {written!r}")
    return value


def parse_quantity(text: object, unit: str) -> float:
    """Value in `unit` of a string such as ``0.02 deg``; WrongKind for another kind, ValueError if it is not finite."""
    wrong = WrongKind(text, f"a quantity with a unit such as '{_EXAMPLES.get(unit, f'1 {unit}')}'")
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise wrong
    value, name = float(match[1]), match[2].strip()
    if name != unit:
        from astropy import units

        try:
            value *= float(units.Quantity(1.0, name).to_value(unit))  # which a logarithmic unit, dex(TeV), is not for
        except (ValueError, TypeError) as error:
            raise wrong from error
    if not math.isfinite(value):
        raise ValueError(f"expected a finite quantity, got {text!r}")
    return value


def parse_time(value: object) -> float:
    """MJD on the TT scale of an ISO string without time zone, or of a bare number, which is an MJD already."""
    wrong = WrongKind(value, "a TT time such as '2004-12-06T01:30:00' or an MJD such as 53345.0625")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 200_000:
        return float(value)
    try:
        time = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise wrong from error
    if time.tzinfo is not None:
        raise ValueError(f"{wrong}; times are TT, without a time zone")
    seconds = time.hour * 3600 + time.minute * 60 + time.second + time.microsecond * 1e-6
    return time.toordinal() - _ORDINAL_OF_MJD_0 + seconds / 86400.0


def parse_path(text: object) -> Path:
    """Path in which a first ``~/``, ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` are replaced, as a shell does."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        found = os.environ.get(name) or match[2]
        if not found:
            raise ValueError(f"{name} is not set; set it or write a path")
        return found

    path = _VARIABLE.sub(value, text) if isinstance(text, str) else ""
    if re.match("-|~(?!/)", path):  # a program would take it for an option, a shell for somebody's home
        raise ValueError(f"expected a path that does not start with - or ~name, got {text!r}")
    if not path.strip() or any(ord(letter) < 32 for letter in path):
        raise WrongKind(text, "a path")
    return Path(path).expanduser() if path.startswith("~/") else Path(path)


@dataclasses.dataclass
class Builder:
    """Builds values, and collects lines about what is wrong with them; a value with a mistake means nothing."""

    mistakes: list[str] = dataclasses.field(default_factory=list)

    def refuse(self, node: Node, message: object) -> None:
        """Keep a mistake."""
        self.mistakes.append(node.says(message))

    def value(self, kind: Any, setting: Setting, node: Node) -> Any:
        """Value of any type."""
        kinds = alternatives(kind, setting)
        if node.value is None and any(each is NoneType for each, _ in kinds):
            return None
        if sections := [each for each, _ in kinds if dataclasses.is_dataclass(each)]:
            return self.section(sections, kinds[0][1], node)
        for each, its in kinds:
            if get_origin(each) is tuple and (its.alone or isinstance(node.value, list)):
                return self.items(get_args(each), its, node)
            if get_origin(each) is dict and isinstance(node.value, dict):
                return self.names(get_args(each)[1], node)
        try:
            return parse_value(kinds, node.plain())
        except ValueError as error:
            return self.refuse(node, error)

    def section(self, kinds: list[Any], setting: Setting, node: Node) -> Any:
        """Section, whose first key tells which one it is if there are several."""
        if setting.alone and isinstance(node.value, str):
            node = Node({next(iter(keys_of(kinds[0]))): node}, node.source, node.line, node.path)
        chosen, first = kinds[0], list(keys_of(kinds[0]))[:6]  # there may be many
        if not isinstance(node.value, dict):
            return self.refuse(node, WrongKind(node.plain(), f"keys ({', '.join(first)}) and values"))
        if len(kinds) > 1:
            tags = {_tag_of(kind): kind for kind in kinds}
            tag = node.child(first[0])
            if tag.plain() not in list(tags):
                return self.refuse(tag, WrongKind(tag.plain(), *map(repr, tags)))
            chosen = tags[tag.value]
        keys, before = keys_of(chosen), len(self.mistakes)
        if unknown := [node.child(name).says(unknown_key(name, keys)) for name in node.value if name not in keys]:
            return self.mistakes.extend(unknown)
        written = {name: key for name, key in keys.items() if name in node.value or key.default is ABSENT}
        values = {key.name: self.value(key.kind, key.setting, node.child(name)) for name, key in written.items()}
        if len(self.mistakes) > before:
            return None
        try:
            return chosen(**values)
        except KeyMistake as error:
            return self.refuse(node.child(*error.path), error)
        except ValueError as error:
            # Messages of the dataclasses begin with the name of the field that is wrong.
            field, _, message = str(error).partition(": ")
            at = [name for name, key in keys.items() if key.name == field]
            return self.refuse(node.child(*at), message if at else error)

    def items(self, kinds: tuple[Any, ...], setting: Setting, node: Node) -> Any:
        """List, of any length or of a fixed one."""
        count = None if kinds[-1] is Ellipsis else len(kinds)
        nodes = node.value
        if not isinstance(nodes, list):
            nodes = [] if nodes is None else [node] * (count or 1)
        if count is not None and len(nodes) > count:
            return self.refuse(node, f"expected {count} of them, got {len(nodes)}")
        nodes = [*nodes, *(node.child(index) for index in range(len(nodes), count or 0))]
        return tuple(self.value(kinds[0], setting, each) for each in nodes)

    def names(self, kind: Any, node: Node) -> dict[str, Any]:
        """Sections by name; names become names of folders."""
        if not node.value:
            self.refuse(node, "expected at least 1 of them, got 0")
        folded: dict[str, str] = {}
        for name, each in node.value.items():
            if not _NAME.fullmatch(name):
                expected = "a name of letters, digits and _ + . - that starts with none of . and -"
                self.refuse(each, f"expected {expected}, got {name!r:.80}")
            if (other := folded.setdefault(name.lower(), name)) != name:
                self.refuse(each, f"expected names that differ by more than capital letters; there is {other!r}")
        return {name: self.value(kind, Setting(), each) for name, each in node.value.items()}
