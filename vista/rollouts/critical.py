"""The critical token of a failed solution: where it first left the Top-k (paper: Sec. 3, step 2).

Stage ``rollouts``, part of ``vista resample``. Neither the ground truth nor another model is
asked: the policy reads its own solution again, teacher-forced, behind a paraphrased prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from vista.chat import Prompt
from vista.engines.batching import BatchSize, apply_to_rows
from vista.engines.checkpoints import Checkpoint
from vista.engines.forced import read_forced

CHUNK = 2**23  # logits held at a time: 32 MB in float32


@dataclass(frozen=True)
class Critical:
    """The first response token outside the Top-k for its position, and the Top-1 prediction there."""

    position: int  # 0-based, in the response
    replacement: int  # a token id; an end token if the model would have stopped there


@dataclass(frozen=True)
class Predictions:
    """What the policy predicts at each token of a response that it reads, teacher-forced."""

    ranks: list[int]  # of the response's own tokens, 0 for the likeliest
    best: list[int]  # the likeliest tokens


def critical_tokens(
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    top_k: int,
    batch_size: int,
) -> list[Critical | None]:
    """The critical token of each response; ``None`` where all tokens are in the Top-k.

    Only the tokens of the response itself can be critical, not the end token behind it. Tokens
    that the policy may not sample are not among its predictions here either.

    Args:
        checkpoint: The policy.
        prompts: The prompt that each response is read behind.
        responses: Token ids of the failed solutions.
        top_k: How many predictions count as likely.
        batch_size: Responses per forward pass.
    """
    found: list[Critical | None] = []
    for read in read_predictions(checkpoint, prompts, responses, batch_size):
        outside = (position for position, rank in enumerate(read.ranks) if rank >= top_k)
        position = next(outside, None)
        found.append(None if position is None else Critical(position, read.best[position]))
    return found


def read_predictions(
    checkpoint: Checkpoint, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], batch_size: int
) -> list[Predictions]:
    """Predictions at the tokens of each response, which the policy reads behind its prompt.

    Args:
        checkpoint: The policy.
        prompts: The prompt that each response is read behind.
        responses: Token ids, without the end token.
        batch_size: Responses per forward pass.
    """
    found = [Predictions([], []) for _ in responses]
    asked = [index for index, response in enumerate(responses) if len(response)]
    own_prompts, own_responses = [prompts[i] for i in asked], [responses[i] for i in asked]

    def read(rows: list[int], batch: dict[str, torch.Tensor], in_response: torch.Tensor) -> list[Predictions]:
        hidden = checkpoint.model.base_model(**batch, use_cache=False).last_hidden_state
        # A token is predicted from the position before it.
        ranks, best = predictions(
            checkpoint, hidden[:, :-1][in_response[:, 1:]], batch["input_ids"][in_response]
        )
        lengths = [len(own_responses[row]) for row in rows]
        parts = zip(torch.split(ranks, lengths), torch.split(best, lengths), strict=True)
        return [Predictions(rank.tolist(), top.tolist()) for rank, top in parts]

    batch_of = BatchSize(batch_size, "reading solutions")
    with (
        torch.inference_mode(),
        tqdm(total=len(asked), desc="read", unit=" solutions", mininterval=5) as bar,
    ):
        for rows, made in read_forced(checkpoint, own_prompts, own_responses, batch_of, read):
            for row, each in zip(rows, made, strict=True):
                found[asked[row]] = each
            bar.update(len(rows))
    return found


def predictions(
    checkpoint: Checkpoint, hidden: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How each token ranks among the predictions from its hidden state, and which is the first.

    The output embedding is applied in chunks, so logits for all positions never stand in memory.
    What some families do to logits after it (scaling, soft-capping) leaves their order as it is.

    Args:
        checkpoint: The policy.
        hidden: [tokens, width] last hidden states of the positions before the tokens.
        tokens: [tokens] token ids.

    Returns:
        Ranks [tokens], 0 for the likeliest; and the likeliest token ids [tokens].
    """
    head = checkpoint.model.get_output_embeddings()
    forbidden = torch.tensor(checkpoint.forbidden_ids, dtype=torch.long, device=hidden.device)
    size = max(1, CHUNK // head.weight.shape[0])
    ranks, best = [], []
    for states, wanted in zip(torch.split(hidden, size), torch.split(tokens, size), strict=True):
        logits = apply_to_rows(head, states).float().index_fill_(1, forbidden, -torch.inf)
        own = logits.gather(1, wanted[:, None])
        ranks.append((logits > own).sum(1))
        best.append(logits.argmax(1))
    return torch.cat(ranks), torch.cat(best)
