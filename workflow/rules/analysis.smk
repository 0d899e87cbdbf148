# Stage 7: from per-sample scores to tables, figures and the report.


rule collect:
    input:
        predictions=PLAN.predictions(),
        manifests=PLAN.manifests(),
        code=PLAN.code("analysis", "collect.py"),
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
        suite=PLAN.paths.suite,
        settings=PLAN.analysis_settings(),
    shell:
        "vista collect {params.suite:q} 2>&1 | tee {log:q}"


rule suite:
    output:
        report(
            f"{R}/suite.yaml",
            caption="../report/suite.rst",
            category="Provenance",
            labels={"what": "suite", "format": "yaml"},
        ),
    log:
        f"{R}/logs/analysis/suite.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=PLAN.suite_settings(),
    shell:
        "vista suite {params.suite:q} {output:q} 2>&1 | tee {log:q}"


rule results:
    input:
        long=f"{R}/long.csv",
        manifests=PLAN.manifests(),
        reported=PLAN.reported(),
        code=PLAN.code("analysis"),
    output:
        shown(PLAN.results()),
    log:
        f"{R}/logs/analysis/results.log",
    benchmark:
        f"{R}/benchmarks/analysis/results.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=PLAN.analysis_settings(),
    shell:
        "vista tables {params.suite:q} 2>&1 | tee {log:q}"


rule ablation:
    input:
        long=f"{R}/long.csv",
        manifests=PLAN.manifests(),
        code=PLAN.code("analysis"),
    output:
        shown(PLAN.ablation()),
    log:
        f"{R}/logs/analysis/ablation.log",
    benchmark:
        f"{R}/benchmarks/analysis/ablation.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=PLAN.comparison_settings(),
    shell:
        "vista ablation {params.suite:q} 2>&1 | tee {log:q}"


rule difficulty:
    input:
        long=f"{R}/long.csv",
        rows=PLAN.difficulty_inputs(),
        code=PLAN.code("analysis", also=["testbed"]),
    output:
        shown(PLAN.table("difficulty")),
    log:
        f"{R}/logs/analysis/difficulty.log",
    benchmark:
        f"{R}/benchmarks/analysis/difficulty.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=PLAN.comparison_settings(),
    shell:
        "vista difficulty {params.suite:q} 2>&1 | tee {log:q}"


rule cost:
    input:
        long=f"{R}/long.csv",
        code=PLAN.code("analysis"),
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
        suite=PLAN.paths.suite,
        settings=PLAN.analysis_settings(),
    shell:
        "vista cost {params.suite:q} 2>&1 | tee {log:q}"


rule audit:
    input:
        rows=lambda w: PLAN.audit_inputs(),
        code=PLAN.code("analysis", also=["testbed"]),
    output:
        shown(PLAN.table("audit")),
    log:
        f"{R}/logs/analysis/audit.log",
    benchmark:
        f"{R}/benchmarks/analysis/audit.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.measured_settings("audit"),
    shell:
        "vista audit {params.suite:q} 2>&1 | tee {log:q}"


rule prefix:
    input:
        rows=lambda w: PLAN.prefix_inputs(),
        code=PLAN.code("analysis", also=["testbed"]),
    output:
        shown(PLAN.table("prefix")),
    log:
        f"{R}/logs/analysis/prefix.log",
    benchmark:
        f"{R}/benchmarks/analysis/prefix.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=lambda w: PLAN.measured_settings("prefix"),
    shell:
        "vista prefix {params.suite:q} 2>&1 | tee {log:q}"


rule distributions:
    input:
        rows=PLAN.distribution_inputs(),
        code=PLAN.code("analysis", also=["testbed"]),
    output:
        shown(PLAN.table("distributions")),
    log:
        f"{R}/logs/analysis/distributions.log",
    benchmark:
        f"{R}/benchmarks/analysis/distributions.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        suite=PLAN.paths.suite,
        settings=PLAN.comparison_settings(),
    shell:
        "vista distributions {params.suite:q} 2>&1 | tee {log:q}"


# A figure is a module of vista/figures: editing it draws it alone again.
rule figure:
    input:
        table=lambda w: PLAN.figure_table(w.figure),
        code=lambda w: PLAN.code("figures", f"{w.figure}.py"),
    output:
        f"{R}/figures/{{figure}}.pdf",
        f"{R}/figures/{{figure}}.pdf.manifest.json",
        report(
            f"{R}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"what": "{figure}", "format": "png"},
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
        to=lambda w: PLAN.paths.figure(w.figure, "pdf").with_suffix(""),
    shell:
        "python -m vista.figures.{wildcards.figure:q} {input.table:q} --to {params.to:q} 2>&1 | tee {log:q}"


rule gallery:
    input:
        cases=PLAN.cases(),
        code=PLAN.code(
            "figures", "gallery.py", also=["figures/gallery.html.j2", "testbed"]
        ),
    output:
        manifest=f"{R}/figures/cases.html.manifest.json",
        page=report(
            f"{R}/figures/cases.html",
            caption="../report/cases.rst",
            category="Cases",
            labels={"what": "gallery", "format": "html"},
        ),
    log:
        f"{R}/logs/analysis/figures/gallery.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: PLAN.light_memory(attempt),
        runtime=lambda w, attempt: PLAN.light_minutes(attempt),
    params:
        named=PLAN.named_cases(),
    shell:
        "python -m vista.figures.gallery {params.named:q} --to {output.page:q} 2>&1 | tee {log:q}"
