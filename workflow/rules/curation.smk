# Stage 4: training sets, one per run.


rule curate:
    input:
        rows=lambda w: PLAN.curation_inputs(w.run),
        code=lambda w: PLAN.curation_code(w.run),
    output:
        f"{R}/curation/{{run}}/train.parquet",
        f"{R}/curation/{{run}}/train.parquet.manifest.json",
    log:
        f"{R}/logs/curation/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/curation/{{run}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.curation_settings(w.run),
    shell:
        "VISTA_MEMORY=curate:{resources.mem_mb:q}"
        " vista curate {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
