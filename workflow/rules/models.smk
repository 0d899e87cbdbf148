# Stage 2: base checkpoints, built from a corpus or resolved at a pinned revision.


rule models:
    input:
        corpus=lambda w: PLAN.corpus(w.model),
        code=lambda w: PLAN.model_code(w.model),
    output:
        f"{R}/models/{{model}}/manifest.json",
    log:
        f"{R}/logs/models/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/models/{{model}}.tsv"
    # Fetching needs the network, which cluster nodes often lack; building needs their cores.
    localrule: PLAN.only_fetches()
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("models", w.model)
    resources:
        gpu=lambda w: PLAN.gpus("models", w.model),
        mem_mb=lambda w, attempt: PLAN.memory("models", w.model, attempt),
        runtime=lambda w, attempt: PLAN.minutes("models", w.model, attempt),
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.model_settings(w.model),
    shell:
        "vista models {params.suite:q} {wildcards.model:q} 2>&1 | tee {log:q}"
