"""What the rule ``report`` is made from, and whether the page that is there is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cubeflow.plan import versions
from cubeflow.plan.write import write_manifest
from cubeflow.report.page import read_key
from cubeflow.steps.workflow_plan import WorkflowPlan
from cubeflow.storage.keys import make_key, short

IMAGES = ("significance", "excess", "counts", "background", "exposure")
REGIONS = ("exclusion.reg", "pointings.reg")


def plan_report(plan: WorkflowPlan, is_first: bool = True) -> tuple[str, bool]:
    """Write the manifest of the report.

    Parameters
    ----------
    plan : WorkflowPlan
        What is carried out.
    is_first : bool
        Write it; false in a job that reads the rules again while the workflow runs.

    Returns
    -------
    tuple of str and bool
        Its path, and whether the report must be made again although its files may be there.
    """
    results = Path(plan.results)
    content = report_content({name: plan.index[name] for name in plan.tables})
    path = results / ".cubeflow" / "reports" / f"{short(content['key'])}.json"
    page = results / "report.html"
    is_outdated = read_key(page) != content["key"]
    made = [results / name for name in report_files(content)] if is_outdated else None
    if is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, content, made)
    return str(path), is_outdated


def report_content(index: Mapping[str, Any]) -> dict[str, Any]:
    """Manifest of the report: the manifests of the final products and run tables, and a key."""
    targets = {name: {"finals": dict(part["finals"]), "table": part["table"]} for name, part in index.items()}
    return {"targets": targets, "key": make_key("report", versions.REPORT, {"targets": targets}, {})}


def report_files(content: Mapping[str, Any]) -> list[str]:
    """Every file of the report, relative to the results folder; the page is the first."""
    files = ["report.html"]
    for name, target in content["targets"].items():
        files += [f"{name}/{region}" for region in REGIONS if target["finals"]]
        files += [f"{name}/{label}/{image}.png" for label in target["finals"] for image in IMAGES]
    return files
