"""What the workflow starts with."""

import subprocess
import sys

import pytest

HEAVY = {"astropy", "h5py", "scipy", "matplotlib", "jinja2", "regions", "yaml"}


@pytest.mark.parametrize(
    ("module", "light"),
    [
        ("cubeflow.plan.workflow", HEAVY | {"cubeflow.simulate"}),
        ("cubeflow.plan.run", HEAVY),
        ("cubeflow.report.page", HEAVY),
    ],
)
def test_what_starts_often_imports_what_it_needs_alone(module, light):
    """Each start of Snakemake pays for a plan, and on a cluster each job; each job pays for what it does."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not light & set(done.stdout.split())
