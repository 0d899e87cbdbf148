# Stage 6: predictions of each checkpoint on every test query, through lmms-eval.


rule evaluate:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        queries=PLAN.test_queries(),
        code=PLAN.code("evaluation"),
    output:
        f"{R}/evaluation/{{run}}/predictions.parquet",
        f"{R}/evaluation/{{run}}/predictions.parquet.manifest.json",
    log:
        f"{R}/logs/evaluation/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/{{run}}.tsv"
    conda:
        "../../environment.yml"
    threads: SUITE.threads
    resources:
        gpu=SUITE.gpus,
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.evaluation_settings(w.run),
    shell:
        "vista evaluate {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
