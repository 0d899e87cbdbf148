"""Where the seed split's rationales are from (``seed_rationales`` of a suite)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vista.config.methods import Sampling
from vista.config.models import BaseAddress
from vista.settings import Name, Strict, Temperature, UserPath


class AnnotatedRationales(Strict):
    """Rationales of the seed split that come with the task, or from a file."""

    kind: Literal["annotated"] = Field("annotated", description="Rationales that somebody wrote.")
    files: dict[Name, UserPath] = Field(
        {},
        description="By task, a JSON-lines or parquet file with `query_id` and `rationale`; "
        "generated tasks bring their own.",
    )


class TeacherRationales(Strict):
    """Rationales of the seed split from another model, kept if their answer is right."""

    kind: Literal["teacher"] = Field(description="Ask a model at an OpenAI-compatible endpoint.")
    endpoint: BaseAddress | None = Field(
        None,
        exclude_if=lambda endpoint: endpoint is None,
        description="Base URL, such as http://localhost:8000/v1. Left out: that of a server of your own, "
        "which the file `address` in `cache` holds; then no reply and no output depends on where it runs.",
    )
    model: str = Field(description="Name of the model there.")
    cache: UserPath = Field(description="Folder that keeps every reply, so that none is paid for twice.")
    max_requests: int = Field(
        ge=1, description="The budget of one task: requests that may be sent, over all starts of the job."
    )
    attempts: int = Field(4, ge=1, description="Replies asked for, per query, until one is right.")
    temperature: Temperature = Field(0.7, description="Sampling temperature.")
    max_new_tokens: int = Field(2048, ge=1, description="Length limit of a reply, in tokens.")
    api_key_variable: str = Field("VISTA_TEACHER_KEY", description="Environment variable with the key.")
    timeout: float = Field(120.0, ge=0.001, le=1e6, description="Seconds to wait for a reply.")
    parallel: int = Field(4, ge=1, description="Requests sent at the same time.")


class SelfRationales(Strict):
    """Rationales of the seed split from the base model itself, kept if their answer is right."""

    kind: Literal["self"] = Field(description="Sample the base model on the seed split.")
    rollouts: Sampling = Field(default_factory=lambda: Sampling(), description="How to sample.")
    max_per_query: int = Field(1, ge=1, description="At most this many right ones per query, at random.")


SeedRationales = Annotated[
    AnnotatedRationales | TeacherRationales | SelfRationales, Field(discriminator="kind")
]
