# Pictures and regions of each label, then the page that shows them all.

for _job in PLAN.jobs("figures"):

    rule:
        name:
            _job.name
        input:
            PLAN.below(_job.inputs),
        output:
            [PLAN.shown(report, file) for file in _job.outputs],
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
            "cubeflow figures {params.plan:q} {params.job:q} --results {params.results:q} > {log:q} 2>&1"


for _job in PLAN.jobs("report"):

    rule:
        name:
            "report"
        input:
            PLAN.below(_job.inputs),
        output:
            [PLAN.shown(report, file) for file in _job.outputs],
        log:
            local(f"{RESULTS}/logs/report.log"),
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
            "cubeflow report {params.plan:q} {params.job:q} --results {params.results:q} > {log:q} 2>&1"
