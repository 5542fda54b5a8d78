# Counts and exposures of OFF runs, and the acceptance models that are fitted to them.

for _job in [*PLAN.jobs("off"), *PLAN.jobs("model")]:

    rule:
        name:
            _job.name
        input:
            PLAN.below(_job.inputs),
            dl3=ancient(_job.sources),
        output:
            PLAN.below(_job.outputs),
        log:
            f"{RESULTS}/logs/{_job.name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{_job.name}.tsv"
        conda:
            PLAN.environment
        resources:
            mem_mb=PLAN.memory_mb(_job),
            runtime=PLAN.minutes(_job),
        params:
            plan=PLAN.file,
            verb=_job.kind,
            job=_job.name,
        message:
            _job.message
        shell:
            "cubeflow {params.verb} {params.plan:q} {params.job:q} > {log:q} 2>&1"
