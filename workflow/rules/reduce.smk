# One job per batch of runs and one process: every run's reduced.h5 and background-<label>.h5 are
# written by the step under their own keys, and the batch's leaf stacks are what Snakemake sees.
# A leaf is named by its content, so that one that exists is never stale. Batches with nothing to do
# have no job: their leaves are plain files.

for _target in PLAN.targets:

    if PLAN.leaf_patterns(_target):

        rule:
            name:
                f"reduce_{_target}"
            input:
                manifest=lambda wildcards, target=_target: unless_current(
                    PLAN.manifest(target, wildcards.batch)
                ),
            output:
                leaves=PLAN.leaf_patterns(_target),
            wildcard_constraints:
                batch=PLAN.batch_pattern(_target),
            log:
                f"{RESULTS}/logs/{_target}/reduce-{{batch}}.log",
            conda:
                "../../environment.yml"
            resources:
                mem_mb=PLAN.memory_mb(_target, "reduce"),
                runtime=PLAN.minutes(_target, "reduce"),
            params:
                options=PLAN.reduce_options,
            message:
                f"{_target}: reduce batch {{wildcards.batch}}"
            shell:
                "cubeflow reduce {params.options} {input.manifest:q} > {log:q} 2>&1"
