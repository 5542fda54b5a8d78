"""Keys: what an artifact was made of, in one string.

An artifact is valid if and only if its key is. The key is the hash of the step, the step's
algorithm version, its configuration and the keys or digests of its inputs, written as JSON in one
canonical way, so that equal content gives an equal key on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

SHORT_KEY_LENGTH = 16
_PLACE = "<the one input>"


class KeyContentError(TypeError):
    """Something that has no canonical form was to become part of a key; the message says where it stands."""


def canonical_json(content: Any) -> bytes:
    """Write plain content as JSON in the one canonical way.

    Parameters
    ----------
    content : None, bool, int, float, str, list, tuple or mapping with string keys
        Nested as deep as needed. Exactly these types: a path, a quantity, an array or a numpy scalar has
        more than one way to be written and must be turned into plain numbers and strings before.

    Returns
    -------
    bytes
        ASCII JSON: keys sorted, no blanks, floats as their shortest exact ``repr``, tuples as lists.

    Raises
    ------
    KeyContentError
        For any other type, a NaN or an infinity; the message names the position.
    """
    plain = _plain(content, "$")
    return json.dumps(plain, sort_keys=True, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def make_key(step: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str] | Sequence[str]) -> str:
    """Key of an artifact.

    Parameters
    ----------
    step : str
        Name of the step that makes it.
    version : int
        Algorithm version of the step, bumped by hand when its results change.
    config : mapping
        The step's own configuration, plain numbers and strings.
    inputs : mapping of str to str, or sequence of str
        Keys or digests of what goes in, by name, or in a fixed order.

    Returns
    -------
    str
        sha256 in 64 hexadecimal digits.

    Raises
    ------
    KeyContentError
        If the version is not an integer, an input not a string, or the configuration not plain.
    """
    if type(version) is not int:
        raise KeyContentError(f"step {step}: the algorithm version must be an integer, got {version!r}")
    digests = inputs.values() if isinstance(inputs, Mapping) else inputs
    if isinstance(inputs, str) or not all(type(digest) is str for digest in digests):
        raise KeyContentError(f"step {step}: inputs must be strings (keys or digests), got {inputs!r}")
    plain_inputs = dict(inputs) if isinstance(inputs, Mapping) else list(inputs)
    content = {"step": step, "version": version, "config": config, "inputs": plain_inputs}
    return hashlib.sha256(canonical_json(content)).hexdigest()


class KeyTemplate:
    """Key of many artifacts that differ in one input alone: the same as `make_key`, without forming all of it again.

    Parameters
    ----------
    step, version, config
        As for `make_key`.
    name : str
        Name of the only input.
    """

    def __init__(self, step: str, version: int, config: Mapping[str, Any], name: str) -> None:
        content = {"step": step, "version": version, "config": config, "inputs": {name: _PLACE}}
        before, *after = canonical_json(content).split(_PLACE.encode())
        if len(after) != 1:
            raise KeyContentError(f"step {step}: {_PLACE!r} has no place in a configuration")
        self._after = after[0]
        self._started = hashlib.sha256(before)

    def key(self, digest: str) -> str:
        """Key for one input, a digest or key in hexadecimal digits."""
        total = self._started.copy()
        total.update(digest.encode("ascii") + self._after)
        return total.hexdigest()


def short(key: str) -> str:
    """First 16 digits of a key, for messages and file names."""
    return key[:SHORT_KEY_LENGTH]


def _plain(content: Any, where: str) -> Any:
    """Return `content` as nested dicts and lists, or refuse it, naming the position."""
    if content is None or type(content) in (bool, int, str):
        return content
    if type(content) is float:
        if not math.isfinite(content):
            raise KeyContentError(f"{where}: {content} has no place in a key, expected a finite number")
        return content
    if type(content) in (list, tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(content)]
    if isinstance(content, Mapping):
        for key in content:
            if type(key) is not str:
                raise KeyContentError(f"{where}: the names in a mapping must be strings, got {key!r}")
        return {key: _plain(value, f"{where}.{key}") for key, value in content.items()}
    raise KeyContentError(f"{where}: expected plain numbers and strings, got {type(content).__qualname__}")
