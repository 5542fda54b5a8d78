# One job per batch of runs and one process: every run's reduced.h5 and background-<label>.h5 are
# written by the step under their own keys, and the batch's leaf stacks are what Snakemake sees.
# A leaf is named by its content, so that one that exists is never stale: it is a plain file.

for _rule in PLAN.reduce_rules():

    rule:
        name:
            f"reduce_{_rule.target}_{_rule.number}"
        input:
            manifest=ancient(_rule.manifest),
        output:
            leaves=_rule.leaves,
        log:
            f"{RESULTS}/logs/{_rule.target}/reduce-{{batch}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{_rule.target}/reduce-{{batch}}.tsv"
        wildcard_constraints:
            batch=_rule.batches,
        conda:
            "../../environment.yml"
        resources:
            mem_mb=lambda wildcards, attempt, target=_rule.target: PLAN.memory_mb(target, "reduce", attempt),
            runtime=lambda wildcards, attempt, target=_rule.target: PLAN.minutes(target, "reduce", attempt),
        params:
            options=PLAN.reduce_options,
        message:
            f"{_rule.target}: reduce batch {{wildcards.batch}}"
        shell:
            "cubeflow reduce {params.options} {input.manifest:q} > {log:q} 2>&1"


# Artifacts of runs that were deleted while the stacks made from them are there.
rule restore:
    input:
        manifest=ancient(lambda wildcards: PLAN.manifest(wildcards.target, wildcards.batch)),
    output:
        touch(f"{RESULTS}/.cubeflow/restored/{{target}}/{{batch}}"),
    log:
        f"{RESULTS}/logs/{{target}}/restore-{{batch}}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: PLAN.memory_mb(wildcards.target, "reduce", attempt),
        runtime=lambda wildcards, attempt: PLAN.minutes(wildcards.target, "reduce", attempt),
    params:
        options=PLAN.reduce_options,
        labels=lambda wildcards: PLAN.label_options(wildcards.target),
    message:
        "{wildcards.target}: restore the artifacts of batch {wildcards.batch}"
    shell:
        "cubeflow background {params.options} {params.labels} {input.manifest:q} > {log:q} 2>&1"
