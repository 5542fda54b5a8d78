# The final products of a label and the run table of a target, each with its certificate; those of several
# small targets share a process. Light curves and lists of datasets follow the products of intervals and runs.

for _job in PLAN.jobs("export") + PLAN.jobs("series"):

    rule:
        name:
            _job.name
        input:
            PLAN.below(_job.inputs),
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
            job=_job.name,
        message:
            _job.message
        shell:
            "cubeflow export {params.plan:q} {params.job:q} --results {params.results:q} > {log:q} 2>&1"
