"""All runs' predictions in one table: the analysis stage's first step (``long.csv``).

The tables of accuracies are computed from ``long.csv`` and the manifests' status and
counts. A run that had nothing to train on (status ``no-positives``) has no rows in it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from vista import grid
from vista.config import Suite
from vista.errors import VistaError, fail_if
from vista.manifest import Recorder, Status, check_count, read_manifest
from vista.paths import Paths, manifest_of
from vista.reads import Reads
from vista.records import PREDICTION, atomic_path, read_queries, read_table
from vista.shown import from_spreadsheet, spreadsheet

RUN_COLUMNS = ["model", "train_set", "method", "seed", "round"]
SILENT = ["unanswered", "unfinished"]  # 1 of a response without an answer; 1 of one that was cut
LONG_COLUMNS = [*RUN_COLUMNS, "task", "query_id", "cluster_id", *SILENT, "score"]
TEXT_COLUMNS = ["model", "train_set", "method", "task", "query_id", "cluster_id"]

# query id → cluster id of one task's test split
TestSplit = dict[str, str]


def collect(suite: Suite, paths: Paths) -> None:
    """Join the predictions of every run of the grid into ``paths.long``.

    Raises:
        VistaError: lists every run without a result and every incomplete or wrong prediction file.
    """
    splits = {task: _test_split(paths, task) for task in suite.evaluated_tasks}
    statuses = run_statuses(suite, paths)
    inputs = [paths.queries(task, "test") for task in splits]
    inputs += dict.fromkeys(_evidence(suite, paths, run) for run in statuses)
    recorder = Recorder("analysis", {"suite": suite.name}, inputs)
    frames, problems = [], []
    for run, status in statuses.items():
        frame = _predictions(suite, paths, run, status)
        found = prediction_problems(frame, splits if status == "complete" else {})
        problems += [f"{run.id}: {problem}" for problem in found]
        frames.append(frame.assign(**{name: getattr(run, name) for name in RUN_COLUMNS}))
    fail_if(problems, "The predictions are not those of the suite's test queries; evaluate these runs again:")
    long = ordered(frames, suite)
    with atomic_path(paths.long) as temporary:
        spreadsheet(long).to_csv(temporary, index=False, lineterminator="\n")
    complete = sum(status == "complete" for status in statuses.values())
    recorder.write(paths.long, {"rows": len(long), "runs": len(statuses), "runs_complete": complete})


def run_statuses(suite: Suite, paths: Paths) -> dict[grid.Run, Status]:
    """Every run of the grid, in its order, with the status of its evaluation.

    Raises:
        VistaError: lists every run that has not been evaluated.
    """
    statuses: dict[grid.Run, Status] = {}
    problems = []
    for run in grid.runs(suite):
        try:
            statuses[run] = read_manifest(Reads(suite, paths).predictions(run)).status
        except VistaError as error:
            problems.append(f"{run.id}: {error}")
    fail_if(problems, "These runs of the grid have no evaluation:")
    return statuses


def prediction_problems(predictions: pd.DataFrame, splits: dict[str, TestSplit]) -> list[str]:
    """Why ``predictions`` are not one valid score for each query of ``splits``.

    Args:
        predictions: Columns ``task``, ``query_id``, ``cluster_id`` and ``score`` of one run.
        splits: Test split of each task; empty for a run that must have no predictions.
    """
    problems = []
    for task in sorted(set(predictions["task"]) - set(splits)):
        count = int((predictions["task"] == task).sum())
        problems.append(f"task {task!r}: {count} predictions, but none are expected for this run")
    for task, split in splits.items():
        rows = predictions[predictions["task"] == task]
        problems += [f"task {task!r}: {problem}" for problem in _task_problems(rows, split)]
    return problems


def _task_problems(rows: pd.DataFrame, split: TestSplit) -> list[str]:
    counts = Counter(rows["query_id"])
    clusters = rows["query_id"].map(split)
    outside = ~(rows["score"] >= 0.0) | ~(rows["score"] <= 1.0)  # NaN is outside as well
    found = {
        "have no prediction": [query for query in split if query not in counts],
        "have several predictions": [query for query, count in counts.items() if count > 1],
        "are not in the test split": [query for query in counts if query not in split],
        "have another cluster_id than in the test split": list(
            rows.loc[clusters.notna() & (clusters != rows["cluster_id"]), "query_id"]
        ),
        "have a score that is not within 0 … 1": list(rows.loc[outside, "query_id"]),
    }
    return [f"{len(ids)} queries {what}, the first is {ids[0]!r}" for what, ids in found.items() if ids]


def ordered(frames: list[pd.DataFrame], suite: Suite) -> pd.DataFrame:
    """The long table: runs in the order of the grid, tasks in the suite's, queries by id."""
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=LONG_COLUMNS)
    position = {task: index for index, task in enumerate(suite.evaluated_tasks)}
    parts = [
        frame.assign(position=frame["task"].map(position)).sort_values(["position", "query_id"])
        for frame in filled
    ]
    return pd.concat(parts, ignore_index=True)[LONG_COLUMNS]


def read_long(path: Path) -> pd.DataFrame:
    """``long.csv`` as written, with ids as text and scores to the last bit.

    Raises:
        VistaError: the file is missing or damaged, or has other columns.
    """
    if not path.exists():
        raise VistaError(f"{path}: no such file; run the rule that collects the predictions")
    try:
        return _read_long(path)
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise VistaError(
            f"{path}: cannot be read ({error}); seed, round and score should be numbers, the score within "
            "0 … 1, unanswered and unfinished 0 or 1: delete it and rerun"
        ) from error


def _read_long(path: Path) -> pd.DataFrame:
    # An id may look like a number or like a missing value ("007", "NA") and is neither: pandas would read
    # categories as numbers.
    types = dict.fromkeys(TEXT_COLUMNS, "str") | dict.fromkeys(["seed", "round", *SILENT], "int64")
    header = list(pd.read_csv(path, nrows=0).columns)
    if header != LONG_COLUMNS:
        raise VistaError(f"{path}: expected the columns {LONG_COLUMNS}, found {header}; delete it and rerun")
    frame = pd.read_csv(
        path, dtype=types | {"score": "float64"}, keep_default_na=False, float_precision="round_trip"
    )
    for name in TEXT_COLUMNS:  # few different texts, which the tables compare again and again
        frame[name] = frame[name].astype("category").cat.rename_categories(from_spreadsheet)
    for name in ("score", *SILENT):
        outside = ~(frame[name].between(0.0, 1.0) if name == "score" else frame[name].isin([0, 1]))
        if outside.any():
            wanted = "numbers within 0 … 1" if name == "score" else "0 or 1"
            raise ValueError(f"{name}: expected {wanted}, found {frame.loc[outside, name].iloc[0]}")
    return frame


def scores_by_run(long: pd.DataFrame) -> dict[grid.Run, pd.DataFrame]:
    """Split the long table by run."""
    groups = long.groupby(RUN_COLUMNS, sort=False)
    keys = long[RUN_COLUMNS].drop_duplicates().itertuples(index=False, name=None)
    return {grid.Run(*key): groups.get_group(key) for key in keys}


def silent_shares(scores: pd.DataFrame) -> dict[str, float]:
    """How many responses have no answer, and how many were cut: ``SILENT``, in percent.

    Means over tasks, each with the same weight as in ``overall``.
    """
    task, _ = pd.factorize(scores["task"])
    size = np.bincount(task)
    means = {name: np.bincount(task, scores[name].to_numpy(dtype=float)) / size for name in SILENT}
    return {name: float(each.mean()) * 100.0 for name, each in means.items()}


def in_domain(suite: Suite, run: grid.Run, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores on the tasks of the run's train set."""
    return scores[scores["task"].isin(suite.train_sets[run.train_set])]


def _test_split(paths: Paths, task: str) -> TestSplit:
    path = paths.queries(task, "test")
    rows = read_queries(path, ["query_id", "cluster_id"])
    check_count(path, len(rows), "queries", required=False)
    return {row["query_id"]: row["cluster_id"] for row in rows}


def _predictions(suite: Suite, paths: Paths, run: grid.Run, status: Status) -> pd.DataFrame:
    """Task, query, cluster, score and ``SILENT`` of a run's predictions; none where it has no result."""
    columns = ["task", "query_id", "cluster_id", "score", *SILENT]
    path = Reads(suite, paths).predictions(run)
    if status != "complete" and not path.exists():
        return pd.DataFrame({name: np.array([], dtype=object) for name in columns})
    table = read_table(path, PREDICTION, [name for name in PREDICTION.names if name != "response"])
    frame = table.to_pandas()
    # A task of lmms-eval may not tell which answer it finds; then none is missing, and none is counted.
    own = [task for task in suite.evaluated_tasks if suite.tasks[task].evaluator is not None]
    counted = read_manifest(path).counts if own else {}
    untold = [task for task in own if f"unanswered/{task}" not in counted]
    frame["unanswered"] = (frame["answer"].isna() & ~frame["task"].isin(untold)).astype("int64")
    frame["unfinished"] = (~frame["finished"].astype(bool)).astype("int64")
    own_id = grid.evaluated(suite, run).id
    strangers = sorted(set(frame["run"]) - {own_id})
    if strangers:
        raise VistaError(
            f"{path}: column run: found {strangers[0]!r}, expected {own_id!r}; evaluate it again"
        )
    return pd.DataFrame(frame[columns])


def _evidence(suite: Suite, paths: Paths, run: grid.Run) -> Path:
    """The predictions, or the manifest that says why there are none."""
    path = Reads(suite, paths).predictions(run)
    return path if path.exists() else manifest_of(path)
