"""Drawing one token for each row: softmax, inverse CDF, and the log-probability of what came.

Each row brings its own uniform number, and nothing here depends on the other rows: a token is
the same whatever batch its row is in. Serves ``hf.HfEngine``.
"""

from __future__ import annotations

import torch

CHUNK = 2**24  # logits widened to float64 at a time: 128 MB


def draw(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, forbidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a token for each row of ``logits``.

    Args:
        logits: [rows, vocabulary].
        uniforms: [rows] float64 in [0, 1); ignored at temperature 0.
        temperature: 0 takes the likeliest token.
        forbidden: Ids of tokens that cannot come.

    Returns:
        Token ids [rows], and their log-probabilities [rows] (float64) at temperature 1 among the
        tokens that can come.
    """
    size = max(1, CHUNK // logits.shape[1])
    if logits.shape[0] <= size:
        return _draw(logits, uniforms, temperature, forbidden)
    parts = [
        _draw(logits[start : start + size], uniforms[start : start + size], temperature, forbidden)
        for start in range(0, logits.shape[0], size)
    ]
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([logprobs for _, logprobs in parts])


def _draw(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, forbidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    masked = logits.double().index_fill_(1, forbidden, -torch.inf)
    logprobs = masked.log_softmax(1)
    if temperature == 0:
        tokens = masked.argmax(1)
    else:
        # At temperature 1 the softmax is at hand.
        tempered = logprobs.exp() if temperature == 1 else (masked / temperature).softmax(1)
        tokens = invert_cdf(tempered, uniforms)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def invert_cdf(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative probability exceeds its row's uniform number.

    A token of probability 0 never comes: its cumulative probability is its predecessor's.

    Args:
        probabilities: [rows, vocabulary] float64; a sum that is off 1 by rounding is allowed for.
        uniforms: [rows] float64 in [0, 1).
    """
    cumulative = probabilities.cumsum(1)
    total = cumulative[:, -1:]
    # The product may round up to the total, which no cumulative probability exceeds.
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniforms[:, None] * total, below_total)
    tokens = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # Beyond the end only where probabilities are NaN: the log-probability then tells.
    return tokens.clamp_(max=probabilities.shape[1] - 1)
