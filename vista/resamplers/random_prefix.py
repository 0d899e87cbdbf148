"""Control of the *position*: a random token instead of the critical token, all else as in ``prefix``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vista.records import Row
from vista.resamplers.prefix import Critical, FromPrefixes, MatchedSettings, read_predictions
from vista.seeding import generator


class RandomPrefixSettings(MatchedSettings):
    """Control: prefix resampling of the same failures, cut at a random token, not at the critical one."""

    reads_model = True
    cuts = True
    kind: Literal["random-prefix"] = Field(
        description="Resample from a prefix of random length, what prefix resampling of these settings does."
    )

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"random-{self.matched.slug}"


class RandomPrefixResampler(FromPrefixes[RandomPrefixSettings]):
    """Cuts the failed solutions that the matched prefix resampling has continued, and no others."""

    source = "random-prefix"

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
        """Where a failed solution is cut, drawn from a separate random stream."""
        stream = generator(self.source, "position", self.job.policy.id, row["query_id"], row["sample"])
        return int(stream.integers(len(row["token_ids"])))
