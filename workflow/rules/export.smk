# The final products of a label, and the run table of a target. Their small manifests are written
# by the plan only when their content changes: they, not times, say when to run again.


rule export:
    input:
        final=f"{RESULTS}/{{target}}/plan/{{label}}.final.json",
        root=ancient(
            lambda wildcards: f"{RESULTS}/{wildcards.target}/stack/{wildcards.label}/"
            f"{PLAN.root(wildcards.target, wildcards.label)}.h5"
        ),
    output:
        cube=f"{RESULTS}/{{target}}/{{label}}/cube.h5",
        dataset=f"{RESULTS}/{{target}}/{{label}}/dataset.fits.gz",
        significance=f"{RESULTS}/{{target}}/{{label}}/significance.fits.gz",
    log:
        f"{RESULTS}/logs/{{target}}/export-{{label}}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards: PLAN.memory_mb(wildcards.target, "export"),
        runtime=lambda wildcards: PLAN.minutes(wildcards.target, "export"),
    message:
        "{wildcards.target}: final products of {wildcards.label}"
    shell:
        "cubeflow export {input.final:q} > {log:q} 2>&1"


rule table:
    input:
        table=f"{RESULTS}/{{target}}/plan/table.json",
        leaves=ancient(lambda wildcards: PLAN.all_leaves(wildcards.target)),
    output:
        f"{RESULTS}/{{target}}/runs.ecsv",
    log:
        f"{RESULTS}/logs/{{target}}/table.log",
    conda:
        "../../environment.yml"
    message:
        "{wildcards.target}: run table"
    shell:
        "cubeflow table {input.table:q} > {log:q} 2>&1"
