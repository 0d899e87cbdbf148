"""Teacher-forced inputs: prompts with given responses, in batches with no padding or little.

For everything that reads from a model rather than samples: critical tokens, attention scores, gains.

Padding is behind the responses. No token of a causal model sees what comes after it, so padding needs no
mask, and positions are those of the row alone. Where there may be padding, a prompt with several responses is
read once for all of them, if that saves more than a pass costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from transformers.cache_utils import DynamicCache

from vista.chat import Prompt
from vista.engines.batching import (
    PADDED_READING,
    BatchSize,
    collate,
    names_of,
    of_tokens,
    packed,
    repeated,
    to_device,
)
from vista.engines.checkpoints import Checkpoint
from vista.engines.seeing import seen_once

Result = TypeVar("Result")
# Tokens that reading a prompt once must save: a pass over the prompt alone costs something itself.
WORTH_A_PASS = 256


@dataclass(frozen=True)
class Forced:
    """A batch of rows for the model to read.

    Attributes:
        rows: Their indices.
        inputs: The model's, on its device, without an attention mask: all tokens of each row or, with a cache
            of the prompt, its last token and the response.
        in_response: [rows, tokens of the inputs], True on response tokens.
        cached: Tokens of each row that are in the cache.
    """

    rows: list[int]
    inputs: dict[str, Any]
    in_response: torch.Tensor
    cached: int = 0


# A pass over the model's inputs, given by name, that is for the cache among them.
Prefill = Callable[..., object]
Make = Callable[[list[int]], Forced]


def read_forced(
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    batch: BatchSize,
    read: Callable[[Forced], Result],
    prefill: Prefill | None = None,
) -> Iterator[tuple[list[int], Result]]:
    """Read batches of rows of equal length or, if the checkpoint allows ``padding``, of near lengths.

    If memory runs out, a batch is read again in halves.

    Args:
        checkpoint: The model.
        prompts: The prompt of each row; one object where it is the same.
        responses: Its response tokens.
        batch: Rows per forward pass.
        read: What is done with a batch.
        prefill: The pass over a prompt that rows share; default: all of the model but its output embedding.

    Yields:
        Indices of the rows, and what ``read`` made of them.

    Raises:
        VistaError: there is not enough memory for one row; names its query.
    """
    alone, shared = _by_prompt(checkpoint, prompts)

    def attempt(left: list[int], make: Make) -> tuple[list[int], Result]:
        rows = left[: batch.size]
        batch.trying(names_of(prompts[row] for row in rows))
        return rows, read(make(rows))

    def plan() -> Iterator[tuple[list[int], Make]]:
        lengths = [len(prompts[row]) + len(responses[row]) for row in alone]
        for places in packed(lengths, batch.size, PADDED_READING if checkpoint.padding else 0.0):
            yield [alone[place] for place in places], partial(forced_batch, checkpoint, prompts, responses)
        for rows in shared:
            prompt = SharedPrompt(checkpoint, prompts[rows[0]], responses, prefill)
            yield sorted(rows, key=lambda row: len(responses[row])), prompt.batch

    for left, make in plan():
        while left:
            rows, result = batch.until_it_fits(partial(attempt, left, make))
            yield rows, result
            left = left[len(rows) :]


def _by_prompt(checkpoint: Checkpoint, prompts: Sequence[Prompt]) -> tuple[list[int], list[list[int]]]:
    """Rows that are read whole, and groups of rows whose prompt is read once."""
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(id(prompt), []).append(row)
    shared = [
        group
        for group in groups.values()
        if checkpoint.padding and (len(group) - 1) * len(prompts[group[0]]) >= WORTH_A_PASS
    ]
    if not shared or not of_tokens(checkpoint.model):
        return [*range(len(prompts))], []
    once = {row for group in shared for row in group}
    return [row for row in range(len(prompts)) if row not in once], shared


def forced_batch(
    checkpoint: Checkpoint, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], rows: list[int]
) -> Forced:
    """``rows`` with all their tokens, padded behind."""
    batch = collate([prompts[row] for row in rows], [responses[row] for row in rows], checkpoint.pad_id)
    del batch["attention_mask"]
    batch = to_device(batch, checkpoint.device)
    in_response = batch.pop("response_mask")
    inputs = seen_once(checkpoint.model, [prompts[row] for row in rows], batch)
    return Forced(rows, inputs, in_response)


class SharedPrompt:
    """A prompt that is read once, when its first responses are.

    Its last token is read with each response, since it is what predicts the first token.

    Args:
        checkpoint: The model.
        prompt: The prompt.
        responses: The responses of all rows, of this prompt or not.
        prefill: See ``read_forced``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompt: Prompt,
        responses: Sequence[Sequence[int]],
        prefill: Prefill | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.prompt = prompt
        self.responses = responses
        self._prefill = checkpoint.model.base_model if prefill is None else prefill
        self._read: tuple[DynamicCache, torch.Tensor] | None = None

    def batch(self, rows: list[int]) -> Forced:
        """These rows, whose prompt it is."""
        if self._read is None:
            self._read = self._read_prompt()
        cache, position = self._read
        device, last = self.checkpoint.device, self.prompt.input_ids[-1:]
        tail = Prompt(last, {}, {})
        inputs = collate([tail] * len(rows), [self.responses[row] for row in rows], self.checkpoint.pad_id)
        inputs = to_device({name: inputs[name] for name in ("input_ids", "response_mask")}, device)
        in_response = inputs.pop("response_mask")
        owners = torch.zeros(len(rows), dtype=torch.long, device=device)
        # A prompt ends in text, where every dimension of the position advances by one.
        positions = position.index_select(-2, owners) + torch.arange(in_response.shape[1], device=device)
        cached = len(self.prompt) - 1
        return Forced(
            rows,
            {**inputs, "position_ids": positions, "past_key_values": repeated(cache, owners)},
            in_response,
            cached,
        )

    def _read_prompt(self) -> tuple[DynamicCache, torch.Tensor]:
        """The cache of all its tokens but the last, and the last one's position [..., 1, 1]."""
        model = self.checkpoint.model
        whole = to_device(collate([self.prompt], [[]], self.checkpoint.pad_id), self.checkpoint.device)
        ids, others = whole["input_ids"], {name: whole[name] for name in whole if name != "input_ids"}
        del others["response_mask"]
        positions = model._prepare_position_ids_for_generation(ids, others)
        del others["attention_mask"]
        cut = {name: others[name][:, :-1] for name in self.prompt.token_features}
        cache = DynamicCache(config=model.config)
        self._prefill(
            **{**others, **cut},
            input_ids=ids[:, :-1],
            position_ids=positions[..., :-1],
            past_key_values=cache,
            use_cache=True,
        )
        return cache, positions[..., -1:]
