"""Speed, memory and exactness of every pass over one model on one GPU, a line of JSON each.

    python benchmarks/gpu.py CHECKPOINT [decode] [vision] [read] [parity] [sft] [dpo] [lora]

Any checkpoint folder with 9,000 tokens or more will do, whatever its weights. Under ``accelerate launch``
with a config file and ``--num_processes 1`` trainings are set up as that file says. On a CPU all sizes are
tiny: that only shows that it runs.

- *decode*: milliseconds a step of the embedded sampling engine, by rows;
- *vision*: the vision tower, by size of the image;
- *read*: critical tokens and attention scores, milliseconds a response, by responses that share a pass;
- *parity*: attention scores beside the matrices of eager attention, in the checkpoint's own type;
- *sft*, *dpo*, *lora*: seconds a step of eight examples or pairs of 250 tokens, losses, peak memory.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vista import chat
from vista.config import Hyperparameters, ModelTraining
from vista.config.models import LoraTuning
from vista.engines.base import Request
from vista.engines.checkpoints import Checkpoint, load_checkpoint
from vista.engines.forced import forced_batch
from vista.engines.hf import HfEngine
from vista.errors import told
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.records import Row
from vista.resamplers.prefix import read_predictions
from vista.rollouts.score import attention_scores
from vista.segments import segments
from vista.training.fit import make_trainer

GPU = torch.cuda.is_available()
SIDE = 512 if GPU else 140  # pixels
NEW = 64 if GPU else 6  # sampled tokens
RESPONSE = 250 if GPU else 12  # tokens
EXAMPLES, BATCH = (24, 8) if GPU else (4, 2)
STEPS = ("decode", "vision", "read", "parity", "sft", "dpo", "lora")


def say(step: str, **found: Any) -> None:
    print(json.dumps({"step": step, **found}), flush=True)


def timed(work: Callable[[], Any], turns: int = 1) -> tuple[float, Any]:
    """Seconds of the last turn, and what it returned."""
    for _ in range(turns):
        if GPU:
            torch.cuda.synchronize()
        began = time.perf_counter()
        result = work()
        if GPU:
            torch.cuda.synchronize()
    return time.perf_counter() - began, result


def query(number: int, width: int = SIDE, height: int = SIDE) -> Row:
    pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {
        "query_id": f"q{number}",
        "system": "You look carefully.",
        "instruction": "Is the heart enlarged? Answer yes or no." + " x" * (number % 7),
        "images": [{"bytes": file.getvalue(), "path": None}],
    }


def response(checkpoint: Checkpoint, number: int, length: int = RESPONSE) -> list[int]:
    """Tokens that may be sampled."""
    vocabulary = np.arange(checkpoint.model.config.get_text_config().vocab_size)
    words = np.setdiff1d(vocabulary, [*checkpoint.forbidden_ids, *checkpoint.end_ids])[:9000]
    found: list[int] = np.random.default_rng(number).choice(words, length).tolist()
    return found


def decode(checkpoint: Checkpoint) -> None:
    prompt = chat.encode_query(checkpoint.processor, query(1))
    for rows in (1, 8, 64, 256) if GPU else (1, 8):
        engine = HfEngine(checkpoint, rows)
        asked = [Request(prompt, [*range(rows)])]
        engine.sample(asked, 1.0, 4)
        spent, (drawn,) = timed(partial(engine.sample, asked, 1.0, NEW))
        tokens = sum(len(sample.token_ids) for sample in drawn)
        say("decode", rows=rows, ms_a_step=round(spent / NEW * 1e3, 1), tokens_a_second=round(tokens / spent))


def vision(checkpoint: Checkpoint) -> None:
    for width, height in ((512, 512), (1400, 700)):
        prompt = chat.encode_query(checkpoint.processor, query(2, width, height))
        features = {name: value.to(checkpoint.device) for name, value in prompt.image_features.items()}
        with torch.inference_mode():
            spent, _ = timed(partial(checkpoint.model.base_model.get_image_features, **features), turns=3)
        say("vision", size=f"{width}x{height}", prompt_tokens=len(prompt), ms=round(spent * 1e3, 1))


def layers_of(checkpoint: Checkpoint) -> list[int]:
    count = checkpoint.model.config.get_text_config().num_hidden_layers
    return sorted({count // 4, count // 2, 3 * count // 4})


def read(checkpoint: Checkpoint) -> None:
    asked = query(1)
    prompt = chat.encode_query(checkpoint.processor, asked)
    kinds = segments(checkpoint.processor, chat.messages(asked), prompt)
    layers = layers_of(checkpoint)
    for rows in (1, 8):
        responses = [response(checkpoint, number) for number in range(rows)]
        prompts = [prompt] * rows
        spent, _ = timed(partial(read_predictions, checkpoint, prompts, responses, rows), turns=2)
        say("critical tokens", rows=rows, ms_a_response=round(spent / rows * 1e3, 1))
        score = partial(attention_scores, checkpoint, prompts, [kinds] * rows, responses, layers, rows)
        spent, _ = timed(score, turns=2)
        say("attention scores", rows=rows, ms_a_response=round(spent / rows * 1e3, 1))


def parity(checkpoint: Checkpoint, folder: Path) -> None:
    asked = query(3, 140, 140)
    prompt = chat.encode_query(checkpoint.processor, asked)
    kinds = segments(checkpoint.processor, chat.messages(asked), prompt)
    layer = layers_of(checkpoint)[len(layers_of(checkpoint)) // 2]
    ids = response(checkpoint, 0, 12)
    ours = attention_scores(checkpoint, [prompt], [kinds], [ids], [layer], 1)[0][0]
    eager = load_checkpoint(folder, attention="eager")
    inputs = forced_batch(eager, [prompt], [ids], [0]).inputs
    with torch.inference_mode():
        matrix = eager.model(**inputs, output_attentions=True).attentions[layer][0].float().mean(0)
    rows = matrix[-len(ids) :]
    theirs = [
        float(rows[:, [place for place, kind in enumerate(kinds) if kind == segment]].sum(1).mean())
        for segment in range(3)
    ]
    worst = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    say("parity", type=str(checkpoint.model.dtype), ours=ours, eager=theirs, worst=worst)


def training(source: Path, step: str, device_batch: int, recompute: bool, folder: Path) -> None:
    """Some steps in bfloat16 over float32 weights; those that LoRA freezes stay as they are stored."""
    checkpoint = load_checkpoint(source, device="cpu", dtype="auto" if step == "lora" else torch.float32)
    pairs = step == "dpo"

    def example(number: int) -> Row:
        asked = query(number)
        row = {
            "query_id": asked["query_id"],
            "prompt": chat.messages(asked),
            "images": asked["images"],
            "source": "sample",
        }
        for place, name in enumerate(("chosen", "rejected") if pairs else ("completion",)):
            ids = response(checkpoint, 2 * number + place)
            row |= {name: chat.reply("x"), f"{name}_ids": ids, f"{name}_finished": True}
        return row

    trainer = make_trainer(
        checkpoint,
        [example(number) for number in range(EXAMPLES)],
        Hyperparameters(epochs=1, learning_rate=1e-5, batch_size=BATCH, warmup=0.0, schedule="constant"),
        DpoSettings(kind="dpo") if pairs else SftSettings(kind="sft"),
        folder,
        0,
        ModelTraining(
            device_batch_size=min(device_batch, BATCH),
            gradient_checkpointing=recompute,
            **({"tuning": LoraTuning(kind="lora")} if step == "lora" else {}),
        ),
        low_precision=GPU,
    )
    types: set[str] = set()
    forward = trainer._forward

    def watched(model: Any, batch: Any) -> Any:
        outputs = forward(model, batch)
        types.add(str(outputs.log_probs.dtype))
        return outputs

    trainer._forward = watched
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    spent, _ = timed(trainer.train)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    say(
        step,
        recompute=recompute,
        device_batch=device_batch,
        seconds_a_step=round(spent / trainer.state.global_step, 2),
        losses=[round(entry["loss"], 4) for entry in log],
        gradient_norms=[round(float(entry["grad_norm"]), 3) for entry in log],
        log_probs=sorted(types),
        weights=sorted({str(p.dtype) for p in trainer.model.parameters()}),
        peak_gb=round(torch.cuda.max_memory_allocated() / 1e9, 1) if GPU else None,
    )
    spent, _ = timed(partial(trainer.whole.of, trainer))
    say("gather", seconds=round(spent, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--device-batch", type=int, default=2, help="examples in a forward pass")
    parser.add_argument(
        "--keep", action="store_true", help="keep activations instead of computing them again"
    )
    options = parser.parse_args()
    steps = options.steps or STEPS
    if not options.checkpoint.is_dir():
        parser.error(f"{options.checkpoint}: no such folder; name that of a checkpoint")
    if unknown := [step for step in steps if step not in STEPS]:
        parser.error(f"{', '.join(unknown)}: no step; there are {', '.join(STEPS)}")
    say("device", device=torch.cuda.get_device_name() if GPU else "cpu", torch=torch.__version__)
    if {"decode", "vision", "read", "parity"} & {*steps}:
        checkpoint = load_checkpoint(options.checkpoint)
        for name, work in (("decode", decode), ("vision", vision), ("read", read)):
            if name in steps:
                work(checkpoint)
        if "parity" in steps:
            parity(checkpoint, options.checkpoint)
        del checkpoint
    for step in ("sft", "dpo", "lora"):
        if step in steps:
            gc.collect()  # the model before, and the last trainer, whose parts refer to each other
            with tempfile.TemporaryDirectory() as folder:
                training(options.checkpoint, step, options.device_batch, not options.keep, Path(folder))


if __name__ == "__main__":
    with told():
        main()
