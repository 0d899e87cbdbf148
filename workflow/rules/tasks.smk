# Stage 1: queries, one parquet file per task and split. A local rule: benchmarks and teachers are reached
# over the network, which cluster nodes often lack.


rule tasks:
    input:
        rationales=lambda w: PLAN.rationale_files(w.task, w.split),
        published=lambda w: PLAN.published_files(w.task, w.split),
        code=lambda w: PLAN.task_code(w.task, w.split),
    output:
        f"{R}/tasks/{{task}}/{{split}}.parquet",
        f"{R}/tasks/{{task}}/{{split}}.parquet.manifest.json",
    log:
        f"{R}/logs/tasks/{{task}}/{{split}}.log",
    benchmark:
        f"{R}/benchmarks/tasks/{{task}}/{{split}}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.task_settings(w.task, w.split),
    shell:
        "VISTA_MEMORY=tasks:{resources.mem_mb:q}"
        " vista tasks {params.suite:q} {wildcards.task:q} {wildcards.split:q} 2>&1 | tee {log:q}"
