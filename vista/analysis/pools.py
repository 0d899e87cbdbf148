"""Correct solutions with everything that might tell the unfaithful among them: the rows of the audit.

For ``vista audit``. One data frame for each policy and pool of solutions, joined from the rollout files
on disk. The z-scores and the cut at τ are those of curation; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vista.analysis.truth import Truth
from vista.config import Suite
from vista.errors import VistaError
from vista.filters import ScoreFilterSettings
from vista.filters.logprob import LogprobSettings
from vista.filters.random_drop import RandomDropSettings
from vista.filters.vas import VasSettings
from vista.filters.vig import VigSettings
from vista.measured import ScoredPool
from vista.paths import Paths
from vista.records import GAINS, ROLLOUT, SCORES, read_table
from vista.scores import layer_indices

KEYS = ["query_id", "source", "parent", "sample"]
SOLUTION_COLUMNS = [*KEYS, "task", "prefix_len", "token_ids", "text", "finished", "correct", "logprob"]
NO_PARENT = -1

# As in curation: what differs by less, relative to the size of the numbers, is the same; and a
# standard deviation below this is none.
RESOLUTION = 1e-6
NO_SPREAD = 1e-5
LOGIT_SIZE = 10.0  # of what log-probabilities are made of


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
        files = [
            paths.rollouts(pool.policy.id, kind, name, shard, suite.shards) for shard in range(suite.shards)
        ]
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
    total = parts[0] + parts[1] + parts[2]
    if not (np.isfinite(total) & (total > 0.0)).all():
        raise VistaError(f"{where}: the attention does not sum to more than 0; delete the files and rerun")
    rows = _keyed(table.select(KEYS))
    rows[[f"share{layer}" for layer in layers]] = parts[1] / total
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


def filtered_value(solutions: Solutions, settings: ScoreFilterSettings) -> tuple[pd.Series, pd.Series | None]:
    """What a filter compares (the lowest fall), and the size of its numbers if that is not their mean.

    Raises:
        VistaError: a layer was not scored.
    """
    rows = solutions.rows
    if isinstance(settings, (VigSettings, LogprobSettings)):
        return rows[settings.kind], pd.Series(LOGIT_SIZE, rows.index)
    if not isinstance(settings, (VasSettings, RandomDropSettings)):
        raise TypeError(f"{settings!r}: no values are known for this filter")
    if not solutions.layers:
        return pd.Series(np.nan, rows.index), None
    layers = layer_indices(settings.layers, solutions.num_layers)
    missing = sorted(set(layers) - set(solutions.layers))
    if missing:
        raise VistaError(f"layers {missing} were not scored, only {solutions.layers}; see scoring.layers")
    return rows[[f"share{layer}" for layer in layers]].mean(axis=1), None


@dataclass(frozen=True)
class Standardised:
    """z-scores within queries, and by how much rounding may have moved each."""

    z: pd.Series
    tolerance: pd.Series
    size: pd.Series  # solutions compared


def z_scores(
    values: pd.Series, queries: pd.Series, ddof: int = 0, size: pd.Series | None = None
) -> Standardised:
    """(value − mean) / standard deviation within each query, 0 where there is no spread.

    Args:
        values: What is compared.
        queries: The query of each.
        ddof: Degrees of freedom of the standard deviation.
        size: Size of the numbers that the values are made of; default: their mean.
    """
    groups = values.groupby(queries)
    count = groups.transform("size")
    centred = values - groups.transform("mean")
    scale = groups.transform("mean").abs() if size is None else size
    free = (count - ddof).where(count > max(ddof, 1))
    deviation = np.sqrt((centred**2).groupby(queries).transform("sum") / free)
    spread = deviation > NO_SPREAD * scale
    return Standardised(
        (centred / deviation).where(spread, 0.0), (RESOLUTION * scale / deviation).where(spread, 0.0), count
    )


def dropped(solutions: Solutions, settings: ScoreFilterSettings) -> pd.Series:
    """Which solutions a filter of these settings drops; False for all that are not correct.

    For ``random-drop``: which ``vas`` drops.
    """
    rows = solutions.rows
    values, size = filtered_value(solutions, settings)
    compared = rows["correct"] | (settings.scope == "all")
    compared &= values.notna()
    found = z_scores(
        values[compared],
        rows.loc[compared, "query_id"],
        settings.ddof,
        None if size is None else size[compared],
    )
    falls = (found.z < settings.tau - found.tolerance) & (found.size >= settings.min_group)
    # Where nothing is told apart everything stays, even if τ is above 0.
    falls &= found.tolerance > 0.0
    return falls.reindex(rows.index, fill_value=False) & rows["correct"]
