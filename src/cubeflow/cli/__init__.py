"""Command line: one verb for each step of the workflow and for what people ask.

Each module of this package holds a few verbs. Heavy modules are imported inside the verbs, so that
``cubeflow --help`` answers at once.
Exit status: 0 done, 1 failed (for ``diff``: different), 2 configuration or usage, 3 runs were refused (``check``, and
where ``on_refused`` is ``fail``).
"""

from cubeflow.cli import look, plan, workflow
from cubeflow.cli.group import main

__all__ = ["main"]

main.add_section(
    "First", plan.init, look.check, plan.plan, plan.run, plan.exclude, plan.index, plan.clean, plan.verify, plan.schema
)
main.add_section("Look at results", look.inspect, look.diff, look.crate)
main.add_section("Workflow", workflow.workflow, workflow.simulate)
main.add_section("Steps of the workflow, as its rules call them", *workflow.JOBS)
