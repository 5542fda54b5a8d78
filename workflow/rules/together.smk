# Small targets share a job and a process, from their runs to their final products: starting one takes longer than
# all that a small target needs. Snakemake deletes the declared outputs of a job that fails, and one bad target must
# not cost the others their files: the job leaves a mark, which the next plan removes. The rules for a single file
# are there all the same.


rule together:
    input:
        plan=ancient(PLAN.frozen),
    output:
        touch(f"{RESULTS}/.cubeflow/together/{{group}}"),
    log:
        f"{RESULTS}/logs/together-{{group}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/together-{{group}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: PLAN.group_memory_mb(wildcards.group, attempt),
        runtime=lambda wildcards, attempt: PLAN.group_minutes(wildcards.group, attempt),
    params:
        options=PLAN.reduce_options,
        targets=lambda wildcards: PLAN.groups[wildcards.group].targets,
    message:
        "together: {params.targets}"
    shell:
        "cubeflow together {params.options} {input.plan:q} {params.targets:q} > {log:q} 2>&1"
