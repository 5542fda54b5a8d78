"""Command line: one verb for each step of the workflow and for what people ask.

Each module of this package holds a few verbs. Heavy modules are imported inside the verbs, so that
``cubeflow --help`` answers at once.
Exit status: 0 done, 1 failed (for ``diff``: different), 2 configuration or usage, 3 done but some runs were refused.
"""

from __future__ import annotations

from cubeflow.cli import check, look, plan, run, start, workflow
from cubeflow.cli.group import main

__all__ = ["main"]

main.add_section("First", start.init, check.check, plan.plan, run.run, plan.clean, start.schema)
main.add_section("Look at results", look.inspect, look.diff)
main.add_section(
    "Steps of the workflow, as its rules call them",
    workflow.reduce,
    workflow.background,
    workflow.stack,
    workflow.export,
    workflow.table,
    workflow.together,
    workflow.report,
    workflow.simulate,
)
