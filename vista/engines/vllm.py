"""The sampling engine for GPUs: vLLM, which loads the weights itself and batches as it likes.

For ``vista sample`` and ``vista resample`` if the suite says ``engine: {kind: vllm}``; they
then run in another environment (docs/engines.md). It takes token ids and images and
returns token ids. Prompts go in as the chat template's tokens, images not expanded, and vLLM
expands them: what it makes of them must equal, token by token, what scoring and training see.

It has its own random streams: a sample depends on its request and seed, but the tokens are not
those of ``hf.HfEngine``, and another version of vLLM or another machine may draw others.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vista.chat import Prompt, check_fits, template_ids
from vista.config import VllmEngineSettings
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import Checkpoint
from vista.engines.compiled import Link, linked
from vista.engines.presenter import Presenter
from vista.errors import VistaError, is_out_of_memory, lack

# Read when vLLM is imported. In one process its scheduling, and so what it draws, is reproducible.
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
WAVE = 8  # batches handed over at a time: their images wait in memory until they are served
# What its errors say when there is too little memory for its cache, beside ``errors.OUT_OF_MEMORY``.
NO_ROOM = ("memory for the cache blocks", "available KV cache memory", "desired GPU memory utilization")
STEEPEST = 200  # ratio of an image's sides that Qwen's processors take
MOST_FORBIDDEN = 128  # vLLM reports the log-probabilities of at most this many tokens by name
MOST_MASKED = 1024  # and on GPUs its Model Runner V2 masks at most this many


@dataclass(frozen=True)
class _Task:
    """One sample to be drawn."""

    request: int
    seed: int
    room: int  # tokens that may be drawn


class VllmEngine:
    """Samples with vLLM, started at the first request; implements ``base.Engine``.

    Args:
        folder: The checkpoint, which vLLM loads.
        checkpoint: The same one, for its processor and tokens. Its weights, if it has any, are
            freed when vLLM starts.
        settings: How vLLM is started.
        trust_remote_code: Run code that the checkpoint brings.
        progress: What the progress bar counts; without it there is none.
        colocated: Leave most of the GPU's memory to a training, which renews the weights.

    Raises:
        VistaError: vLLM is not installed.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        settings: VllmEngineSettings,
        *,
        trust_remote_code: bool = False,
        progress: str | None = None,
        colocated: bool = False,
    ) -> None:
        if find_spec("vllm") is None:
            raise VistaError(
                "engine: vllm: vLLM is not installed in this environment; make one that has it "
                "(docs/engines.md) and name its `vista` in engine.command, or take engine: {kind: hf}"
            )
        self.folder = folder
        self.checkpoint = checkpoint
        self.settings = settings
        self.trust_remote_code = trust_remote_code
        self.progress = progress
        self.memory = "colocated_memory" if colocated else "memory"
        self.weights = folder
        # Up to that many, their probability is asked for and taken out of the samples' own.
        self.corrects = len(checkpoint.forbidden_ids) <= MOST_FORBIDDEN
        self._llm: Any = None
        self._link: Link | None = None  # held as long as vLLM runs
        self._length = 0  # longest prompt with response that vLLM was started for
        self._images = 0  # most images in a prompt that it was started for

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """Continue every request once per seed; see ``base.Engine``.

        Raises:
            VistaError: a prompt with its response does not fit (before any work), vLLM expands an
                image differently from the processor, the model's logits are not numbers, or vLLM has too
                little memory.
        """
        for number, request in enumerate(requests):
            name = {"query_id": f"request {number}"}
            check_fits(name, len(request.prompt), max_new_tokens, self.checkpoint.context)
        if not self.corrects and temperature not in (0, 1):
            raise VistaError(
                f"engine: vllm: temperature {temperature}: the model has more than {MOST_FORBIDDEN} "
                "forbidden tokens, and then vLLM gives log-probabilities at temperature 0 or 1 only; "
                "take one of these, or engine: {kind: hf}"
            )
        forbidden = len(self.checkpoint.forbidden_ids)
        if forbidden > MOST_MASKED and torch.cuda.is_available():
            raise VistaError(
                f"engine: vllm: {self.folder} has {forbidden} forbidden tokens, of which vLLM masks at most "
                f"{MOST_MASKED} on GPUs; take engine: {{kind: hf}}"
            )
        seeds = [request.seeds[:1] if temperature == 0 else request.seeds for request in requests]
        tasks = [
            _Task(number, seed, max_new_tokens - len(requests[number].prefix))
            for number, own in enumerate(seeds)
            for seed in own
        ]
        self._start_for(requests, max_new_tokens)
        results: list[list[Sample]] = [[] for _ in requests]
        size = WAVE * self.settings.batch_size
        total, hidden = len(tasks), self.progress is None
        with tqdm(total=total, desc=self.progress, unit=" samples", mininterval=5, disable=hidden) as bar:
            for first in range(0, total, size):
                wave = tasks[first : first + size]
                for task, sample in zip(wave, self._serve(requests, wave, temperature), strict=True):
                    results[task.request].append(sample)
                bar.update(len(wave))
        if temperature == 0:
            return [made * len(request.seeds) for made, request in zip(results, requests, strict=True)]
        return results

    def expect(self, prompts: Sequence[Prompt], room: int) -> None:
        """Make room, when vLLM starts, for prompts of later calls with up to ``room`` more tokens each."""
        longest = max((len(prompt) for prompt in prompts), default=0) + room
        self.expect_at_most(longest, max((prompt.images for prompt in prompts), default=0))

    def expect_at_most(self, longest: int, images: int) -> None:
        """Make room, when vLLM starts, for prompts with responses of so many tokens, and so many images."""
        context = self.checkpoint.context
        self._length = max(self._length, longest if context is None else min(longest, context))
        self._images = max(self._images, images)

    def renew(self, folder: Path) -> None:
        """Sample with the weights in ``folder`` from now on, a checkpoint of the same architecture.

        What was computed with the old ones is forgotten: vLLM would go on from a prompt's cache, and from
        what the vision tower made of an image, as if nothing had changed.
        """
        self.weights = folder
        if self._llm is None:
            return  # it starts with them
        with self._telling_of_memory("when it read new weights"):
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            self._llm.apply_model(pack_tied_head)
        self._llm.llm_engine.reset_encoder_cache()
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM keeps prompts that were read with other weights")

    def _serve(
        self, requests: Sequence[Request], wave: Sequence[_Task], temperature: float
    ) -> Iterator[Sample]:
        """Draw the samples of a wave, in order."""
        asked = [task for task in wave if task.room > 0]
        inputs = {number: self._input(requests[number]) for number in {task.request for task in asked}}
        outputs: list[Any] = []
        if asked:
            with self._telling_of_memory("while sampling"):
                outputs = self._llm.generate(
                    [inputs[task.request] for task in asked],
                    [self._params(task, temperature) for task in asked],
                    use_tqdm=False,
                )
        for task, output in zip(asked, outputs, strict=True):
            _check_prompt(task.request, requests[task.request], output.prompt_token_ids)
        made = iter([self._sample(output.outputs[0]) for output in outputs])
        for task in wave:
            yield next(made) if task.room > 0 else Sample([], 0.0, False)

    def _input(self, request: Request) -> dict[str, Any]:
        """The prompt for vLLM: the template's tokens, then the prefix, and the images."""
        processor = self.checkpoint.processor
        prompt: dict[str, Any] = {
            "prompt_token_ids": [*template_ids(processor, request.prompt), *request.prefix]
        }
        images = processor.shrink(request.prompt.open_images())
        if images:
            prompt["multi_modal_data"] = {"image": images}
        return prompt

    def _params(self, task: _Task, temperature: float) -> Any:
        """vLLM's ``SamplingParams`` of one sample."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        forbidden = self.checkpoint.forbidden_ids
        return SamplingParams(
            n=1,
            seed=task.seed,
            temperature=temperature,
            max_tokens=task.room,
            stop_token_ids=self.checkpoint.end_ids,
            ignore_eos=True,  # those above are all that end a response
            logit_bias=dict.fromkeys(forbidden, -math.inf) or None,
            **({"logprob_token_ids": forbidden} if forbidden and self.corrects else {"logprobs": 0}),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _sample(self, output: Any) -> Sample:
        """What vLLM drew, as a ``base.Sample``."""
        token_ids = list(output.token_ids)
        finished = output.finish_reason == "stop"
        if not finished and output.finish_reason != "length":
            raise VistaError(f"vLLM ended a sample with {output.finish_reason!r}; see its messages above")
        total = sum(
            self._logprob(token, position) for token, position in zip(token_ids, output.logprobs, strict=True)
        )
        if not math.isfinite(total):
            raise VistaError(
                "the model's log-probabilities are not finite; the checkpoint is damaged or its training "
                "diverged: train it again with a lower learning rate"
            )
        return Sample(token_ids[:-1] if finished else token_ids, total, finished)

    def _logprob(self, token: int, position: Mapping[int, Any]) -> float:
        """Log-probability at temperature 1 among the tokens that can come."""
        own: float = position[token].logprob
        if not self.corrects:
            return own
        mass = math.fsum(math.exp(position[other].logprob) for other in self.checkpoint.forbidden_ids)
        return own - math.log1p(-mass) if mass < 1 else math.nan

    def _start_for(self, requests: Sequence[Request], max_new_tokens: int) -> None:
        """Start vLLM, unless there is nothing to do or it is already running."""
        if not requests:
            return
        length = max(len(request.prompt) for request in requests) + max_new_tokens
        images = max(request.prompt.images for request in requests)
        limit = self.settings.max_model_len
        if limit is not None and length > limit:
            raise VistaError(
                f"engine.max_model_len: {limit}, but a prompt with its response takes up to {length} tokens; "
                "raise it, shorten the response, or leave it out"
            )
        if self._llm is None:
            self._length = limit or max(length, self._length)
            self._images = max(images, self._images)
            self._llm = self._start()
        elif length > self._length or images > self._images:
            raise VistaError(
                f"vLLM was started for {self._length} tokens and {self._images} images, but {length} and "
                f"{images} are needed; set engine.max_model_len, or make a new engine"
            )

    def _start(self) -> Any:
        dtype = self._dtype()
        self.checkpoint.model.to("meta")  # gives up the weights
        gc.collect()
        torch.cuda.empty_cache()
        os.environ.update(ENVIRONMENT)
        self._link = link = linked(self.weights)
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from vllm import LLM

        with self._telling_of_memory("when it started"):
            return LLM(
                model=str(link.path),
                dtype=dtype,
                trust_remote_code=self.trust_remote_code,
                max_model_len=self._length,
                max_num_seqs=self.settings.batch_size,
                gpu_memory_utilization=getattr(self.settings, self.memory),
                enforce_eager=self.settings.eager,
                limit_mm_per_prompt={"image": self._images, "video": 0},
                mm_processor_kwargs=processor_options(self.checkpoint.processor) or None,
                generation_config="vllm",  # no defaults from the checkpoint: every request says all
                logprobs_mode="raw_logprobs" if self.corrects else "processed_logprobs",
                seed=0,
            )

    @contextmanager
    def _telling_of_memory(self, when: str) -> Iterator[None]:
        """Name the settings that matter if vLLM runs out of memory, which it manages itself."""
        try:
            yield
        except (MemoryError, RuntimeError, ValueError) as error:
            if not is_out_of_memory(error) and not any(text in str(error) for text in NO_ROOM):
                raise
            share = f"engine.{self.memory}: {getattr(self.settings, self.memory)}"
            raise VistaError(
                f"{self.folder}: vLLM ran out of memory {when} ({lack(error)}). Weights and cache share "
                f"{share} of the GPU. If the cache is too small for a response (engine.max_model_len: "
                f"{self._length} tokens), raise it; if sampling ran out or others use the GPU, lower "
                "it; or lower engine.max_model_len, engine.batch_size or the model's max_pixels, or take a "
                "larger GPU"
            ) from error

    def _dtype(self) -> str:
        """Type of the weights, by name; vLLM's own ``auto`` would halve float32."""
        asked = self.checkpoint.processor.loading.dtype
        if asked != "auto":
            return asked
        return str(self.checkpoint.model.dtype).removeprefix("torch.")


def processor_options(processor: Presenter) -> dict[str, Any]:
    """The options of the processor in vLLM: those of the checkpoint, and the size of the largest image.

    vLLM tries the vision tower on the largest image that the processor allows, 16,384 tokens for Qwen's, and
    keeps memory for it. Ours are scaled down before (``max_pixels``).
    """
    inner, limit, options = (
        processor.image_processor,
        processor.loading.max_pixels,
        processor.loading.processor,
    )
    by_pixels = "max_pixels" in inner.valid_kwargs.__annotations__ and hasattr(inner, "merge_size")
    if limit is None or not by_pixels or not options.keys().isdisjoint(("size", "min_pixels", "max_pixels")):
        return options
    # The processor rounds both sides to multiples of `unit`, a side of less up to one, and refuses a ratio of
    # more than 200. So no image of up to `limit` pixels is changed by this.
    unit = inner.patch_size * inner.merge_size
    sides = math.sqrt(limit) * (math.sqrt(STEEPEST) + 1)
    largest = limit + math.ceil(unit * sides) + unit**2
    size = {name: inner.size[name] for name in ("shortest_edge", "longest_edge")}
    return {**options, "size": {**size, "longest_edge": min(size["longest_edge"], largest)}}


def pack_tied_head(model: Any) -> None:
    """Have a head that is tied to the embedding multiply with its new weights.

    On CPUs it multiplies with a packed copy, which vLLM 0.32 makes anew only for layers that are in the
    checkpoint; a tied head is not. On GPUs there is no copy, and this does nothing.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def _check_prompt(number: int, request: Request, expanded: Sequence[int]) -> None:
    """Refuse a prompt that vLLM expanded differently from the processor."""
    wanted = [*request.prompt.input_ids, *request.prefix]
    if list(expanded) == wanted:
        return
    differs = next((i for i, (a, b) in enumerate(zip(wanted, expanded, strict=False)) if a != b), None)
    where = min(len(wanted), len(expanded)) if differs is None else differs
    raise VistaError(
        f"request {number}: vLLM's prompt has {len(expanded)} tokens, the processor's {len(wanted)}; they "
        f"differ from token {where} on. This version of vLLM prepares the model's images in another way: "
        "take engine: {kind: hf}"
    )


def make_engine(
    settings: VllmEngineSettings,
    checkpoint: Checkpoint,
    folder: Path,
    trust_remote_code: bool,
    progress: str | None,
) -> VllmEngine:
    """For ``base.choose_engine``."""
    return VllmEngine(folder, checkpoint, settings, trust_remote_code=trust_remote_code, progress=progress)
