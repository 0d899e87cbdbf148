"""Three made-up queries with responses, and what a model makes of them: what ``vista.fitness`` checks with.

Their images are drawn here, so that a check needs no data.
"""

from __future__ import annotations

import copy
import io
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from vista import chat
from vista.engines.batching import collate, of_tokens, to_device
from vista.engines.checkpoints import Checkpoint
from vista.engines.forced import SharedPrompt, forced_batch
from vista.records import Row
from vista.seeding import generator

# Differences allowed, relative to the size of the logits, by the type of the weights.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
SIZES = ((96, 64), (96, 64), (64, 64))  # of the queries' images: two alike, one of another shape
SYSTEM = "You answer questions about a picture. Think first."
QUESTION = "What is in row 3 of the picture?"
TOKENS = (6, 6, 4)  # of the queries' responses


def query(number: int, size: tuple[int, int], system: str | None = SYSTEM) -> Row:
    """A query (``records.QUERY``) about an image of one colour in each half, with some noise."""
    numbers = generator("fitness", number)
    width, height = size
    pixels = np.empty((height, width, 3))
    pixels[: height // 2], pixels[height // 2 :] = numbers.integers(0, 256, 3), numbers.integers(0, 256, 3)
    pixels += numbers.integers(-40, 41, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format="PNG")
    return {
        "query_id": f"check {number}",
        "images": [{"bytes": file.getvalue(), "path": None}],
        "system": system,
        "instruction": QUESTION,
    }


class Probe:
    """A checkpoint, three queries with responses, and the logits of each response when it is alone."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        system = SYSTEM if takes_system(checkpoint.processor) else None
        self.rows = [query(number, size, system) for number, size in enumerate(SIZES)]
        self.prompts = [chat.encode_query(checkpoint.processor, row) for row in self.rows]
        barred = {*checkpoint.forbidden_ids, *checkpoint.end_ids}
        size = min(
            checkpoint.model.get_output_embeddings().weight.shape[0], len(checkpoint.processor.tokenizer)
        )
        allowed = [token for token in range(size) if token not in barred]
        self.responses = [
            [int(token) for token in generator("responses", number).choice(allowed, count)]
            for number, count in enumerate(TOKENS)
        ]

    def logits(self, prompt: chat.Prompt, response: Sequence[int]) -> torch.Tensor:
        """Of the response's tokens and of the one after them, in one pass: [tokens + 1, vocabulary]."""
        batch = collate([prompt], [response], self.checkpoint.pad_id)
        return self.read(batch)[0]

    def in_batches(self) -> list[tuple[int, torch.Tensor]]:
        """By query, the logits of its response in the batches of those who read solutions."""
        checkpoint, prompts, responses = self.checkpoint, self.prompts, self.responses
        together = [[0, 1]] if len(prompts[0]) == len(prompts[1]) else []
        together += [[0, 1, 2]] if checkpoint.padding else []
        found: list[tuple[int, torch.Tensor]] = []
        for rows in together:
            each = forced_batch(checkpoint, prompts, responses, rows)
            found += enumerate(self._of_responses(each.inputs, each.in_response))
        if checkpoint.padding and of_tokens(checkpoint.model):
            for row, prompt in enumerate(prompts):
                each = SharedPrompt(checkpoint, prompt, responses).batch([row, 2])
                found.append((row, self._of_responses(each.inputs, each.in_response)[0]))
        return found

    def read(self, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """For each row of a batch, the logits from its prompt's last token to its response's last."""
        own = to_device(batch, self.checkpoint.device)
        in_response = own.pop("response_mask")
        return self._of_responses(own, in_response)

    def _of_responses(self, own: dict[str, Any], in_response: torch.Tensor) -> list[torch.Tensor]:
        counts = in_response.sum(1).tolist()
        logits = self.checkpoint.model(**own).logits
        mask = own.get("attention_mask", torch.ones_like(own["input_ids"]))
        # A response may be empty, and the padding behind one need not be masked.
        marks = [said if said.any() else row for said, row in zip(in_response, mask, strict=True)]
        ends = [int(row.nonzero()[-1]) + 1 for row in marks]
        return [
            row[end - count - 1 : end].double() for row, end, count in zip(logits, ends, counts, strict=True)
        ]

    @cached_property
    def alone(self) -> list[torch.Tensor]:
        """The logits of each query's response in a pass of its own."""
        return [self.logits(*pair) for pair in zip(self.prompts, self.responses, strict=True)]

    @cached_property
    def other(self) -> torch.Tensor:
        """The logits of the second query's response to the first query's image."""
        return self.logits(self.prompts[0], self.responses[1])

    @property
    def tolerance(self) -> float:
        """What may differ, as a share of the logits' size."""
        return TOLERANCES.get(self.checkpoint.model.dtype, TOLERANCES[torch.bfloat16])

    def scale(self, number: int) -> float:
        """The size of a response's logits: their standard deviation over the vocabulary, at least 1."""
        return max(1.0, float(self.alone[number].std(1).mean()))

    def log_probs(self, logits: torch.Tensor, tokens: Sequence[int], masked: bool = False) -> torch.Tensor:
        """Of tokens, from the logits before each; ``masked``: among those that a response may have."""
        if masked:
            forbidden = torch.tensor(self.checkpoint.forbidden_ids, device=logits.device)
            logits = logits.index_fill(1, forbidden.long(), -torch.inf)
        chosen = torch.tensor(list(tokens), device=logits.device)[:, None]
        return logits[: len(tokens)].log_softmax(1).gather(1, chosen)[:, 0]


def takes_system(processor: Any) -> bool:
    """Whether the chat template writes the text of a system turn."""
    return SYSTEM in chat.try_render(processor, chat.messages(query(0, SIZES[0])), generation_prompt=True)


@contextmanager
def borrowed(model: Any) -> Iterator[None]:
    """Leave a model as it was, and all random streams, whatever a trainer does to it within."""
    own, generation = vars(model).get("forward"), model.generation_config
    configs = [(part, dict(vars(part))) for part in (model.config, model.config.get_text_config())]
    modules = [(part, part.training, _chances(part)) for part in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]  # statistics of a batch, say
    states = random.getstate(), np.random.get_state()
    model.generation_config = copy.deepcopy(generation)  # Trainer may change it
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        vars(model).pop("forward", None)
        if own is not None:
            model.forward = own
        model.generation_config = generation
        for config, before in configs:
            vars(config).clear()
            vars(config).update(before)
        for part, training, chances in modules:
            part.training = training
            vars(part).update(chances)
        for buffer, kept in buffers:
            buffer.data.copy_(kept)


def train_without_chance(model: Any) -> None:
    """Put a model into the mode of training, but without dropout and noise, which no second pass repeats."""
    model.train()
    for part in model.modules():
        vars(part).update(dict.fromkeys(_chances(part), 0.0))


def _chances(module: torch.nn.Module) -> dict[str, float]:
    """The settings of a module that make training depend on chance."""
    names = ["p"] if isinstance(module, torch.nn.modules.dropout._DropoutNd) else []
    names += [name for name in vars(module) if "drop" in name or "jitter" in name]
    return {name: vars(module)[name] for name in names if isinstance(vars(module)[name], float)}


def misplaced(model: Any, layers: Sequence[int]) -> str:
    """Parts of the text decoder that have the number of another layer; empty if all have their own."""
    wrong = []
    for name, part in model.get_decoder().named_modules():
        number, place = getattr(part, "layer_idx", None), re.search(r"\d+", name)
        if number in layers and place is not None and int(place.group()) != number:
            wrong.append(f"{name} has layer_idx {number}")
    return ", ".join(wrong[:3])
