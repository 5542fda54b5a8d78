# Pictures, DS9 regions and the page, in one job at the end. The page holds the key of what it was
# made from; the plan compares it, and says whether the report must be made again.

from cubeflow.steps.report_plan import IMAGES, plan_report

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


rule report:
    input:
        manifest=unless_current(REPORT),
        cubes=[product(target, f"{label}/cube.h5") for target, label in PLAN.finals()],
        tables=[product(target, "runs.ecsv") for target in PLAN.tables],
    output:
        page=f"{RESULTS}/report.html",
        regions=REGIONS,
        significance=marked("significance"),
        excess=marked("excess"),
        counts=marked("counts"),
        background=marked("background"),
        exposure=marked("exposure"),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: max(PLAN.memory_mb(target, "report", attempt) for target in PLAN.targets),
        runtime=lambda wildcards, attempt: (10 + len(PLAN.finals()) // 4) * attempt,
    params:
        results=RESULTS,
    message:
        "report"
    shell:
        "cubeflow report {params.results:q} --manifest {input.manifest:q} > {log:q} 2>&1"
