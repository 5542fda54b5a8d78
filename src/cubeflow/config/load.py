"""From files to a checked configuration; every mistake is one line with file, line and key."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cubeflow.config.build import Builder, keys_of, unknown_key
from cubeflow.config.read import ABSENT, ConfigError, Node, make_node, parse_scalar, parse_yaml, read_yaml
from cubeflow.config.sections import Config, TargetConfig
from cubeflow.products.setting import Setting

OVERRIDES = "overrides"
MAX_MESSAGES = 10
TARGET_ONLY = ("position", "tiles", "geometry")
TARGET_SECTIONS = tuple(key for key in keys_of(TargetConfig) if key not in TARGET_ONLY)
CONFIG_SECTIONS = tuple(keys_of(Config))
# A way to give energy bins replaces the other ways.
_WAYS = {"edges": ("min", "max", "bins", "bins_per_decade"), "min": ("edges",), "max": ("edges",)}
_WAYS |= {"bins": ("bins_per_decade", "edges"), "bins_per_decade": ("bins", "edges")}
ITS_OWN = "expected below targets.<name>: each target has its own"


def load_config(path: Path | str | Sequence[Path | str], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check the configuration of a file, or of several, of which the later override the earlier ones.

    `overrides` override sections of the files, key by key, as on the command line. ConfigError has a line for each
    mistake, at most ten and a word on the rest.
    """
    root = Node({}, OVERRIDES)
    for each in [path] if isinstance(path, (str, Path)) else path:
        root = merge(root, read_yaml(each))
    return _check(replace(merge(root, make_node(overrides or {}, OVERRIDES)), source=root.source))


def load_from_command_line(paths: Sequence[Path | str], overrides: Mapping[str, Any]) -> Config:
    """Read and check a configuration with overrides from Snakemake, which leaves what is in lists and mappings text.

    Such text is read as in a file: ``5`` is a number, ``null`` nothing. Where that does not fit it is tried as it is,
    as a folder may be called 2024. Raises as `load_config` does.
    """
    try:
        return load_config(paths, make_node(overrides, OVERRIDES, scalar=parse_scalar).plain())
    except ConfigError:
        with suppress(ConfigError):
            return load_config(paths, overrides)
        raise


def parse_config(text: str, source: str = "configuration") -> Config:
    """Check a configuration given as text, which `source` names in messages; raises as `load_config` does."""
    return _check(parse_yaml(text.encode(), source))


def merge(base: Node, override: Node) -> Node:
    """Sections of `base`, changed key by key by those of `override`.

    Two cases replace instead of merging: a new ``method`` or ``type`` replaces the section that had another, and a
    way to give energy bins replaces the other ways. A label of ``backgrounds``, or a type of events, set to null is
    taken out.
    """
    if not (isinstance(base.value, dict) and isinstance(override.value, dict)):
        return override
    given, section = override.value, override.path[2:] if override.path[:1] == ("targets",) else override.path
    if any(tag in given and given[tag].value != base.child(tag).value for tag in ("method", "type")):
        return override
    kept = dict(base.value)
    if section in (("energy",), ("energy_true",)):
        for excluded in {other for key in given for other in _WAYS.get(key, ())}:
            kept.pop(excluded, None)
    merged = kept | {key: merge(kept[key], node) if key in kept else node for key, node in given.items()}
    if section in (("backgrounds",), ("event_types",)):
        merged = {label: node for label, node in merged.items() if node.value is not None}
    return replace(override, value=merged)


def _by_event_type(targets: Mapping[str, Node], mistakes: list[str]) -> dict[str, Node]:
    """Targets, where in the place of one with types of events there is a target of each type."""
    found: dict[str, Node] = {}
    for name, target in targets.items():
        types = target.child("event_types")
        if not isinstance(types.value, dict) or not types.value:
            found[name] = target
            continue
        for kind, about in types.value.items():
            if (own := f"{name}-{kind}") in (*targets, *found):
                mistakes.append(about.says(f"expected another name, as there is a target {own!r}"))
            found[own] = replace(target, value={**target.value, "event_types": replace(types, value={kind: about})})
    return found


def _check(root: Node) -> Config:
    """Give every target the common sections, with its own merged in, and build the sections."""
    known, targets = (*CONFIG_SECTIONS, *TARGET_SECTIONS), root.child("targets")
    unknown = (key for key in root.value if key not in known)
    mistakes = [root.child(key).says(ITS_OWN if key in TARGET_ONLY else unknown_key(key, known)) for key in unknown]
    if not isinstance(targets.value, dict) or not targets.value:
        got = "nothing" if targets.value is ABSENT else f"{targets.plain()!r:.60}"
        mistakes.append(targets.says(f"expected at least one target by name, got {got}"))
    if not mistakes:
        # What every target needs and is not common is missed there, once, and not in each target.
        common = {
            key: root.child(key)
            for key, about in keys_of(TargetConfig).items()
            if key in TARGET_SECTIONS and (key in root.value or about.default is ABSENT)
        }
        completed = {name: merge(replace(targets, value=common), target) for name, target in targets.value.items()}
        completed = _by_event_type(completed, mistakes)
        content = {key: node for key, node in root.value.items() if key in CONFIG_SECTIONS}
        root = replace(root, value=content | {"targets": replace(targets, value=completed)})
        config = Builder(mistakes).value(Config, Setting(), root)
    if not mistakes:
        return replace(config, written=root)
    mistakes = list(dict.fromkeys(mistakes))
    more = [f"{root.source}: and {len(mistakes) - MAX_MESSAGES} more"] if len(mistakes) > MAX_MESSAGES else []
    raise ConfigError("\n".join(mistakes[:MAX_MESSAGES] + more))
