"""A step by the operations alone against the model's own forward: the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.nano import ARCHITECTURES, checkpoint, own_checkpoint, query
from vista.chat import encode_query
from vista.engines import hf
from vista.engines.base import Request
from vista.engines.checkpoints import Checkpoint
from vista.engines.hf import HfEngine
from vista.engines.stepping import Bare, Whole, step_of

KNOWN = ("qwen2.5-vl", "internvl")


def asked(made: Checkpoint, count: int, seeds: int) -> list[Request]:
    prompts = [encode_query(made.processor, query(i, words=4 + i % 2)) for i in range(count)]
    made_up = [Request(prompt, [100 * i + seed for seed in range(seeds)]) for i, prompt in enumerate(prompts)]
    return [*made_up, Request(prompts[0], [7, 8], prefix=[20, 21, 22])]


@pytest.mark.parametrize("architecture", KNOWN)
def test_bare_steps_give_the_same_bits_as_the_models_own_forward(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint(architecture)
    found: dict[type, Any] = {}
    for kind in (Whole, Bare):
        monkeypatch.setattr(hf, "step_of", kind)
        # Rows of one to many prompts, that shrink as they end; greedily and at random.
        found[kind] = [
            HfEngine(made, size).sample(asked(made, 8, 3), temperature, 24)
            for size in (8, 64)
            for temperature in (0.0, 1.0)
        ]
    assert found[Bare] == found[Whole]


@pytest.mark.parametrize("architecture", KNOWN)
def test_every_logit_of_bare_steps_is_the_same(architecture: str) -> None:
    model = checkpoint(architecture).model
    states = torch.Generator().manual_seed(0)
    rows, vocabulary = 9, model.get_output_embeddings().weight.shape[0]
    logits: list[list[torch.Tensor]] = []
    with torch.inference_mode():
        for step in (Whole(model), Bare(model)):
            states.manual_seed(0)
            cache = hf.DynamicCache(config=model.config)
            ids = torch.randint(20, vocabulary, (rows, 12), generator=states)
            positions = torch.arange(12).expand(rows, 12)
            model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
            # Rows at unequal positions, as behind images of unequal shapes.
            place = 12 + torch.arange(rows)[:, None]
            made = []
            for _ in range(20):
                tokens = torch.randint(20, vocabulary, (rows,), generator=states)
                made.append(step(tokens, place, cache, None))
                place = place + 1
            logits.append(made)
    assert all(torch.equal(one, other) for one, other in zip(*logits, strict=True))


def test_only_models_whose_forward_is_known_are_stepped_barely() -> None:
    kinds = {architecture: type(step_of(checkpoint(architecture).model)) for architecture in ARCHITECTURES}
    assert kinds == {name: Bare if name in KNOWN else Whole for name in ARCHITECTURES}
    model = own_checkpoint("internvl").model
    own = model.forward
    model.forward = own  # as what wraps a model does
    assert type(step_of(model)) is Whole
    del model.forward
    with_hook = model.get_decoder().layers[0].mlp.register_forward_hook(lambda *_: None)
    assert type(step_of(model)) is Whole
    with_hook.remove()
    assert type(step_of(model)) is Bare
    assert type(step_of(model.double())) is Whole
    model.float().get_decoder().config._attn_implementation = "eager"
    assert type(step_of(model)) is Whole
