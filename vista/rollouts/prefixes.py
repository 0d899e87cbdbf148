"""Resampling from a part of each failed solution: VISTA's way, and two controls of where to cut.

Stage ``rollouts``, part of ``vista resample``. All three sample J continuations of a prefix behind the
prompt in its original order, and differ in the prefix alone:

* ``prefix`` ends at the critical token, which the Top-1 prediction replaces (paper: Sec. 3, step 2);
* ``random-prefix`` ends at a random token, which the Top-1 prediction replaces just so;
* ``gold-prefix`` ends at the first token that is not the gold rationale's, which the gold one replaces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import pyarrow as pa

from vista.chat import Order, Prompt, gold_ids
from vista.config import GoldPrefixResample, PrefixResample, RandomPrefixResample
from vista.errors import VistaError
from vista.records import CRITICAL, Row
from vista.rollouts.critical import Critical, critical_tokens, read_predictions
from vista.rollouts.policy import encode_queries
from vista.rollouts.resamplers import Attempt, Resampler
from vista.rollouts.shards import asked_by
from vista.seeding import generator
from vista.testbed import questions, rationales

Settings = TypeVar("Settings", bound=PrefixResample | RandomPrefixResample | GoldPrefixResample)


class FromPrefixes(Resampler[Settings]):
    """Continues a prefix of each failed sample; what the prefix is, a subclass says."""

    @abstractmethod
    def prefixes(self, queries: Sequence[Row], failed: Sequence[Row]) -> list[list[int] | None]:
        """The prefix of each failed sample; ``None`` where there is nothing to continue.

        Args:
            queries: The queries of the failed samples.
            failed: The failed samples.
        """

    def run(self, queries: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
        """J continuations of every prefix, in the order of the samples.

        Prefixes come first, since an engine may take the memory of the model that finds them.
        """
        failed = [row for row in samples if not row["correct"]]
        queries = asked_by(queries, failed)
        found = self.prefixes(queries, failed)
        prompts = encode_queries(self.job.checkpoint, queries, self.job.sampling.max_new_tokens)
        by_id = {q["query_id"]: (q, prompt) for q, prompt in zip(queries, prompts, strict=True)}
        return self.sample(
            [
                Attempt(
                    *by_id[row["query_id"]],
                    seeds=[self.seed(row["query_id"], j, row["sample"]) for j in range(self.settings.j)],
                    prefix=prefix,
                    parent=row["sample"],
                )
                for row, prefix in zip(failed, found, strict=True)
                if prefix is not None
            ]
        )

    def forced(
        self, queries: Sequence[Row], failed: Sequence[Row], order: Order
    ) -> tuple[list[Prompt], list[list[int]]]:
        """What the policy reads, teacher-forced: for each failed solution, its prompt and its tokens."""
        responses = [row["token_ids"] for row in failed]
        longest = max(map(len, responses), default=0)
        prompts = encode_queries(self.job.checkpoint, queries, longest, order)
        by_id = {query["query_id"]: prompt for query, prompt in zip(queries, prompts, strict=True)}
        return [by_id[row["query_id"]] for row in failed], responses

    def corrected(self, row: Row, critical: Critical | None) -> list[int] | None:
        """``corrected_prefix``, where the prediction is not to end: then there is nothing to continue."""
        if critical is None or critical.replacement in self.job.checkpoint.end_ids:
            return None
        return corrected_prefix(row["token_ids"], critical)


class PrefixResampler(FromPrefixes[PrefixResample]):
    """VISTA's prefix resampling (paper: Sec. 3, step 2); keeps the critical tokens it found."""

    source = "prefix"
    reads_model = True
    asides: ClassVar[dict[str, pa.Schema]] = {"critical": CRITICAL}

    def prefixes(self, queries: Sequence[Row], failed: Sequence[Row]) -> list[list[int] | None]:
        """Each solution up to the first token that the policy would not expect."""
        prompts, responses = self.forced(queries, failed, self.settings.order)
        job, top_k = self.job, self.settings.top_k
        found = critical_tokens(job.checkpoint, prompts, responses, top_k, job.batch_size)
        self.aside_rows["critical"] = [
            _critical_row(row, critical) for row, critical in zip(failed, found, strict=True)
        ]
        return [self.corrected(row, critical) for row, critical in zip(failed, found, strict=True)]


class RandomPrefixResampler(FromPrefixes[RandomPrefixResample]):
    """Control of the *position*: a random token takes the critical token's part, all else is the same.

    Cut are the failed solutions that the matched prefix resampling has continued, and no others.
    """

    source = "random-prefix"
    reads_model = True

    def prefixes(self, queries: Sequence[Row], failed: Sequence[Row]) -> list[list[int] | None]:
        """Each solution up to a token drawn uniformly from its own, which the Top-1 replaces."""
        continued = {(row["query_id"], row["parent"]) for row in self.job.matched}
        # One that was continued has a critical token, so it has tokens.
        tried = [number for number, row in enumerate(failed) if (row["query_id"], row["sample"]) in continued]
        cut = [failed[number] for number in tried]
        prompts, responses = self.forced(queries, cut, self.settings.order)
        read = read_predictions(self.job.checkpoint, prompts, responses, self.job.batch_size)
        found: list[list[int] | None] = [None] * len(failed)
        for number, row, predictions in zip(tried, cut, read, strict=True):
            position = self.position(row)
            found[number] = self.corrected(row, Critical(position, predictions.best[position]))
        return found

    def position(self, row: Row) -> int:
        """Where a failed solution is cut, drawn from a stream of its own."""
        stream = generator(self.source, "position", self.job.policy.id, row["query_id"], row["sample"])
        return int(stream.integers(len(row["token_ids"])))


class GoldPrefixResampler(FromPrefixes[GoldPrefixResample]):
    """Control of the *critical token*: cut where the solution really goes wrong, and mend it rightly.

    Where a solution breaks off, the gold rationale's next token is what it lacks. Where it holds the
    whole gold rationale and only does not end there, all that is left to mend is the end: there is
    nothing to continue, as where the policy's own best prediction is to end.
    """

    source = "gold-prefix"

    def prefixes(self, queries: Sequence[Row], failed: Sequence[Row]) -> list[list[int] | None]:
        """Gold tokens up to and including the first that the solution does not have in its place."""
        gold = {query["query_id"]: self.gold(query) for query in queries}
        limit = self.job.sampling.max_new_tokens
        found = [gold_prefix(gold[row["query_id"]], row["token_ids"]) for row in failed]
        # A solution cut at the limit may be right as far as it goes: then there is no room.
        return [prefix if prefix is not None and len(prefix) < limit else None for prefix in found]

    def gold(self, query: Row) -> list[int]:
        """Tokens of the gold rationale.

        Raises:
            VistaError: the query has no scene, or not one of the testbed.
        """
        name = query["query_id"]
        if query["scene"] is None:
            raise VistaError(
                f"query {name!r} has no scene, so its gold rationale is not known; resampling of kind "
                "gold-prefix is for generated tasks (kind: grid) alone"
            )
        try:
            claims = rationales.rationale(*questions.load(query["scene"]))
        except VistaError as error:
            raise VistaError(f"query {name!r}: {error}") from error
        return gold_ids(self.job.checkpoint.processor, rationales.text(claims))


def corrected_prefix(token_ids: Sequence[int], critical: Critical) -> list[int]:
    """A solution up to its critical token, which the Top-1 prediction replaces (paper: Sec. 3, step 2)."""
    return [*token_ids[: critical.position], critical.replacement]


def gold_prefix(gold: Sequence[int], token_ids: Sequence[int]) -> list[int] | None:
    """``gold`` up to and including the first token that ``token_ids`` lacks or has otherwise.

    ``None`` where ``token_ids`` begins with all of it.
    """
    for position, token in enumerate(gold):
        if position == len(token_ids) or token_ids[position] != token:
            return list(gold[: position + 1])
    return None


def _critical_row(row: Row, critical: Critical | None) -> Row:
    return {
        "query_id": row["query_id"],
        "task": row["task"],
        "sample": row["sample"],
        "critical_token": None if critical is None else critical.position,
        "replacement": None if critical is None else critical.replacement,
    }
