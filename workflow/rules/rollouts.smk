# Stage 3: what a policy writes. Files are keyed by the policy, so every method that asks for the same
# samples, resamples, scores or gains reads the same files.


for command, kind in PLAN.rollout_kinds().items():

    rule:
        name:
            command
        input:
            checkpoint=lambda w: PLAN.checkpoint(w.run),
            rows=lambda w, kind=kind: PLAN.rollout_inputs(kind, w.run, w.name, w.shard),
            code=lambda w, kind=kind: PLAN.rollout_code(kind, w.name),
        output:
            f"{R}/rollouts/{{run}}/{kind}/{{name}}/{{shard}}-of-{SUITE.shards}.parquet",
            f"{R}/rollouts/{{run}}/{kind}/{{name}}/{{shard}}-of-{SUITE.shards}.parquet.manifest.json",
        log:
            f"{R}/logs/rollouts/{{run}}/{kind}/{{name}}/{{shard}}.log",
        benchmark:
            f"{R}/benchmarks/rollouts/{{run}}/{kind}/{{name}}/{{shard}}.tsv"
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
            suite=PLAN.paths.suite,
            settings=lambda w, kind=kind: PLAN.rollout_settings(kind, w.name, w.run),
        shell:
            "{params.vista:q} {params.what} {params.suite:q} {wildcards.run:q} {wildcards.name:q}"
            " {wildcards.shard:q} 2>&1 | tee {log:q}"


# Solutions worth a look, with the attention of every token.
rule cases:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
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
        suite=PLAN.paths.suite,
    shell:
        "vista cases {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
