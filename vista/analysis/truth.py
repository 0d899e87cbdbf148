"""What policies wrote, compared with the truth about the queries.

For ``vista audit``, ``vista prefix``, ``vista distributions`` and ``vista faithfulness``: which rationales
are faithful, at which token the others err, and what a policy resampled. A suite has millions of rationales
but few distinct ones, so each is audited once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import check_inputs
from vista.measured import Resamples
from vista.paths import Paths
from vista.reads import Reads
from vista.records import CRITICAL, ROLLOUT, Split, read_queries, read_table
from vista.testbed import rationales
from vista.testbed.audit import Audit, audit
from vista.testbed.questions import Question, Scene, load

REMEMBERED = 2**19
SAMPLE_COLUMNS = ["query_id", "task", "sample", "token_ids", "text", "finished", "correct"]
RESAMPLE_COLUMNS = [*SAMPLE_COLUMNS, "parent", "prefix_len"]


class Truth:
    """Scenes and gold rationales of queries, by query id.

    Args:
        scenes: The ``scene`` column of each query.
        split: The split that the queries are of.

    Raises:
        VistaError: a scene is malformed.
    """

    def __init__(self, scenes: dict[str, str], split: Split = "train") -> None:
        self.split = split
        self.scenes: dict[str, tuple[Scene, Question]] = {}
        for query_id, scene in scenes.items():
            try:
                self.scenes[query_id] = load(scene)
            except VistaError as error:
                raise VistaError(f"query {query_id!r}: {error}") from error
        self.gold = {
            query_id: rationales.text(rationales.rationale(*pair)) for query_id, pair in self.scenes.items()
        }
        self.audit = lru_cache(REMEMBERED)(self._audit)

    def _audit(self, query_id: str, text: str) -> Audit:
        return audit(*self._scene(query_id), text)

    def faithful(self, query_id: str, text: str) -> bool:
        """Whether a rationale is faithful to the image."""
        if self.gold.get(query_id) == text:  # as most are
            return True
        return self.audit(query_id, text).faithful

    def fault(self, query_id: str, text: str) -> rationales.Kind | None:
        """The kind of claim that a rationale has wrong first; ``None`` if it is faithful."""
        return None if self.gold.get(query_id) == text else self.audit(query_id, text).kind

    def _scene(self, query_id: str) -> tuple[Scene, Question]:
        try:
            return self.scenes[query_id]
        except KeyError as error:
            made = "policy's rollouts" if self.split == "train" else "run's predictions"
            raise VistaError(
                f"query {query_id!r} is not among the {self.split} queries; delete the {made} and rerun"
            ) from error


def read_truth(suite: Suite, paths: Paths, tasks: Sequence[str] = (), split: Split = "train") -> Truth:
    """The truth about the queries of some tasks; of all that are trained on by default.

    Raises:
        VistaError: a query has no scene.
    """
    scenes: dict[str, str] = {}
    for task in tasks or suite.trained_tasks:
        path = paths.queries(task, split)
        for row in read_queries(path, ["query_id", "scene"]):
            if row["scene"] is None:
                raise VistaError(
                    f"{path}: query {row['query_id']!r}: column scene is empty; what its image shows must be "
                    "known to audit rationales, so this table is for generated tasks only"
                )
            scenes[row["query_id"]] = row["scene"]
    return Truth(scenes, split)


def first_error(
    truth: Truth, tokenizer: Tokenizer, query_id: str, text: str, ids: Sequence[int], finished: bool = True
) -> int | None:
    """The position among a solution's tokens of its first error; ``None`` if it is faithful.

    For a rationale that breaks off too early this is the number of its tokens: the place of the end. One that
    did not end but was cut has no error there: as far as it goes it is faithful.

    Args:
        truth: Scenes and gold rationales.
        tokenizer: The policy's.
        query_id: The query that is answered.
        text: The solution, as decoded from its tokens.
        ids: Its tokens, without the one that ends it.
        finished: Whether it was ended by the policy, not by the length limit.

    Raises:
        VistaError: the tokens are not those of the text.
    """
    if truth.gold.get(query_id) == text:
        return None
    verdict = truth.audit(query_id, text)
    if verdict.offset is None or (not finished and verdict.offset == len(text.rstrip())):
        return None
    try:
        return token_at(tokenizer, ids, text, verdict.offset)
    except VistaError as error:
        raise VistaError(f"query {query_id!r}: {error}") from error


def token_at(tokenizer: Tokenizer, ids: Sequence[int], text: str, offset: int) -> int:
    """The first token whose text reaches beyond ``offset`` characters; their number if none does.

    Any tokenizer will do: where a token's text ends is the length of what it and those before it
    decode to. White space in front of a word counts as the word's.

    Args:
        tokenizer: The policy's.
        ids: Response tokens, without the end-of-turn token.
        text: What they decode to, without white space at both ends.
        offset: Characters from the start of ``text``.

    Raises:
        VistaError: the tokens do not decode to the text.
    """
    whole = tokenizer.decode(list(ids))
    if whole.strip() != text:
        raise VistaError(f"the tokens decode to {whole.strip()!r}, the text is {text!r}; rerun the rollouts")
    wanted = offset + len(whole) - len(whole.lstrip())
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer.decode(list(ids[: middle + 1]))) > wanted:
            high = middle
        else:
            low = middle + 1
    return low


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a base checkpoint.

    Raises:
        VistaError: it has no ``tokenizer.json``, or is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise VistaError(
            f"{path}: no such file; tokens cannot be told apart without the model's fast tokenizer"
        )
    check_inputs([folder])
    return Tokenizer.from_file(str(path))


# --- resamples ---


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
    """Read samples, resamples and critical tokens, and audit those that need it.

    Raises:
        VistaError: a file is missing or malformed, or a critical token has no failed sample.
    """

    def read(kind: str, name: str, schema: pa.Schema, columns: list[str]) -> pa.Table:
        files = Reads(suite, paths).shards(item.policy, kind, name)
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
    prefixed = item.settings.cuts
    prefixes = _prefixes(resamples, truth, tokenizer)
    return Read(failed, prefixes, made, _queries(samples, made), finds, prefixed)


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

    They are if the first continuation, of which the prefix is the beginning, errs after it or not at all.
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
