# A stack of stacks is a stack; the name of a node is its key, and its children come from the plan.

if PLAN.nodes:

    rule stack:
        input:
            lambda wildcards: PLAN.below(PLAN.node(wildcards).inputs),
        output:
            f"{RESULTS}/{{target}}/stack/{{label}}/{{node}}.h5",
        log:
            local(f"{RESULTS}/logs/stack-{{target}}-{{label}}-{{node}}.log"),
        benchmark:
            local(f"{RESULTS}/benchmarks/stack-{{target}}-{{label}}-{{node}}.tsv")
        wildcard_constraints:
            node=PLAN.node_pattern,
        conda:
            PLAN.environment
        resources:
            mem_mb=lambda wildcards, attempt: PLAN.memory_mb(PLAN.node(wildcards))(wildcards, attempt),
            runtime=lambda wildcards, attempt: PLAN.minutes(PLAN.node(wildcards))(wildcards, attempt),
        params:
            plan=PLAN.file,
            results=lambda wildcards: PLAN.folder,
            job=lambda wildcards: PLAN.node(wildcards).name,
        message:
            "{wildcards.target}: {wildcards.label}: stack {wildcards.node}"
        shell:
            "cubeflow stack {params.plan:q} {params.job:q} --results {params.results:q} > {log:q} 2>&1"
