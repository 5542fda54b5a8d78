# A stack of stacks is a stack. Nodes are named by their children: inputs are ancient.


rule stack:
    input:
        children=ancient(node_children),
    output:
        node=f"{RESULTS}/{{target}}/stack/{{label}}/{{node}}.h5",
    log:
        f"{RESULTS}/logs/{{target}}/stack-{{label}}-{{node}}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards: PLAN.memory_mb(wildcards.target, "stack"),
        runtime=lambda wildcards: PLAN.minutes(wildcards.target, "stack"),
    message:
        "{wildcards.target}: stack node {wildcards.node} of {wildcards.label}"
    shell:
        "cubeflow stack {output.node:q} {input.children:q} > {log:q} 2>&1"
