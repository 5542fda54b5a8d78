"""Where a value of the configuration was written, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from cubeflow.config.layout import TARGET_SECTIONS, complete_targets
from cubeflow.strict_yaml import KeyPath, dotted

_EXPECTED = {
    "missing": "expected a value, got nothing",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "string_type": "expected a string",
    "tuple_type": "expected a list",
    "dict_type": "expected keys and values",
    "model_type": "expected keys and values",
    "model_attributes_type": "expected keys and values",
    "finite_number": "expected a finite number",
    "union_tag_not_found": "expected a value, got nothing",
    "union_tag_invalid": "expected one of {expected_tags}, got {tag!r}",
    "literal_error": "expected {expected}",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "too_short": "expected at least {min_length} of them, got {actual_length}",
    "too_long": "expected at most {max_length} of them, got {actual_length}",
}


@dataclass(frozen=True)
class Draft:
    """Values as written, merged but not checked.

    Parameters
    ----------
    content : mapping
        Sections of all files and overrides.
    origin : mapping of tuple to (str, int or None)
        File and line of each key, by its path; no line for overrides.
    source : str
        File that is named where no key can be.
    """

    content: Mapping[str, Any]
    origin: Mapping[KeyPath, tuple[str, int | None]]
    source: str

    def has(self, path: KeyPath) -> bool:
        """Whether this key was written."""
        value: Any = self.content
        for part in path:
            if not _holds(value, part):
                return False
            value = value[part]
        return True

    def line(self, path: KeyPath, message: str) -> str:
        """``file:line:key: message``; the line of the closest key above it where the key was not written."""
        written = [path[:length] for length in range(len(path), 0, -1) if path[:length] in self.origin]
        source, number = self.origin[written[0]] if written else (self.source, None)
        place = f"{source}:{number}" if number else source
        return " ".join(f"{place}:{dotted(path)}: {message}".split())


def explain(draft: Draft, details: ErrorDetails) -> str:
    """One line for one error of pydantic about the completed content of a draft."""
    path = _without_tags(complete_targets(draft.content), (*details["loc"], *_inner_path(details)))
    if len(path) > 2 and path[0] == "targets" and path[2] in TARGET_SECTIONS:
        path = _closer(draft, path, path[2:])
    return draft.line(path, _expected(details))


def _inner_path(details: ErrorDetails) -> KeyPath:
    """Key below the location that pydantic names."""
    context = details.get("ctx", {})
    if details["type"].startswith("union_tag"):
        return (str(context["discriminator"]).strip("'"),)
    return tuple(context.get("path", ()))


def _closer(draft: Draft, own: KeyPath, common: KeyPath) -> KeyPath:
    """Choose the path of which more was written: below the target, or in the common section."""
    in_own = max(length for length in range(len(own) + 1) if draft.has(own[:length])) - 2
    in_common = max(length for length in range(len(common) + 1) if draft.has(common[:length]))
    return own if in_own >= max(in_common, 1) else common


def _without_tags(content: Any, location: KeyPath) -> KeyPath:
    """Location without what pydantic adds to it: the names of the alternatives of a union."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        is_known = _holds(content, part)
        if is_known:
            content = content[part]
        may_be_key = part != "[key]" and (isinstance(part, int) or isinstance(content, Mapping))
        if is_known or (index == len(location) - 1 and may_be_key):
            path.append(part)
    return tuple(path)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _expected(details: ErrorDetails) -> str:
    """What was expected, and what was there instead."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "key":
        return str(context["message"])
    if kind == "value_error":
        return str(context["error"])
    if kind not in _EXPECTED:
        return details["msg"]
    expected = _EXPECTED[kind].format(**context)
    return expected if "got" in expected else f"{expected}, got {details['input']!r:.60}"
