"""JSON schema of a configuration file, for editors."""

from __future__ import annotations

from typing import Any

from cubeflow.config.layout import CONFIG_SECTIONS, TARGET_ONLY, TARGET_SECTIONS
from cubeflow.config.model import Config


def json_schema() -> dict[str, Any]:
    """Schema (JSON Schema 2020-12) of a whole file: common sections, and targets that may override any of them.

    What a target needs may stand in the common sections: the schema requires position and geometry alone.
    """
    schema = Config.model_json_schema(by_alias=True)
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
