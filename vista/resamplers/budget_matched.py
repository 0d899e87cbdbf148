"""Control of the *budget*: as many plain samples as prefix resampling pays for.

With ``match: samples`` a query is sampled as often as prefix resampling has continued a solution to it.
With ``match: tokens`` its budget is what prefix resampling has *drawn* for it: the tokens of its
continuations, end tokens too, without the prefixes, which were given. The pass that finds the critical
tokens draws none, so prefix resampling gets it for free. Plain samples come in the order of their
numbers, and the last of them is the one that first reaches the budget, or the one before if that is
strictly nearer to it. So a query's cost is off by half a sample at most, to either side.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vista.records import Row
from vista.resamplers import Attempt, Resampler
from vista.resamplers.prefix import MatchedSettings
from vista.solutions import asked_by
from vista.verdicts import drawn_tokens

if TYPE_CHECKING:
    from vista.chat import Prompt


class BudgetMatchedSettings(MatchedSettings):
    """Control: as many plain samples as prefix resampling pays for, in tokens or in solutions."""

    kind: Literal["budget-matched"] = Field(
        description="Plain samples, as many as prefix resampling of these settings pays for."
    )
    match: Literal["tokens", "samples"] = Field(
        "tokens",
        description="For each query, the tokens that are drawn (prefixes are given), or the number of "
        "solutions.",
    )

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"{'budget' if self.match == 'tokens' else 'number'}-of-{self.matched.slug}"


class BudgetMatchedResampler(Resampler[BudgetMatchedSettings]):
    """Samples each query again, with its ordinary prompt: as many tokens or samples as prefix resampling.

    It has its own random streams, so these samples are not the first K.
    """

    source = "plain"

    def run(self, queries: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
        """As many plain samples of each query as its budget affords, in the order of the queries."""
        if self.settings.match == "samples":
            return self._as_many(queries)
        budgets = total_tokens(self.job.matched)
        asked = asked_by(queries, self.job.matched)
        prompts = self.encode(asked)
        wanted = {query["query_id"]: (query, prompt) for query, prompt in zip(asked, prompts, strict=True)}
        typical = mean_tokens(samples)
        drawn: dict[str, list[Row]] = {query_id: [] for query_id in wanted}
        kept = {query_id: affordable([], budgets[query_id]) for query_id in wanted}
        # In waves of about what is missing, so that little is drawn in vain; a sample depends on its
        # number, not on its wave.
        while missing := [query_id for query_id, count in kept.items() if count is None]:
            attempts = [
                self._wave(*wanted[name], drawn[name], budgets[name], typical[name]) for name in missing
            ]
            for row in self.sample(attempts):
                drawn[row["query_id"]].append(row)
            for name in missing:
                kept[name] = affordable([drawn_tokens(row) for row in drawn[name]], budgets[name])
        rows = [row for name, every in drawn.items() for row in every[: kept[name]]]
        every_row = [row for every in drawn.values() for row in every]
        self.counts = {
            "budget": sum(budgets.values()),
            "discarded": sum(map(drawn_tokens, every_row)) - sum(map(drawn_tokens, rows)),
        }
        return rows

    def _as_many(self, queries: Sequence[Row]) -> list[Row]:
        """One plain sample of a query for each row of the matched resampling."""
        counts = Counter(row["query_id"] for row in self.job.matched)
        asked = asked_by(queries, self.job.matched)
        prompts = self.encode(asked)
        return self.sample(
            [
                Attempt(
                    query, prompt, [self.seed(query["query_id"], n) for n in range(counts[query["query_id"]])]
                )
                for query, prompt in zip(asked, prompts, strict=True)
            ]
        )

    def _wave(self, query: Row, prompt: Prompt, drawn: list[Row], budget: int, typical: float) -> Attempt:
        """The next samples of a query: as many as would cost what is left if they were typical."""
        left = budget - sum(map(drawn_tokens, drawn))
        numbers = range(len(drawn), len(drawn) + max(1, math.ceil(left / typical)))
        seeds = [self.seed(query["query_id"], number) for number in numbers]
        return Attempt(query, prompt, seeds, first=len(drawn))


def affordable(costs: Sequence[int], budget: int) -> int | None:
    """How many samples, from the first on, come nearest to ``budget``; ``None``: it takes more of them.

    The first total that is not below the budget, or the one before, if that is strictly nearer.

    Args:
        costs: Tokens that each sample cost, in order; at least 1 each.
        budget: Tokens to spend.
    """
    if budget <= 0:
        return 0
    spent = 0
    for number, cost in enumerate(costs):
        before, spent = spent, spent + cost
        if spent >= budget:
            return number + 1 if spent - budget <= budget - before else number
    return None


def total_tokens(rows: Sequence[Row]) -> dict[str, int]:
    """Tokens drawn for each query."""
    totals: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        totals[row["query_id"]] += drawn_tokens(row)
    return dict(totals)


def mean_tokens(rows: Sequence[Row]) -> dict[str, float]:
    """Mean tokens of a sample of each query."""
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["query_id"]] += 1
    return {query_id: total / counts[query_id] for query_id, total in total_tokens(rows).items()}
