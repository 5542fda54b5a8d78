import sys

from cubeflow.errors import MistakeError
from cubeflow.steps.entry import load_plan, plan_workflow
from cubeflow.steps.finish import finish

CONFIG_FILES = list(workflow.config_settings.configfiles) or ["config/config.yaml"]

try:
    if workflow.is_main_process:
        PLAN = plan_workflow(CONFIG_FILES, dict(workflow.config_settings.config))
    else:
        PLAN = load_plan(CONFIG_FILES, dict(workflow.config_settings.config))
except MistakeError as error:
    print(error, file=sys.stderr)
    sys.exit(2)

RESULTS = PLAN.results


wildcard_constraints:
    target="[A-Za-z0-9_.+-]+",
    label="[A-Za-z0-9_.+-]+",
    batch="[0-9a-f]{16}",
    node="[0-9a-f]{16}",
    leaf="[0-9a-f]{16}-[0-9a-f]{8}",


def final_products():
    """Every file that a complete run leaves behind."""
    products = [
        f"{RESULTS}/{target}/{label}/{name}"
        for target, label in PLAN.finals()
        for name in ("cube.h5", "dataset.fits.gz", "significance.fits.gz")
    ]
    return products + [f"{RESULTS}/{target}/runs.ecsv" for target in PLAN.targets]


def report_end():
    """Say what was made; a run that was refused shows in the exit status."""
    status = finish(PLAN)
    if status:
        sys.exit(status)


def node_children(wildcards):
    """Files that an inner node of the tree is stacked from."""
    children = PLAN.children(wildcards.target, wildcards.label, wildcards.node)
    folder = f"{RESULTS}/{wildcards.target}/stack/{wildcards.label}"
    return [f"{folder}/{child}.h5" for child in children]
