"""DPO with a length-normalised NLL on the chosen response (paper: Sec. 3, step 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vista.objectives import Objective, ObjectiveSettings, sequence_nll
from vista.settings import Factor

if TYPE_CHECKING:
    from torch import Tensor

    from vista.objectives import Reference


class DpoSettings(ObjectiveSettings):
    """DPO plus a length-normalised NLL on the chosen response (paper: Sec. 3, step 4)."""

    pairs = True
    kind: Literal["dpo"] = Field(description="Preference training on pairs.")
    beta: Factor = Field(0.1, description="DPO's inverse temperature.")
    alpha: float = Field(0.5, ge=0.0, description="Weight of the NLL of the chosen response.")


class Dpo(Objective[DpoSettings]):
    """DPO + α · NLL of the chosen response per token (paper: Sec. 3, step 4; Pang et al. 2024)."""

    needs_reference = True

    def losses(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> Tensor:
        """Of each pair."""
        if reference is None:
            raise ValueError("DPO needs the reference's log-probabilities")
        chosen, rejected = log_probs.sum(dim=1).chunk(2)
        nll, _ = sequence_nll(log_probs, counted).chunk(2)
        return dpo(chosen, rejected, *reference, self.settings.beta) + self.settings.alpha * nll

    def measures(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> dict[str, Tensor]:
        """The implicit rewards β (log π − log π_ref) as well, and whether they rank the pair right."""
        found = super().measures(log_probs, counted, reference)
        if reference is None:
            raise ValueError("DPO needs the reference's log-probabilities")
        chosen = self.settings.beta * (found["logps/chosen"] - reference[0])
        rejected = self.settings.beta * (found["logps/rejected"] - reference[1])
        return {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            **found,
        }


def dpo(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float) -> Tensor:
    """−log σ(β((log π⁺ − log π_ref⁺) − (log π⁻ − log π_ref⁻))), of each pair (Rafailov et al. 2023).

    Args:
        chosen: Log-probability of each chosen response, summed over its tokens [pairs].
        rejected: The same of the rejected response.
        ref_chosen: The same of the chosen response, under the reference model.
        ref_rejected: The same of the rejected response, under the reference model.
        beta: Inverse temperature.

    Returns:
        [pairs].
    """
    from torch.nn.functional import logsigmoid

    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return logsigmoid(beta * margin).neg()
