"""The embedded sampling engine: only transformers, one random stream for each sample.

For every stage that samples: token ids in, token ids out. It prefills each prompt once, repeats the
cache for the prompt's seeds, and drops rows that have ended. A token is drawn by softmax and inverse CDF.

A sample depends on its request and its seed only. Each draws its own uniform number at each
position of the response; batches hold rows of equal length, so that no padding shifts a sum;
and no matrix product has fewer than ``MIN_ROWS`` rows, below which the kernels for CPUs add in
another order. (On GPUs kernels are chosen by shape as well: there, another batch size may
change a token whose uniform number falls within rounding of a boundary. So it may where the
checkpoint allows ``padding``: then caches of prompts of unequal lengths are joined.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers.cache_utils import DynamicCache

from vista.chat import check_fits
from vista.config import HfEngineSettings
from vista.engines.base import Request, Sample
from vista.engines.batching import (
    MIN_ROWS,
    PADDED_DECODING,
    BatchSize,
    collate,
    joined,
    names_of,
    of_tokens,
    packed,
    repeated,
    to_device,
)
from vista.engines.checkpoints import Checkpoint
from vista.engines.seeing import seen_once
from vista.errors import VistaError
from vista.seeding import uniforms

CHUNK = 2**24  # logits widened to float64 at a time: 128 MB
CROWDED = 0.85  # rows are dropped when fewer than this share of them is still growing


@dataclass(frozen=True)
class _Prefill:
    """What a forward pass over the prompts of a batch of requests gives."""

    cache: DynamicCache
    logits: torch.Tensor  # [requests, vocabulary], of the first new token
    positions: torch.Tensor  # [..., requests, 1], of the first new token
    mask: torch.Tensor | None = None  # [requests, length], 0 on padding; ``None`` where there is none


@dataclass
class _Rows:
    """The state of the samples of one batch; a *slot* is a sample's place in it."""

    slots: torch.Tensor  # [rows] which sample each row of the batch grows
    growing: torch.Tensor  # [rows]
    start: torch.Tensor  # [slots] length of the prefix
    uniforms: torch.Tensor  # [slots, max_new_tokens]
    tokens: torch.Tensor  # [slots, max_new_tokens]
    lengths: torch.Tensor  # [slots] tokens drawn, without the end token
    finished: torch.Tensor  # [slots]
    logprobs: torch.Tensor  # [slots]


class HfEngine:
    """Samples from a checkpoint that is in memory; implements ``base.Engine``.

    Args:
        checkpoint: The model and its processor.
        batch_size: Sequences decoded at a time; fewer from where memory runs out.
        progress: What the progress bar counts; without it there is none.
    """

    def __init__(self, checkpoint: Checkpoint, batch_size: int, progress: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.progress = progress
        device = checkpoint.device
        self._forbidden = torch.tensor(checkpoint.forbidden_ids, dtype=torch.long, device=device)
        self._ends = torch.tensor(checkpoint.end_ids, dtype=torch.long, device=device)
        self.batch = BatchSize(batch_size, "sampling")
        joinable = checkpoint.padding and of_tokens(checkpoint.model)
        self._padded = PADDED_DECODING if joinable else 0.0

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """Continue every request once per seed; see ``base.Engine``.

        Raises:
            VistaError: a prompt with its response does not fit the context (before any work), not even
                one fits in memory, or the model's logits are not numbers.
        """
        for number, request in enumerate(requests):
            name = {"query_id": f"request {number}"}
            check_fits(name, len(request.prompt), max_new_tokens, self.checkpoint.context)
        # A greedy sample needs no seed: it is drawn once and handed out for each.
        seeds = [list(request.seeds[:1] if temperature == 0 else request.seeds) for request in requests]
        results: list[list[Sample]] = [[] for _ in requests]
        hidden = self.progress is None
        total = sum(map(len, seeds))
        with (
            torch.inference_mode(),
            tqdm(total=total, desc=self.progress, unit=" samples", mininterval=5, disable=hidden) as bar,
        ):

            def draw_the_rest() -> None:
                left = [own[len(made) :] for own, made in zip(seeds, results, strict=True)]
                for index, sample in self._draw(requests, left, temperature, max_new_tokens):
                    results[index].append(sample)
                    bar.update()

            self.batch.until_it_fits(draw_the_rest)
        if temperature == 0:
            return [made * len(request.seeds) for made, request in zip(results, requests, strict=True)]
        return results

    def _draw(
        self, requests: Sequence[Request], seeds: Sequence[Sequence[int]], temperature: float, limit: int
    ) -> Iterator[tuple[int, Sample]]:
        """The samples of each request, in order, with its index."""
        for batch in _batches(requests, seeds, self.batch.size, self._padded):
            drawn = [(row, seed) for row, index in enumerate(batch) for seed in seeds[index]]
            self.batch.trying(names_of(requests[batch[row]].prompt for row, _ in drawn[: self.batch.size]))
            parts = groupby((requests[index] for index in batch), _shape)
            prefill = _joined([self._prefill([*part]) for _, part in parts])
            for first in range(0, len(drawn), self.batch.size):
                part = drawn[first : first + self.batch.size]
                self.batch.trying(names_of(requests[batch[row]].prompt for row, _ in part))
                starts = [len(requests[batch[row]].prefix) for row, _ in part]
                samples = self._decode(prefill, part, starts, temperature, limit)
                for (row, _), sample in zip(part, samples, strict=True):
                    yield batch[row], sample

    def _prefill(self, requests: Sequence[Request]) -> _Prefill:
        """One forward pass over prompts and prefixes, all of equal length."""
        model = self.checkpoint.model
        batch = collate([r.prompt for r in requests], [r.prefix for r in requests], self.checkpoint.pad_id)
        del batch["response_mask"]
        batch = to_device(batch, self.checkpoint.device)
        ids = batch["input_ids"]
        others = {name: value for name, value in batch.items() if name != "input_ids"}
        # The families count positions in one dimension or in several; each knows its own way.
        positions = model._prepare_position_ids_for_generation(ids, others)
        del batch["attention_mask"]  # nothing is padded, and without a mask attention is faster
        inputs = seen_once(model, [request.prompt for request in requests], batch)
        cache = DynamicCache(config=model.config)
        kept = min(ids.shape[1], MIN_ROWS)
        output = model(
            **inputs, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=kept
        )
        # A prompt ends in text, where every dimension of the position advances by one.
        return _Prefill(cache, output.logits[:, -1], positions[..., -1:] + 1)

    def _decode(
        self,
        prefill: _Prefill,
        drawn: Sequence[tuple[int, int]],
        starts: Sequence[int],
        temperature: float,
        limit: int,
    ) -> list[Sample]:
        """Grow one sample for each (row of the prefill, seed) of ``drawn``."""
        rows = self._start(drawn, starts, limit)
        count = len(rows.slots)
        padded = [row for row, _ in drawn] + [drawn[-1][0]] * (count - len(drawn))
        owners = torch.tensor(padded, device=self.checkpoint.device)
        cache = repeated(prefill.cache, owners)
        positions = prefill.positions.index_select(-2, owners)
        logits = prefill.logits[owners]
        mask = None if prefill.mask is None else prefill.mask[owners]
        for step in range(limit):
            growing = int(rows.growing.sum())
            if growing == 0:
                break
            if growing < CROWDED * count and count > MIN_ROWS:
                kept = _compact(rows.growing, max(growing, MIN_ROWS))
                rows.slots, rows.growing = rows.slots[kept], rows.growing[kept]
                positions, logits = positions.index_select(-2, kept), logits[kept]
                cache.reorder_cache(kept)
                mask = None if mask is None else mask[kept]
                count = len(kept)
            tokens = self._step(rows, logits, step, temperature, limit)
            if not bool(rows.growing.any()):
                break
            mask = None if mask is None else torch.cat([mask, mask.new_ones((count, 1))], 1)
            logits = self._forward(tokens, positions, cache, mask)
            positions = positions + 1
        return _samples(rows, len(drawn), self.checkpoint)

    def _start(self, drawn: Sequence[tuple[int, int]], starts: Sequence[int], limit: int) -> _Rows:
        """Rows that have drawn nothing; padded with rows that never grow to ``MIN_ROWS``."""
        device = self.checkpoint.device
        wanted, count = len(drawn), max(len(drawn), MIN_ROWS)
        numbers = np.zeros((count, limit))
        for slot, (_, seed) in enumerate(drawn):
            numbers[slot] = uniforms(seed, limit)
        start = torch.zeros(count, dtype=torch.long)
        start[:wanted] = torch.tensor(starts)
        growing = (torch.arange(count) < wanted) & (start < limit)
        return _Rows(
            slots=torch.arange(count, device=device),
            growing=growing.to(device),
            start=start.to(device),
            uniforms=torch.from_numpy(numbers).to(device),
            tokens=torch.zeros((count, limit), dtype=torch.long, device=device),
            lengths=torch.zeros(count, dtype=torch.long, device=device),
            finished=torch.zeros(count, dtype=torch.bool, device=device),
            logprobs=torch.zeros(count, dtype=torch.float64, device=device),
        )

    def _step(
        self, rows: _Rows, logits: torch.Tensor, step: int, temperature: float, limit: int
    ) -> torch.Tensor:
        """Draw the next token of every row and record it for the rows that grow."""
        slots = rows.slots
        position = rows.start[slots] + step
        numbers = rows.uniforms[slots, position.clamp(max=limit - 1)]
        tokens, logprobs = draw(logits, numbers, temperature, self._forbidden)
        ended = torch.isin(tokens, self._ends)
        rows.logprobs[slots] += torch.where(rows.growing, logprobs, 0.0)
        rows.finished[slots] |= rows.growing & ended
        rows.lengths[slots] += rows.growing & ~ended
        rows.tokens[slots, step] = tokens  # beyond the length of a row that has ended: never read
        rows.growing = rows.growing & ~ended & (position + 1 < limit)
        return tokens

    def _forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] of the tokens after ``tokens``."""
        output = self.checkpoint.model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def _shape(request: Request) -> tuple[int, tuple[str, ...]]:
    """What requests that are prefilled together have in common: their length and the names of features."""
    names = (*sorted(request.prompt.token_features), *sorted(request.prompt.image_features))
    return len(request.prompt) + len(request.prefix), names


def _batches(
    requests: Sequence[Request], seeds: Sequence[Sequence[int]], batch_size: int, padded: float
) -> Iterator[list[int]]:
    """Requests in batches of up to ``batch_size`` seeds (see ``packed``), those of a shape side by side.

    Those without seeds are left out.
    """
    asked = [index for index, own in enumerate(seeds) if own]
    shapes = [_shape(requests[index]) for index in asked]
    lengths, kinds = [length for length, _ in shapes], [kind for _, kind in shapes]
    weights = [len(seeds[index]) for index in asked]
    for batch in packed(lengths, batch_size, padded, weights=weights, kinds=kinds):
        yield [asked[place] for place in batch]


def _joined(prefills: Sequence[_Prefill]) -> _Prefill:
    """Prefills of several lengths as one; their caches are given up."""
    if len(prefills) == 1:
        return prefills[0]
    rows = [len(prefill.logits) for prefill in prefills]
    cache, mask = joined([prefill.cache for prefill in prefills], rows)
    return _Prefill(
        cache,
        torch.cat([prefill.logits for prefill in prefills]),
        torch.cat([prefill.positions for prefill in prefills], -2),
        mask,
    )


def _compact(growing: torch.Tensor, size: int) -> torch.Tensor:
    """Rows to keep, ``size`` of them: those that grow stay where they are or fill the gaps.

    Where fewer than ``size`` grow, rows that have ended stay as padding.
    """
    kept = torch.arange(size, device=growing.device)
    gaps = (~growing[:size]).nonzero()[:, 0]
    movers = growing[size:].nonzero()[:, 0] + size
    kept[gaps[: len(movers)]] = movers
    return kept


def draw(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, forbidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a token for each row of ``logits``; it depends only on that row and its uniform number.

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
        # At temperature 1 the softmax has already been computed.
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
    # Beyond the end only where probabilities are NaN: the log-probability then shows it.
    return tokens.clamp_(max=probabilities.shape[1] - 1)


def _samples(rows: _Rows, count: int, checkpoint: Checkpoint) -> list[Sample]:
    """The finished samples of the first ``count`` slots."""
    logprobs = rows.logprobs[:count].tolist()
    if not np.isfinite(logprobs).all():
        raise VistaError(
            f"{checkpoint.name}: the model's logits are not numbers (NaN); {checkpoint.damage()}: the "
            "checkpoint is damaged or its training diverged; make it again, with a lower learning rate"
        )
    lengths, finished = rows.lengths[:count].tolist(), rows.finished[:count].tolist()
    tokens = rows.tokens[:count].tolist()
    return [
        Sample(ids[:length], logprob, done)
        for ids, length, logprob, done in zip(tokens, lengths, logprobs, finished, strict=True)
    ]


def make_engine(
    settings: HfEngineSettings,
    checkpoint: Checkpoint,
    folder: Path,
    trust_remote_code: bool,
    progress: str | None,
) -> HfEngine:
    """For ``base.choose_engine``: an engine on the loaded checkpoint, whatever its folder."""
    return HfEngine(checkpoint, settings.batch_size, progress)
