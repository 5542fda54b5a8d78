"""Keys, and the plain form of options: what an artifact was made of, in one string.

The key of an artifact is the hash of its kind, the algorithm version, the options of the step and the keys
or digests of its inputs, written as JSON in one canonical way, so that equal content gives an equal key on
every machine. Options are frozen dataclasses; their plain form serves keys, plans and certificates alike.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

SHORT_KEY_LENGTH = 16
T = TypeVar("T")


def make_key(kind: str, version: int, options: object, inputs: Mapping[str, str] | Sequence[str]) -> str:
    """Key of an artifact of a `kind` (``reduced``, ``background``, ``stack``, ...): sha256, in 64 hexadecimal digits.

    `version` is that of the algorithm, bumped by hand when results change; `options` those of the step and no more, as
    for `to_plain`, or the key of options which many artifacts share; `inputs` keys or digests of what goes in, by name
    or in a fixed order. ValueError if the version is no integer, an input no string, or the options have no plain form.
    """
    if type(version) is not int:
        raise ValueError(f"{kind}: the algorithm version must be an integer, got {version!r}")
    digests = inputs.values() if isinstance(inputs, Mapping) else inputs
    if isinstance(inputs, str) or not all(type(digest) is str for digest in digests):
        raise ValueError(f"{kind}: inputs must be strings (keys or digests), got {inputs!r}")
    content = {"inputs": inputs, "kind": kind, "options": options, "version": version}
    return hashlib.sha256(canonical_json(content)).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """What a key is made of, as for `make_key`; among the options of another recipe it counts by its key."""

    kind: str
    version: int
    options: Mapping[str, object]
    inputs: Mapping[str, str] | Sequence[str]

    @cached_property
    def key(self) -> str:
        """Key that follows."""
        return make_key(self.kind, self.version, self.options, self.inputs)

    @property
    def record(self) -> dict[str, object]:
        """Plain form for the file of this key, with that of recipes among the options: the key can be formed again."""
        nested = {name: each.record for name, each in self.options.items() if isinstance(each, Recipe)}
        options = {**self.options, **nested}
        return to_plain({"kind": self.kind, "version": self.version, "options": options, "inputs": self.inputs})

    @classmethod
    def of(cls, record: object) -> "Recipe":
        """Undo `record`; KeyError, TypeError or AttributeError if it is none."""
        parts: Any = record
        is_nested = {name: isinstance(each, dict) and "inputs" in each for name, each in parts["options"].items()}
        options = {name: cls.of(each) if is_nested[name] else each for name, each in parts["options"].items()}
        return cls(parts["kind"], parts["version"], options, parts["inputs"])


def seal(content: Mapping[str, object]) -> str:
    """Checksum (sha256) of what JSON gave or is to hold, which stands beside it in files that are read again."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def short(key: str) -> str:
    """First 16 digits of a key, for messages and file names."""
    return key[:SHORT_KEY_LENGTH]


def canonical_json(content: object) -> bytes:
    """JSON of content, canonical: ASCII, sorted, no blanks, floats as shortest exact repr; raises as `to_plain`."""
    return json.dumps(to_plain(content), sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def parse_json(text: str | bytes) -> Any:
    """Content of JSON; ValueError if it is none, or is nested deeper than Python goes."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def to_plain(value: Any, where: str = "$") -> Any:
    """Plain form of a value: what JSON holds; `from_plain` undoes it.

    The value is None, a bool, int, float, str, path, dataclass, named tuple, tuple, list or mapping with string keys,
    nested as deep as needed. Exactly these types: a quantity, an array or a numpy scalar has more than one way to be
    written. Dataclasses and named tuples become dictionaries by the names of their fields, tuples lists. Raises
    ValueError, which names the position `where`, for any other type, a NaN or an infinity.
    """
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Path | Recipe):
        return value.key if isinstance(value, Recipe) else str(value)
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name), f"{where}.{field.name}") for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: to_plain(item, f"{where}.{key}") for key, item in value.items()}
    raise ValueError(f"{where}: expected plain values by strings, got {type(value).__qualname__}")


def from_plain(cls: type[T], plain: object) -> T:
    """Make a dataclass of what JSON gave: undo `to_plain`; ValueError, which names the field, if it is not of one."""
    made: T = _make(cls, plain, cls.__name__)
    return made


def _make(hint: Any, plain: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for member in args:
            if _may_be(member, plain):
                return _make(member, plain, where)
        names = [getattr(member, "__name__", str(member)) for member in args]
        raise ValueError(f"{where}: expected one of {names}, got {plain!r:.80}")
    if hints := _hints(hint):
        if not isinstance(plain, dict) or plain.keys() != hints.keys():
            raise ValueError(f"{where}: expected the fields {sorted(hints)}, got {plain!r:.80}")
        return hint(**{name: _make(each, plain[name], f"{where}.{name}") for name, each in hints.items()})
    if origin is tuple and isinstance(plain, list) and (Ellipsis in args or len(args) == len(plain)):
        kinds = args[:1] * len(plain) if Ellipsis in args else args
        items = enumerate(zip(kinds, plain, strict=True))
        return tuple(_make(kind, item, f"{where}[{index}]") for index, (kind, item) in items)
    if origin in (dict, Mapping) and isinstance(plain, dict):
        return {name: _make(args[1], item, f"{where}.{name}") for name, item in plain.items()}
    if hint is Any or _is_scalar(hint, plain):
        return Path(plain) if hint is Path else plain
    raise ValueError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {plain!r:.80}")


def _may_be(hint: Any, plain: Any) -> bool:
    """Whether a plain form may be of a type; dataclasses are told apart by their first field, the tag."""
    if hints := _hints(hint):
        name, kind = next(iter(hints.items()))
        return isinstance(plain, dict) and (get_origin(kind) is not Literal or plain.get(name) in get_args(kind))
    return isinstance(plain, list) if get_origin(hint) is tuple else _is_scalar(hint, plain)


def _is_scalar(hint: Any, plain: Any) -> bool:
    """Whether a plain value is of a type without parts."""
    if get_origin(hint) is Literal:
        return plain in get_args(hint)
    return type(plain) in {float: (float, int), Path: (str,)}.get(hint, (hint,))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Types of the fields of a dataclass or named tuple; none for any other type."""
    names = [field.name for field in fields(cls)] if is_dataclass(cls) else getattr(cls, "_fields", ())
    hints = get_type_hints(cls) if names else {}
    return {name: hints[name] for name in names}
