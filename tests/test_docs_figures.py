"""Pages that are made from recorded figures are what their text and figures give."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["validation", "scale", "coverage"])
def test_page_is_made_from_its_figures(name, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    for module in ("page", "usage", "ways", "cases", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    module = import_module(name)
    made = module.render(json.loads(module.FIGURES.read_text()))
    assert module.PAGE.read_text() == made, f"docs/{name}.md is not what benchmarks/{name}.py makes"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_benchmarks_use_is_there(path):
    """They run by hand, and seldom: a name that has moved would be found too late."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if (node.module or "").startswith("cubeflow"):
            missing = [each.name for each in node.names if not hasattr(import_module(node.module), each.name)]
            assert missing == [], node.module


def test_figures_of_the_validation_come_from_tests_that_exist():
    found = json.loads((REPOSITORY / "benchmarks" / "validation.json").read_text())
    for name, figure in found.items():
        path, _, test = figure["test"].partition("::")
        assert f"def {test}(" in (REPOSITORY / path).read_text(), name


@pytest.mark.parametrize(("processes", "status"), [([], 0), (["-n", "2"], 4)])
def test_figures_are_recorded_in_one_process(tmp_path, processes, status):
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *processes, "tests/test_floors.py"]
    environment = {**os.environ, "VALIDATION_RECORD": str(tmp_path / "figures.json"), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == status
    assert ("figures are recorded in one process" in done.stderr) == bool(processes)
