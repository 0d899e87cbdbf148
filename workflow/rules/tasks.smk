# Stage 1: queries, one parquet file per task and split.


rule tasks:
    input:
        rationales=lambda w: PLAN.rationale_files(w.task, w.split),
        code=lambda w: PLAN.task_code(w.task, w.split),
    output:
        f"{R}/tasks/{{task}}/{{split}}.parquet",
        f"{R}/tasks/{{task}}/{{split}}.parquet.manifest.json",
    log:
        f"{R}/logs/tasks/{{task}}/{{split}}.log",
    benchmark:
        f"{R}/benchmarks/tasks/{{task}}/{{split}}.tsv"
    conda:
        "../../environment.yml"
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.task_settings(w.task, w.split),
    shell:
        "vista tasks {params.suite:q} {wildcards.task:q} {wildcards.split:q} 2>&1 | tee {log:q}"
