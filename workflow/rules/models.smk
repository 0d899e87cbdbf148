# Stage 2: base checkpoints, built from a corpus or resolved at a pinned revision.


rule models:
    input:
        corpus=lambda w: PLAN.corpus(w.model),
        code=PLAN.code("models"),
    output:
        f"{R}/models/{{model}}/manifest.json",
    log:
        f"{R}/logs/models/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/models/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: SUITE.threads
    resources:
        gpu=SUITE.gpus,
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.model_settings(w.model),
    shell:
        "vista models {params.suite:q} {wildcards.model:q} 2>&1 | tee {log:q}"
