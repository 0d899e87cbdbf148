"""TRL's GRPO trainer, on responses that our own engine samples as it trains. For ``vista train``.

TRL computes the loss. What goes into it is ours: prompts as every other stage writes them, tokens as they
were sampled, a random stream for every response, the verdict of ``vista.verdicts``. Each optimiser step asks
its queries anew, so that what it trains on comes from the weights that it changes: the ratio of probabilities
is 1 in value, and nothing is clipped. ``logprob_gap`` in the history says how far the two are apart all the
same: by tokens that are never sampled, and where vLLM samples by its kernels' rounding.

``fit`` imports this by name: other trainings do not depend on the code of an engine.
"""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from vista import plugins
from vista.chat import check_fits
from vista.config import HfEngineSettings, Hyperparameters, ModelTraining
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.records import Row
from vista.rewards import Reward, RewardSettings
from vista.seeding import derive_seed, generator
from vista.training import samplers, trainers
from vista.training.data import IGNORED, Batch, Online, Prompts, Responses, stack
from vista.training.fit import Whole, lora_config, on_one_gpu, trainer_arguments
from vista.training.trace import Reports
from vista.training.trainers import SharedTrainer
from vista.verdicts import drawn_tokens, solution_row

DRAWN = ("solutions", "drawn_tokens", "correct")  # what is counted of each step, over all processes
MOST_GAP = 0.1  # nats a token between sampling and training that bfloat16 may explain
STD_FLOOR = 1e-4  # added to what advantages are divided by, as in TRL


class GroupSampler(Sampler[int]):
    """The queries of every step, each as often as its group has responses.

    Queries come in passes over all of them, each in an order of its own; a step may end one pass and begin
    the next, so that every step has as many groups. A step is handed out once for each of its forward passes,
    since TRL takes the whole of it each time.
    """

    def __init__(self, queries: int, epochs: int, groups: int, k: int, passes: int, seed: int) -> None:
        """Settings.

        Args:
            queries: Rows of the training set.
            epochs: Passes over them.
            groups: Queries in a step.
            k: Responses to each.
            passes: Forward passes of a process in a step.
            seed: Of the run.
        """
        self.queries, self.epochs, self.groups, self.k, self.passes = queries, epochs, groups, k, passes
        self.seed = seed
        self.steps = math.ceil(queries * epochs / groups)

    def __len__(self) -> int:
        return self.steps * self.groups * self.k * self.passes

    def __iter__(self) -> Iterator[int]:
        order = [
            int(index)
            for epoch in range(math.ceil(self.steps * self.groups / self.queries))
            for index in generator("training order", self.seed, epoch).permutation(self.queries)
        ]
        for step in range(self.steps):
            asked = order[step * self.groups : (step + 1) * self.groups]
            yield from [index for index in asked for _ in range(self.k)] * self.passes

    def set_epoch(self, epoch: int) -> None:
        """Nothing: Trainer sees all steps as one epoch."""


class GroupTrainer(SharedTrainer, GRPOTrainer):  # type: ignore[misc]
    """GRPO (Shao et al. 2024, Sec. 4.1), on groups of responses that are sampled at each step."""

    checkpoint: Checkpoint
    rows: list[Row]
    online: Online
    reward: Reward[RewardSettings]
    title: str  # the run's: its random streams derive from it
    epochs: int
    reference: Any = None  # a copy of the first weights, where nothing else keeps them
    # Where weights are spread over processes: a model with all of them, to sample from; for vLLM, which gets
    # its weights from the main process, only there and on the CPU.
    whole_copy: Any = None
    prompts: Prompts
    responses: Responses
    _told = False  # of a gap between sampling and training
    _samples: samplers.PolicySampler | None = None
    _step_passes: list[dict[str, Any]] | None = None
    _batch: Batch  # of the forward pass at work
    _sampled_logprobs: Tensor  # of its responses, as the sampler has them

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        """The sampler that the trainer was made with."""
        found: Sampler[int] = self.sampler
        return found

    # --- a step's responses ---

    def _prepare_inputs(self, asked: list[dict[str, int]]) -> dict[str, Any]:
        """The forward pass that is due; the first one of a step samples its responses."""
        due: int = self._step % self.args.gradient_accumulation_steps
        if due == 0 or self._step_passes is None:
            self._step_passes = self._sampled([item["index"] for item in asked[:: self.online.sampling.k]])
        return self._step_passes[due]

    def _sampled(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """This process's groups of a step, cut into forward passes of similar lengths."""
        asked = [self.rows[index] for index in indices]
        solutions = self._solutions(asked)
        queries = [row for row in asked for _ in range(self.online.sampling.k)]
        rewards = self._rewards(solutions, queries)
        responses = [
            self.responses.of(solution["token_ids"], [], solution["finished"]) for solution in solutions
        ]
        drawn = self._of_all([len(solutions), sum(map(drawn_tokens, solutions)), _right(solutions)])
        self._log_step(rewards, dict(zip(DRAWN, drawn, strict=True)), solutions)
        advantages = self._advantages(rewards).reshape(-1)
        (trained,) = self._of_all([sum(map(len, responses))])
        order = sorted(range(len(responses)), key=lambda at: (-len(responses[at]), at))
        size = self.args.per_device_train_batch_size
        passes = []
        for start in range(0, len(order), size):
            part = order[start : start + size]
            batch = stack(
                [queries[at] for at in part], [responses[at] for at in part], self.prompts, self.checkpoint
            )
            passes.append(self._pass(batch, advantages[part], trained))
            sampled = torch.tensor([solutions[at]["logprob"] for at in part])
            passes[-1]["sampled_logprobs"] = sampled.to(self.accelerator.device)
        return passes

    def _solutions(self, asked: Sequence[Row]) -> list[Row]:
        """The verified responses (``records.ROLLOUT``) to ``asked``, group after group."""
        settings = self.online.sampling
        for row, prompt in zip(asked, self.prompts.of(asked), strict=True):
            check_fits(row, len(prompt), settings.max_new_tokens, self.checkpoint.context)
        first = self.accelerator.process_index * len(asked)
        # By step and place, which no number of processes changes: a query may come twice in a step.
        seeds = [
            [derive_seed("online", self.title, self.state.global_step, place, j) for j in range(settings.k)]
            for place in range(first, first + len(asked))
        ]
        requests = [Request(prompt, own) for prompt, own in zip(self.prompts.of(asked), seeds, strict=True)]
        results = self._drawn(requests, settings.temperature, settings.max_new_tokens)
        return [
            solution_row(
                self.checkpoint.processor, query, sample, source="sample", index=index, seed=own[index]
            )
            for query, own, samples in zip(asked, seeds, results, strict=True)
            for index, sample in enumerate(samples)
        ]

    def _drawn(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """What the current weights answer."""
        model = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled:
            samplers.gather(model, self.whole_copy)
            model = self.whole_copy
        if self._samples is None:  # made once the model is on its device
            self._samples = samplers.make_sampler(
                self.online, self.checkpoint, self.accelerator, self.prompts, self.rows
            )
        return self._samples.sample(model, requests, temperature, max_new_tokens)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and end what sampled for it."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self._samples is not None:
                self._samples.close()
                self._samples = None

    def _rewards(self, solutions: Sequence[Row], queries: Sequence[Row]) -> Tensor:
        """[groups, k].

        Raises:
            VistaError: a reward is not a number; names the query.
        """
        found = [self.reward.of(*each) for each in zip(solutions, queries, strict=True)]
        for value, query in zip(found, queries, strict=True):
            if not isinstance(value, Real) or not math.isfinite(value):
                raise VistaError(
                    f"query {query['query_id']!r}: reward {self.online.objective.reward.kind!r} gives "
                    f"{value!r} to a response, not a finite number; correct the reward"
                )
        return torch.tensor(found, device=self.accelerator.device).reshape(-1, self.online.sampling.k)

    def _advantages(self, rewards: Tensor) -> Tensor:
        """[groups, k]: rewards above the group's mean, scaled (Shao et al. 2024, Sec. 4.1.2)."""
        above = rewards - rewards.mean(dim=1, keepdim=True)
        scale = self.online.objective.scale_rewards
        if scale == "none":
            return above
        spread = self.accelerator.gather(rewards).std() if scale == "batch" else rewards.std(1, keepdim=True)
        return above / (spread + STD_FLOOR)

    def _pass(self, batch: Batch, advantages: Tensor, trained: float) -> dict[str, Any]:
        """What TRL's loss takes of one forward pass.

        Args:
            batch: As ``batching.collate``, still with its ``response_mask``.
            advantages: [sequences].
            trained: Response tokens of the whole step, over all processes.
        """
        in_response = batch.pop("response_mask")
        batch["labels"] = batch["input_ids"].masked_fill(~in_response, IGNORED)
        counted = batch["attention_mask"].sum()
        self.state.num_input_tokens_seen += int(self._of_all([int(counted)])[0])
        batch = {name: value.to(self.accelerator.device) for name, value in batch.items()}
        lengths = in_response.sum(dim=1)
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).to(self.accelerator.device)
        nothing = torch.zeros((len(lengths), 0), dtype=torch.long, device=mask.device)
        found = {
            "batch": batch,
            "prompt_ids": nothing,  # TRL puts prompts and responses together, which ``batch`` has done
            "prompt_mask": nothing,
            "completion_ids": mask.long(),
            "completion_mask": mask.long(),
            "advantages": advantages,
            "num_items_in_batch": torch.tensor(trained, device=mask.device),
        }
        if self.beta != 0.0:
            found["ref_per_token_logps"] = self._reference_log_probs(batch)
        return found

    def _reference_log_probs(self, batch: Batch) -> Tensor:
        """[sequences, tokens], under the weights that training started from."""
        model = self.accelerator.unwrap_model(self.model)
        without = nullcontext() if self.reference is not None else model.disable_adapter()
        with torch.no_grad(), self.accelerator.autocast(), without:
            outputs = self._forward(model if self.reference is None else self.reference, batch)
        return _aligned(outputs.log_probs, outputs.label_mask)

    # --- what TRL's loss asks for ---

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss of one forward pass.

        Raises:
            VistaError: the loss is not a number.
        """
        self._batch, self._sampled_logprobs = inputs["batch"], inputs["sampled_logprobs"]
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._check(loss)
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """[sequences, tokens] each, of the batch as it was stacked; TRL knows only some families' inputs."""
        with self.accelerator.autocast():
            outputs = self._forward(model, self._batch)
        mask = outputs.label_mask
        found = _aligned(outputs.log_probs, mask)
        if self.online.sampling.temperature == 1:  # else the two mean different things
            gaps = (found.detach().sum(dim=1) - self._sampled_logprobs).abs() / mask.sum(dim=1)
            self._metrics["train"]["logprob_gap"].append(self.accelerator.gather(gaps).mean().item())
        return found, _aligned(outputs.entropy, mask), None

    def _forward(self, model: Any, batch: Batch) -> Any:
        self.used = True
        return model(**batch, use_cache=False, fused_lm_head=True)

    # --- what is logged ---

    def _of_all(self, counts: list[int]) -> list[float]:
        """Sums over all processes."""
        found: list[float] = self.accelerator.reduce(
            torch.tensor(counts, dtype=torch.float32, device=self.accelerator.device), reduction="sum"
        ).tolist()
        return found

    def _log_step(self, rewards: Tensor, drawn: dict[str, float], solutions: Sequence[Row]) -> None:
        """Means under TRL's names, and what was drawn in all."""
        everyone = self.accelerator.gather(rewards)
        cut = self._of_all([sum(not solution["finished"] for solution in solutions)])[0]
        spread = everyone.std(dim=1)
        for name, value in {
            "reward": everyone.mean().item(),
            "reward_std": everyone.std().item(),
            "frac_reward_zero_std": (spread == 0).float().mean().item(),
            "completions/mean_length": drawn["drawn_tokens"] / drawn["solutions"],
            "completions/clipped_ratio": cut / drawn["solutions"],
            **drawn,
        }.items():
            self._metrics["train"][name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, without what the clock says."""
        self._metrics["train"].pop("step_time", None)
        if "loss" in logs:
            logs["num_tokens"] = self.state.num_input_tokens_seen
            gap = self._metrics["train"].get("logprob_gap", [0.0])
            self._tell_of_gap(sum(gap) / len(gap))
        super().log(logs, start_time)
        self.state.log_history[-1]["epoch"] = self.epochs * self.state.global_step / self.state.max_steps
        limit = self.online.tokens
        if limit is not None and self.counts()["drawn_tokens"] >= limit:
            self.control.should_training_stop = True
            self.control.should_save = False  # a run that resumed there would take one step more

    def _tell_of_gap(self, gap: float) -> None:
        """Say once that vLLM seems to sample from other weights than those that are trained."""
        if self.online.engine.kind == "vllm" and gap > MOST_GAP and not self._told:
            self._told = True
            print(
                f"{self.title}: step {self.state.global_step}: logprob_gap {gap:.2g}: vLLM's log-"
                f"probabilities are off by more than {MOST_GAP} a token (docs/engines.md)",
                file=sys.stderr,
            )

    def counts(self) -> dict[str, float]:
        """What was drawn in all steps, those before a resume too."""
        logged = [entry for entry in self.state.log_history if "loss" in entry]
        return {name: sum(entry[name] for entry in logged) for name in DRAWN}


def _right(solutions: Sequence[Row]) -> int:
    return sum(solution["correct"] for solution in solutions)


def _aligned(values: Tensor, mask: Tensor) -> Tensor:
    """Values at the places of ``mask`` [sequences, positions], from the left: [sequences, most in a row]."""
    lengths = mask.sum(dim=1)
    places = torch.arange(int(lengths.max()), device=mask.device) < lengths[:, None]
    return torch.zeros(places.shape, dtype=values.dtype, device=values.device).masked_scatter(
        places, values[mask]
    )


def rewarded_here(*_: Any, **__: Any) -> list[float]:
    """What TRL is given for a reward, and never asks: it would hand over texts that it decoded itself."""
    raise NotImplementedError


def make_trainer(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: Online,
    title: str,
    folder: Path,
    seed: int,
    training: ModelTraining,
    low_precision: bool,
    reports: Reports | None,
) -> GroupTrainer:
    """The trainer for queries (``records.ASKED``); arguments are those of ``fit.make_trainer``."""
    lora = lora_config(checkpoint.model, training.tuning)
    whole = Whole(checkpoint.model, lora)
    settings, k = objective.objective, objective.sampling.k
    reference = copy.deepcopy(checkpoint.model) if settings.beta != 0.0 and lora is None else None
    whole_copy = None
    in_process = isinstance(objective.engine, HfEngineSettings)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and (in_process or os.environ.get("RANK", "0") == "0"):
        whole_copy = copy.deepcopy(checkpoint.model)
        whole_copy = whole_copy if lora is None else get_peft_model(whole_copy, lora)
    arguments = trainer_arguments(hyper, training, folder, seed, low_precision, reports)
    passes = arguments["gradient_accumulation_steps"]
    trainer = GroupTrainer(
        model=checkpoint.model,
        reward_funcs=rewarded_here,
        # The tokenizer alone: TRL takes neither prompts nor images from it, since these are ours.
        processing_class=checkpoint.processor.tokenizer,
        train_dataset=trainers.index_dataset(len(rows)),
        args=on_one_gpu(
            GRPOConfig(
                **{**arguments, "num_train_epochs": 1},  # which the sampler makes of all of them
                steps_per_generation=passes,
                num_generations=k,
                max_completion_length=objective.sampling.max_new_tokens,
                temperature=objective.sampling.temperature,
                beta=0.0,  # TRL would load a reference model of its own
                loss_type=settings.loss_type,
                scale_rewards=settings.scale_rewards,
                ddp_find_unused_parameters=True if training.processes > 1 else None,
            )
        ),
        peft_config=lora,
    )
    trainer.beta = settings.beta
    trainer.checkpoint, trainer.rows, trainer.online, trainer.title = checkpoint, rows, objective, title
    trainer.reward = plugins.make(settings.reward)
    trainer.epochs = hyper.epochs
    trainer.sampler = GroupSampler(len(rows), hyper.epochs, hyper.batch_size // k, k, passes, seed)
    trainer.prompts, trainer.responses = Prompts(checkpoint.processor), Responses(checkpoint)
    if reference is not None:
        reference.to(trainer.accelerator.device).eval().requires_grad_(False)
        add_fused_lm_head(reference, temperature=objective.sampling.temperature)
        trainer.reference = reference
    if whole_copy is not None:
        device = trainer.accelerator.device if in_process else "cpu"
        trainer.whole_copy = whole_copy.to(device).requires_grad_(False)
    trainer.whole = whole
    return trainer
