"""Prompts per CPU second: encoded one by one, and together as evaluation and rollouts do it.

Run: ``OMP_NUM_THREADS=1 python benchmarks/encoding.py``

The same turns with an image each, on untrained tiny models, turn by turn; the best turn counts. Both give
the same prompts, to the last bit (``tests/test_families.py``).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from PIL import Image

from vista.chat import TOGETHER, Conversation, encode, encode_all
from vista.engines.checkpoints import wrap
from vista.models.nano import Architecture, build_nano

WORDS = [a + b for a in "abcdefgh" for b in "uvwxyz"]
ARCHITECTURES: tuple[Architecture, ...] = ("qwen2.5-vl", "qwen3-vl", "internvl")


def conversations(count: int) -> list[Conversation]:
    random = np.random.default_rng(0)
    made: list[Conversation] = []
    for _ in range(count):
        picture = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        text = " ".join(random.choice(WORDS, int(random.integers(4, 12))))
        parts = [{"type": "image"}, {"type": "text", "text": text}]
        made.append(([{"role": "user", "content": parts}], [picture]))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=640)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = conversations(options.prompts)
    for architecture in ARCHITECTURES:
        model, inner = build_nano(architecture, WORDS, seed=0)
        processor = wrap(model.eval(), inner).processor
        seconds: dict[str, float] = {}
        for _ in range(options.turns):
            for name in ("one by one", "together"):
                began = time.process_time()
                if name == "together":
                    for start in range(0, len(asked), TOGETHER):
                        encode_all(processor, asked[start : start + TOGETHER])
                else:
                    for turns, images in asked:
                        encode(processor, turns, images)
                seconds[name] = min(seconds.get(name, np.inf), time.process_time() - began)
        speeds = "   ".join(
            f"{name} {options.prompts / taken:7,.0f} prompts/CPU s" for name, taken in seconds.items()
        )
        print(f"{architecture:10} {speeds}   ratio {seconds['one by one'] / seconds['together']:.1f}")


if __name__ == "__main__":
    main()
