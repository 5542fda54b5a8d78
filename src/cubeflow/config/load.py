"""From a file to a checked configuration; every mistake is one line with file, line and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cubeflow.config.layout import complete_targets, layout_mistakes
from cubeflow.config.merge import merge
from cubeflow.config.messages import Draft, explain
from cubeflow.config.model import Config, TargetConfig
from cubeflow.errors import MistakeError
from cubeflow.strict_yaml import Document, KeyPath, YamlError, dotted, parse_scalar, parse_yaml, read_yaml

OVERRIDES = "overrides"
MAX_MESSAGES = 10


class ConfigError(MistakeError):
    """A configuration is wrong; each line of the message is ``file:line:key: what was expected``."""


def load_config(path: Path | str | Sequence[Path | str], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path : path, or sequence of paths
        The file; of several, the later ones override the earlier ones.
    overrides : mapping, optional
        Sections that override those of the files, key by key, as on the command line.

    Returns
    -------
    Config
        Every target complete, with its overrides merged in.

    Raises
    ------
    ConfigError
        One line per mistake, at most ten and a word on the rest.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    try:
        documents = [read_yaml(each) for each in paths]
    except YamlError as error:
        raise ConfigError(str(error)) from error
    return _check(_draft(documents, overrides or {}))


def load_from_command_line(paths: Sequence[Path | str], overrides: Mapping[str, Any]) -> Config:
    """Read and check a configuration with overrides from Snakemake, which leaves what is in lists and mappings text.

    Such text is read as in a file: ``5`` is a number, ``null`` nothing. Where that does not fit it is tried as it is,
    as a folder may be called 2024.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    try:
        return load_config(paths, _read_scalars(overrides, ()))
    except ConfigError:
        with suppress(ConfigError):
            return load_config(paths, overrides)
        raise


def parse_config(text: str, source: str = "configuration") -> Config:
    """Check a configuration given as text; `source` names it in messages. Raises as `load_config` does."""
    try:
        document = parse_yaml(text.encode(), source)
    except YamlError as error:
        raise ConfigError(str(error)) from error
    return _check(_draft([document], {}))


def resolve_target(config: Config, name: str) -> TargetConfig:
    """Sections of one target, complete; ConfigError for a name that the configuration does not have."""
    if name not in config.targets:
        raise ConfigError(f"targets: expected one of {', '.join(config.targets)}, got {name!r}")
    return config.targets[name]


def _check(draft: Draft) -> Config:
    messages = [draft.line(path, message) for path, message in layout_mistakes(draft.content)]
    if not messages:
        try:
            return Config.model_validate(complete_targets(draft.content))
        except ValidationError as error:
            messages = [explain(draft, details) for details in error.errors(include_url=False)]
    messages = list(dict.fromkeys(messages))
    more = [f"{draft.source}: and {len(messages) - MAX_MESSAGES} more"] if len(messages) > MAX_MESSAGES else []
    raise ConfigError("\n".join(messages[:MAX_MESSAGES] + more))


def _draft(documents: Sequence[Document], overrides: Mapping[str, Any]) -> Draft:
    """Merge the files and the overrides, in this order."""
    content: dict[str, Any] = {}
    origin: dict[KeyPath, tuple[str, int | None]] = {}
    for document in documents:
        content = merge(content, document.content)
        origin |= {path: (document.source, line) for path, line in document.lines.items()}
    origin |= dict.fromkeys(_key_paths(overrides, ()), (OVERRIDES, None))
    return Draft(merge(content, overrides), origin, documents[-1].source if documents else OVERRIDES)


def _key_paths(values: Any, path: KeyPath) -> list[KeyPath]:
    """Path of every key and item of nested mappings and lists."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    return [found for key, value in items for found in [(*path, key), *_key_paths(value, (*path, key))]]


def _read_scalars(values: Any, path: KeyPath) -> Any:
    """Nested mappings and lists with the values that their strings have in a file."""
    if isinstance(values, Mapping):
        return {key: _read_scalars(value, (*path, key)) for key, value in values.items()}
    if isinstance(values, list):
        return [_read_scalars(value, (*path, index)) for index, value in enumerate(values)]
    try:
        return parse_scalar(values) if isinstance(values, str) else values
    except ValueError as error:
        raise ConfigError(f"{OVERRIDES}:{dotted(path)}: {error}") from error
