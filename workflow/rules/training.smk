# Stage 5: trained checkpoints, one per run, and what was logged at each step. Where a model asks for several processes, `vista train`
# becomes `accelerate launch`.


rule train:
    input:
        rows=f"{R}/curation/{{run}}/train.parquet",
        manifest=f"{R}/curation/{{run}}/train.parquet.manifest.json",
        start=lambda w: PLAN.training_start(w.run),
        budget=lambda w: PLAN.training_budget(w.run),
        checked=ancient(lambda w: PLAN.checked(w.run, training=True)),
        code=lambda w: PLAN.training_code(w.run),
        encodable=ancient(lambda w: PLAN.encodable(w.run)),
    output:
        f"{R}/training/{{run}}/manifest.json",
        f"{R}/training/{{run}}.history.csv",
        f"{R}/training/{{run}}.history.csv.manifest.json",
    log:
        f"{R}/logs/training/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/training/{{run}}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("training", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("training", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("training", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("training", w.run, attempt),
        slurm_extra=lambda w: PLAN.slurm_extra(w.run),
    params:
        suite=handed,
        settings=lambda w: PLAN.training_settings(w.run),
    shell:
        "VISTA_MEMORY=train:{resources.mem_mb:q}"
        " vista train {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
