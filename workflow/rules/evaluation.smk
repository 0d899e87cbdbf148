# Stage 6: predictions of each checkpoint, and of each model at an endpoint, on every test query, through lmms-eval;
# and verdicts on responses that were generated elsewhere. If vLLM samples, it generates the responses in its own
# environment before (`respond`), and `evaluate` only scores them.


rule requests:
    input:
        queries=f"{R}/tasks/{{task}}/test.parquet",
        code=lambda w: PLAN.code("requests"),
    output:
        f"{R}/evaluation/requests/{{task}}.parquet",
        f"{R}/evaluation/requests/{{task}}.parquet.manifest.json",
    log:
        f"{R}/logs/evaluation/requests/{{task}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/requests/{{task}}.tsv"
    wildcard_constraints:
        task=PLAN.requested_tasks(),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.request_settings(w.task),
    shell:
        "VISTA_MEMORY=requests:{resources.mem_mb:q}"
        " vista requests {params.suite:q} {wildcards.task:q} 2>&1 | tee {log:q}"


rule respond:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        checked=ancient(lambda w: PLAN.checked(w.run)),
        queries=PLAN.test_queries(),
        requests=PLAN.requests(),
        code=lambda w: PLAN.code("respond"),
        encodable=ancient(lambda w: PLAN.encodable(w.run)),
    output:
        f"{R}/evaluation/{{run}}/responses.parquet",
        f"{R}/evaluation/{{run}}/responses.parquet.manifest.json",
    log:
        f"{R}/logs/evaluation/{{run}}/responses.log",
    benchmark:
        f"{R}/benchmarks/evaluation/{{run}}/responses.tsv"
    wildcard_constraints:
        run=PLAN.responding(),
    priority: READ_FIRST
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("evaluation", w.run)
    resources:
        gpu=lambda w: PLAN.gpus("evaluation", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("evaluation", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("evaluation", w.run, attempt),
    params:
        vista=PLAN.command("responses"),
        suite=handed,
        settings=lambda w: PLAN.response_settings(w.run),
    shell:
        "VISTA_MEMORY=respond:{resources.mem_mb:q}"
        " {params.vista:q} respond {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        checkpoint=lambda w: PLAN.checkpoint(w.run),
        checked=ancient(lambda w: PLAN.checked(w.run)),
        responses=lambda w: PLAN.responses(w.run),
        queries=PLAN.test_queries(),
        code=PLAN.evaluation_code(),
        encodable=ancient(lambda w: PLAN.encodable(w.run)),
    output:
        f"{R}/evaluation/{{run}}/predictions.parquet",
        f"{R}/evaluation/{{run}}/predictions.parquet.manifest.json",
    log:
        f"{R}/logs/evaluation/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/{{run}}.tsv"
    wildcard_constraints:
        run=PLAN.evaluated(),
    priority: READ_FIRST
    conda:
        "../../environment.yml"
    threads: lambda w: PLAN.cpus("evaluation", w.run)
    resources:
        gpu=lambda w: PLAN.gpus_of("evaluate", w.run),
        mem_mb=lambda w, attempt: PLAN.memory("evaluation", w.run, attempt),
        runtime=lambda w, attempt: PLAN.minutes("evaluation", w.run, attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.evaluation_settings(w.run),
    shell:
        "VISTA_MEMORY=evaluate:{resources.mem_mb:q}"
        " vista evaluate {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"


# The runs of models at endpoints. A local rule: endpoints are reached over the network, which cluster nodes often
# lack.
rule ask:
    input:
        queries=PLAN.test_queries(),
        code=PLAN.evaluation_code("ask"),
    output:
        f"{R}/evaluation/{{run}}/predictions.parquet",
        f"{R}/evaluation/{{run}}/predictions.parquet.manifest.json",
    log:
        f"{R}/logs/evaluation/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/{{run}}.tsv"
    wildcard_constraints:
        run=PLAN.endpoint_runs(),
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.asking_settings(w.run),
    shell:
        "VISTA_MEMORY=ask:{resources.mem_mb:q}"
        " vista ask {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"


rule grade:
    input:
        given=lambda w: PLAN.given(w.run),
        queries=PLAN.test_queries(),
        code=PLAN.grading_code(),
    output:
        f"{R}/evaluation/{{run}}/predictions.parquet",
        f"{R}/evaluation/{{run}}/predictions.parquet.manifest.json",
    log:
        f"{R}/logs/evaluation/{{run}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/{{run}}.tsv"
    wildcard_constraints:
        run=PLAN.graded(),
    priority: 1  # a wrong file is found before anything is spent
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=lambda w: PLAN.grading_settings(w.run),
    shell:
        "VISTA_MEMORY=grade:{resources.mem_mb:q}"
        " vista grade {params.suite:q} {wildcards.run:q} 2>&1 | tee {log:q}"
