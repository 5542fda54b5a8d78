"""A newcomer's path on real data: draft a configuration, check, plan, run; nothing is edited by hand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import cubeflow
from cubeflow.cli import main

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.workflow,
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # of gammapy's
]
REPOSITORY = Path(__file__).resolve().parents[2]


def run(command: list[str], folder: Path) -> str:
    """Output of a program; it must end with status 0."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_from_a_store_to_a_source(hess_store, tmp_path):
    for name in ("workflow", "environment.yml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    said = run(["cubeflow", "init", str(hess_store), "--target", "PKS 2155-304"], tmp_path)
    follow = re.findall(r"(?:Next|then): (.+)", said)
    assert [line.split()[0] for line in follow] == ["cubeflow", "snakemake"]
    if "check" in main.commands:
        said = run(["cubeflow", "check", str(hess_store), "-i", "33787"], tmp_path)
        assert "hess-dr1-background-mirrored" in said
    said = run(follow[0].split(), tmp_path)
    assert "pks-2155-304: 21 runs in" in said
    said = run(follow[1].split(), tmp_path)
    assert "pks-2155-304: 21 runs used" in said
    results = tmp_path / "results" / "pks-2155-304"
    for label in ("fov", "ring"):
        source = cubeflow.load(results / label / "cube.h5").attributes["source"]
        assert source["significance"] > 100  # the flare of July 2006
        assert re.search(rf"; at the target .*{label} {source['significance']:.1f} sigma", said)
    (lines,) = re.findall("^from gammapy.*", said, flags=re.MULTILINE)
    loaded = load_as_printed(lines, tmp_path)
    assert loaded.counts.data.sum() == cubeflow.load(results / "fov" / "cube.h5").maps["counts"].data.sum()
    found = CliRunner().invoke(main, ["diff", str(results / "fov"), str(results / "fov")])
    assert found.exit_code == 0


def load_as_printed(lines: str, folder: Path) -> object:
    """Object that the printed lines of Python load, in the working directory of the workflow."""
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec("\n".join(line.strip() for line in lines.splitlines()), names)
    finally:
        os.chdir(before)
    return names["dataset"]
