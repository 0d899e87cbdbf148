"""What is minimised: the loss of each example or pair, by the name that a method gives it.

They serve ``vista train``. An objective of your own is a class here and a line in ``OBJECTIVES``
(docs/adding.md); examples and pairs, averages over a step, processes, adapters and resuming come with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from torch import Tensor

from vista.config import BaseObjective, DpoObjective, SftObjective
from vista.training.losses import dpo_with_nll, sequence_nll

Settings = TypeVar("Settings", bound=BaseObjective)
Reference = tuple[Tensor, Tensor]


class Objective(ABC, Generic[Settings]):
    """A loss with its settings."""

    # Whether it asks for log-probabilities under the checkpoint that training starts from; pairs only.
    needs_reference = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def losses(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> Tensor:
        """The loss of each example or pair; the mean over an optimiser step is minimised.

        Args:
            log_probs: [sequences, positions], 0 where nothing is counted. Of pairs first all chosen
                responses, then all rejected ones.
            counted: The same shape, True on response tokens.
            reference: Where it is asked for, log-probabilities of chosen and rejected responses under the
                reference model, summed over tokens, [pairs] each.

        Returns:
            [examples] or [pairs].
        """


class Sft(Objective[SftObjective]):
    """The mean over sequences of the mean over their tokens (paper: Sec. 3, step 4)."""

    def losses(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> Tensor:
        """Of each example."""
        return sequence_nll(log_probs, counted)


class Dpo(Objective[DpoObjective]):
    """DPO + α · NLL, the NLL per sequence (paper: Sec. 3, step 4)."""

    needs_reference = True

    def losses(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> Tensor:
        """Of each pair."""
        if reference is None:
            raise ValueError("DPO needs the reference's log-probabilities")
        return dpo_with_nll(log_probs, counted, reference, self.settings.beta, self.settings.alpha)


OBJECTIVES: dict[str, type[Objective[Any]]] = {
    "sft": Sft,
    "dpo": Dpo,
}


def make_objective(settings: BaseObjective) -> Objective[BaseObjective]:
    """The objective that these settings ask for."""
    return OBJECTIVES[settings.kind](settings)
