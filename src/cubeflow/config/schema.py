"""JSON schema of a configuration file, for editors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from inspect import cleandoc, getsource
from itertools import pairwise
from textwrap import dedent
from typing import Any

from cubeflow.config.layout import CONFIG_SECTIONS, TARGET_ONLY, TARGET_SECTIONS
from cubeflow.config.model import Config
from cubeflow.config.section import Section


def json_schema() -> dict[str, Any]:
    """Schema (JSON Schema 2020-12) of a whole file: common sections, and targets that may override any of them.

    What a target needs may stand in the common sections: the schema requires position and geometry alone.
    """
    schema = Config.model_json_schema(by_alias=True)
    _describe(schema, Config)
    for section in _sections(Section):
        _describe(schema["$defs"].get(section.__name__, {}), section)
    target = schema["$defs"]["TargetConfig"]
    common = {key: target["properties"][key] for key in TARGET_SECTIONS}
    target["required"] = list(TARGET_ONLY)
    for key in TARGET_SECTIONS:
        _loosen(target["properties"], key)
    schema["properties"] = {key: schema["properties"][key] for key in CONFIG_SECTIONS} | common
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "cubeflow configuration"
    return schema


def _loosen(properties: dict[str, Any], key: str) -> None:
    """An override need not be complete: describe it, and leave its keys to the common section."""
    properties[key] = {"description": f"Overrides the common section {key!r}, key by key."}


def _sections(base: type[Section]) -> Iterator[type[Section]]:
    """Every kind of section, those with further kinds included."""
    for section in base.__subclasses__():
        yield section
        yield from _sections(section)


def _describe(schema: dict[str, Any], section: type[Section]) -> None:
    """Add what is said below each attribute. pydantic can do so, too, but at every start and for all sections."""
    said: dict[str, str] = {}
    for each in reversed(section.__mro__[: section.__mro__.index(Section)]):
        said |= dict(_said_below_attributes(each))
    for name, field in section.model_fields.items():
        if name in said and "properties" in schema:
            schema["properties"][field.alias or name]["description"] = said[name]


def _said_below_attributes(section: type) -> Iterator[tuple[str, str]]:
    """Attributes of a class, not of its bases, with the text that stands below them."""
    (definition,) = ast.parse(dedent(getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    for attribute, below in pairwise(definition.body):
        match attribute, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, cleandoc(text)
