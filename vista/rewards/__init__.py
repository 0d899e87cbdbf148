"""Rewards: what a solution is worth to a policy that trains as it samples. For ``vista train``.

A reward is one module here, or in your own package (docs/adding.md): its settings, a subclass of
``RewardSettings`` with a ``kind``, and the class that gives the reward, a ``Reward`` of these settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from vista.records import Row
from vista.settings import Strict


class RewardSettings(Strict):
    """What every reward says about itself besides its settings."""

    needs_scene: ClassVar[bool] = False  # only generated tasks have one
    kind: str


Settings = TypeVar("Settings", bound=RewardSettings)


class Reward(ABC, Generic[Settings]):
    """What a solution is worth."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def of(self, solution: Row, query: Mapping[str, Any]) -> float:
        """The reward of one solution.

        Args:
            solution: As ``records.ROLLOUT``: its text, the answer found in it, whether it is finished and
                correct.
            query: The query that it answers (``records.ASKED``), with its ground truth and, where the
                reward needs it, its scene.
        """
