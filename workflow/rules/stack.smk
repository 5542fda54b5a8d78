# A stack of stacks is a stack. Nodes are named by their children: one that exists is never stale,
# and where all exist there is no rule.

if PLAN.node_pattern():

    rule stack:
        input:
            children=ancient(node_children),
        output:
            node=f"{RESULTS}/{{target}}/stack/{{label}}/{{node}}.h5",
        log:
            f"{RESULTS}/logs/{{target}}/stack-{{label}}-{{node}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{{target}}/stack-{{label}}-{{node}}.tsv"
        wildcard_constraints:
            node=PLAN.node_pattern(),
        conda:
            "../../environment.yml"
        resources:
            mem_mb=lambda wildcards, attempt: PLAN.memory_mb(wildcards.target, "stack", attempt),
            runtime=lambda wildcards, attempt: PLAN.minutes(wildcards.target, "stack", attempt),
        params:
            compression=lambda wildcards: PLAN.compression(wildcards.target),
        message:
            "{wildcards.target}: stack node {wildcards.node} of {wildcards.label}"
        shell:
            "cubeflow stack --compression {params.compression} {output.node:q} {input.children:q} > {log:q} 2>&1"
