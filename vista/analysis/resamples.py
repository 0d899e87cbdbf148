"""What a policy resampled, held against the truth: the rows behind ``prefix.csv``.

For ``vista prefix``. Four data frames for each policy and way of resampling, from the files on disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from vista.analysis.truth import Truth, first_error
from vista.config import Suite
from vista.errors import VistaError
from vista.measured import Resamples
from vista.paths import Paths
from vista.records import CRITICAL, ROLLOUT, read_table

SAMPLE_COLUMNS = ["query_id", "task", "sample", "token_ids", "text", "finished", "correct"]
RESAMPLE_COLUMNS = [*SAMPLE_COLUMNS, "parent", "prefix_len"]


@dataclass(frozen=True)
class Read:
    """Rows of one policy; every frame has ``query_id`` and ``task``.

    * ``failed``: failed samples, with the positions ``first_error`` (NaN: none but that it does not
      end) and ``critical`` (NaN: none was found, or none looked for).
    * ``prefixes``: what was continued, with ``error_free``; none for plain samples.
    * ``continuations``: ``correct``, ``faithful`` (and correct), ``tokens`` sampled (the end is one), and
      whether any but the end was (``sampled``).
    * ``queries``: ``solved`` by a sample, ``rescued`` by a resample, ``rescued_by_sampling`` by one that has
      sampled tokens, ``tokens`` sampled in resamples.
    """

    failed: pd.DataFrame
    prefixes: pd.DataFrame
    continuations: pd.DataFrame
    queries: pd.DataFrame
    finds: bool  # whether critical tokens were looked for
    prefixed: bool  # whether failed samples were continued


def read_resamples(suite: Suite, paths: Paths, item: Resamples, truth: Truth, tokenizer: Tokenizer) -> Read:
    """Read samples, resamples and critical tokens, and audit what has to be.

    Raises:
        VistaError: a file is missing or malformed, or a critical token has no failed sample.
    """

    def read(kind: str, name: str, schema: pa.Schema, columns: list[str]) -> pa.Table:
        files = (
            paths.rollouts(item.policy.id, kind, name, shard, suite.shards) for shard in range(suite.shards)
        )
        return pa.concat_tables([read_table(file, schema, columns) for file in files])

    samples = read("samples", item.samples, ROLLOUT, SAMPLE_COLUMNS)
    resamples = read("resamples", item.name, ROLLOUT, RESAMPLE_COLUMNS)
    finds = item.settings.finds_critical
    failed = pd.DataFrame(columns=["query_id", "task", "first_error", "critical"])
    if finds:
        critical = read("critical", item.name, CRITICAL, ["query_id", "sample", "critical_token"])
        where = f"{item.policy.id}: critical tokens {item.name}"
        failed = _failed(samples, critical.to_pandas(), truth, tokenizer, where)
    made = _continuations(resamples, truth)
    prefixes = _prefixes(resamples, truth, tokenizer)
    return Read(failed, prefixes, made, _queries(samples, made), finds, item.settings.cuts)


def _failed(
    samples: pa.Table, critical: pd.DataFrame, truth: Truth, tokenizer: Tokenizer, where: str
) -> pd.DataFrame:
    """Failed samples with the position of their first error and of their critical token."""
    wrong = samples.filter(pc.invert(samples["correct"]))
    rows: pd.DataFrame = wrong.select(["query_id", "task", "sample"]).to_pandas()
    rows["first_error"] = _first_errors(wrong, truth, tokenizer)
    both = rows.merge(critical, on=["query_id", "sample"], how="left", indicator=True)
    missing = both[both.pop("_merge") == "left_only"]
    if len(missing) or len(critical) != len(rows):
        raise VistaError(
            f"{where}: {len(critical)} rows for {len(rows)} failed samples; delete the file and rerun"
        )
    both["critical"] = both.pop("critical_token").astype(float)
    return both.drop(columns="sample")


def _first_errors(table: pa.Table, truth: Truth, tokenizer: Tokenizer) -> pd.Series:
    """Position of the first error of each solution, NaN where there is none; equal texts are read once."""
    rows: pd.DataFrame = table.select(["query_id", "text", "token_ids", "finished"]).to_pandas()
    found: dict[tuple[str, bytes, bool], int | None] = {}
    positions = []
    for query_id, text, ids, finished in rows.itertuples(index=False, name=None):
        key = (query_id, ids.tobytes(), finished)
        if key not in found:
            found[key] = first_error(truth, tokenizer, query_id, text, ids.tolist(), finished)
        positions.append(found[key])
    return pd.Series(positions, rows.index, dtype=float)


def _prefixes(resamples: pa.Table, truth: Truth, tokenizer: Tokenizer) -> pd.DataFrame:
    """Each prefix that was continued once, and whether all its tokens are right.

    They are if the first continuation, of which the prefix is the beginning, errs behind it or not at all.
    """
    first = resamples.filter(
        pc.and_(pc.equal(resamples["sample"], 0), pc.greater(resamples["prefix_len"], 0))
    )
    rows: pd.DataFrame = first.select(["query_id", "task", "prefix_len"]).to_pandas()
    errors = _first_errors(first, truth, tokenizer)
    rows["error_free"] = errors.isna() | (errors >= rows.pop("prefix_len"))
    return rows


def _continuations(resamples: pa.Table, truth: Truth) -> pd.DataFrame:
    """Every continuation with its verdicts and the tokens that it cost (as the manifests count them)."""
    lengths = pc.list_value_length(resamples["token_ids"]).to_numpy()
    rows: pd.DataFrame = resamples.drop_columns(["token_ids", "sample", "parent"]).to_pandas()
    drawn = lengths - rows.pop("prefix_len")
    rows["sampled"] = drawn > 0
    rows["tokens"] = drawn + rows.pop("finished")
    texts = zip(rows["query_id"], rows.pop("text"), rows["correct"], strict=True)
    rows["faithful"] = [correct and truth.faithful(query, text) for query, text, correct in texts]
    return rows


def _queries(samples: pa.Table, made: pd.DataFrame) -> pd.DataFrame:
    """Every query: solved by a sample, rescued by a resample, and for how many tokens."""
    rows: pd.DataFrame = samples.select(["query_id", "task", "correct"]).to_pandas()
    queries = rows.groupby(["query_id", "task"], sort=False)["correct"].any().rename("solved").reset_index()
    by_query = made.assign(by_sampling=made["correct"] & made["sampled"]).groupby("query_id")
    queries["rescued"] = queries["query_id"].map(by_query["correct"].any()).eq(True)
    queries["rescued_by_sampling"] = queries["query_id"].map(by_query["by_sampling"].any()).eq(True)
    queries["tokens"] = queries["query_id"].map(by_query["tokens"].sum()).fillna(0.0).astype(float)
    return queries
