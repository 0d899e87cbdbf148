"""STaR's rationalisation: unsolved queries again, with the right answer as a hint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vista.records import Row
from vista.resamplers import Attempt, Resampler, ResampleSettings
from vista.settings import MOST, Temperature, spelled


class RationalizeSettings(ResampleSettings):
    """STaR's rationalisation: the failed query again, with the right answer as a hint."""

    templates = ("hint",)
    kind: Literal["rationalize"] = Field(description="Resample with the answer as a hint.")
    j: int = Field(1, ge=1, le=MOST, description="Rationales sampled per failed query.")
    temperature: Temperature = Field(0.0, description="Sampling temperature; 0 is greedy.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"rationalize-j{self.j}-t{spelled(self.temperature)}"


class RationalizeResampler(Resampler[RationalizeSettings]):
    """Asks queries without a correct sample again, with the answer as a hint.

    The rows have only the response, so nothing that is trained on has a hint.
    """

    source = "rationalize"

    @property
    def temperature(self) -> float:
        """Its own: rationalisations may be greedy where samples are not."""
        return self.settings.temperature

    def run(self, queries: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
        """J rationales of every unsolved query."""
        from vista.wording import hinted

        solved = {row["query_id"] for row in samples if row["correct"]}
        failed = [query for query in queries if query["query_id"] not in solved]
        prompts = self.encode([hinted(query, self.job.wording) for query in failed])
        return self.sample(
            [
                Attempt(query, prompt, [self.seed(query["query_id"], j) for j in range(self.settings.j)])
                for query, prompt in zip(failed, prompts, strict=True)
            ]
        )
