# Counts and exposures of OFF runs, and the acceptance models that are fitted to them.

for _job in [*PLAN.jobs("off"), *PLAN.jobs("model")]:

    rule:
        name:
            _job.name
        input:
            PLAN.below(_job.inputs),
            dl3=ancient(local(PLAN.sources(_job))),
        output:
            PLAN.below(_job.outputs),
        log:
            local(f"{RESULTS}/logs/{_job.name}.log"),
        benchmark:
            local(f"{RESULTS}/benchmarks/{_job.name}.tsv")
        conda:
            PLAN.environment
        resources:
            mem_mb=PLAN.memory_mb(_job),
            runtime=PLAN.minutes(_job),
        params:
            plan=PLAN.file,
            results=lambda wildcards: PLAN.folder,
            verb=_job.kind,
            job=_job.name,
        message:
            _job.message
        shell:
            "cubeflow {params.verb} {params.plan:q} {params.job:q} --results {params.results:q} > {log:q} 2>&1"
