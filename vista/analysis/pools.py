"""Correct solutions with everything that might reveal the unfaithful ones: the rows of the audit.

For ``vista audit``. One data frame for each policy and pool of solutions, joined from the rollout files
on disk. The z-scores and the cut at τ are those of curation; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vista.analysis.truth import Truth
from vista.config import Suite
from vista.errors import VistaError
from vista.filters import AttentionFilterSettings, ScoreFilterSettings
from vista.measured import ScoredPool
from vista.paths import Paths
from vista.plugins import implementation
from vista.reads import Reads
from vista.records import GAINS, ROLLOUT, SCORES, read_table
from vista.scores import layer_indices, share_of_vision, standardise

KEYS = ["query_id", "source", "parent", "sample"]
SOLUTION_COLUMNS = [*KEYS, "task", "prefix_len", "token_ids", "text", "finished", "correct", "logprob"]
NO_PARENT = -1


@dataclass(frozen=True)
class Solutions:
    """A pool's solutions, correct or not, one row each.

    ``rows`` has ``KEYS``, ``task``, ``correct``, ``unfaithful`` and ``fault`` (of correct ones; the fault is
    the kind of claim that is wrong first), ``wording`` (a number, the same for equal texts),
    ``length`` (tokens), ``sampled_logprob`` and ``logprob`` (per token), ``vig``, ``pass_rate`` (of the
    query's samples) and ``share0``, ``share1`` … (visual share of the attention, by layer); NaN where
    nothing is known.
    """

    rows: pd.DataFrame
    layers: list[int]
    num_layers: int


def read_solutions(suite: Suite, paths: Paths, pool: ScoredPool, truth: Truth) -> Solutions:
    """The solutions of one policy's pool, with verdicts and scores.

    Raises:
        VistaError: a correct solution has no score, a file is malformed, or a query is unknown.
    """

    def read(kind: str, name: str, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
        files = Reads(suite, paths).shards(pool.policy, kind, name)
        return pa.concat_tables([read_table(file, schema, list(columns)) for file in files])

    rows = _verdicts(
        pa.concat_tables(
            [
                read(kind, name, ROLLOUT, SOLUTION_COLUMNS)
                for kind, name in pool.files()
                if kind in ("samples", "resamples")
            ]
        ),
        truth,
    )
    layers: list[int] = []
    num_layers = 0
    if pool.scores:
        table = pa.concat_tables([read("scores", name, SCORES, SCORES.names) for name in pool.scores])
        shares, layers, num_layers = visual_shares(table, f"{pool.policy.id}: scores")
        rows = _joined(rows, shares, f"{pool.policy.id}: scores {pool.scores[0]}")
    if pool.gains:
        table = pa.concat_tables([read("gains", name, GAINS, GAINS.names) for name in pool.gains])
        gains = _keyed(table.select([*KEYS, "logprob", "logprob_without"]))
        gains["vig"] = gains["logprob"] - gains.pop("logprob_without")
        rows = _joined(rows, gains, f"{pool.policy.id}: gains {pool.gains[0]}")
    return Solutions(rows, layers, num_layers)


def _verdicts(table: pa.Table, truth: Truth) -> pd.DataFrame:
    """Keys, verdicts, lengths and log-probabilities of solutions (``records.ROLLOUT``)."""
    lengths = pc.list_value_length(table["token_ids"]).to_numpy()
    rows = _keyed(table.drop_columns(["token_ids"]))
    sampled = lengths - rows.pop("prefix_len") + rows.pop("finished")
    rows["length"] = lengths
    rows["sampled_logprob"] = rows.pop("logprob") / sampled.where(sampled > 0)
    rows["wording"] = pd.factorize(rows["text"])[0]
    texts = zip(rows["query_id"], rows.pop("text"), rows["correct"], strict=True)
    rows["fault"] = [truth.fault(query, text) if correct else None for query, text, correct in texts]
    rows["unfaithful"] = rows["fault"].notna()
    samples = rows[rows["source"] == "sample"]
    rows["pass_rate"] = rows["query_id"].map(samples.groupby("query_id")["correct"].mean()).astype(float)
    return rows


def visual_shares(table: pa.Table, where: str) -> tuple[pd.DataFrame, list[int], int]:
    """S = λ_vis / (λ_sys + λ_vis + λ_ins) by layer (paper: Sec. 3, step 3), of ``records.SCORES``.

    Returns:
        ``KEYS`` and one column ``share{layer}`` for each scored layer; the layers; the model's depth.

    Raises:
        VistaError: solutions were scored at different layers, or a sum is not positive.
    """
    if not len(table):
        return pd.DataFrame(columns=KEYS), [], 0
    layers = table["layers"][0].as_py()
    depths = pc.unique(table["num_layers"]).to_pylist()
    listed = table["layers"].combine_chunks().flatten().to_numpy()
    if (
        len(listed) != len(table) * len(layers)
        or len(depths) != 1
        or (listed.reshape(-1, len(layers)) != layers).any()
    ):
        raise VistaError(f"{where}: solutions are scored at different layers; delete the files and rerun")
    parts = [
        table[name].combine_chunks().flatten().to_numpy().astype(float).reshape(-1, len(layers))
        for name in ("s_sys", "s_vis", "s_ins")
    ]
    rows = _keyed(table.select(KEYS))
    try:
        rows[[f"share{layer}" for layer in layers]] = share_of_vision(*parts)
    except ValueError as error:
        raise VistaError(
            f"{where}: the attention of a solution does not sum to more than 0; delete the files and rerun"
        ) from error
    return rows, layers, depths[0]


def _keyed(table: pa.Table) -> pd.DataFrame:
    rows: pd.DataFrame = table.to_pandas()
    rows["parent"] = rows["parent"].fillna(NO_PARENT).astype(int)
    return rows


def _joined(rows: pd.DataFrame, scores: pd.DataFrame, where: str) -> pd.DataFrame:
    """``rows`` with their scores; every correct solution must have them."""
    # Two scopes overlap; a solution in both has the same scores.
    both = rows.merge(scores.drop_duplicates(KEYS), on=KEYS, how="left", indicator=True)
    missing = both[(both.pop("_merge") == "left_only") & both["correct"]]
    if len(missing):
        raise VistaError(
            f"{where}: {len(missing)} correct solutions have no score, the first is one of query "
            f"{missing['query_id'].iloc[0]!r}; delete the policy's files of that kind and rerun"
        )
    return both


def filtered_value(solutions: Solutions, settings: ScoreFilterSettings) -> pd.Series:
    """What a filter compares; it drops the lowest.

    Raises:
        VistaError: a layer was not scored.
    """
    rows = solutions.rows
    if not isinstance(settings, AttentionFilterSettings):
        values: pd.Series = rows[settings.kind]
        return values
    if not solutions.layers:
        return pd.Series(np.nan, rows.index)
    layers = layer_indices(settings.layers, solutions.num_layers)
    missing = sorted(set(layers) - set(solutions.layers))
    if missing:
        raise VistaError(f"layers {missing} were not scored, only {solutions.layers}; see scoring.layers")
    return rows[[f"share{layer}" for layer in layers]].mean(axis=1)


def z_scores(values: pd.Series, queries: pd.Series) -> pd.Series:
    """(value − mean) / standard deviation within each query, 0 where there is no spread.

    Args:
        values: What is compared.
        queries: The query of each.
    """
    return _within(values, queries, lambda group: standardise(group).z)


def _within(values: pd.Series, queries: pd.Series, found: Callable[[list[float]], np.ndarray]) -> pd.Series:
    """What a function of the values of one query finds for each of them, of every query.

    As pandas' ``groupby().transform()``, which makes a series of every group.
    """
    numbers = pd.factorize(queries)[0]
    order = np.argsort(numbers, kind="stable")
    ends: list[int] = np.cumsum(np.bincount(numbers)).tolist()
    listed, parts, start = values.to_numpy(dtype=float)[order].tolist(), [np.zeros(0)], 0
    for end in ends:
        parts.append(found(listed[start:end]))
        start = end
    result = np.empty(len(values))
    result[order] = np.concatenate(parts)
    return pd.Series(result, values.index)


def dropped(solutions: Solutions, settings: ScoreFilterSettings) -> pd.Series:
    """Which solutions a filter of these settings drops; False for all that are not correct.

    The values are those of the frame; ``vista.scores`` compares them, as in the filter itself.
    """
    rows = solutions.rows
    values = filtered_value(solutions, settings)
    compared = (rows["correct"] | (settings.scope == "all")) & values.notna()
    magnitude = implementation(settings).magnitude

    def falls(group: list[float]) -> np.ndarray:
        if len(group) < settings.min_group:
            return np.zeros(len(group), dtype=bool)
        return standardise(group, settings.ddof, magnitude).below(settings.tau)

    below = _within(values[compared], rows.loc[compared, "query_id"], falls).astype(bool)
    found: pd.Series = below.reindex(rows.index, fill_value=False) & rows["correct"]
    return found
