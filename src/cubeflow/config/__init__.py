"""The configuration: pydantic models, one section per step, and how a file becomes one (floor 4)."""

from cubeflow.config.load import ConfigError, load_config, load_from_command_line, parse_config, resolve_target
from cubeflow.config.model import Config, TargetConfig
from cubeflow.config.schema import json_schema

__all__ = [
    "Config",
    "ConfigError",
    "TargetConfig",
    "json_schema",
    "load_config",
    "load_from_command_line",
    "parse_config",
    "resolve_target",
]
