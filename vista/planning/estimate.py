"""GPU hours and disk of every job that a suite would run, from stated assumptions; for ``vista plan``.

A model of N parameters costs 2 N floating-point operations per token of a forward pass, 6 N of
training all of them and 4 N of training adapters (no gradients of the frozen weights), and 2 N more
where activations are recomputed (Kaplan et al. 2020, arXiv 2001.08361, Sec. 2.1). Attention over the
context, the vision tower and data loading are left out. Each assumption has a default, which a file or an
option may replace; sizes come only from the config.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from vista import grid
from vista.config import (
    BuiltModel,
    HubModel,
    LocalModel,
    ModelStage,
    OnlineMethod,
    SeedMethod,
    SelectMethod,
    SelfImprovement,
    Suite,
)
from vista.config.blind import asked_task
from vista.dag import Dag
from vista.dag.inputs import RULE_OF_KIND
from vista.errors import VistaError
from vista.filters.none import NoFilterSettings
from vista.grid import Resampling, Run
from vista.planning.assumptions import Assumptions
from vista.planning.jobs import RolloutFile, answering_rule, rollout_files, splits
from vista.records import Split
from vista.resamplers import ResampleSettings
from vista.resamplers.budget_matched import BudgetMatchedSettings

HOUR = 3600.0
BYTES_PER_SCORED_LAYER = 12.0  # three float32
BYTES_PER_GAIN = 20.0  # two float64 and a count


@dataclass(frozen=True)
class Work:
    """One rule's work for one model: GPU hours of all its jobs, and bytes that they leave on disk."""

    rule: str
    model: str  # empty for a rule without a model
    gpu_hours: float
    disk_bytes: float


@dataclass(frozen=True)
class Shared:
    """Rollout files of one kind and settings that the same methods read, over all models and train sets."""

    kind: str
    name: str
    policy: str  # method and round that sampled
    readers: tuple[str, ...]
    files: int
    gpu_hours: float

    @property
    def unshared_gpu_hours(self) -> float:
        """What they would cost if every method made its own."""
        return self.gpu_hours * len(self.readers)


class Estimator:
    """The arithmetic of a plan."""

    def __init__(self, suite: Suite, assumptions: Assumptions) -> None:
        self.suite = suite
        self.assumptions = assumptions
        self.parameters = {model: parameters(suite, model, assumptions) for model in suite.models}
        stored = {model: stored_bytes(spec, assumptions) for model, spec in suite.models.items()}
        self.stored = {model: count * stored[model] for model, count in self.parameters.items()}  # bytes

    @cached_property
    def files(self) -> list[RolloutFile]:
        """Every rollout file of the suite."""
        return rollout_files(self.suite)

    def gpus(self, stage: ModelStage, model: str) -> int:
        """GPUs of a job; 0 where the suite asks for none."""
        return Dag(self.suite).gpus(stage, model) if self.suite.gpus else 0

    # --- what there is to do ---

    def solutions(self, file: RolloutFile) -> float:
        """Solutions that a rollout file holds (or scores)."""
        if file.kind == "samples":
            return self.sampled(file.policy, file.name)
        if file.kind == "resamples":
            return self.resampled(file.policy, grid.resampling_named(self.suite, file.name))
        return self.scored(file, grid.method_with(self.suite, file.kind, file.name))

    def sampled(self, policy: Run, name: str) -> float:
        """Solutions that are sampled."""
        asked = train_queries(self.suite, policy.train_set, grid.sampled_split(name))
        return float(asked * grid.sampling_named(self.suite, name).k)

    def resampled(self, policy: Run, work: Resampling | None) -> float:
        """Solutions that are resampled from wrong ones."""
        if work is None:
            return 0.0
        if work.matched is not None:
            by_tokens = isinstance(work.settings, BudgetMatchedSettings) and work.settings.match == "tokens"
            # Whole solutions for the same tokens, or as many.
            each = self.drawn(work.matched.settings) if by_tokens else 1.0
            return self.resampled(policy, work.matched) * each
        wrong = self.sampled(policy, work.sampling.slug) * (1.0 - self.assumptions.correct)
        tried = self.assumptions.critical if work.settings.finds_critical else 1.0
        return wrong * tried * work.settings.tries

    def drawn(self, settings: ResampleSettings) -> float:
        """Part of a resampled solution that is drawn, not given."""
        return self.assumptions.resampled if settings.cuts else 1.0

    def scored(self, file: RolloutFile, method: SelfImprovement) -> float:
        """Solutions that are read again, to be measured."""
        if grid.measured_scope(method) == "all":
            return self.sampled(file.policy, method.rollouts.slug) + self.resampled(
                file.policy, grid.resampling(method)
            )
        return self.positives(file.policy, method)

    def positives(self, policy: Run, method: SelfImprovement) -> float:
        """Right solutions, sampled and resampled."""
        right = self.sampled(policy, method.rollouts.slug) * self.assumptions.correct
        return right + self.resampled(policy, grid.resampling(method)) * self.assumptions.recovered

    def examples(self, run: Run) -> float:
        """Examples or pairs that a run trains on; of pairs an upper bound: not every query has a loser."""
        seed = float(train_queries(self.suite, run.train_set, "seed"))
        method = self.suite.methods[run.method]
        if isinstance(method, OnlineMethod):
            return float(train_queries(self.suite, run.train_set, "train"))
        if not isinstance(method, SelfImprovement):
            return seed
        kept = self.positives(grid.policy(self.suite, run), method)
        if not isinstance(method.filter, NoFilterSettings):
            kept *= self.assumptions.kept
        if method.max_per_query is not None:
            kept = min(kept, method.max_per_query * train_queries(self.suite, run.train_set, "train"))
        # An upper bound as well: a query needs right and wrong solutions for these.
        kept += len(method.reflect) * train_queries(self.suite, run.train_set, "train")
        return kept + seed if method.trains_on_seed else kept

    # --- what it costs ---

    def sampling_hours(self, model: str, tokens: float, engine: str) -> float:
        """GPU hours of sampling."""
        per_billion = (
            self.assumptions.vllm_tokens_per_second
            if engine == "vllm"
            else self.assumptions.hf_tokens_per_second
        )
        return tokens * self.parameters[model] / 1e9 / per_billion / HOUR

    def pass_hours(self, model: str, tokens: float, operations: float) -> float:
        """GPU hours of passes that cost ``operations`` floating-point operations per parameter and token."""
        return self.computing_hours(tokens * operations * self.parameters[model])

    def computing_hours(self, operations: float) -> float:
        """GPU hours of floating-point operations."""
        return operations / (self.assumptions.gpu_tflops * 1e12 * self.assumptions.utilisation) / HOUR

    def start_hours(self, jobs: int, gpus: int) -> float:
        """GPU hours of starting up."""
        return jobs * gpus * self.assumptions.start_minutes / 60.0

    @property
    def whole_tokens(self) -> int:
        """Tokens of a prompt with its response."""
        return self.assumptions.prompt_tokens + self.assumptions.response_tokens

    def rollout_hours(self, file: RolloutFile) -> float:
        """GPU hours of a rollout file, all shards; 0 where they ask for no GPUs."""
        model, engine = file.policy.model, self.suite.engine.kind
        gpus = self.gpus("rollouts", model)
        if not gpus:
            return 0.0
        count, start = self.solutions(file), self.start_hours(self.suite.shards, gpus)
        response = self.assumptions.response_tokens
        if file.kind == "samples":
            return start + self.sampling_hours(model, count * response, engine)
        if file.kind == "scores":
            layers = self.suite.scoring.layers
            depth = 1.0 if layers == "all" else max(layers)
            return start + self.pass_hours(model, count * self.whole_tokens, 2.0 * depth)
        if file.kind == "gains":  # once with the image, once without
            return start + 2 * self.pass_hours(model, count * self.whole_tokens, 2.0)
        settings = grid.resampling_named(self.suite, file.name).settings
        drawn = self.sampling_hours(model, count * response * self.drawn(settings), engine)
        return start + self.forced_hours(model, count, settings) + drawn

    def forced_hours(self, model: str, count: float, settings: ResampleSettings) -> float:
        """GPU hours of reading the wrong solutions that ``count`` solutions are resampled from."""
        if not settings.reads_model:
            return 0.0
        tried = self.assumptions.critical if settings.finds_critical else 1.0
        wrong = count / settings.tries / max(tried, 1e-9)
        return self.pass_hours(model, wrong * self.whole_tokens, 2.0)

    def building_hours(self, model: str) -> float:
        """GPU hours of training a model from scratch, and of adapting a pretrained decoder to its images."""
        spec = self.suite.models[model]
        gpus = self.gpus("models", model)
        if not gpus or not isinstance(spec, BuiltModel):
            return 0.0
        # A tower is trained with a small decoder first, whatever comes in the place of that.
        scratch = self.parameters[model] if spec.decoder is None else scratch_parameters(spec)
        operations = 6.0 * spec.steps * spec.batch_size * scratch
        if spec.decoder is not None:
            operations += 4.0 * spec.decoder.steps * spec.decoder.batch_size * self.parameters[model]
        return self.start_hours(1, gpus) + self.computing_hours(operations * self.whole_tokens)

    def training_hours(self, run: Run) -> float:
        """GPU hours of a training run, over all its processes."""
        gpus = self.gpus("training", run.model)
        if not gpus:
            return 0.0
        training = self.suite.models[run.model].training
        operations = (4.0 if training.tuning.kind == "lora" else 6.0) + 2.0 * training.gradient_checkpointing
        method = self.suite.methods[run.method]
        section = "seed"
        sequences = 1
        if isinstance(method, SelfImprovement):
            section = "sft"
            if method.objective.pairs:
                # Winner and loser, each through the reference model as well.
                section, sequences, operations = "dpo", 2, operations + 2.0
        sampling = 0.0
        if isinstance(method, OnlineMethod):
            section, sequences = "grpo", method.rollouts.k
            operations += 2.0 if method.objective.beta else 0.0  # the reference model reads as well
            drawn = self.examples(run) * sequences * self.online_epochs(run, method)
            sampling = self.sampling_hours(
                run.model, drawn * self.assumptions.response_tokens, self.suite.engine.kind
            )
        epochs = getattr(self.suite.training, section).epochs
        if isinstance(method, OnlineMethod):
            epochs = self.online_epochs(run, method)
        tokens = self.examples(run) * sequences * self.whole_tokens * epochs
        start = self.start_hours(1, gpus)
        return start + sampling + self.pass_hours(run.model, tokens, operations)

    def online_epochs(self, run: Run, method: OnlineMethod) -> float:
        """Epochs of a method that samples as it trains: as many as it may, or as its budget allows."""
        most = float(self.suite.training.grpo.epochs)
        each = self.examples(run) * method.rollouts.k * self.assumptions.response_tokens
        if method.budget is None or not each:
            return most
        other = replace(run, method=method.budget.tokens_of)
        policy = grid.policy(self.suite, other)
        names = grid.rollout_files(grid.self_improvement(self.suite, other))
        drawn = self.drawn_tokens(RolloutFile(policy, "samples", names.samples, ()))
        if names.resamples is not None:
            drawn += self.drawn_tokens(RolloutFile(policy, "resamples", names.resamples, ()))
        return min(most, drawn / each)

    def drawn_tokens(self, file: RolloutFile) -> float:
        """Tokens that were sampled for a file of samples or resamples."""
        tokens = self.solutions(file) * self.assumptions.response_tokens
        if file.kind == "samples":
            return tokens
        return tokens * self.drawn(grid.resampling_named(self.suite, file.name).settings)

    def evaluation_hours(self, run: Run) -> float:
        """GPU hours of answering every test query with a checkpoint, with the suite's engine."""
        gpus = self.gpus("evaluation", run.model)
        if not gpus:
            return 0.0
        method = self.suite.methods[run.method]
        responses = 1 + method.k if isinstance(method, SelectMethod) else 1
        tokens = self.test_queries * responses * self.assumptions.response_tokens
        sampling = self.sampling_hours(run.model, tokens, self.suite.engine.kind)
        return self.start_hours(1, gpus) + sampling

    @cached_property
    def test_queries(self) -> int:
        """Test queries that each checkpoint answers."""
        return sum(queries(self.suite, task, "test") for task in self.suite.evaluated_tasks)

    def rollout_bytes(self, file: RolloutFile) -> float:
        """Bytes of a rollout file, all shards."""
        if file.kind == "scores":
            layers = self.suite.scoring.layers
            return self.solutions(file) * BYTES_PER_SCORED_LAYER * (36 if layers == "all" else len(layers))
        if file.kind == "gains":
            return self.solutions(file) * BYTES_PER_GAIN
        return self.solutions(file) * self.assumptions.response_tokens * self.assumptions.bytes_per_token

    def row_bytes(self, tasks: Sequence[str], responses: int) -> float:
        """Bytes of a row with its own image, on average over ``tasks``."""
        text = responses * self.assumptions.response_tokens * self.assumptions.bytes_per_token
        return fmean(self.image_bytes(task) for task in tasks) + text

    def image_bytes(self, task: str) -> float:
        """Bytes of an encoded image of a task."""
        generated = asked_task(self.suite.tasks[task]).has_scene
        kilobytes = self.assumptions.grid_image_kilobytes if generated else self.assumptions.image_kilobytes
        return kilobytes * 1e3

    def state_bytes(self) -> float:
        """Bytes that the largest training run keeps to resume from."""
        return max(self.parameters.values(), default=0.0) * self.assumptions.state_bytes_per_parameter

    def checkpoint_bytes(self, run: Run) -> float:
        """Bytes of a trained checkpoint; none if it is released soon after it was made.

        The first sampler's is wanted until every method has sampled from it.
        """
        first = isinstance(self.suite.methods[run.method], SeedMethod)
        stays = first or grid.keeps_checkpoint(self.suite, run)
        return self.stored[run.model] if stays else 0.0

    def waiting_bytes(self) -> float:
        """Bytes of the checkpoints that wait to be read and then released."""
        if self.suite.keep_checkpoints == "all":
            return 0.0
        return max(self.stored.values(), default=0.0) * self.assumptions.waiting_checkpoints

    # --- put together ---

    def work(self) -> list[Work]:
        """The work of each rule for each model, in the order of the stages."""
        prepared = sum(
            queries(self.suite, task, split) * self.row_bytes([task], 0) for task, split in splits(self.suite)
        )
        found = [Work("tasks", "", 0.0, prepared)]
        for model, size in self.stored.items():
            found.append(Work("models", model, self.building_hours(model), size))
        for file in self.files:
            hours, disk = self.rollout_hours(file), self.rollout_bytes(file)
            found.append(Work(RULE_OF_KIND[file.kind], file.policy.model, hours, disk))
        for run in grid.evaluations(self.suite):
            if grid.is_trained(self.suite, run):
                method = self.suite.methods[run.method]
                pairs = isinstance(method, SelfImprovement) and method.objective.pairs
                rows = self.examples(run) * self.row_bytes(
                    self.suite.train_sets[run.train_set], 2 if pairs else 1
                )
                hours, weights = self.training_hours(run), self.checkpoint_bytes(run)
                found.append(Work("curate", run.model, 0.0, rows))
                found.append(Work("train", run.model, hours, weights))
            answers = self.test_queries * self.assumptions.response_tokens * self.assumptions.bytes_per_token
            if grid.is_graded(self.suite, run):
                found.append(Work("grade", run.model, 0.0, answers))
                continue
            if run.model in self.suite.endpoints:
                found.append(Work("ask", run.model, 0.0, answers))
                continue
            if grid.is_adopted(self.suite, run):  # an upper bound: of a whole checkpoint there are links
                found.append(Work("adopt", run.model, 0.0, self.stored[run.model]))
            rule = answering_rule(self.suite)
            found.append(Work(rule, run.model, self.evaluation_hours(run), answers))
            found += [Work("evaluate", run.model, 0.0, answers)] if rule != "evaluate" else []  # on a CPU
        return found

    def shared(self) -> list[Shared]:
        """Rollouts by who reads them, with what sharing saves."""
        groups: dict[tuple[str, str, str, tuple[str, ...]], list[RolloutFile]] = {}
        for file in self.files:
            readers = tuple(dict.fromkeys(run.method for run in file.readers))
            policy = f"{file.policy.method}, round {file.policy.round}"
            groups.setdefault((file.kind, file.name, policy, readers), []).append(file)
        return [
            Shared(*key, len(files), sum(self.rollout_hours(file) for file in files))
            for key, files in groups.items()
        ]


BUILT_PARAMETERS = 0.6e6  # of a model that is built from scratch, of the sizes that it has by default
BUILT_BYTES = 4.0  # of each, stored
SIZES = ("layers", "width", "vision_layers", "vision_width")  # of such a model, in its entry
LENGTHS = ("steps", "batch_size")  # of its training
TINY = {name: BuiltModel.model_fields[name].default for name in (*SIZES, *LENGTHS)}


# --- sizes of a suite, from the config ---


def queries(suite: Suite, task: str, split: Split) -> int:
    """Queries in a split of a task; an upper bound where nobody knows yet how many are left out."""
    return suite.tasks[task].queries(split)


def train_queries(suite: Suite, train_set: str, split: Split) -> int:
    """Queries of a split over all tasks of a train set."""
    return sum(queries(suite, task, split) for task in suite.train_sets[train_set])


def parameters(suite: Suite, model: str, assumptions: Assumptions) -> float:
    """Parameters of a model: as assumed, else as its name says.

    Raises:
        VistaError: neither says.
    """
    if model in assumptions.parameters:
        return assumptions.parameters[model]
    spec = suite.models[model]
    if isinstance(spec, BuiltModel):
        if spec.decoder is None:
            return scratch_parameters(spec)
        name = spec.decoder.file
    else:
        name = spec.repo if isinstance(spec, HubModel) else f"{model} {spec.path.name}"
    found = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([BM])(?![a-z])", name, re.IGNORECASE)
    if not found:
        raise VistaError(
            f"model {model}: {name!r} does not say how many parameters it has; "
            f"add --assume 'parameters={{{model}: 3.0e9}}'"
        )
    return float(found[1]) * (1e9 if found[2].upper() == "B" else 1e6)


def stored_bytes(spec: BuiltModel | LocalModel | HubModel, assumptions: Assumptions) -> float:
    """Bytes of a stored parameter: what is built here is stored in float32."""
    return BUILT_BYTES if isinstance(spec, BuiltModel) else assumptions.bytes_per_parameter


def scratch_parameters(spec: BuiltModel) -> float:
    """Parameters of a model that is built from scratch: the default size, scaled by layers × width²."""

    def matrices(layers: int, width: int, vision_layers: int, vision_width: int) -> int:
        return layers * width**2 + vision_layers * vision_width**2

    return (
        BUILT_PARAMETERS
        * matrices(*(getattr(spec, name) for name in SIZES))
        / matrices(*(TINY[name] for name in SIZES))
    )


def larger_models(suite: Suite) -> tuple[str, ...]:
    """Models that are larger than those whose jobs ``Assumptions.cpu_seconds`` are of."""
    return tuple(
        model
        for model, entry in suite.models.items()
        if not isinstance(entry, BuiltModel)
        or entry.decoder is not None
        or any(getattr(entry, name) > size for name, size in TINY.items())
    )
