"""Objectives: what training minimises. A part of stage ``training``; ``vista train`` minimises them.

An objective is one module here, or in your own package (docs/adding.md): its settings, a subclass of
``ObjectiveSettings`` with a ``kind``, and the loss, an ``Objective`` of these settings. Examples and pairs,
averages over a step, processes, adapters and resuming come with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from vista.settings import Strict

if TYPE_CHECKING:  # the config reads settings, and is free of torch
    from torch import Tensor

    Reference = tuple[Tensor, Tensor]


class ObjectiveSettings(Strict):
    """What every objective says about itself besides its settings."""

    # Trained on pairs of a positive and a negative, with the suite's `training.dpo`; or on positives,
    # with `training.sft`.
    pairs: ClassVar[bool] = False
    kind: str


Settings = TypeVar("Settings", bound=ObjectiveSettings)


class Objective(ABC, Generic[Settings]):
    """A loss with its settings."""

    # Whether it needs log-probabilities under the checkpoint that training starts from; pairs only.
    needs_reference: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def losses(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> Tensor:
        """The loss of each example or pair; the mean over an optimiser step is minimised.

        Args:
            log_probs: [sequences, positions], 0 where nothing is counted. Of pairs first all chosen
                responses, then all rejected ones.
            counted: The same shape, True on response tokens.
            reference: Where it is needed, log-probabilities of chosen and rejected responses under the
                reference model, summed over tokens, [pairs] each.

        Returns:
            [examples] or [pairs].
        """

    def measures(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> dict[str, Tensor]:
        """What is logged beside the loss, under TRL's names: a number of each example or pair.

        Of pairs, the log-probabilities of both responses. Arguments are those of ``losses``.
        """
        if not self.settings.pairs:
            return {}
        chosen, rejected = log_probs.sum(dim=1).chunk(2)
        return {"logps/chosen": chosen, "logps/rejected": rejected}


def sequence_nll(log_probs: Tensor, counted: Tensor) -> Tensor:
    """Negative log-likelihood per response token, of each sequence (paper: Sec. 3, step 4).

    −log M(r, y | x) / (|r| + |y|). The end token is part of a response that ended; one that was cut at the
    length limit has none.

    Args:
        log_probs: [sequences, positions], 0 where nothing is counted.
        counted: [sequences, positions], True on response tokens.

    Returns:
        [sequences]; its mean over all sequences of a step is the SFT loss. 0 where nothing counts.
    """
    return -log_probs.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
