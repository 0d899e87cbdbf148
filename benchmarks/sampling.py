"""Tokens per second of the embedded sampling engine beside transformers' own generate().

Run: ``OMP_NUM_THREADS=1 python benchmarks/sampling.py --architecture qwen2.5-vl``

Both sample the same prompts from the same untrained tiny model, K solutions each, turn by turn. Printed are
medians in wall time and in CPU time (the steadier one on a shared machine), the spread of the latter, and the
ratio to generate() within a turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from PIL import Image

from vista.chat import encode
from vista.engines.base import Request
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint, wrap
from vista.engines.hf import HfEngine
from vista.models.nano import build_nano

WORDS = [a + b for a in "abcdefgh" for b in "uvwxyz"]


def make_requests(checkpoint: Checkpoint, count: int, k: int) -> list[Request]:
    random = np.random.default_rng(0)
    requests = []
    for number in range(count):
        picture = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        parts = [{"type": "image"}, {"type": "text", "text": " ".join(random.choice(WORDS, 8))}]
        turns = [{"role": "user", "content": parts}]
        prompt = encode(checkpoint.processor, turns, [picture])
        requests.append(Request(prompt, [number * k + sample for sample in range(k)]))
    return requests


def with_engine(checkpoint: Checkpoint, requests: list[Request], limit: int) -> int:
    k = len(requests[0].seeds)
    engine = HfEngine(checkpoint, batch_size=k * 64)
    results = engine.sample(requests, 1.0, limit)
    return sum(len(sample.token_ids) + sample.finished for samples in results for sample in samples)


def with_generate(checkpoint: Checkpoint, requests: list[Request], limit: int) -> int:
    tokens = 0
    for start in range(0, len(requests), 64):
        prompts = [request.prompt for request in requests[start : start + 64]]
        if len({len(prompt) for prompt in prompts}) != 1:
            sys.exit("generate() would need padding")
        batch = collate(prompts, [[]] * len(prompts), checkpoint.pad_id)
        del batch["response_mask"]
        output = checkpoint.model.generate(
            **batch,
            do_sample=True,
            num_return_sequences=len(requests[0].seeds),
            max_new_tokens=limit,
            top_k=0,
            suppress_tokens=checkpoint.forbidden_ids,
        )
        drawn = output[:, len(prompts[0]) :]
        ended = torch.isin(drawn, torch.tensor(checkpoint.end_ids))
        tokens += int((ended.cumsum(1) - ended.long() == 0).sum())  # the end token counts
    return tokens


def measure(work: Callable[[Checkpoint, list[Request], int], int], *args: object) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work(*args)  # type: ignore[arg-type]
    return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--architecture", default="qwen2.5-vl", choices=["qwen2.5-vl", "qwen3-vl", "internvl"]
    )
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model, processor = build_nano(options.architecture, WORDS, seed=0)
    checkpoint = wrap(model.eval(), processor)
    requests = make_requests(checkpoint, options.prompts, options.k)
    ways = (with_generate, with_engine)
    turns = [
        [measure(work, checkpoint, requests, options.limit) for work in ways] for _ in range(options.turns)
    ]
    print(f"{options.architecture}: {options.prompts} prompts × {options.k}, up to {options.limit} tokens")
    for place, work in enumerate(ways):
        wall, cpu = (sorted(turn[place][kind] for turn in turns) for kind in (0, 1))
        ratio = median(turn[place][1] / turn[0][1] for turn in turns)
        print(
            f"{work.__name__:14} {median(wall):9,.0f} tokens/s   {median(cpu):9,.0f} tokens per CPU second "
            f"({cpu[0]:,.0f} to {cpu[-1]:,.0f})   {ratio:.2f} × generate()"
        )


if __name__ == "__main__":
    main()
