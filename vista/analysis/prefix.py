"""Does prefix resampling cut at the first error, and what is it worth? ``vista prefix``: ``prefix.csv``.

Stage ``analysis``. On generated tasks the first error of a failed solution is known, so the critical
token can be compared with it, the prefixes with the only faithful rationale, and the queries that
are rescued with what the same tokens buy as plain samples. No model is run here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vista.analysis.intervals import ALL, Interval, mean, most_shared, pivot, quoted, ratio, share
from vista.analysis.page import Page, Table, write_table
from vista.analysis.truth import Read, Truth, read_resamples, read_tokenizer, read_truth
from vista.config import Suite
from vista.grid import Run
from vista.manifest import Recorder
from vista.measured import Resamples, input_files, prefix_resamples
from vista.paths import Paths
from vista.resamplers.budget_matched import BudgetMatchedSettings

COLUMNS = [
    *("model", "train_set", "resamples", "policy", "policies", "task"),
    *("measure", "value", "low", "high", "n", "queries"),
]
THOUSAND = 1000.0
# By `match` of the plain samples: what prefix resampling rescues beyond them.
RESCUED_BEYOND = {"tokens": "rescued-beyond-budget-matched", "samples": "rescued-beyond-number-matched"}
NOTES = """\
In brackets stand 95 % intervals, clustered on the query. The true first error is the first token of a failed
sample that differs from the only faithful rationale. Continuations of which nothing but the end was drawn
(`nothing-sampled`) are their prefix; `correct-if-sampled` is of the others. `rescued` is the share of the
queries without a correct sample (`zero-positive-queries`) that got one, `rescued-by-sampling` that of those
that got one with at least a token drawn; tokens are those drawn, prefixes not counted. Rationalisation has
no prefix and sees the answer; where its samples are others, so are the queries without a correct one."""
MEASURES = {
    "Where the critical token stands": [
        *("found-exactly", "found-before", "found-after", "found-none"),
        *("distance-mean", "distance-absolute", "distance-median"),
    ],
    "What is continued, and with what success": [
        *("prefix-error-free", "correct", "correct-and-faithful", "faithful-of-correct"),
        *("nothing-sampled", "correct-if-sampled", "correct-per-1000-tokens"),
    ],
    "Queries without a correct sample": [
        *("zero-positive-queries", "rescued", "rescued-by-sampling", "rescued-per-1000-tokens"),
        *("rescued-beyond-budget-matched", "rescued-beyond-number-matched"),
    ],
}


def prefix_table(suite: Suite, paths: Paths) -> None:
    """Write ``prefix.csv``, ``.md`` and ``.tex`` from the samples and resamples of all policies.

    Raises:
        VistaError: the suite has no scenes or prefixes, or a file is missing or malformed.
    """
    resamples = prefix_resamples(suite)
    recorder = Recorder("analysis", {"suite": suite.name}, input_files(suite, paths, resamples))
    table = prefix_rows(suite, paths, resamples, read_truth(suite, paths))
    counts = {"rows": len(table), "policies": len({item.policy for item in resamples})}
    write_table(paths, recorder, table, prefix_page(suite, table), counts)


def prefix_rows(suite: Suite, paths: Paths, resamples: list[Resamples], truth: Truth) -> pd.DataFrame:
    """The table in numbers: one row for each number measured; NaN where there is none."""
    together: dict[tuple[str, str, str], list[Resamples]] = defaultdict(list)
    for item in resamples:
        together[item.policy.model, item.policy.train_set, item.name].append(item)
    tokenizers = {model: read_tokenizer(paths.base(model)) for model in {key[0] for key in together}}
    plain: dict[tuple[Run, str, str], Read] = {}
    rows: list[dict[str, Any]] = []
    # Budget-matched ones first: prefix resampling is compared with them.
    order = sorted(together, key=lambda key: not _is_control(together[key][0]))
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for key in order:
        parts = []
        for item in together[key]:
            read = read_resamples(suite, paths, item, truth, tokenizers[key[0]])
            if isinstance(item.settings, BudgetMatchedSettings):
                plain[item.policy, f"{item.samples}+{item.settings.matched.slug}", item.settings.match] = read
            matched = {how: plain.get((item.policy, item.name, how)) for how in RESCUED_BEYOND}
            parts.append((item.policy, read, matched))
        names = dict(zip(("model", "train_set", "resamples"), key, strict=True))
        found[key] = [names | row for row in _selected(parts, suite.train_sets[key[1]])]
    for key in together:  # in the grid's order again
        rows += found[key]
    return pd.DataFrame(rows, columns=COLUMNS)


def _is_control(item: Resamples) -> bool:
    return isinstance(item.settings, BudgetMatchedSettings)


# A policy, what it resampled, and by `match` the plain samples that are matched to that.
Part = tuple[Run, Read, Mapping[str, Read | None]]


def _selected(parts: Sequence[Part], tasks: list[str]) -> Iterator[dict[str, Any]]:
    """Each policy and all together, each task and all together."""
    methods = list(dict.fromkeys(policy.method for policy, _, _ in parts))
    for method in [*methods, ALL]:
        own = [part for part in parts if method in (part[0].method, ALL)]
        joined = Joined.of(own)
        for task in [*tasks, ALL]:
            key = {"policy": method, "policies": len(own), "task": task}
            for measure, value in measures(joined.only(task)):
                numbers = {"value": value.value, "low": value.low, "high": value.high}
                yield key | {"measure": measure} | numbers | {"n": value.n, "queries": value.clusters}


@dataclass(frozen=True)
class Joined:
    """``Read`` of several policies, one below the other.

    ``queries`` also has ``plain_tokens`` and ``plain_samples``: whether as many tokens or solutions of plain
    samples rescued it; NaN where that was not tried.
    """

    failed: pd.DataFrame
    prefixes: pd.DataFrame
    continuations: pd.DataFrame
    queries: pd.DataFrame
    finds: bool
    prefixed: bool

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Joined:
        """Put the frames of all parts together, with plain resampling's rescues next to each query's."""
        queries = []
        for _, read, plain in parts:
            columns: dict[str, Any] = {}
            for how, matched in plain.items():
                other = None if matched is None else matched.queries.set_index("query_id")["rescued"]
                rescued = np.nan if other is None else read.queries["query_id"].map(other).astype(float)
                columns[f"plain_{how}"] = rescued
            queries.append(read.queries.assign(**columns))
        reads = [read for _, read, _ in parts]
        return cls(
            failed=pd.concat([read.failed for read in reads], ignore_index=True),
            prefixes=pd.concat([read.prefixes for read in reads], ignore_index=True),
            continuations=pd.concat([read.continuations for read in reads], ignore_index=True),
            queries=pd.concat(queries, ignore_index=True),
            finds=all(read.finds for read in reads),
            prefixed=all(read.prefixed for read in reads),
        )

    def only(self, task: str) -> Joined:
        """The rows of one task, or all."""
        if task == ALL:
            return self
        return Joined(
            failed=self.failed[self.failed["task"] == task],
            prefixes=self.prefixes[self.prefixes["task"] == task],
            continuations=self.continuations[self.continuations["task"] == task],
            queries=self.queries[self.queries["task"] == task],
            finds=self.finds,
            prefixed=self.prefixed,
        )


def measures(joined: Joined) -> Iterator[tuple[str, Interval]]:
    """Everything measured about some policies' resamples."""
    if joined.finds:
        yield from _positions(joined.failed)
    made = joined.continuations
    if joined.prefixed:
        yield "prefix-error-free", _share(joined.prefixes, "error_free")
        yield from _sampled(made)
    yield "correct", _share(made, "correct")
    yield "correct-and-faithful", _share(made, "faithful")
    yield "faithful-of-correct", _share(made[made["correct"]], "faithful")
    yield "correct-per-1000-tokens", _per_token(made)
    yield from _rescues(joined.queries, joined.prefixed)


def _sampled(made: pd.DataFrame) -> Iterator[tuple[str, Interval]]:
    """How many continuations consist of their prefix alone, and how good the others are.

    Where the critical token is the last, its replacement alone corrects the solution: the continuations
    are one text J times over, each right or each wrong, for a token apiece.
    """
    yield "nothing-sampled", _share(made.assign(none=~made["sampled"]), "none")
    some = made[made["sampled"]]
    yield "correct-if-sampled", _share(some, "correct")
    yield "correct-if-sampled-per-1000-tokens", _per_token(some)


def _per_token(made: pd.DataFrame) -> Interval:
    return ratio(made["correct"].to_numpy(float), made["tokens"].to_numpy(float) / THOUSAND, _codes(made))


def _positions(failed: pd.DataFrame) -> Iterator[tuple[str, Interval]]:
    """The critical token against the first error, where there is one."""
    failed = failed[failed["first_error"].notna()]
    distance = failed["critical"] - failed["first_error"]
    for name, hits in (
        ("found-exactly", distance == 0),
        ("found-before", distance < 0),
        ("found-after", distance > 0),
        ("found-none", distance.isna()),
    ):
        yield name, share(hits.to_numpy(), _codes(failed))
    known = distance.notna()
    values, clusters = distance[known].to_numpy(), _codes(failed[known])
    yield "distance-mean", mean(values, clusters)
    yield "distance-absolute", mean(np.abs(values), clusters)
    median = float(np.median(values)) if len(values) else np.nan
    yield "distance-median", Interval(median, n=len(values), clusters=len(np.unique(clusters)))


def _rescues(queries: pd.DataFrame, prefixed: bool) -> Iterator[tuple[str, Interval]]:
    """Queries without a correct sample: which got one, for how many tokens, and against plain samples."""
    zero = queries[~queries["solved"]]
    clusters, rescued = _codes(zero), zero["rescued"].to_numpy(float)
    yield "zero-positive-queries", _share(queries.assign(unsolved=~queries["solved"]), "unsolved")
    yield "rescued", _share(zero, "rescued")
    if prefixed:
        yield "rescued-by-sampling", _share(zero, "rescued_by_sampling")
    yield "tokens-per-zero-positive-query", mean(zero["tokens"].to_numpy(float), clusters)
    tokens = zero["tokens"].to_numpy(float) / THOUSAND
    yield "rescued-per-1000-tokens", ratio(rescued, tokens, clusters)
    for how, name in RESCUED_BEYOND.items():
        both = zero[f"plain_{how}"].notna().to_numpy()
        if both.any():
            beyond = rescued[both] - zero[f"plain_{how}"].to_numpy(float)[both]
            yield name, mean(beyond, clusters[both])


def _share(rows: pd.DataFrame, column: str) -> Interval:
    return share(rows[column].to_numpy(bool), _codes(rows))


def _codes(rows: pd.DataFrame) -> np.ndarray:
    codes: np.ndarray = pd.factorize(rows["query_id"])[0]
    return codes


# --- the table to read ---


def prefix_page(suite: Suite, table: pd.DataFrame) -> Page:
    """Prefix resampling and its controls, by the policy that most of them share."""
    shown = table[table["policy"] == most_shared(table, ["model", "train_set", "resamples"])]
    parts: list[str | Table] = [
        f"Failed samples of {quoted(shown, 'policy', 'no policy')}. "
        "`prefix.csv` has the other policies, and all together.",
    ]
    for heading, measures in MEASURES.items():
        part = shown[shown["measure"].isin(measures)]
        keys = ["model", "train_set", "task", "resamples", "policies"]
        parts.append(Table(heading, pivot(part, keys, measures), measures[0]))
    title = f"Does prefix resampling cut at the first error? Suite `{suite.name}`"
    return Page("prefix", title, [*parts, NOTES])
