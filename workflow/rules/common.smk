import os
import sys

from cubeflow.errors import FailedError, MistakeError
from cubeflow.plan.workflow import plan_workflow


def say(line):
    """Print one line beside Snakemake's own; standard output belongs to --dag and --report."""
    print(line, file=sys.stderr)


try:
    PLAN = plan_workflow(workflow, config, say)
except MistakeError as error:
    say(error)
    sys.exit(2)
except (FailedError, OSError) as error:  # a results folder that cannot be read, a disk that is full
    say(f"cubeflow: {error}")
    sys.exit(1)

RESULTS = PLAN.results


wildcard_constraints:
    target="[A-Za-z0-9_.+-]+",
    label="[A-Za-z0-9_.+-]+",
