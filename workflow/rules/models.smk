# Stage 2: base checkpoints, built from a corpus or resolved at a pinned revision, and the check of the latter;
# and checkpoints that were trained elsewhere.


rule models:
    input:
        corpus=lambda w: PLAN.corpus(w.model),
        folder=lambda w: PLAN.folder_files(w.model),
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
        suite=handed,
        settings=lambda w: PLAN.model_settings(w.model),
    shell:
        "VISTA_MEMORY=models:{resources.mem_mb:q}"
        " vista models {params.suite:q} {wildcards.model:q} 2>&1 | tee {log:q}"


# Jobs wait for it, but are not made again because of it (`ancient`): it decides whether they run, not what they
# make. A failed one leaves the verdicts of the last that passed (`update`).
rule check:
    input:
        checkpoint=f"{R}/models/{{model}}/manifest.json",
        code=PLAN.check_code(),
    output:
        update(f"{R}/models/{{model}}.check.json"),
        update(f"{R}/models/{{model}}.check.json.manifest.json"),
    log:
        f"{R}/logs/models/{{model}}.check.log",
    benchmark:
        f"{R}/benchmarks/models/{{model}}.check.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("rollouts", w.model)
    resources:
        gpu=lambda w: PLAN.gpus("rollouts", w.model),
        mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.model, attempt),
        runtime=lambda w, attempt: PLAN.minutes("rollouts", w.model, attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.check_settings(w.model),
    shell:
        "VISTA_MEMORY=check:{resources.mem_mb:q}"
        " vista check {params.suite:q} {wildcards.model:q} 2>&1 | tee {log:q}"


rule adopt:
    input:
        given=lambda w: PLAN.given(w.run),
        base=lambda w: PLAN.base(w.run),
        code=lambda w: PLAN.code("adopt"),
    output:
        f"{R}/external/{{run}}/manifest.json",
    log:
        f"{R}/logs/models/external/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/models/external/{{run}}.tsv"
    priority: 1  # a checkpoint that does not fit is found before anything is spent
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("models", w.run)
    resources:
        mem_mb=lambda w, attempt: PLAN.memory("models", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("models", w.run, attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.adoption_settings(w.run),
    shell:
        "VISTA_MEMORY=adopt:{resources.mem_mb:q}"
        " vista adopt {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
