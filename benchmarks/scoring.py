"""Time and peak memory of the attention scorer beside eager attention, on a mid-sized model.

Run: ``python benchmarks/scoring.py``

Twelve layers of width 512, two sequences of 2,048 tokens (``--length``), the last half response.
Each way runs in a separate process, so that its peak memory is its own; time is CPU time, which
a busy neighbour disturbs less than wall time:

- *eager*: all attention matrices, as ``output_attentions=True`` gives them;
- *plain*: an ordinary forward pass without logits, which yields no attention: the floor;
- *scorer*: ours, at every layer; and *middle*: ours, at the middle layer alone;
- *logits*: an ordinary forward pass with the logits of every position;
- *critical*: ours, ranks of the response tokens alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

WAYS = ("eager", "plain", "scorer", "middle", "logits", "critical")
LAYERS, WIDTH, BATCH = 12, 512, 2


def run(way: str, threads: int, length: int) -> dict[str, float]:
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from vista.engines.checkpoints import Checkpoint
    from vista.resamplers.prefix import predictions
    from vista.rollouts.score import reading

    torch.set_num_threads(threads)
    text = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 32_000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    config._attn_implementation = "eager" if way == "eager" else "sdpa"
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    random = torch.Generator().manual_seed(0)
    batch = {"input_ids": torch.randint(0, 30_000, (BATCH, length), generator=random)}
    rows = torch.zeros(BATCH, length, dtype=torch.bool)
    rows[:, length // 2 :] = True
    segments = torch.zeros(BATCH, length, 3)
    segments[:, : length // 2, 1] = 1.0
    layers = {"scorer": list(range(LAYERS)), "middle": [LAYERS // 2]}.get(way, [])

    processor: Any = None  # nothing is encoded
    checkpoint = Checkpoint(model, processor, end_ids=[0], forbidden_ids=[], pad_id=0, context=None)

    def work() -> None:
        if way == "eager":
            matrices = model.base_model(**batch, output_attentions=True, use_cache=False).attentions
            if len(matrices) != LAYERS:
                sys.exit(f"{len(matrices)} layers of attention, not {LAYERS}")
            torch.stack([((m * rows[:, None, :, None]).sum((1, 2)) @ segments) for m in matrices])
        elif way == "plain":
            model.base_model(**batch, use_cache=False)
        elif way == "logits":
            model(**batch, use_cache=False)
        elif way == "critical":
            hidden = model.base_model(**batch, use_cache=False).last_hidden_state
            predictions(checkpoint, hidden[:, :-1][rows[:, 1:]], batch["input_ids"][rows])
        else:
            with reading(model, layers) as reader:
                reader.read(batch, rows, segments)

    with torch.inference_mode():
        model.base_model(input_ids=batch["input_ids"][:1, :64], use_cache=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": min(times), "mb": (after - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(run(options.way, options.threads, options.length)))
        return
    print(f"{LAYERS} layers, width {WIDTH}, {BATCH} × {options.length} tokens, {options.threads} threads")
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--threads", str(options.threads)]
        command += ["--length", str(options.length)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very script
        result = json.loads(done.stdout.splitlines()[-1])
        print(f"{way:8} {result['seconds']:6.2f} CPU s   {result['mb']:+8.0f} MB")


if __name__ == "__main__":
    main()
