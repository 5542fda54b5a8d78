# The final products of a label, and the run table of a target. They hold the key of what they were
# made from; the plan compares it, and says whether they must be made again.


rule export:
    input:
        final=lambda wildcards: unless_current(PLAN.final(wildcards.target, wildcards.label)),
        root=ancient(lambda wildcards: PLAN.root(wildcards.target, wildcards.label)),
    output:
        cube=f"{RESULTS}/{{target}}/{{label}}/cube.h5",
        dataset=f"{RESULTS}/{{target}}/{{label}}/dataset.fits.gz",
        datasets=f"{RESULTS}/{{target}}/{{label}}/datasets.yaml",
        significance=f"{RESULTS}/{{target}}/{{label}}/significance.fits.gz",
    log:
        f"{RESULTS}/logs/{{target}}/export-{{label}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{target}}/export-{{label}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: PLAN.memory_mb(wildcards.target, "export", attempt),
        runtime=lambda wildcards, attempt: PLAN.minutes(wildcards.target, "export", attempt),
    message:
        "{wildcards.target}: final products of {wildcards.label}"
    shell:
        "cubeflow export {input.final:q} > {log:q} 2>&1"


rule table:
    input:
        table=lambda wildcards: unless_current(PLAN.table(wildcards.target)),
        leaves=ancient(lambda wildcards: PLAN.all_leaves(wildcards.target)),
    output:
        f"{RESULTS}/{{target}}/runs.ecsv",
    log:
        f"{RESULTS}/logs/{{target}}/table.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{target}}/table.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: PLAN.memory_mb(wildcards.target, "table", attempt),
        runtime=lambda wildcards, attempt: PLAN.minutes(wildcards.target, "table", attempt),
    message:
        "{wildcards.target}: run table"
    shell:
        "cubeflow table {input.table:q} > {log:q} 2>&1"
