"""Control of the *critical token*: prefixes that end where a solution really goes wrong (testbed only).

The prefix ends at the first token that is not the gold rationale's, and the gold token replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vista.chat import gold_ids
from vista.errors import VistaError
from vista.records import Row
from vista.resamplers import ResampleSettings
from vista.resamplers.prefix import FromPrefixes
from vista.settings import MOST
from vista.testbed import questions, rationales


class GoldPrefixSettings(ResampleSettings):
    """Control: prefix resampling that cuts at the true first error, which the gold token replaces."""

    needs_gold = True
    cuts = True
    kind: Literal["gold-prefix"] = Field(
        description="Resample from the gold rationale, up to where the failed one leaves it (testbed only)."
    )
    j: int = Field(3, ge=1, le=MOST, description="Continuations sampled from each prefix.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"gold-prefix-j{self.j}"


class GoldPrefixResampler(FromPrefixes[GoldPrefixSettings]):
    """Cuts where the solution really goes wrong, and puts the right token there.

    If a solution breaks off, the gold rationale's next token is what it lacks. If it contains the
    whole gold rationale but does not end there, there is nothing to continue, as in prefix resampling
    where the policy's best prediction is to end.
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
                "gold-prefix is only for generated tasks (kind: grid)"
            )
        try:
            claims = rationales.rationale(*questions.load(query["scene"]))
        except VistaError as error:
            raise VistaError(f"query {name!r}: {error}") from error
        return gold_ids(self.job.checkpoint.processor, rationales.text(claims))


def gold_prefix(gold: Sequence[int], token_ids: Sequence[int]) -> list[int] | None:
    """``gold`` up to and including the first token that is missing or different in ``token_ids``.

    ``None`` where ``token_ids`` begins with all of it.
    """
    for position, token in enumerate(gold):
        if position == len(token_ids) or token_ids[position] != token:
            return list(gold[: position + 1])
    return None
