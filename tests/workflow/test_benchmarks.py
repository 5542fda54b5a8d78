"""The benchmark of single products calls what a run goes through, as it is now."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_all_products_of_a_run_are_timed(project):
    """Whoever changes what a product asks for changes its benchmark, too."""
    project.put([100001])
    plan = project.plan()
    plan.write()
    command = [sys.executable, REPOSITORY / "benchmarks" / "stages.py", plan.path.absolute(), "2"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    products = {"geometry", "counts", "exposure", "exposure_reco", "background", "psf", "edisp", "mask_safe"}
    assert found.keys() == products | {"read", "norm", "maps", "stack", "write"}
    assert found["maps"] > max(found[name] for name in ("background", "psf", "edisp")) > 0
