"""Which sections a configuration has, and how a target is completed with the common ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cubeflow.config.merge import merge
from cubeflow.config.model import Config, TargetConfig
from cubeflow.config.section import section_keys, unknown_key
from cubeflow.strict_yaml import KeyPath

TARGET_ONLY = ("position", "geometry")
TARGET_SECTIONS = tuple(key for key in section_keys(TargetConfig) if key not in TARGET_ONLY)
CONFIG_SECTIONS = tuple(section_keys(Config))


def complete_targets(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give every target the common sections, with its own merged in."""
    common = {key: content[key] for key in TARGET_SECTIONS if key in content}
    completed = {key: value for key, value in content.items() if key in CONFIG_SECTIONS}
    completed["targets"] = {name: merge(common, target) for name, target in content["targets"].items()}
    return completed


def layout_mistakes(content: Mapping[str, Any]) -> list[tuple[KeyPath, str]]:
    """Key and message of each mistake that keeps the targets from being completed."""
    known = [*CONFIG_SECTIONS, *TARGET_SECTIONS]
    found: list[tuple[KeyPath, str]] = [((key,), unknown_key(key, known)) for key in content if key not in known]
    targets = content.get("targets")
    if not isinstance(targets, Mapping) or not targets:
        got = "nothing" if "targets" not in content else f"{targets!r:.60}"
        return [*found, (("targets",), f"expected at least one target by name, got {got}")]
    for name, target in targets.items():
        if not isinstance(target, Mapping):
            found.append((("targets", name), f"expected position and geometry, got {target!r:.60}"))
    return found
