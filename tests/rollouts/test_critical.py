"""Critical tokens against a loop written straight from the method's description."""

from __future__ import annotations

import pytest
import torch

from tests.nano import ARCHITECTURES, SQUARE, STRIP, checkpoint, query
from vista.chat import Order, Prompt, encode_query
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.resamplers import prefix
from vista.resamplers.prefix import Critical, critical_tokens

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def logits_of(made: Checkpoint, prompt: Prompt, response: list[int]) -> torch.Tensor:
    """[response tokens, vocabulary]: what the whole model predicts for each of them."""
    batch = collate([prompt], [response], made.pad_id)
    del batch["response_mask"]
    with torch.no_grad():
        logits: torch.Tensor = made.model(**batch, use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1]


def by_the_book(made: Checkpoint, prompt: Prompt, response: list[int], top_k: int) -> Critical | None:
    """The first token of the response that is not in the Top-k predicted for its position."""
    for position, logits in enumerate(logits_of(made, prompt, response)):
        logits[made.forbidden_ids] = -torch.inf
        best = logits.topk(top_k).indices.tolist()
        if response[position] not in best:
            return Critical(position, best[0])
    return None


def material(made: Checkpoint, order: Order) -> tuple[list[Prompt], list[list[int]]]:
    """Prompts with likely responses: greedy ones with some tokens replaced by random ones."""
    random = torch.Generator().manual_seed(0)
    allowed = list(range(12, made.model.config.get_text_config().vocab_size))
    prompts, responses = [], []
    for number in range(12):
        shape = STRIP if number % 2 else SQUARE
        prompt = encode_query(made.processor, query(number, words=4 + number % 3, size=shape), order)
        response: list[int] = []
        for position in range(3 + number % 4):
            logits = logits_of(made, prompt, [*response, allowed[0]])[-1]
            rank = int(torch.randint(0, 4, (1,), generator=random)) if position > number % 3 else 0
            response.append([t for t in logits.argsort(descending=True).tolist() if t in allowed][rank])
        prompts.append(prompt)
        responses.append(response)
    responses[5] = []
    return prompts, responses


@every_architecture
@pytest.mark.parametrize("order", ["swapped", "original"])
def test_critical_tokens_are_the_first_outside_the_top_k(architecture: str, order: Order) -> None:
    made = checkpoint(architecture)
    prompts, responses = material(made, order)
    for top_k in (1, 2, 5):
        expected = [by_the_book(made, p, r, top_k) for p, r in zip(prompts, responses, strict=True)]
        assert critical_tokens(made, prompts, responses, top_k, batch_size=5) == expected
        positions = {None if found is None else found.position for found in expected}
        assert len(positions) > 1 or top_k == 5


def test_chunks_of_the_output_embedding_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoint("qwen2.5-vl")
    prompts, responses = material(made, "swapped")
    whole = critical_tokens(made, prompts, responses, 1, batch_size=64)
    monkeypatch.setattr(prefix, "CHUNK", 600)
    assert critical_tokens(made, prompts, responses, 1, batch_size=64) == whole


def test_a_response_without_tokens_has_no_critical_token() -> None:
    made = checkpoint("internvl")
    prompt = encode_query(made.processor, query(0), "swapped")
    assert critical_tokens(made, [prompt], [[]], 1, batch_size=4) == [None]
    assert critical_tokens(made, [], [], 1, batch_size=4) == []
