"""The workflow where there is no repository: from the installed package, in an empty environment and folder."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[1]
LINK = REPOSITORY / "src" / "cubeflow" / "workflow"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "workflow")
KINDS = ("off", "model", "reduce", "stack", "export", "series")  # rules with a number, or a key


def run(folder: Path, *command: str, binaries: Path = Path(sys.executable).parent, **variables: str) -> str:
    """Output of a program that ends well; it finds the commands of one environment, and no source."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    given |= {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", **variables}
    done = subprocess.run(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.resolve().rglob("*") if path.is_file())
    return {path.relative_to(folder.resolve()).as_posix() for path in found if path.parent.name != "__pycache__"}


def test_the_package_holds_the_workflow_of_the_repository():
    assert LINK.is_symlink()
    assert LINK.resolve() == REPOSITORY / "workflow"


@pytest.mark.workflow
def test_the_small_run_of_the_catalogue_goes_through_every_rule_but_figures(tmp_path):
    for name in (".test", "workflow"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("results", ".snakemake"))
    source = str(REPOSITORY / "src")
    said = run(tmp_path, "snakemake", "--cores", "2", "--directory", ".test", PYTHONPATH=source)
    assert re.search(r"crab: 3 runs used; .* fov \d+\.\d sigma, ring \d+\.\d sigma", said)
    results = tmp_path / ".test" / "results"
    kinds = {re.split("[_-]", path.stem)[0] for path in (results / "logs").glob("*.log")}
    assert kinds == {*KINDS, "report"}
    assert "crab" in (results / "crab" / "report.html").read_text()
    assert (results / "crab" / "ring" / "lightcurve.ecsv").is_file()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Wheel of the sources as an archive holds them, without a clone's tags."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(
                path, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(path, folder)
    run(folder, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".")
    (made,) = (folder / "dist").glob("cubeflow-*.whl")
    return made


@pytest.fixture(scope="module")
def binaries(wheel, tmp_path_factory) -> Path:
    """Where the commands of an environment are that holds the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder, str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel))
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.workflow
def test_a_wheel_in_an_empty_environment_and_folder(binaries, tmp_path):
    run(tmp_path, "cubeflow", "simulate", "store", "--runs", "2", "--tiny", "--duration", "300", binaries=binaries)
    said = run(tmp_path, "cubeflow", "init", "store", "-t", "83.633 22.014", "-o", "mine.yaml", binaries=binaries)
    (command,) = re.findall("^then: (.*)", said, flags=re.MULTILINE)
    said = run(tmp_path, "bash", "-c", command, binaries=binaries)
    assert "mine: 2 runs used" in said
    assert (tmp_path / "results" / "mine" / "report.html").is_file()
    snakefile = Path(run(tmp_path, "cubeflow", "workflow", binaries=binaries).strip())
    assert binaries.parent in snakefile.parents
    assert files_below(snakefile.parent) == files_below(REPOSITORY / "workflow")

    config = {**YAML(typ="safe").load(tmp_path / "mine.yaml"), "results": "again"}
    (tmp_path / "Snakefile").write_text(
        f"module cubeflow:\n    snakefile: {str(snakefile)!r}\n    config: {config!r}\n\n"
        "use rule * from cubeflow as cubeflow_*\n\n"
        "rule mine:\n    default_target: True\n    input: rules.cubeflow_products.input\n"
    )
    run(tmp_path, "snakemake", "--cores", "2", binaries=binaries)
    made, again = (tmp_path / folder / "mine" / "fov" / "cube.h5" for folder in ("results", "again"))
    assert made.read_bytes() == again.read_bytes()
