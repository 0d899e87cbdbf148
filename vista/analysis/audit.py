"""Do the scores detect unfaithful rationales? Stage ``analysis``; ``vista audit`` writes ``audit.csv``.

An answer can be right for the wrong reasons, and VISTA's attention score should find such rationales among
the correct ones. On generated tasks the truth is known (``vista.testbed.audit``), so this is measured and
compared with other scores and with the length of the rationale. No model is run here. Only numbers about the
same solutions can be compared, and few policies have all measurements: the page shows one, the CSV all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd

from vista.analysis.intervals import (
    ALL,
    Interval,
    auroc,
    auroc_within,
    most_shared,
    partial_correlation,
    pivot,
    quoted,
    ratio,
    share,
)
from vista.analysis.page import Page, Table, write_table
from vista.analysis.pools import Solutions, dropped, read_solutions, z_scores
from vista.analysis.truth import Truth, read_truth
from vista.config import Suite
from vista.filters import ScoreFilterSettings
from vista.manifest import Recorder
from vista.measured import ScoredPool, input_files, scored_pools
from vista.paths import Paths
from vista.scores import layer_indices
from vista.testbed.rationales import Kind

COLUMNS = [
    *("model", "train_set", "solutions", "policy", "policies", "task", "source"),
    *("detector", "layer", "setting", "measure", "value", "low", "high", "n", "queries", "unfaithful"),
]
DETECTOR, CUT = "detector", "cut"  # first part of a column's name; then name, layer and setting

NOTES = """\
Only correct solutions are counted. In brackets stand 95 % intervals, clustered on the query.
`auroc` is the probability that an unfaithful rationale has a lower score than a faithful one (for
`length`: more tokens): 1 is a perfect detector, 0.5 a blind one. `auroc-within-query` compares only
solutions of one policy to the same query, which is all that a filter within queries can use; there
`visual-share` and `vas` say the same. The partial correlations are with unfaithfulness, the number of
tokens held fixed; positive ones detect. A cut's precision is the share of what it drops that is
unfaithful, to be compared with dropping as many of each query at random. `unfaithful-read`, `-compute`,
`-answer` and `-form` say what the unfaithful have wrong first. `distinct-share` is the share of solutions to
queries with at least two distinct ones: the others leave a filter within queries nothing to choose.
`policies` counts the checkpoints behind a row.

In short: the lowest, the median and the highest value over models and tasks, and in how many of these
the whole interval lies above chance, or below it (0.5 for an AUROC, 0 for a gain in precision)."""

# The filters whose cuts are compared with the truth.
AUDITED = ("vas", "vig", "logprob")

# A column of what a detector gives or a cut drops: (DETECTOR or CUT, name, layer, setting).
Column = tuple[str, str, str, str]


def audit_table(suite: Suite, paths: Paths) -> None:
    """Write ``audit.csv``, ``.md`` and ``.tex`` from the rollouts and scores of all policies.

    Raises:
        VistaError: the suite has no scenes or scores, or a rollout file is missing or malformed.
    """
    pools = scored_pools(suite)
    recorder = Recorder("analysis", {"suite": suite.name}, input_files(suite, paths, pools))
    table = audit_rows(suite, paths, pools, read_truth(suite, paths))
    counts = {"rows": len(table), "policies": len({pool.policy for pool in pools})}
    write_table(paths, recorder, table, audit_page(suite, table), counts)


def audit_rows(suite: Suite, paths: Paths, pools: list[ScoredPool], truth: Truth) -> pd.DataFrame:
    """The table in numbers: one row for each number measured; NaN where there is none."""
    together: dict[tuple[str, str, str], list[ScoredPool]] = defaultdict(list)
    for pool in pools:
        together[pool.policy.model, pool.policy.train_set, pool.name].append(pool)
    rows: list[dict[str, Any]] = []
    for (model, train_set, name), group in together.items():
        frames = [
            judged(read_solutions(suite, paths, pool, truth), pool).assign(number=number)
            for number, pool in enumerate(group)
        ]
        solutions = pd.concat(frames, ignore_index=True)
        key = {"model": model, "train_set": train_set, "solutions": name}
        for selection, part in _selections(solutions, suite.train_sets[train_set]):
            rows += [key | selection | row for row in measures(part)]
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(solutions: Solutions, pool: ScoredPool) -> pd.DataFrame:
    """The correct solutions of a pool: how suspicious each detector finds them, and which cuts drop them.

    Returns:
        ``policy``, ``task``, ``source``, ``query_id``, ``unfaithful``, ``fault``, ``wording``, ``length``
        (as in ``pools.Solutions``), and for every detector and filter setting a ``Column``.
    """
    rows = solutions.rows[solutions.rows["correct"]]
    known = ["task", "source", "query_id", "unfaithful", "fault", "wording", "length"]
    found = rows[known].assign(policy=pool.policy.method)
    columns: dict[Column, pd.Series] = {}
    for layer in solutions.layers:
        shares = rows[f"share{layer}"]
        columns[DETECTOR, "visual-share", str(layer), ""] = -shares
        columns[DETECTOR, "vas", str(layer), ""] = -z_scores(shares, rows["query_id"])
    for name in ("vig", "logprob"):
        if name in rows:
            columns[DETECTOR, name, "", ""] = -rows[name]
    columns[DETECTOR, "sampled-logprob", "", ""] = -rows["sampled_logprob"]
    columns[DETECTOR, "self-consistency", "", ""] = -rows["pass_rate"]
    columns[DETECTOR, "length", "", ""] = rows["length"].astype(float)
    for settings in pool.filters if len(rows) else ():
        if isinstance(settings, ScoreFilterSettings) and settings.kind in AUDITED:
            cut = _cut(settings, solutions.num_layers)
            columns[cut] = dropped(solutions, settings)[rows.index].astype(float)
    return found.assign(**{"\t".join(column): values for column, values in columns.items()})


def _cut(settings: ScoreFilterSettings, num_layers: int) -> Column:
    """The column of a filter's cut: its kind, its layers and the rest of its settings."""
    stated = settings.model_dump()
    kind, fractions = stated.pop("kind"), stated.pop("layers", None)
    layers = [] if fractions is None else layer_indices(fractions, num_layers)
    text = " ".join(f"{name}={value}" for name, value in stated.items())
    return CUT, kind, "+".join(map(str, layers)), text


def _selections(solutions: pd.DataFrame, tasks: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The groups measured: each policy and all together, by task; all together also by source."""
    for policy in [*solutions["policy"].unique(), ALL]:
        own = solutions if policy == ALL else solutions[solutions["policy"] == policy]
        sources = [ALL, *own["source"].unique()] if policy == ALL else [ALL]
        for task in tasks:
            for source in sources:
                part = own[own["task"] == task]
                part = part if source == ALL else part[part["source"] == source]
                yield {"policy": policy, "task": task, "source": source}, part


def measures(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Everything measured about some correct solutions (rows of ``judged``, of one task).

    The checkpoints counted as ``policies`` and the ``unfaithful`` are those of the solutions that the
    detector or cut knows: not every policy's solutions have every score.
    """
    queries = pd.factorize(part["query_id"])[0]
    groups = pd.factorize(pd.Series(list(zip(part["number"], queries, strict=True)), dtype=object))[0]
    unfaithful = part["unfaithful"].to_numpy(bool)

    def counts(rows: np.ndarray) -> dict[str, int]:
        return {"policies": part["number"][rows].nunique(), "unfaithful": int(unfaithful[rows].sum())}

    none = {"detector": "", "layer": "", "setting": ""} | counts(np.ones(len(part), bool))
    for row in _share_rows(part, unfaithful, groups, queries):
        yield none | row
    columns = {name: part[name] for name in part.columns if "\t" in name}
    detectors = {name: values for name, values in columns.items() if name.startswith(DETECTOR)}
    for names, rows in _alike(detectors):
        for row in _detector_rows(
            part[names].to_numpy(float)[rows], unfaithful[rows], groups[rows], queries[rows],
            part["length"].to_numpy(float)[rows], names,
        ):  # fmt: skip
            yield row | counts(rows)
    for name, values in columns.items():
        if name.startswith(CUT):
            rows = values.notna().to_numpy()
            drops = values.to_numpy(float)[rows] > 0
            for row in _cut_rows(drops, unfaithful[rows], groups[rows], queries[rows]):
                yield _stated(name) | row | counts(rows)


def _share_rows(
    part: pd.DataFrame, unfaithful: np.ndarray, groups: np.ndarray, queries: np.ndarray
) -> Iterator[dict[str, Any]]:
    """What is known without a score: how many are unfaithful, in what way, and where there is a choice."""
    yield _row("unfaithful-share", share(unfaithful, queries))
    faults = part["fault"].to_numpy(object)[unfaithful]
    for kind in get_args(Kind):
        yield _row(f"unfaithful-{kind}", share(faults == kind, queries[unfaithful]))
    # Where all solutions read the same, no filter within the query can choose.
    wordings = part["wording"].groupby(groups).transform("nunique").to_numpy()
    yield _row("distinct-share", share(wordings > 1, queries))


def _alike(columns: dict[str, pd.Series]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Detectors that know the same solutions, and which these are; they are computed together."""
    masks = {name: values.notna().to_numpy() for name, values in columns.items()}
    alike: dict[bytes, list[str]] = defaultdict(list)
    for name, mask in masks.items():
        alike[mask.tobytes()].append(name)
    for names in alike.values():
        yield names, masks[names[0]]


def _detector_rows(
    suspicion: np.ndarray,
    unfaithful: np.ndarray,
    groups: np.ndarray,
    queries: np.ndarray,
    length: np.ndarray,
    names: list[str],
) -> Iterator[dict[str, Any]]:
    groups = pd.factorize(groups)[0]
    found = {
        "auroc": auroc(suspicion, unfaithful, queries),
        "auroc-within-query": auroc_within(suspicion, unfaithful, groups, queries),
        "partial-pearson": partial_correlation(suspicion, unfaithful, length, queries, ranked=False),
        "partial-spearman": partial_correlation(suspicion, unfaithful, length, queries, ranked=True),
    }
    for index, name in enumerate(names):
        for measure, values in found.items():
            yield _stated(name) | _row(measure, values[index])


def _cut_rows(
    drops: np.ndarray, unfaithful: np.ndarray, groups: np.ndarray, queries: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Precision and recall of a cut, and the precision of dropping as many of each query at random."""
    if len(groups):
        groups = pd.factorize(groups)[0]
        expected = (np.bincount(groups, unfaithful) / np.bincount(groups))[groups]
    else:
        expected = np.zeros(0)
    yield _row("dropped-share", share(drops, queries))
    yield _row("precision", share(unfaithful[drops], queries[drops]))
    yield _row("precision-at-random", ratio(expected[drops], np.ones(drops.sum()), queries[drops]))
    gain = unfaithful[drops] - expected[drops]
    yield _row("precision-gain", ratio(gain, np.ones(drops.sum()), queries[drops]))
    yield _row("recall", share(drops[unfaithful], queries[unfaithful]))


def _stated(name: str) -> dict[str, str]:
    _, detector, layer, setting = name.split("\t")
    return {"detector": detector, "layer": layer, "setting": setting}


def _row(measure: str, found: Interval) -> dict[str, Any]:
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    return {"measure": measure} | numbers | {"n": found.n, "queries": found.clusters}


# --- the table to read ---


def audit_page(suite: Suite, table: pd.DataFrame) -> Page:
    """The audit of the solutions that most policies have, by the policy for which the most is measured.

    Not of all policies together: where some policies' solutions lack a score, it would be compared with
    scores of other solutions.
    """
    pools = _widest(table[table["source"] == ALL])
    policy = most_shared(pools, ["model", "train_set", "solutions", "detector", "layer", "setting"])
    shown = pools[pools["policy"] == policy]
    which = f"Solutions of {quoted(shown, 'policy', 'no policy')}: {quoted(shown, 'solutions')}"
    parts: list[str | Table] = [
        f"{which}. `audit.csv` has the others, those of the other policies, and all policies together.",
    ]
    base, detectors = shown["detector"] == "", shown["measure"].str.contains("auroc|partial")
    keys = ["model", "train_set", "task", "policies"]
    counts = shown[shown["measure"] == "unfaithful-share"].set_index(keys)["n"].to_dict()
    found = [counts[key] for key in shown.loc[base, keys].itertuples(index=False, name=None)]
    aurocs, gain = dict.fromkeys(("auroc", "auroc-within-query"), 0.5), {"precision-gain": 0.0}
    parts += [
        Table(
            "How many correct solutions are unfaithful",
            pivot(shown[base].assign(solutions=found), [*keys, "solutions", "unfaithful"]),
            "unfaithful",
        ),
        Table("Detectors in short", _in_short(shown, ["detector", "layer"], aurocs), "detectors-in-short"),
        Table("Cuts in short", _in_short(shown, ["detector", "layer", "setting"], gain), "cuts-in-short"),
        Table("Detectors", pivot(shown[detectors], [*keys, "detector", "layer", "unfaithful"]), "detectors"),
        Table("Cuts", pivot(shown[~base & ~detectors], [*keys, "detector", "layer", "setting"]), "cuts"),
        NOTES,
    ]
    return Page("audit", f"Do scores detect unfaithful rationales? Suite `{suite.name}`", parts)


def _widest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each model, the pool of solutions that most policies have; the first of several."""
    keys = ["model", "train_set"]
    pools = table.groupby([*keys, "solutions"], sort=False)["policies"].max().reset_index()
    first = pools.sort_values("policies", ascending=False, kind="stable").drop_duplicates(keys)
    chosen = first[[*keys, "solutions"]]
    return table.merge(chosen, on=[*keys, "solutions"], how="inner")


def _in_short(table: pd.DataFrame, keys: list[str], chance: dict[str, float]) -> pd.DataFrame:
    """How far each measure of ``chance`` ranges over models and tasks, and how often it clearly differs."""
    own = table[table["measure"].isin(list(chance)) & table["value"].notna()]
    rows = []
    for key, group in own.groupby(keys, sort=False):
        row: dict[str, object] = dict(zip(keys, key, strict=True))
        for measure, level in chance.items():
            part = group[group["measure"] == measure]
            values = (part["value"].min(), part["value"].median(), part["value"].max())
            row[measure] = " / ".join(f"{round(value, 3) + 0.0:.3f}" for value in values)
            clear = int((part["low"] > level).sum()), int((part["high"] < level).sum())
            row[f"{measure}: above, below {level:g}"] = f"{clear[0]}, {clear[1]} of {len(part)}"
        rows.append(row)
    return pd.DataFrame(rows)
