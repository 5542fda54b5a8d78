import os
import sys

from cubeflow.errors import FailedError, MistakeError
from cubeflow.steps.entry import PLAN_VARIABLE, load_plan, plan_workflow
from cubeflow.steps.finish import finish
from cubeflow.steps.session import Session
from cubeflow.steps.report_plan import IMAGES, plan_report

CONFIG_FILES = list(workflow.config_settings.configfiles) or ["config/config.yaml"]


def say(line):
    """Print one line beside Snakemake's own; standard output belongs to --dag and --report."""
    print(line, file=sys.stderr)


try:
    if workflow.is_main_process:
        PLAN = plan_workflow(CONFIG_FILES, dict(workflow.config_settings.config), say)
        os.environ[PLAN_VARIABLE] = os.path.abspath(PLAN.path)
    else:
        PLAN = load_plan(CONFIG_FILES, dict(workflow.config_settings.config))
except MistakeError as error:
    say(error)
    sys.exit(2)
except (FailedError, OSError) as error:  # a results folder that cannot be written, a disk that is full
    say(f"cubeflow: {error}")
    sys.exit(1)

RESULTS = PLAN.results
SESSION = Session(PLAN, say)


wildcard_constraints:
    target="[A-Za-z0-9_.+-]+",
    label="[A-Za-z0-9_.+-]+",
    batch="[0-9a-f]{16}",
    node="[0-9a-f]{16}",
    group="[0-9a-f]{16}",
    leaf="[0-9a-f]{16}-[0-9a-f]{8}",


def final_products():
    """Every file that a run leaves behind, without the report; of the stacks those that are not there, and a mark
    in place of the files of targets that share a job."""
    products = [
        f"{RESULTS}/{target}/{label}/{name}"
        for target, label in PLAN.finals_apart()
        for name in ("cube.h5", "dataset.fits.gz", "datasets.yaml", "significance.fits.gz")
    ]
    tables = [f"{RESULTS}/{target}/runs.ecsv" for target in PLAN.tables_apart()]
    return products + tables + PLAN.missing_stacks() + PLAN.restored() + list(PLAN.marks())


def begin():
    """Lock the results folder; the plan has been made, and no job has been started."""
    try:
        SESSION.begin(is_quiet=bool(workflow.output_settings.quiet))
    except FailedError as error:
        say(error)
        sys.exit(1)


def end(is_done):
    """Say what was made; a run that was refused shows in the exit status."""
    SESSION.end()
    status = finish(PLAN, say) if is_done else 0
    if status:
        sys.exit(status)


def unless_current(manifest):
    """A manifest as input: what it leads to is made again if the plan says so, and never because of a time."""
    path, is_outdated = manifest
    return path if is_outdated else ancient(path)


def product(target, path):
    """A final product as input. One that exists and is made again must not be ancient: Snakemake (9.27)
    forgets why a job must run if all that comes before it is ancient, exists, and is made again."""
    path = f"{RESULTS}/{target}/{path}"
    return path if PLAN.is_at_work(target) else ancient(path)


def node_children(wildcards):
    """Files that an inner node of the tree is stacked from."""
    children = PLAN.children(wildcards.target, wildcards.label, wildcards.node)
    folder = f"{RESULTS}/{wildcards.target}/stack/{wildcards.label}"
    return [f"{folder}/{child}.h5" for child in children]


REPORT = plan_report(PLAN, workflow.is_main_process)
PICTURES = {image: [f"{RESULTS}/{target}/{label}/{image}.png" for target, label in PLAN.finals()] for image in IMAGES}
REGIONS = [f"{RESULTS}/{target}/{name}.reg" for target in PLAN.targets for name in ("exclusion", "pointings")]


def report_products():
    """Every file of the report."""
    pictures = [picture for image in IMAGES for picture in PICTURES[image]]
    return [f"{RESULTS}/report.html", *pictures, *REGIONS]


def marked(image):
    """Pictures of one kind as Snakemake's own report shows them."""
    about = {"caption": f"../report/{image}.rst"}
    pairs = zip(PICTURES[image], PLAN.finals())
    return [marked_one(picture, *pair, image, about) for picture, pair in pairs]


def marked_one(picture, target, label, image, about):
    """One picture with its place in Snakemake's own report."""
    labels = {"background": label, "map": image}
    return report(picture, category=target, subcategory=label, labels=labels, **about)
