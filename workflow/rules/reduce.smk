# One rule and one process for a batch of runs, or for the batches of several small targets. Its outputs
# are all artifacts of its observations, and the sums of its batches. What is there of a batch and what is
# missing are two rules, since Snakemake removes the outputs of a job before it starts.

for _job in PLAN.jobs("reduce"):

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
            job=_job.name,
        message:
            _job.message
        shell:
            "cubeflow reduce {params.plan:q} {params.job:q} --results {params.results:q} > {log:q} 2>&1"
