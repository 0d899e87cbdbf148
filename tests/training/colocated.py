"""In place of vLLM's `vista`: samples for a training with transformers, from the weights it is handed."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vista import chat
from vista.chat import Prompt
from vista.config import VllmEngineSettings
from vista.engines import colocated
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import Checkpoint, load_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_USE_FSDP")  # not for vLLM
FAILURE = "VISTA_TEST_COLOCATED"
ROOT = Path(__file__).parents[2]


def make_command(folder: Path) -> str:
    """A `vista` that samples like this, as if in vLLM's environment."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "vista"
    module = "tests.training.colocated"
    found.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {sys.executable} -m {module} "$@"\n')
    found.chmod(0o755)
    return str(found)


class Engine:
    """A ``VllmEngine`` that is an ``HfEngine``; the variable ``FAILURE`` has it fail."""

    def __init__(
        self, folder: Path, checkpoint: Checkpoint, settings: VllmEngineSettings, **options: Any
    ) -> None:
        assert options == {"trust_remote_code": False, "colocated": True}
        assert all(weight.is_meta for weight in checkpoint.model.parameters())
        assert not any(name in os.environ for name in LAUNCHED)
        torch.set_num_threads(1)
        self.settings, self.longest, self.images = settings, 0, 0
        if os.environ.get(FAILURE) == "refuses":
            raise VistaError("engine: vllm: not today")

    def expect_at_most(self, longest: int, images: int) -> None:
        self.longest, self.images = longest, images

    def renew(self, folder: Path) -> None:
        self.checkpoint = load_checkpoint(folder, device="cpu")
        self.hf = HfEngine(self.checkpoint, self.settings.batch_size)

    def sample(self, requests: list[Request], temperature: float, max_new_tokens: int) -> list[list[Sample]]:
        if os.environ.get(FAILURE) == "dies":
            os._exit(7)
        if os.environ.get(FAILURE) == "sleeps":
            time.sleep(3600)
        assert self.longest == max(len(each.prompt) for each in requests) + max_new_tokens
        assert self.images == max(each.prompt.images for each in requests)
        asked = [replace(request, prompt=self.encoded(request.prompt)) for request in requests]
        return self.hf.sample(asked, temperature, max_new_tokens)

    def encoded(self, prompt: Prompt) -> Prompt:
        """The prompt with its features, which are not handed over."""
        assert not prompt.image_features
        (made,) = chat._encode_together(self.checkpoint.processor, [prompt.text], [prompt.open_images()])
        assert made.input_ids == prompt.input_ids
        return made


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print("vista 0\nvllm 0.0.0")
    else:
        assert sys.argv[1] == "colocate"
        colocated.VllmEngine = Engine  # type: ignore[assignment, misc]
        colocated.serve(int(sys.argv[2]))
