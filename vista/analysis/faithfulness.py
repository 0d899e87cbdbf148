"""Are right test answers right for the right reasons? (``faithfulness.csv``, ``.md``, ``.tex``).

A table of the analysis stage (``vista faithfulness``), for generated tasks. Training on verified answers may
teach a model to be right, or to guess well: reward hacking by lucky guesses. Where the scene is known, every
right answer's rationale is audited (``vista.testbed.audit``), and each run's *faithful share* is set beside
its accuracy. No model is run here.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from vista import grid
from vista.analysis.collect import read_long, run_statuses, scores_by_run
from vista.analysis.main import KEYS, Group, groups, reference_pairs
from vista.analysis.page import (
    NOTE_ON_DAGGER,
    Page,
    Table,
    as_text,
    dagger,
    number,
    of_all,
    signed_with_error,
    star,
    with_constants_below,
    with_error,
    write_table,
)
from vista.analysis.stats import (
    PERCENT,
    averaged,
    corrected,
    difference_columns,
    difference_numbers,
    overall_mean,
    unlike,
)
from vista.analysis.truth import Truth, read_truth
from vista.config import SelectMethod, Suite
from vista.errors import VistaError
from vista.manifest import Recorder, Status
from vista.measured import audited_tasks, check_scenes
from vista.paths import Paths
from vista.reads import Reads
from vista.records import PREDICTION, read_table
from vista.testbed.rationales import Kind

OVERALL = "overall"  # in the column ``task``: the mean over the tasks of the train set
FAULTS = get_args(Kind)
SCORES = ["score", "faithful", *FAULTS]
DELTA = "delta_sft_seed"
COLUMNS = [
    *(*KEYS, "task", "status", "seeds", "missing"),
    *("accuracy", "faithful", "lucky", "share", "se", "seed_sd"),
    *(*difference_columns(DELTA), "p", "p_holm", *FAULTS, "n_test"),
]
NOTES = """\
Of the test answers, in percent: `right`; `faithful`: right, and the rationale states what the image shows
and follows from it; `lucky`: right all the same. `faithful share`: the faithful among the right, a mean over
seeds, ± one standard error over test queries, clustered on the image; `seed sd`: its standard deviation
between seeds. Differences to SFT-Seed are in points of the share, paired on the query, ± one standard error
over test queries and, where there are several, over seeds; \\* marks what differs after Holm's correction
for all rows of the model (p < 0.05). The other columns are in percent of the right answers too: what the
lucky ones have wrong first. `runs` counts the runs with a right answer, and how many there are if some have
none."""


def faithfulness_table(suite: Suite, paths: Paths) -> None:
    """Write ``faithfulness.csv``, ``.md`` and ``.tex`` from the predictions of all runs.

    Raises:
        VistaError: the suite has no scenes, or predictions are missing or not those of ``long.csv``.
    """
    check_scenes(suite, "faithfulness")
    tasks = audited_tasks(suite)
    truth = read_truth(suite, paths, tasks, "test")
    statuses = run_statuses(suite, paths)
    scores = {
        run: frame for run, frame in scores_by_run(read_long(paths.long)).items() if is_audited(suite, run)
    }
    files = {run: Reads(suite, paths).predictions(run) for run in scores}
    queries = [paths.queries(task, "test") for task in tasks]
    inputs = [paths.long, *queries, *dict.fromkeys(files.values())]
    recorder = Recorder("analysis", {"suite": suite.name}, inputs)
    judged = {
        run: judge(frame[frame["task"].isin(tasks)], _responses(run, files[run]), truth)
        for run, frame in scores.items()
    }
    table = faithfulness_rows(
        suite, {run: statuses[run] for run in statuses if is_audited(suite, run)}, judged
    )
    write_table(paths, recorder, as_text(table), faithfulness_page(suite, table), {"rows": len(table)})


def is_audited(suite: Suite, run: grid.Run) -> bool:
    """Whether a run answers with rationales; test-time selection answers with its choice alone."""
    return not isinstance(suite.methods[run.method], SelectMethod)


def judge(scores: pd.DataFrame, responses: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """Scores with what the audit says.

    Args:
        scores: Of one run: ``task``, ``query_id``, ``cluster_id`` and ``score``.
        responses: Its ``task``, ``query_id`` and ``response``.
        truth: Scenes of the test queries.

    Returns:
        ``task``, ``query_id``, ``cluster_id`` and ``score``, and the score again in one of the columns
        ``faithful`` and, by what is wrong first, ``FAULTS``; the others are 0.

    Raises:
        VistaError: a scored query has no response, or two.
    """
    # Looked up rather than merged, which would turn the categorical keys into strings.
    asked, answered = (zip(frame["task"], frame["query_id"], strict=True) for frame in (scores, responses))
    written = dict(zip(answered, responses["response"], strict=True))
    if len(written) < len(responses):
        query = responses.loc[responses.duplicated(["task", "query_id"]), "query_id"].iloc[0]
        raise VistaError(f"query {query!r} has two responses; evaluate the run again")
    faults: list[Kind | None] = []
    for key, score in zip(asked, scores["score"], strict=True):
        if key not in written:
            raise VistaError(f"query {key[1]!r} has a score and no response; collect the predictions again")
        faults.append(truth.fault(key[1], written[key]) if score > 0.0 else None)
    fault = np.array(faults, dtype=object)
    columns = {kind: scores["score"].where(fault == kind, 0.0) for kind in FAULTS}
    faithful = scores["score"].where(pd.isna(fault), 0.0)
    return scores[["task", "query_id", "cluster_id", "score"]].assign(faithful=faithful, **columns)


def _responses(run: grid.Run, path: Path) -> pd.DataFrame:
    try:
        table = read_table(path, PREDICTION, ["task", "query_id", "response"])
    except VistaError as error:
        raise VistaError(f"{run.id}: {error}") from error
    frame: pd.DataFrame = table.to_pandas()
    return frame


def faithfulness_rows(
    suite: Suite, statuses: Mapping[grid.Run, Status], judged: Mapping[grid.Run, pd.DataFrame]
) -> pd.DataFrame:
    """The table in numbers: for each model, train set, method and round a row over its tasks, one by task.

    Args:
        suite: The suite whose grid the runs are.
        statuses: Status of every run that is audited.
        judged: As of ``judge``, of every run with a result.

    Returns:
        ``COLUMNS``, in percent and points, unrounded; ``None`` where there is no number.
    """
    found = groups(statuses, judged)
    means = {run: means_by_task(frame) for run, frame in judged.items()}
    tables = []
    for task in (OVERALL, *audited_tasks(suite)):
        own = {
            run: _over(frame, means[run], _tasks(suite, run.train_set, task)) for run, frame in judged.items()
        }
        shares = {run: share for run, each in own.items() if (share := linearised(each)) is not None}
        rows = {
            place: _row(suite, group, task, own, shares)
            for place, group in enumerate(found)
            if group.found or task == OVERALL
        }
        frame = pd.DataFrame(rows.values(), list(rows), COLUMNS, dtype=object)
        tables.append(corrected(frame))
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def _tasks(suite: Suite, train_set: str, task: str) -> list[str]:
    """The tasks that a row is over."""
    return suite.train_sets[train_set] if task == OVERALL else [task]


@dataclass(frozen=True)
class Verdicts:
    """A run's answers to the queries of some tasks."""

    judged: pd.DataFrame  # as of ``judge``
    means: pd.Series[float]  # of each of ``SCORES``, over tasks the mean of that over queries


def means_by_task(judged: pd.DataFrame) -> pd.DataFrame:
    """Of each of ``SCORES`` the mean over queries, a row for each task that has any."""
    return judged.groupby("task", sort=False, observed=True)[SCORES].mean()


def _over(judged: pd.DataFrame, by_task: pd.DataFrame, tasks: Sequence[str]) -> Verdicts:
    """The answers to some tasks, of a run whose means are ``by_task``."""
    own = judged[judged["task"].isin(tasks)]
    return Verdicts(own, by_task[by_task.index.isin(tasks)].mean())


def linearised(verdicts: Verdicts) -> pd.DataFrame | None:
    """One number for each query whose mean is the faithful share, and whose spread is that of the share.

    With A the accuracy and F that of faithful answers (means over tasks), the share is R = F/A. To first
    order it is the mean of ``R + (f − R·a) / A`` over queries of score a, f of it faithful (delta method), so
    that the errors of a mean and of a paired difference of means are those of a share.

    Returns:
        ``task``, ``query_id``, ``cluster_id`` and ``score``; ``None`` where nothing is right.
    """
    judged = verdicts.judged
    accuracy, faithful = float(verdicts.means["score"]), float(verdicts.means["faithful"])
    if not accuracy > 0.0:
        return None
    share = faithful / accuracy
    scores = share + (judged["faithful"] - share * judged["score"]) / accuracy
    return judged[["task", "query_id", "cluster_id"]].assign(score=scores)


def _row(
    suite: Suite,
    group: Group,
    task: str,
    verdicts: Mapping[grid.Run, Verdicts],
    shares: Mapping[grid.Run, pd.DataFrame],
) -> dict[str, Any]:
    """A row of the table, of the tasks that are answered."""
    known = tuple(run for run in group.found if run in shares)
    row = group.key | {"task": task, "seeds": len(known), "missing": len(group.runs) - len(known)}
    means = {run: verdicts[run].means for run in group.found}
    if group.found:
        right, faithful = (
            statistics.fmean(float(mean[column]) * PERCENT for mean in means.values())
            for column in ("score", "faithful")
        )
        row |= {"accuracy": right, "faithful": faithful, "lucky": right - faithful}
        row["n_test"] = len(verdicts[group.found[0]].judged)
    if not known:
        return row
    together = overall_mean(averaged({(run.model, run.seed): shares[run] for run in known}))
    row |= {"share": together.mean * PERCENT, "se": together.se * PERCENT}
    if len(known) > 1:
        row["seed_sd"] = statistics.stdev(overall_mean(shares[run]).mean for run in known) * PERCENT
    for fault in FAULTS:
        row[fault] = statistics.fmean(means[run][fault] / means[run]["score"] * PERCENT for run in known)
    compared = Group(group.model, group.train_set, group.method, group.round, group.runs, known)
    return row | difference_numbers(reference_pairs(suite, compared, shares), DELTA)


# --- the table to read ---


def faithfulness_page(suite: Suite, table: pd.DataFrame) -> Page:
    """The shares over the train set's tasks, then task by task; swept methods are only in the CSV."""
    shown = table[~table["method"].isin(list(suite.swept))]
    shown = shown.assign(marked=unlike(shown["error"].tolist()))
    title = f"Faithful answers in suite `{suite.name}`"
    parts: list[str | Table] = [
        *with_constants_below(title, _cells(shown[shown["task"] == OVERALL]), ""),
        NOTES,
    ]
    if shown["marked"].any():
        parts.append(NOTE_ON_DAGGER)
    by_task = shown[shown["task"] != OVERALL]
    if len(by_task):
        parts += with_constants_below("Faithful share by task", _task_cells(suite, by_task), "tasks")
    if selecting := [name for name, method in suite.methods.items() if isinstance(method, SelectMethod)]:
        parts.append(f"Left out, since it answers with a choice and no rationale: {', '.join(selecting)}.")
    if unknown := [task for task in suite.evaluated_tasks if task not in audited_tasks(suite)]:
        parts.append(f"Left out, since what their images show is not known: {', '.join(unknown)}.")
    return Page("faithfulness", title, parts)


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    cells = table[KEYS].astype(str)
    cells["runs"] = [of_all(*pair) for pair in table[["seeds", "missing"]].itertuples(index=False, name=None)]
    for name, column in (("right", "accuracy"), ("faithful", "faithful"), ("lucky", "lucky")):
        cells[name] = table[column].map(number)
    cells["faithful share"] = [with_error(*pair) for pair in zip(table["share"], table["se"], strict=True)]
    cells["seed sd"] = table["seed_sd"].map(number)
    names = [DELTA, "delta_se", "p_holm", "marked"]
    cells["Δ SFT-Seed"] = [
        signed_with_error(delta, error, star(p)) + dagger(alone)
        for delta, error, p, alone in table[names].itertuples(index=False, name=None)
    ]
    for fault in FAULTS:
        cells[fault] = table[fault].map(number)
    return cells


def _task_cells(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in table.to_dict("records"):
        key = tuple(str(row[name]) for name in KEYS)
        rows.setdefault(key, {})[row["task"]] = with_error(row["share"], row["se"])
    tasks = [task for task in audited_tasks(suite) if task in set(table["task"])]
    cells = [[*key, *(found.get(task, "") for task in tasks)] for key, found in rows.items()]
    return pd.DataFrame(cells, columns=[*KEYS, *tasks])
