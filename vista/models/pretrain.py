"""Train a nano model from scratch on a corpus of gold rationales, encoded once before the loop starts.

Stage ``models``; ``vista.models.build`` calls it (``vista models``). What ``vista.chat`` and the processor
make of a query one at a time is made here for all of them together: prompts with the same words share their
tokens, images go through the image processor in large batches. Same tensors, 30 × faster. Then a plain loop
with cross-entropy on the response tokens, through the corpus in its own order. Every batch is a mix of
questions; it goes through the model in parts of near lengths, so that little is padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from vista import chat
from vista.chat import Prompt
from vista.config import Wording
from vista.engines.batching import BatchSize, collate, near_length, to_device
from vista.errors import MORE_MEMORY, VistaError
from vista.images import open_images
from vista.models.kept import Kept, Progress
from vista.models.muon import Muon
from vista.records import Row
from vista.seeding import generator
from vista.wording import hinted as with_hint

_CHUNK = 2048  # images per call of the image processor
_PART = 32  # examples of a batch that go through the model together; fewer from where memory runs out
_RISE = 1.0  # a loss that ends so much higher than it began, from scratch, has learnt nothing
_MAX_GRAD_NORM = 1.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.05  # share of the steps until the peak learning rate
_FALL = 0.4  # share of the steps in which it falls to zero
_MUON = 10 / 3  # Muon's learning rate, in units of AdamW's


# --- the corpus ---


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


def thinned(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """``count`` examples, or all there are, from all parts of the corpus and in its order.

    One is drawn from each of ``count`` stretches, which ``seed`` fixes: every so many-th would miss kinds of
    questions that come in turn.
    """
    if count >= len(examples):
        return list(examples)
    ends = [place * len(examples) // count for place in range(count + 1)]
    drawn = generator("thinned", seed).integers(ends[:-1], ends[1:])
    return [examples[place] for place in drawn]


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
    keys = [(each.row["system"], each.row["instruction"], each.order) for each in examples]
    worded = dict(zip(keys, examples, strict=True))
    asked = [(chat.messages(each.row, each.order), open_images(each.row)) for each in worded.values()]
    encoded = chat.encode_named(processor, [each.row["query_id"] for each in worded.values()], asked)
    made = dict(zip(worded, encoded, strict=True))
    prompts = [Prompt(made[key].input_ids, made[key].token_features, {}) for key in keys]
    texts = [example.row["rationale"] for example in examples]
    tokens: list[list[int]] = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    end = processor.tokenizer.eos_token_id
    sample = encoded[0].image_features
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


# --- the loop ---


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train."""

    steps: int
    batch_size: int
    learning_rate: float  # peak
    bfloat16: bool = False  # the arithmetic of the passes; weights and updates are in float32
    part: int = _PART


@dataclass(frozen=True)
class Outcome:
    """What a training run reports."""

    first_loss: float  # mean over the first tenth of the steps
    final_loss: float  # mean over the last tenth
    tokens: int  # response tokens trained on


def batches(corpus: Corpus, recipe: Recipe) -> Iterator[list[int]]:
    """Indices of ``recipe.steps`` batches, in the corpus' own order: the order is the curriculum.

    After its end the corpus starts again; no tail is dropped.
    """
    for step in range(recipe.steps):
        start = step * recipe.batch_size
        yield [index % len(corpus) for index in range(start, start + recipe.batch_size)]


def optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between layers, AdamW for the rest, as is usual for language models.

    Muon (Jordan et al. 2024) leaves the plateau before a model reads in half of AdamW's steps.
    """
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inner else rest).append(parameter)
    return [
        torch.optim.AdamW(
            rest, lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.95), fused=True
        ),
        Muon(matrices, _MUON * recipe.learning_rate),
    ]


def pretrain(
    model: Any,
    corpus: Corpus,
    pad_id: int,
    recipe: Recipe,
    label: str = "pretrain",
    trained_by: Sequence[torch.optim.Optimizer] = (),
    kept: Kept | None = None,
) -> Outcome:
    """Train ``model`` in place; what was killed goes on, and ends in the same bytes.

    Args:
        model: A model in training mode, on the device that it is trained on.
        corpus: Encoded examples.
        pad_id: Token that fills short rows.
        recipe: How long and how fast.
        label: Name on the progress bar, and of its states.
        trained_by: Optimisers of the weights that are trained, at their peak rates; default: ``optimizers``.
        kept: Where its states are, the last one too; default: none are kept.

    Raises:
        Diverged: the loss or a weight is not a number, or the loss ends higher than it began.
        VistaError: there is not enough memory for one example, or no room for a state.
    """
    active = trained_by or optimizers(model, recipe)
    peaks = [[group["lr"] for group in each.param_groups] for each in active]
    progress = Progress(recipe.part) if kept is None else kept.load(label, model, active)
    progress = progress or Progress(recipe.part)
    losses, done = progress.losses, progress.step
    parts = BatchSize(progress.part, "pretraining", f"lower the model's layers and widths, or {MORE_MEMORY}")
    shown = tqdm(total=recipe.steps, initial=done, desc=label, unit="step", mininterval=5)
    for step, indices in islice(enumerate(batches(corpus, recipe)), done, None):
        for optimizer, rates in zip(active, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * rate(step, recipe.steps)

        def gradient(indices: list[int] = indices) -> float:
            parts.trying([label] * parts.size)
            for optimizer in active:
                optimizer.zero_grad()  # a part that failed may have left gradients
            return _accumulate(model, corpus, indices, pad_id, parts.size, recipe.bfloat16)

        losses.append(parts.until_it_fits(gradient))
        shown.set_postfix(loss=f"{losses[-1]:.3g}", refresh=False)
        shown.update()
        progress.tokens += sum(len(corpus.responses[index]) for index in indices)
        if not math.isfinite(losses[-1]):
            raise _diverged(label, f"the loss is {losses[-1]} at step {step} of {recipe.steps}", recipe)
        torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
        for optimizer in active:
            optimizer.step()
        progress.part = parts.size
        if kept is not None and (kept.is_due() or step + 1 == recipe.steps):
            kept.save(label, model, active, progress)
    shown.close()
    tenth = max(1, len(losses) // 10)
    outcome = Outcome(sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth, progress.tokens)
    if outcome.final_loss > losses[0] + _RISE:
        rise = f"from {losses[0]:.3g} to {outcome.final_loss:.3g}"
        raise _diverged(label, f"the loss has risen {rise} in {recipe.steps} steps", recipe)
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise _diverged(label, f"weight {name} is not finite after step {recipe.steps}", recipe)
    return outcome


class Diverged(VistaError):
    """Ends a hopeless run, which another start would only end in the same way."""


def _diverged(label: str, what: str, recipe: Recipe) -> Diverged:
    return Diverged(f"{label}: {what}; lower the model's learning_rate (now {recipe.learning_rate:g})")


def _accumulate(
    model: Any,
    corpus: Corpus,
    indices: list[int],
    pad_id: int,
    part_size: int = _PART,
    bfloat16: bool = False,
) -> float:
    """Add the gradient of a batch's loss, part by part, and return the loss."""
    lengths = [len(corpus.prompts[index]) + len(corpus.responses[index]) for index in indices]
    total = sum(len(corpus.responses[index]) for index in indices)
    loss = 0.0
    for places in near_length(lengths, part_size):
        part = [indices[place] for place in places]
        prompts = [corpus.prompts[index] for index in part]
        responses = [corpus.responses[index] for index in part]
        batch = {**collate(prompts, responses, pad_id), **corpus.image_features(part)}
        share = sum(map(len, responses)) / total  # so that parts add up to the batch's token mean
        # A context for each part: it keeps the weights that it has rounded, until it ends.
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            part_loss = response_loss(model, to_device(batch, model.device)) * share
        torch.autograd.backward(part_loss)
        loss += part_loss.item()
    return loss


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: a short rise, a plateau, a long linear fall to zero."""
    return min(1.0, (step + 1) / (_WARM_UP * steps), (steps - step) / (_FALL * steps))


def response_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the response tokens of a batch from ``batching.collate``."""
    inputs = {name: value for name, value in batch.items() if name != "response_mask"}
    logits = model(**inputs, use_cache=False).logits
    target = batch["response_mask"][:, 1:]
    loss: torch.Tensor = functional.cross_entropy(logits[:, :-1][target], batch["input_ids"][:, 1:][target])
    return loss
