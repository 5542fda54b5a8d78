"""environment.yml says what pyproject.toml says."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((REPOSITORY / "environment.yml").read_text())


def required(lines: list[str]) -> dict[str, SpecifierSet]:
    requirements = [Requirement(line) for line in lines]
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


def test_same_packages_and_versions() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    conda = required([line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)])
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet()
    assert conda == required([*PROJECT["dependencies"], *extras])


def test_the_package_itself_is_installed_from_here() -> None:
    assert ENVIRONMENT["dependencies"][-1] == {"pip": ["--editable ."]}
    assert ENVIRONMENT["channels"] == ["conda-forge", "bioconda"]


def test_a_difference_is_seen() -> None:
    assert required(["numpy>=2.1"]) != required(["numpy>=2.2"])
    with pytest.raises(AssertionError):
        required(["numpy", "numpy>=1"])


def test_gammapy_is_needed_for_tests_only() -> None:
    assert "gammapy" not in required(PROJECT["dependencies"])
