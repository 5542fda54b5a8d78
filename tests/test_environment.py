"""environment.yml says what pyproject.toml says."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"python-isal": "isal"}  # where conda-forge calls a package by another name
ENVIRONMENT = YAML(typ="safe").load(REPOSITORY / "environment.yml")


def required(lines: list[str]) -> dict[str, SpecifierSet]:
    requirements = [Requirement(line) for line in lines]
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    names = (canonicalize_name(requirement.name) for requirement in requirements)
    return {CONDA_NAMES.get(name, name): each.specifier for name, each in zip(names, requirements, strict=True)}


def test_same_packages_and_versions() -> None:
    extras = {line for lines in PROJECT["optional-dependencies"].values() for line in lines}
    conda = required(ENVIRONMENT["dependencies"])
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet()
    assert conda == required([*PROJECT["dependencies"], *extras])


def test_snakemake_is_found_in_the_channels() -> None:
    assert ENVIRONMENT["channels"] == ["conda-forge", "bioconda"]


def test_a_difference_is_seen() -> None:
    assert required(["numpy>=2.1"]) != required(["numpy>=2.2"])
    with pytest.raises(AssertionError):
        required(["numpy", "numpy>=1"])


def test_gammapy_is_needed_for_tests_only() -> None:
    assert "gammapy" not in required(PROJECT["dependencies"])
