"""JSON schema of a configuration file, for editors."""

import ast
import dataclasses
from inspect import cleandoc, getsource
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from cubeflow.config.build import ABSENT, alternatives, keys_of
from cubeflow.config.load import TARGET_SECTIONS
from cubeflow.config.sections import Config
from cubeflow.products.setting import Setting

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", NoneType: "null"}
_LIMITS = {"above": "exclusiveMinimum", "least": "minimum", "below": "exclusiveMaximum", "most": "maximum"}
_QUANTITY = r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*[A-Za-zµ].*$"
Schema = dict[str, Any]


def json_schema() -> Schema:
    """Schema (JSON Schema 2020-12) of a whole file: common sections, and targets that may override any of them.

    What a target needs may stand in the common sections: the schema requires position and geometry alone, or tiles.
    """
    definitions: dict[str, Schema] = {}
    schema = _section(Config, definitions)
    target = definitions["TargetConfig"]
    schema["properties"] |= {key: target["properties"][key] for key in TARGET_SECTIONS}
    target |= {"required": [], "oneOf": [{"required": ["position", "geometry"]}, {"required": ["tiles"]}]}
    # An override need not be complete: its keys are left to the common section.
    overrides = {key: {"description": f"Overrides the common section {key!r}, key by key."} for key in TARGET_SECTIONS}
    target["properties"] = target["properties"] | overrides
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cubeflow configuration"}
    return about | schema | {"$defs": definitions}


def descriptions(section: type) -> dict[str, str]:
    """What stands below each attribute of a class."""
    (definition,) = ast.parse(dedent(getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    said = {}
    for attribute, below in pairwise(definition.body):
        match attribute, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                said[name] = cleandoc(text)
    return said


def _section(section: type, definitions: dict[str, Schema]) -> Schema:
    said, keys = descriptions(section), keys_of(section)
    properties = {
        name: {"description": said[key.name], **_any(key.kind, key.setting, definitions)} for name, key in keys.items()
    }
    required = [name for name, key in keys.items() if key.default is ABSENT]
    about = {"description": cleandoc(section.__doc__ or ""), "type": "object", "required": required}
    return about | {"properties": properties, "additionalProperties": False}


def _any(kind: Any, setting: Setting, definitions: dict[str, Schema]) -> Schema:
    """Schema of a value that may have several types."""
    found = [_one(each, its, definitions) for each, its in alternatives(kind, setting)]
    found = [part for schema in found for part in schema.get("anyOf", [schema])]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _one(kind: Any, setting: Setting, definitions: dict[str, Schema]) -> Schema:
    arguments = get_args(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _section(kind, definitions)
        schema: Schema = {"$ref": f"#/$defs/{kind.__name__}"}
        return {"anyOf": [schema, {"type": "string"}]} if setting.alone else schema
    if get_origin(kind) is Literal:
        return {"enum": list(arguments)}
    if get_origin(kind) is dict:
        section = _any(arguments[1], Setting(), definitions)
        return {"type": "object", "minProperties": 1, "additionalProperties": section}
    if get_origin(kind) is tuple:
        item = _any(arguments[0], setting, definitions)
        schema = {"type": "array", "items": item}
        if arguments[-1] is not Ellipsis:
            schema |= {"minItems": len(arguments), "maxItems": len(arguments)}
        alone = [*item.get("anyOf", [item]), *([] if "maxItems" in schema else [{"type": "null"}])]
        return {"anyOf": [schema, *alone]} if setting.alone else schema
    if kind is float and setting.unit == "MJD":
        return {"type": ["string", "number"]}
    if kind is float and setting.unit:
        return {"type": "string", "pattern": _QUANTITY, "unit": setting.unit}
    limits = {_LIMITS[name]: value for name in _LIMITS if (value := getattr(setting, name)) is not None}
    return {"type": _TYPES[kind], **(limits if kind in (int, float) else {})}
