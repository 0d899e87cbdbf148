# Stage 3: what a policy says. Keyed by the policy, so every method that asks for the same
# samples, resamples, scores or gains of it reads the same files.


rule sample:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        queries=lambda w: PLAN.sampled_queries(w.run, w.name),
        code=PLAN.rollout_code(),
    output:
        f"{R}/rollouts/{{run}}/samples/{{name}}/{{shard}}-of-{SUITE.shards}.parquet",
        f"{R}/rollouts/{{run}}/samples/{{name}}/{{shard}}-of-{SUITE.shards}.parquet.manifest.json",
    log:
        f"{R}/logs/rollouts/{{run}}/samples/{{name}}/{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/rollouts/{{run}}/samples/{{name}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("rollouts", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("rollouts", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("rollouts", w.run, attempt),
    params:
        vista=PLAN.sampler_command(),
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.sampling_settings(w.name),
    shell:
        "{params.vista:q} sample {params.suite:q} {wildcards.run:q} {wildcards.name:q} {wildcards.shard:q}"
        " 2>&1 | tee {log:q}"


rule resample:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        queries=lambda w: PLAN.train_queries(w.run),
        samples=lambda w: PLAN.resample_inputs(w.run, w.name, w.shard),
        code=PLAN.rollout_code(),
    output:
        f"{R}/rollouts/{{run}}/resamples/{{name}}/{{shard}}-of-{SUITE.shards}.parquet",
        f"{R}/rollouts/{{run}}/resamples/{{name}}/{{shard}}-of-{SUITE.shards}.parquet.manifest.json",
    log:
        f"{R}/logs/rollouts/{{run}}/resamples/{{name}}/{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/rollouts/{{run}}/resamples/{{name}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("rollouts", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("rollouts", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("rollouts", w.run, attempt),
    params:
        vista=PLAN.sampler_command(),
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.resampling_settings(w.name),
    shell:
        "{params.vista:q} resample {params.suite:q} {wildcards.run:q} {wildcards.name:q} {wildcards.shard:q}"
        " 2>&1 | tee {log:q}"


rule score:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        queries=lambda w: PLAN.train_queries(w.run),
        solutions=lambda w: PLAN.measure_inputs(w.run, "scores", w.name, w.shard),
        code=PLAN.rollout_code(),
    output:
        f"{R}/rollouts/{{run}}/scores/{{name}}/{{shard}}-of-{SUITE.shards}.parquet",
        f"{R}/rollouts/{{run}}/scores/{{name}}/{{shard}}-of-{SUITE.shards}.parquet.manifest.json",
    log:
        f"{R}/logs/rollouts/{{run}}/scores/{{name}}/{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/rollouts/{{run}}/scores/{{name}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("rollouts", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("rollouts", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("rollouts", w.run, attempt),
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.scoring_settings(w.name),
    shell:
        "vista score {params.suite:q} {wildcards.run:q} {wildcards.name:q} {wildcards.shard:q}"
        " 2>&1 | tee {log:q}"


rule gains:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        queries=lambda w: PLAN.train_queries(w.run),
        solutions=lambda w: PLAN.measure_inputs(w.run, "gains", w.name, w.shard),
        code=PLAN.rollout_code(),
    output:
        f"{R}/rollouts/{{run}}/gains/{{name}}/{{shard}}-of-{SUITE.shards}.parquet",
        f"{R}/rollouts/{{run}}/gains/{{name}}/{{shard}}-of-{SUITE.shards}.parquet.manifest.json",
    log:
        f"{R}/logs/rollouts/{{run}}/gains/{{name}}/{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/rollouts/{{run}}/gains/{{name}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("rollouts", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("rollouts", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("rollouts", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("rollouts", w.run, attempt),
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.gains_settings(w.name),
    shell:
        "vista gains {params.suite:q} {wildcards.run:q} {wildcards.name:q} {wildcards.shard:q}"
        " 2>&1 | tee {log:q}"


# Solutions to look at, with the attention of every token.
rule cases:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        queries=lambda w: PLAN.train_queries(w.run),
        rows=lambda w: PLAN.case_inputs(w.run),
        code=PLAN.code("rollouts"),
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
