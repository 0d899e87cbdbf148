"""The pretraining corpus of a nano model, encoded once before the loop starts.

Stage ``models``; used by ``vista.models.pretrain``. What ``vista.chat`` and the processor make of
a query one at a time is made here for all of them together: prompts with the same words share
their tokens, images go through the image processor in large batches. Same tensors, 30 × faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vista import chat
from vista.chat import Prompt
from vista.config import Wording
from vista.errors import VistaError
from vista.images import open_images
from vista.records import Row
from vista.seeding import generator
from vista.wording import hinted as with_hint

_CHUNK = 2048  # images per call of the image processor


@dataclass(frozen=True)
class Example:
    """How one query of the corpus is shown."""

    row: Row  # asks with a hint, if the example bears one
    order: chat.Order


def draw_examples(
    rows: Sequence[Row], seed: int, swapped: float, hinted: float, wording: Wording
) -> list[Example]:
    """Decide for each query whether its image comes last and whether it bears a hint.

    Args:
        rows: Queries with gold rationales.
        seed: With the query id, it fixes each decision.
        swapped: Share with the instruction before the image.
        hinted: Share with the answer as a hint after the instruction.
        wording: The suite's: how a hint is given.
    """
    examples = []
    for row in rows:
        first, second = generator("pretraining", seed, row["query_id"]).random(2)
        order: chat.Order = "swapped" if first < swapped else "original"
        examples.append(Example(with_hint(row, wording) if second < hinted else row, order))
    return examples


def check_rows(rows: Sequence[Row], source: str) -> None:
    """Refuse a corpus that cannot be trained on.

    Raises:
        VistaError: there are no rows, or one lacks its rationale or has not exactly one image.
    """
    if not rows:
        raise VistaError(f"{source}: no queries; give the corpus a larger train split")
    for row in rows:
        where = f"{source}: query {row['query_id']!r}"
        if not row["rationale"]:
            raise VistaError(f"{where}: no rationale; a corpus needs a gold rationale in every row")
        if len(row["images"]) != 1:
            raise VistaError(f"{where}: {len(row['images'])} images; a corpus has one image per query")


def collect_words(rows: Iterable[Row], wording: Wording) -> list[str]:
    """Every word of the corpus, hints and answers included, sorted."""
    words: set[str] = set()
    for row in rows:
        for turn in chat.messages(with_hint(row, wording)):
            for part in turn["content"]:
                words.update((part["text"] or "").split())
        words.update(row["rationale"].split())
    return sorted(words)


@dataclass(frozen=True)
class Corpus:
    """Encoded examples: ``images[name][index]`` is one example's image features."""

    prompts: list[Prompt]  # without image features
    responses: list[list[int]]  # with the end token
    images: dict[str, torch.Tensor]  # [examples, ...]
    patch_axes: frozenset[str]  # features in which an image spans several rows

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.prompts)

    def lengths(self) -> list[int]:
        """Tokens of each example, prompt and response."""
        return [len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True)]

    def image_features(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Image features of a batch, as the model takes them."""
        chosen = torch.tensor(indices)
        features = {}
        for name, values in self.images.items():
            rows = values[chosen]
            features[name] = rows.flatten(0, 1) if name in self.patch_axes else rows
        return features


def encode_corpus(processor: Any, examples: Sequence[Example]) -> Corpus:
    """Encode prompts, responses and images.

    Raises:
        VistaError: the images are of different sizes, or one cannot be decoded.
    """
    cache: dict[tuple[str, str, str], Prompt] = {}
    prompts = []
    for example in examples:
        key = (example.row["system"], example.row["instruction"], example.order)
        if key not in cache:
            cache[key] = chat.encode_query(processor, example.row, example.order)
        prompts.append(Prompt(cache[key].input_ids, cache[key].token_features, {}))
    texts = [example.row["rationale"] for example in examples]
    tokens: list[list[int]] = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    end = processor.tokenizer.eos_token_id
    sample = next(iter(cache.values())).image_features
    return Corpus(
        prompts=prompts,
        responses=[[*ids, end] for ids in tokens],
        images=_encode_images(processor, examples, sample),
        patch_axes=frozenset(name for name, value in sample.items() if value.shape[0] > 1),
    )


def _encode_images(
    processor: Any, examples: Sequence[Example], sample: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Image features of all examples, stacked; ``sample`` shows what one image gives."""
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in sample}
    size = open_images(examples[0].row)[0].size
    for start in range(0, len(examples), _CHUNK):
        pictures = []
        for example in examples[start : start + _CHUNK]:
            picture = open_images(example.row)[0]
            if picture.size != size:
                raise VistaError(
                    f"query {example.row['query_id']!r}: the image is {picture.size} pixels, the first one "
                    f"{size}; a corpus has images of one size"
                )
            pictures.append(picture)
        encoded = processor.image_processor(images=pictures, return_tensors="pt")
        for name, values in parts.items():
            rows = encoded[name]
            per_image = rows.shape[0] // len(pictures)
            values.append(rows.unflatten(0, (len(pictures), per_image)) if per_image > 1 else rows)
    return {name: torch.cat(values) for name, values in parts.items()}
