# Stage 3: what a policy writes. Files are keyed by the policy, so every method that asks for the same
# samples, resamples, scores or gains reads the same files.


for command, kind in PLAN.rollout_kinds().items():

    rule:
        name:
            command
        input:
            checkpoint=lambda w: PLAN.checkpoint(w.run),
            checked=ancient(lambda w: PLAN.checked(w.run)),
            rows=lambda w, kind=kind: PLAN.rollout_inputs(kind, w.run, w.name, w.shard),
            code=lambda w, kind=kind: PLAN.rollout_code(kind, w.name),
            encodable=ancient(lambda w: PLAN.encodable(w.run)),
        output:
            f"{R}/rollouts/{{run}}/{kind}/{{name}}/{{shard}}-of-{SUITE.shards}.parquet",
            f"{R}/rollouts/{{run}}/{kind}/{{name}}/{{shard}}-of-{SUITE.shards}.parquet.manifest.json",
        log:
            f"{R}/logs/rollouts/{{run}}/{kind}/{{name}}/{{shard}}.log",
        benchmark:
            f"{R}/benchmarks/rollouts/{{run}}/{kind}/{{name}}/{{shard}}.tsv"
        priority: READ_FIRST
        conda:
            "../../environment.yml"
        threads: lambda w: PLAN.cpus("rollouts", w.run)
        resources:
            gpu=lambda w: PLAN.gpus("rollouts", w.run),
            mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.run, attempt),
            runtime=lambda w, attempt: PLAN.minutes("rollouts", w.run, attempt),
        params:
            vista=PLAN.command(kind),
            what=command,
            suite=handed,
            settings=lambda w, kind=kind: PLAN.rollout_settings(kind, w.name, w.run),
        shell:
            f"VISTA_MEMORY={command}:"
            "{resources.mem_mb:q}"
            " {params.vista:q} {params.what} {params.suite:q} {wildcards.run:q} {wildcards.name:q}"
            " {wildcards.shard:q} 2>&1 | tee {log:q}"


# Whether a model's processor takes every query. Jobs wait for it, but are not made again because of it
# (`ancient`): it decides whether they run, not what they make. If it fails, the last one that passed stays
# (`update`).
rule encodable:
    input:
        checkpoint=f"{R}/models/{{model}}/manifest.json",
        queries=lambda w: PLAN.asked(w.model),
        code=PLAN.code("encodable"),
    output:
        update(f"{R}/checks/{{model}}.json"),
        update(f"{R}/checks/{{model}}.json.manifest.json"),
    log:
        f"{R}/logs/rollouts/{{model}}/encodable.log",
    benchmark:
        f"{R}/benchmarks/rollouts/{{model}}/encodable.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.encodable_settings(w.model),
    shell:
        "VISTA_MEMORY=encodable:{resources.mem_mb:q}"
        " vista encodable {params.suite:q} {wildcards.model:q} 2>&1 | tee {log:q}"


# Solutions worth a look, with the attention of every token.
rule cases:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        checked=ancient(lambda w: PLAN.checked(w.run)),
        queries=lambda w: PLAN.train_queries(w.run),
        rows=lambda w: PLAN.case_inputs(w.run),
        code=PLAN.code("cases"),
    output:
        f"{R}/rollouts/{{run}}/cases.parquet",
        f"{R}/rollouts/{{run}}/cases.parquet.manifest.json",
    log:
        f"{R}/logs/rollouts/{{run}}/cases.log",
    benchmark:
        f"{R}/benchmarks/rollouts/{{run}}/cases.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("rollouts", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("rollouts", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("rollouts", w.run, attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.case_settings(w.run),
    shell:
        "VISTA_MEMORY=cases:{resources.mem_mb:q}"
        " vista cases {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
