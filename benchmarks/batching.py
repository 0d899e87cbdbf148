"""Rows per second where only prompts of equal length share a batch, and with ``padding``.

Run: ``OMP_NUM_THREADS=1 python benchmarks/batching.py``

Lengths are drawn as those of five benchmarks (diagrams, charts, scans and questions with hints, at one token
for 28 × 28 pixels), and shortened alike. Decoding is greedy. Then solutions of random tokens are read, one or
several for each prompt. Both ways run turn by turn in one process; the best turn counts. They must give
the same answers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from vista.chat import Prompt, encode, messages
from vista.engines import hf
from vista.engines.base import Request
from vista.engines.checkpoints import Checkpoint, wrap
from vista.models.nano import Size, build_nano
from vista.resamplers.prefix import read_predictions
from vista.rollouts.gains import mean_logprobs
from vista.rollouts.score import attention_scores
from vista.segments import segments

WORDS = [a + b for a in "abcdefgh" for b in "uvwxyz"]
SIDES = {  # ranges of the sides of images in pixels, and of the tokens of text
    "slake": ((512, 513), (8, 22)),
    "vqa-rad": ((400, 1100), (8, 26)),
    "geometry3k": ((150, 900), (20, 80)),
    "scienceqa": ((150, 800), (40, 350)),
    "chartqa": ((300, 900), (10, 35)),
}


def length_of(random: np.random.Generator) -> int:
    """Tokens of a prompt of one of the benchmarks."""
    sides, text = SIDES[random.choice([*SIDES])]
    width, height = random.integers(*sides, 2).tolist()
    patches = max(1, round(width / 28)) * max(1, round(height / 28))
    return 60 + int(random.integers(*text)) + int(patches)


def make_prompts(checkpoint: Checkpoint, count: int, share: float) -> tuple[list[Prompt], list[list[int]]]:
    random = np.random.default_rng(0)
    prompts, kinds = [], []
    for number in range(count):
        picture = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        length = max(8, round(share * length_of(random)) - 20)
        asked = {"system": None, "instruction": " ".join(random.choice(WORDS, length)), "images": [number]}
        turns = messages(asked)
        prompts.append(encode(checkpoint.processor, turns, [Image.fromarray(picture)]))
        kinds.append(segments(checkpoint.processor, turns, prompts[-1]))
    return prompts, kinds


@contextmanager
def passes(model: Any) -> Iterator[list[int]]:
    """Collects the rows of every forward pass over more than one token."""
    rows: list[int] = []

    def count(_module: Any, _inputs: Any, keywords: dict[str, Any]) -> None:
        if keywords["input_ids"].shape[1] > 1:
            rows.append(len(keywords["input_ids"]))

    handle = model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


def answer(checkpoint: Checkpoint, prompts: list[Prompt], batch_size: int, limit: int) -> tuple[Any, float]:
    """Tokens of the greedy answers, and rows in a batch."""
    sizes: list[int] = []
    own = hf.HfEngine._decode

    def decode(engine: hf.HfEngine, prefill: Any, drawn: Any, *more: Any) -> Any:
        sizes.append(len(drawn))
        return own(engine, prefill, drawn, *more)

    hf.HfEngine._decode = decode  # type: ignore[method-assign,assignment]
    try:
        made = hf.HfEngine(checkpoint, batch_size).sample([Request(p, [0]) for p in prompts], 0.0, limit)
    finally:
        hf.HfEngine._decode = own  # type: ignore[method-assign]
    return [sample.token_ids for (sample,) in made], float(np.mean(sizes))


def solutions(
    prompts: list[Prompt], kinds: list[list[int]], k: int, limit: int
) -> tuple[list[Prompt], list[list[int]], list[list[int]]]:
    """As many solutions as there are prompts: ``k`` to each of the first."""
    random = np.random.default_rng(1)
    places = [number // k for number in range(len(prompts))]
    responses = [list(map(int, random.integers(10, 40, random.integers(8, limit)))) for _ in places]
    return [prompts[place] for place in places], [kinds[place] for place in places], responses


def with_attention(
    prompts: list[Prompt], kinds: list[list[int]], responses: list[list[int]], layers: list[int], *how: Any
) -> torch.Tensor:
    checkpoint, batch_size = how
    return torch.tensor(attention_scores(checkpoint, prompts, kinds, responses, layers, batch_size))


def with_gains(prompts: list[Prompt], responses: list[list[int]], *how: Any) -> torch.Tensor:
    checkpoint, batch_size = how
    return torch.tensor(mean_logprobs(checkpoint, prompts, responses, batch_size))


def with_ranks(prompts: list[Prompt], responses: list[list[int]], *how: Any) -> list[list[int]]:
    checkpoint, batch_size = how
    return [each.ranks for each in read_predictions(checkpoint, prompts, responses, batch_size)]


def read(
    reader: Callable[[Checkpoint, int], Any], batch_size: int, checkpoint: Checkpoint
) -> tuple[Any, float]:
    with passes(checkpoint.model) as rows:
        found = reader(checkpoint, batch_size)
    return found, float(np.mean(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--architecture", default="qwen2.5-vl", choices=["qwen2.5-vl", "qwen3-vl", "internvl"]
    )
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.25, help="of the benchmarks' lengths")
    parser.add_argument("--k", type=int, default=8, help="solutions of a prompt")
    parser.add_argument("--limit", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = Size(layers=options.layers, width=64)
    model, processor = build_nano(options.architecture, WORDS, seed=0, size=size)
    equal = wrap(model.eval(), processor)
    prompts, kinds = make_prompts(equal, options.prompts, options.share)
    works: dict[str, tuple[int, Callable[[Checkpoint], tuple[Any, float]]]] = {
        "evaluation, 64": (len(prompts), lambda made: answer(made, prompts, 64, options.limit))
    }
    for k in (1, options.k):
        solved, kinds_of, responses = solutions(prompts, kinds, k, options.limit)
        middle = [options.layers // 2]
        readers: dict[str, Callable[[Checkpoint, int], Any]] = {
            "attention": partial(with_attention, solved, kinds_of, responses, middle),
            "gains": partial(with_gains, solved, responses),
            "critical": partial(with_ranks, solved, responses),
        }
        for name, reader in readers.items():
            for rows in (4, 16):
                works[f"{name} of {k} each, {rows}"] = len(solved), partial(read, reader, rows)
    lengths = [len(prompt) for prompt in prompts]
    print(
        f"{options.architecture}, {options.layers} layers: {len(prompts)} prompts of {min(lengths)} to "
        f"{max(lengths)} tokens, {options.threads} threads"
    )
    print("work, batch size           equal lengths           padding             ratio   (rows in a batch)")
    for name, (count, work) in works.items():
        best, found, each = [0.0, 0.0], [None, None], [0.0, 0.0]
        for _ in range(options.turns):
            for way, padding in enumerate((False, True)):
                start = time.perf_counter()
                found[way], each[way] = work(replace(equal, padding=padding))
                best[way] = max(best[way], count / (time.perf_counter() - start))
        one, other = found
        same = torch.allclose(one, other, atol=1e-5, rtol=0) if torch.is_tensor(one) else one == other
        if not same:
            sys.exit(f"{name}: the answers differ")
        print(
            f"{name:24} {best[0]:6.1f} rows/s ({each[0]:4.1f})  {best[1]:6.1f} rows/s ({each[1]:4.1f})  "
            f"{best[1] / best[0]:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
