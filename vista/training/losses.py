"""The paper's losses as functions of log-probabilities, one value for each sequence or pair.

For ``vista train``; ``trainers`` averages them over everything in an optimiser step.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def sequence_nll(log_probs: Tensor, counted: Tensor) -> Tensor:
    """Negative log-likelihood per response token, of each sequence (paper: Sec. 3, step 4).

    −log M(r, y | x) / (|r| + |y|). The end token is part of the response.

    Args:
        log_probs: [sequences, positions], 0 where nothing is counted.
        counted: [sequences, positions], True on response tokens.

    Returns:
        [sequences]; its mean over all sequences of a step is the SFT loss. 0 where nothing counts.
    """
    return -log_probs.sum(dim=1) / counted.sum(dim=1).clamp(min=1)


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
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return functional.logsigmoid(beta * margin).neg()


def dpo_with_nll(
    log_probs: Tensor, counted: Tensor, reference: tuple[Tensor, Tensor], beta: float, alpha: float
) -> Tensor:
    """DPO + α · NLL of the chosen response per token (paper: Sec. 3, step 4; Pang et al. 2024).

    Args:
        log_probs: [2 · pairs, positions], first all chosen responses, then all rejected ones.
        counted: The same shape, True on response tokens.
        reference: Log-probabilities of chosen and rejected under the reference model, [pairs] each.
        beta: DPO's inverse temperature.
        alpha: Weight of the NLL.

    Returns:
        [pairs].
    """
    chosen, rejected = log_probs.sum(dim=1).chunk(2)
    nll, _ = sequence_nll(log_probs, counted).chunk(2)
    loss: Tensor = dpo(chosen, rejected, *reference, beta) + alpha * nll
    return loss
