"""The configuration: sections that are the options of each product, and how files become them (floor 3)."""

from cubeflow.config.load import load_config, parse_config
from cubeflow.config.read import ConfigError
from cubeflow.config.schema import json_schema
from cubeflow.config.sections import Config, TargetConfig

__all__ = ["Config", "ConfigError", "TargetConfig", "json_schema", "load_config", "parse_config"]
