"""What an image adds (``blind.csv``): the same questions about their own images and about others.

Part of ``vista tables``, for suites that evaluate on a task of kind ``blind`` and on the task whose questions
it asks. A model that answers as well without the image answers from what the question suggests; whether
a method makes that better or worse is what VISTA's filter is about (paper: Sec. 3, step 3).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.main import KEYS, Group
from vista.analysis.page import (
    NOTE_ON_DAGGER,
    Page,
    dagger,
    number,
    partial,
    probability,
    signed,
    star,
    with_constants_below,
    with_interval,
)
from vista.analysis.stats import (
    PERCENT,
    corrected,
    difference_columns,
    difference_numbers,
    mcnemar_p,
    overall_mean,
    paired_scores,
    unlike,
)
from vista.config import Suite
from vista.config.blind import blind_tasks

ADDED = "added"
BLIND_COLUMNS = [
    *(*KEYS, "task", "blind", "image", "status", "seeds", "missing", "accuracy", "blind_accuracy"),
    *(*difference_columns(ADDED), "test", "p", "p_holm", "kept", "n_test"),
]
NOTES = """\
Accuracy in percent, mean over seeds, of the same test questions about their own images and about what
stands in for these (`image`: another query's image, or the image's mean colour); every method in its last
round. `added by the image`: the difference in points, paired on the query, with its 95 % interval over other
test images and, where there are several, other seeds. `kept`: of the right answers about the own image, the
percentage that is right without it. \\* marks what differs from 0 after Holm's correction for all rows of
the model (p < 0.05)."""


def blind_rows(suite: Suite, groups: list[Group], scores: Mapping[grid.Run, pd.DataFrame]) -> pd.DataFrame:
    """A row for each blind task and method in its last round; one for a method without a result.

    Args:
        suite: The suite of the tables.
        groups: The runs of each row of the main table.
        scores: ``task, query_id, cluster_id, score`` of every run with a result.

    Returns:
        ``BLIND_COLUMNS``, in percent and points, unrounded; ``None`` where there is no number.
    """
    last = {(group.model, group.train_set, group.method): group.round for group in groups}  # rounds ascend
    rows: list[dict[str, Any]] = []
    for group in groups:
        if group.round != last[group.model, group.train_set, group.method]:
            continue
        for blind, of in blind_tasks(suite).items() if group.found else ():
            both = {(run.model, run.seed): _both(scores[run], of, blind) for run in group.found}
            names = {"task": of, "blind": blind, "image": getattr(suite.tasks[blind], "image", None)}
            rows.append(group.key | names | _numbers(both))
        if not group.found:
            rows.append(group.key)
    return corrected(pd.DataFrame(rows, columns=[*BLIND_COLUMNS, "variances"], dtype=object))[BLIND_COLUMNS]


def _both(scores: pd.DataFrame, of: str, blind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of the questions that both tasks ask, under the names and images of the first.

    A blind query's id is the other's with the blind task's name before it (``vista.task_kinds.blind``).
    Pictures are exchanged one for one, so the cluster of the own image is that of the other, too.
    """
    own, other = (scores[scores["task"] == task].astype({"query_id": str}) for task in (of, blind))
    seen = dict(zip(other["query_id"].str.removeprefix(f"{blind}-"), other["score"], strict=True))
    own = own[own["query_id"].isin(seen.keys())]
    return own, own.assign(score=own["query_id"].map(seen).astype(float))


def _numbers(both: Mapping[tuple[str, int], tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, Any]:
    """A row's numbers, from the scores with and without the image by model and seed."""
    asked = len(next(iter(both.values()))[0])
    if not asked:
        return {"n_test": 0}
    means = [[overall_mean(frame).mean * PERCENT for frame in frames] for frames in both.values()]
    row: dict[str, Any] = {"accuracy": statistics.fmean(mean for mean, _ in means), "n_test": asked}
    row["blind_accuracy"] = statistics.fmean(mean for _, mean in means)
    kept = [_kept(own["score"], other["score"]) for own, other in both.values()]
    if known := [share for share in kept if share is not None]:
        row["kept"] = statistics.fmean(known)
    pairs = {key: paired_scores(own, other) for key, (own, other) in both.items()}
    row |= difference_numbers(pairs, ADDED)
    exact = mcnemar_p(next(iter(pairs.values()))) if len(pairs) == 1 else math.nan
    return row if math.isnan(exact) else row | {"p": exact, "test": "McNemar"}


def _kept(own: pd.Series[float], other: pd.Series[float]) -> float | None:
    """Of the score about the own images what is scored without them, too, in percent."""
    whole = own.sum()
    return None if not whole else float(own.clip(upper=other).sum() / whole * PERCENT)


# --- the table to read ---


def blind_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A row for each method and blind task."""
    title = f"What an image adds in suite `{suite.name}`"
    marked = unlike(table["error"].tolist())
    keys = [name for name in KEYS if name != "train_set" or len(suite.train_sets) > 1]
    cells = []
    for row, alone in zip(table.to_dict("records"), marked, strict=True):
        found = {key: str(row[key]) for key in keys} | {name: row[name] or "" for name in ("task", "image")}
        if not row["seeds"]:
            cells.append(found | {"own image": str(row["status"])})
            continue
        added = with_interval(
            signed(row["added"]) + star(row["p_holm"]), signed(row["added_low"]), signed(row["added_high"])
        )
        found["own image"] = number(row["accuracy"]) + partial(row["seeds"], row["missing"])
        found |= {"withheld": number(row["blind_accuracy"]), "added by the image": added + dagger(alone)}
        cells.append(found | {"kept": number(row["kept"]), "p (Holm)": probability(row["p_holm"])})
    frame = pd.DataFrame(cells).fillna("")
    notes = [NOTES, *([NOTE_ON_DAGGER] if any(marked) else [])]
    return Page("blind", title, [*with_constants_below(title, frame, ""), *notes])
