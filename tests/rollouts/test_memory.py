"""Reading solutions at 2,048 tokens: what is too large to hold is never made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.nano import ARCHITECTURES, WORDS, own_checkpoint, query
from vista.chat import encode_query, messages
from vista.engines.checkpoints import Checkpoint
from vista.resamplers.prefix import critical_tokens
from vista.rollouts import gains
from vista.rollouts.gains import mean_logprobs
from vista.rollouts.score import attention_scores
from vista.segments import segments

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
RESPONSE = 1000  # behind a prompt that fills up the rest
LENGTH = 2048
BATCH = 2


class Watch(TorchDispatchMode):
    """Notes the shape of every tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for part in made if isinstance(made, tuple | list) else (made,):
            if isinstance(part, torch.Tensor):
                self.shapes.add(tuple(part.shape))
        return made


def long_solutions(architecture: str) -> tuple[Checkpoint, list[Any], list[list[int]], list[list[int]]]:
    """Two solutions of 1,000 tokens behind prompts that make them 2,048 tokens long."""
    made = own_checkpoint(architecture)
    short = len(encode_query(made.processor, query(0, words=1)))
    asked = [query(number, words=1 + LENGTH - RESPONSE - short) for number in range(BATCH)]
    prompts = [encode_query(made.processor, one) for one in asked]
    kinds = [segments(made.processor, messages(one), p) for one, p in zip(asked, prompts, strict=True)]
    ids = made.processor.tokenizer.convert_tokens_to_ids(WORDS)
    responses = [[ids[(7 * i + n) % len(ids)] for i in range(RESPONSE)] for n in range(BATCH)]
    assert {len(p) + RESPONSE for p in prompts} == {LENGTH}
    return made, prompts, kinds, responses


def shapes_made(work: Callable[[], object]) -> set[tuple[int, ...]]:
    with Watch() as watch:
        work()
    return watch.shapes


@every_architecture
def test_scoring_at_2048_tokens_holds_no_attention_matrix_and_no_logits(architecture: str) -> None:
    made, prompts, kinds, responses = long_solutions(architecture)
    shapes = shapes_made(lambda: attention_scores(made, prompts, kinds, responses, [0, 1, 2], BATCH))
    assert (BATCH, LENGTH, 128) in shapes, "the watch sees the hidden states"
    heads = made.model.config.get_text_config().num_attention_heads
    whole_matrix = BATCH * heads * LENGTH * LENGTH
    assert max(map(math.prod, shapes)) < whole_matrix / 3
    vocabulary = made.model.get_output_embeddings().weight.shape[0]
    assert not [s for s in shapes if s[-1:] == (vocabulary,) and math.prod(s[:-1]) > 1]


@every_architecture
def test_critical_tokens_at_2048_tokens_make_no_logits_of_the_prompt(architecture: str) -> None:
    made, prompts, _, responses = long_solutions(architecture)
    shapes = shapes_made(lambda: critical_tokens(made, prompts, responses, 1, BATCH))
    vocabulary = made.model.get_output_embeddings().weight.shape[0]
    logits = [math.prod(s[:-1]) for s in shapes if len(s) > 1 and s[-1] == vocabulary]
    assert max(logits) == BATCH * RESPONSE
    heads = made.model.config.get_text_config().num_attention_heads
    assert max(map(math.prod, shapes)) < BATCH * heads * LENGTH * LENGTH / 3


@every_architecture
def test_log_probabilities_at_2048_tokens_make_no_logits_of_the_prompt(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, prompts, _, responses = long_solutions(architecture)
    vocabulary = made.model.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(gains, "CHUNK", 300 * vocabulary)
    shapes = shapes_made(lambda: mean_logprobs(made, prompts, responses, BATCH))
    logits = [math.prod(s[:-1]) for s in shapes if len(s) > 1 and s[-1] == vocabulary]
    assert max(logits) == 300, "as many at a time as a chunk holds"
    heads = made.model.config.get_text_config().num_attention_heads
    assert max(map(math.prod, shapes)) < BATCH * heads * LENGTH * LENGTH / 3


@every_architecture
def test_the_watch_sees_the_matrices_of_eager_attention(architecture: str) -> None:
    made, prompts, _, responses = long_solutions(architecture)
    made.model.set_attn_implementation("eager")
    shapes = shapes_made(lambda: critical_tokens(made, prompts, responses, 1, BATCH))
    made.model.set_attn_implementation("sdpa")
    heads = made.model.config.get_text_config().num_attention_heads
    assert (BATCH, heads, LENGTH, LENGTH) in shapes
