"""What the workflow starts with."""

import subprocess
import sys


def test_a_plan_imports_what_it_needs_alone():
    """Each start of Snakemake pays for it, and on a cluster each job: no reading of runs, no simulation, no HDF5."""
    code = "import sys, cubeflow.steps.entry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"astropy", "h5py", "scipy", "matplotlib", "jinja2", "cubeflow.dl3.simulate", "cubeflow.dl3.reader"}
    assert not heavy & set(done.stdout.split())


def test_small_targets_are_made_without_the_configuration():
    code = "import sys, cubeflow.steps.together; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "yaml", "astropy", "matplotlib", "cubeflow.config"} & set(done.stdout.split())
