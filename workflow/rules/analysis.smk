# Stage 7: from per-sample scores to tables, figures and the report.


rule collect:
    input:
        predictions=PLAN.predictions(),
        manifests=PLAN.statuses(),
        queries=PLAN.test_queries(),
        code=PLAN.code("collect"),
    output:
        f"{R}/long.csv",
        f"{R}/long.csv.manifest.json",
    log:
        f"{R}/logs/analysis/collect.log",
    benchmark:
        f"{R}/benchmarks/analysis/collect.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=PLAN.collection_settings(),
    shell:
        "VISTA_MEMORY=collect:{resources.mem_mb:q}"
        " vista collect {params.suite:q} 2>&1 | tee {log:q}"


rule suite:
    input:
        code=PLAN.code("suite"),
    output:
        yaml=report(
            f"{R}/suite.yaml",
            caption="../report/suite.rst",
            category="8. Provenance",
            labels={"what": "suite as YAML"},
        ),
        manifest=f"{R}/suite.yaml.manifest.json",
        page=report(
            f"{R}/suite.html",
            caption="../report/suite.rst",
            category="8. Provenance",
            labels={"what": "suite"},
        ),
        page_manifest=f"{R}/suite.html.manifest.json",
    log:
        f"{R}/logs/analysis/suite.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=PLAN.suite_settings(),
    shell:
        "VISTA_MEMORY=suite:{resources.mem_mb:q}"
        " vista suite {params.suite:q} {output.yaml:q} 2>&1 | tee {log:q}"


# Not measured: it reads the measurements.
rule cost:
    input:
        long=f"{R}/long.csv",
        code=PLAN.code("cost"),
    output:
        shown(PLAN.table("cost")),
    log:
        f"{R}/logs/analysis/cost.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        settings=PLAN.cost_settings(),
    shell:
        "VISTA_MEMORY=cost:{resources.mem_mb:q}"
        " vista cost {params.suite:q} 2>&1 | tee {log:q}"


if SUITE.pilot:

    # Not measured: it reads the measurements.
    rule pilot:
        input:
            made=PLAN.pilot_inputs(),
            code=PLAN.code("pilot"),
        output:
            shown(PLAN.pilot_outputs()),
        log:
            f"{R}/logs/analysis/pilot.log",
        localrule: True
        conda:
            "../../environment.yml"
        resources:
            mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
            runtime=lambda w, attempt: PLAN.light_minutes(attempt),
        params:
            suite=handed,
            settings=PLAN.pilot_settings(),
        shell:
            "VISTA_MEMORY=pilot:{resources.mem_mb:q}"
            " vista pilot {params.suite:q} 2>&1 | tee {log:q}"


for table, command in PLAN.table_commands().items():

    rule:
        name:
            table
        input:
            # Evaluated only when the table is asked for: some tables need scenes, which not every suite has.
            rows=lambda w, table=table: PLAN.table_inputs(table),
            code=lambda w, table=table: PLAN.table_code(table),
        output:
            shown(PLAN.table_outputs(table)),
        log:
            f"{R}/logs/analysis/{table}.log",
        benchmark:
            f"{R}/benchmarks/analysis/{table}.tsv"
        conda:
            "../../environment.yml"
        resources:
            mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
            runtime=lambda w, attempt: PLAN.light_minutes(attempt),
        params:
            what=command,
            suite=handed,
            settings=lambda w, table=table: PLAN.table_settings(table),
        shell:
            f"VISTA_MEMORY={table}:"
            "{resources.mem_mb:q}"
            " vista {params.what} {params.suite:q} 2>&1 | tee {log:q}"


# Each figure is a module of vista/figures; editing it redraws only that figure.
rule figure:
    input:
        tables=lambda w: PLAN.figure_tables(w.figure),
        code=lambda w: PLAN.figure_code(w.figure),
    output:
        f"{R}/figures/{{figure}}.pdf",
        f"{R}/figures/{{figure}}.pdf.manifest.json",
        report(
            f"{R}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="4. Figures",
            labels={"what": "{figure}"},
        ),
        f"{R}/figures/{{figure}}.png.manifest.json",
    log:
        f"{R}/logs/analysis/figures/{{figure}}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        to=lambda w: PLAN.paths.figure(w.figure, "pdf").with_suffix(""),
    shell:
        "VISTA_MEMORY=figure:{resources.mem_mb:q}"
        " vista figure {wildcards.figure:q} {input.tables:q} --to {params.to:q}"
        " --plan {params.suite:q} 2>&1 | tee {log:q}"


rule gallery:
    input:
        cases=PLAN.cases(),
        code=PLAN.figure_code("gallery"),
    output:
        manifest=f"{R}/figures/cases.html.manifest.json",
        page=report(
            f"{R}/figures/cases.html",
            caption="../report/cases.rst",
            category="5. Cases",
            labels={"what": "gallery"},
        ),
    log:
        f"{R}/logs/analysis/figures/gallery.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=handed,
        named=PLAN.named_cases(),
    shell:
        "VISTA_MEMORY=gallery:{resources.mem_mb:q}"
        " vista figure gallery {params.named:q} --to {output.page:q}"
        " --plan {params.suite:q} 2>&1 | tee {log:q}"
