# Pictures, DS9 regions and the page, in one job at the end. The page holds the key of what it was
# made from; the plan compares it, and says whether the report must be made again.


rule report:
    input:
        manifest=unless_current(REPORT),
        cubes=[product(target, f"{label}/cube.h5") for target, label in PLAN.finals_apart()],
        tables=[product(target, "runs.ecsv") for target in PLAN.tables_apart()],
        marks=[mark for mark, makes_products in PLAN.marks().items() if makes_products],
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
        mem_mb=lambda wildcards, attempt: PLAN.report_memory_mb(attempt),
        runtime=lambda wildcards, attempt: (10 + len(PLAN.finals()) // 4) * attempt,
    params:
        results=lambda wildcards: RESULTS,
    message:
        "report"
    shell:
        "cubeflow report {params.results:q} --manifest {input.manifest:q} > {log:q} 2>&1"
