"""environment.yml, citation, catalogue and schema say what pyproject.toml and the package say."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from cubeflow.config import json_schema

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
    """But for engines that one in a hundred has: their plugins speak at every start of Snakemake."""
    extras = PROJECT["optional-dependencies"]
    extras = {line for name in extras.keys() - {"htcondor", "kubernetes"} for line in extras[name]}
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


def read_yaml(name: str) -> dict:
    return YAML(typ="safe").load(REPOSITORY / name)


def test_citation_and_codemeta_are_those_of_the_project() -> None:
    """Versions are in neither of them: tags have them."""
    citation, codemeta = read_yaml("CITATION.cff"), json.loads((REPOSITORY / "codemeta.json").read_text())
    assert citation["title"] == codemeta["name"] == PROJECT["name"]
    assert citation["authors"] == PROJECT["authors"]
    assert [each["name"] for each in codemeta["author"]] == [each["name"] for each in PROJECT["authors"]]
    assert citation["license"] == codemeta["license"].rpartition("/")[2] == PROJECT["license"]
    assert citation["keywords"] == codemeta["keywords"] == PROJECT["keywords"]
    assert codemeta["description"] == PROJECT["description"]
    assert citation["abstract"].startswith(PROJECT["description"])
    assert codemeta["runtimePlatform"] == f"Python {PROJECT['requires-python']}"
    assert PROJECT["dynamic"] == ["version"]
    assert not {"version", "softwareVersion"} & {*PROJECT, *citation, *codemeta}


def test_the_catalogue_finds_what_it_looks_for() -> None:
    """Where its documentation says: https://snakemake.github.io/snakemake-workflow-catalog."""
    usage = read_yaml(".snakemake-workflow-catalog.yml")["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": True, "apptainer+conda": True}
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", (REPOSITORY / "README.md").read_text().lower()))
    for name in ("workflow/Snakefile", "workflow/documentation.md", "config/README.md", ".test/config/config.yaml"):
        assert (REPOSITORY / name).is_file(), name
    assert {path.suffix for path in (REPOSITORY / "workflow" / "rules").iterdir()} == {".smk"}


def test_snakemake_must_be_as_new_as_the_package_says() -> None:
    (least,) = re.findall(r'^min_version\("([\d.]+)"\)$', (REPOSITORY / "workflow/Snakefile").read_text(), re.MULTILINE)
    assert required(PROJECT["dependencies"])["snakemake"] == SpecifierSet(f">={least}")


def test_the_schema_beside_the_rules_is_that_of_the_configuration() -> None:
    path = REPOSITORY / "workflow" / "schemas" / "config.schema.yaml"
    assert json.loads(path.read_text()) == json_schema(), "cubeflow schema > workflow/schemas/config.schema.yaml"


def test_hosted_tests_run_every_version_of_python_that_is_named() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    jobs = read_yaml(".github/workflows/tests.yml")["jobs"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == named
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={named[0]}")
    assert [step["with"]["python-version"] for step in jobs["lowest"]["steps"] if "python" in step.get("uses", "")] == [
        named[0]
    ]
