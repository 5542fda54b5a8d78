"""What the tests of plans share: a small configuration, and all jobs of a plan in this process."""

from pathlib import Path
from typing import Any

from cubeflow.plan.make import Plan
from cubeflow.plan.run import run_plan
from cubeflow.report.page import do_job


def small_config(folder: Path | str, **more: Any) -> dict[str, Any]:
    """Configuration of one target and few bins; store and results lie in a folder."""
    geometry = {"width": "3 deg", "pixel": "0.1 deg"}
    return {
        "data": {"store": f"{folder}/store"},
        "results": f"{folder}/results",
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
        "targets": {"t": {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": geometry}},
        **more,
    }


def do_all(plan: Plan) -> None:
    """Make what is missing of a plan, with pictures and page."""
    run_plan(plan, print)
    plan.write()
    for job in plan.jobs:
        if job.kind in ("figures", "report") and not job.is_made:
            do_job(plan.path, job.name, print, plan.results)
