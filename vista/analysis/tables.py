"""The results tables: ``main``, ``tasks``, ``runs``, and those of rounds, out of domain, published numbers.

Stage ``analysis``; ``vista tables`` writes them.

Reads ``long.csv`` and what the manifests count. Nothing in the files depends on when, where or how fast the
runs were made, so equal results give equal bytes.
"""

from __future__ import annotations

from vista.analysis.collect import read_long, run_statuses, scores_by_run
from vista.analysis.main import groups, main_page, main_rows, task_rows, tasks_page
from vista.analysis.page import as_text, write_table
from vista.analysis.plan import results_names
from vista.analysis.reported import read_reported, reported_overall, reported_page, reported_rows
from vista.analysis.runs import run_cost, run_rows, runs_page
from vista.analysis.views import ood_page, ood_rows, round_rows, rounds_page
from vista.config import Suite
from vista.manifest import Recorder
from vista.paths import Paths


def results_tables(suite: Suite, paths: Paths) -> None:
    """Write the tables from ``long.csv`` and the manifests.

    Raises:
        VistaError: a run or manifest is missing, or ``long.csv`` is not up to date.
    """
    published = [] if suite.reported is None else [suite.reported]
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long, *published])
    reported = None if suite.reported is None else read_reported(suite.reported)
    statuses = run_statuses(suite, paths)
    costs = {run: run_cost(suite, paths, run) for run in statuses}
    scores = scores_by_run(read_long(paths.long))

    runs = run_rows(suite, statuses, scores, costs)
    counts = {"rows": len(runs), "with_result": int((runs["status"] == "complete").sum())}
    write_table(paths, recorder, as_text(runs), runs_page(suite, runs), counts)

    tasks = task_rows(suite, statuses, scores)
    write_table(paths, recorder, as_text(tasks), tasks_page(suite, tasks), {"rows": len(tasks)})

    names = results_names(suite)
    if "ood" in names:
        ood = ood_rows(suite, tasks)
        write_table(paths, recorder, as_text(ood), ood_page(suite, ood), {"rows": len(ood)})

    main = main_rows(suite, statuses, scores, costs)
    overall = None if reported is None else reported_overall(suite, reported)
    page = main_page(suite, main, tasks, scores, overall)
    write_table(paths, recorder, as_text(main), page, counts | {"rows": len(main)})

    if "rounds" in names:
        rounds = round_rows(suite, groups(statuses, scores), main, scores)
        write_table(paths, recorder, as_text(rounds), rounds_page(suite, rounds), {"rows": len(rounds)})

    if reported is not None:
        compared = reported_rows(suite, scores, reported)
        page = reported_page(suite, compared)
        write_table(paths, recorder, as_text(compared), page, {"rows": len(compared)})
