"""Queries that a policy is asked as it trains, and a reward that a tiny model can learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tests.training.conftest import prompt
from vista.config import GrpoSettings, HfEngineSettings, Sampling
from vista.records import Row
from vista.rewards import Reward, RewardSettings
from vista.training.data import Online

K, LIMIT = 4, 6


class UsSettings(RewardSettings):
    """How many of a response's words begin like the wanted ones: something that a tiny model can learn."""

    kind: Literal["us"] = "us"
    wanted: str = "a"


class Us(Reward[UsSettings]):
    def of(self, solution: Row, query: Mapping[str, Any]) -> float:
        words = solution["text"].split()
        return sum(word.startswith(self.settings.wanted) for word in words) / max(1, len(words))


def asked(query: int, **changes: Any) -> Row:
    images, turns = prompt(query)
    found = {
        "query_id": f"q{query}",
        "task": "closed",
        "images": images,
        "prompt": turns,
        "answer": "au",
        "answer_type": "open",
        "choices": None,
        "answer_mark": None,
        "scene": None,
    }
    return {**found, **changes}


def online(reward: RewardSettings | None = None, k: int = K, **objective: Any) -> Online:
    settings = GrpoSettings(kind="grpo", reward=reward or UsSettings(), **objective)
    return Online(settings, Sampling(k=k, max_new_tokens=LIMIT), HfEngineSettings(kind="hf", batch_size=64))
