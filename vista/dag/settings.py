"""Params and resources of the rules.

Each output's settings are passed as a digest, which changes exactly when something does that decides the
output: not what only names other inputs, and not how a job uses the machine. Where the order in which files
are read decides, it is in the digest, since Snakemake compares inputs as a set. What a job asks of a machine
(cores, GPUs, memory, time) comes from its model's entry; no output depends on it, so changing it makes
nothing stale. Schedulers read it; a local run uses only cores and GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from vista import devices, grid, measured
from vista.config import (
    AnnotatedRationales,
    BuiltModel,
    Improving,
    JobResources,
    ModelStage,
    OnlineMethod,
    SelectMethod,
    SelfImprovement,
    SelfRationales,
    TeacherRationales,
    digest,
    load_yaml,
    training_section,
)
from vista.config.tasks import stated_of_task
from vista.dag.base import Base
from vista.dag.inputs import Outputs
from vista.devices import Device
from vista.errors import VistaError
from vista.memory import PARTS
from vista.wording import templates_of, trained_templates

# Keys of a config file of accelerate that say where processes run, most of which `vista train` overrides.
PLACEMENT = (
    *("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port"),
    *("rdzv_backend", "same_network", "compute_environment", "main_training_function", "debug"),
)


class Settings(Outputs):
    """The params of the rules."""

    def task_settings(self, task: str, split: str) -> str:
        """Settings of one split of a task: of the sizes, only those that it depends on."""
        spec = self.suite.tasks[task]
        sizes = [getattr(spec.sizes, split)]
        if spec.train_follows_seed and split == "train":
            sizes.append(spec.sizes.seed)  # what the seed split takes is not trained on again
        teacher = self._teacher_settings() if split == "seed" else None
        files = [self.definitions[task]] if task in self.definitions else []
        if self.suite.pilot and self.rationale_files(task, split):
            files.append("pilot")  # whose rationales may be of more queries than are left
        return digest([stated_of_task(spec, split), *sizes, teacher, *files])

    def _teacher_settings(self) -> dict[str, Any] | None:
        """What decides a teacher's rationales, but not what they may cost or how they are fetched."""
        settings = self.suite.seed_rationales
        if not isinstance(settings, TeacherRationales):
            return None
        return settings.model_dump(
            mode="json", exclude={"cache", "max_requests", "api_key_variable", "timeout", "parallel"}
        )

    def model_settings(self, model: str) -> str:
        """Settings of a model: how it is asked and trained later does not matter, nor where its jobs run."""
        entry = self.suite.models[model]
        settings = entry.model_dump(mode="json", exclude={"training", "resources", "prompts"})
        hint = [self.suite.wording.hint] if isinstance(entry, BuiltModel) else []
        return digest([settings, *hint])

    def adoption_settings(self, run: str) -> str:
        """Settings of a checkpoint from elsewhere: where it is, and whether its code may run."""
        this = grid.Run.parse(run)
        trusted = getattr(self.suite.models[this.model], "trust_remote_code", False)
        return digest([str(grid.given(self.suite, this)), trusted])

    def grading_settings(self, run: str) -> str:
        """Settings of the verdicts on responses from elsewhere."""
        this = grid.Run.parse(run)
        method = self.suite.methods[this.method]
        stated = [str(grid.given(self.suite, this)), method.model_dump(include={"missing"})]
        # Questions may be in the file as the model was asked them.
        prompts = self.suite.models[this.model].prompts.model_dump(include={"suffix", "answer_mark"})
        pilot = ["pilot"] if self.suite.pilot else []  # which leaves responses to other queries out
        return digest([*stated, self.suite.evaluated_tasks, *self._own_tasks(), prompts, *pilot])

    def check_settings(self, model: str) -> str:
        """Settings of the check of a base model: whose attention has to be read."""
        scoring = self.suite.scoring.model_dump(include={"layers", "linear_layers"})
        layers = scoring if grid.reads_attention(self.suite) else None
        return digest([layers, grid.asks_system(self.suite, model)])

    def rollout_settings(self, kind: str, name: str, policy: str | None = None) -> str:
        """Settings of rollouts of a kind and name, and how the model of the ``policy`` is asked."""
        verified = kind in ("samples", "resamples")
        asked = [] if policy is None else self._prompts(policy, verified)
        if policy is not None:
            split = grid.sampled_split(name) if kind == "samples" else "train"
            asked.append(self._in_order(self.reads.queries(grid.Run.parse(policy), split)))
        if kind == "samples":
            return digest(
                [self.suite.engine.kind, grid.sampling_named(self.suite, name).model_dump(), *asked]
            )
        if kind == "resamples":
            return digest([*self._resampling_settings(name), *asked])
        if kind == "scores":
            return digest([self.suite.scoring.model_dump(include={"layers", "linear_layers"}), name, *asked])
        return digest([self.suite.scoring.without, name, *asked])

    def case_settings(self, policy: str) -> str:
        """Settings of a policy's cases: how its model is asked, in which order."""
        queries = self.reads.queries(grid.Run.parse(policy), "train")
        stated = [*self._prompts(policy, verified=False), self.suite.cases_per_task]
        return digest([*stated, self._in_order(queries)])

    def _in_order(self, files: Iterable[str | Path]) -> list[str]:
        """What input files are called in the results, in the order in which a job reads them."""
        folder = f"{self.paths.results}/"
        return [str(file).removeprefix(folder) for file in files]

    def _prompts(self, run: str, verified: bool) -> list[Any]:
        """How a run's model is asked, nothing where all is as the queries say.

        With its mark before answers only where answers are ``verified``.
        """
        prompts = self.suite.prompts(grid.Run.parse(run).model)
        said = prompts.stated if verified else prompts.shown
        return [said] if said else []

    def _resampling_settings(self, name: str) -> list[Any]:
        work = grid.resampling_named(self.suite, name)
        words = [getattr(self.suite.wording, name) for name in work.settings.templates]
        settings = [work.sampling.model_dump(), work.settings.model_dump()]
        return [self.suite.engine.kind, *settings, *words]

    def encodable_settings(self, model: str) -> str:
        """Settings of the check of all queries: how they are asked, and how long the responses may be."""
        methods = [method for method in self.suite.methods.values() if isinstance(method, Improving)]
        lengths = {method.rollouts.max_new_tokens for method in methods}
        longest = [max(lengths, default=0), self.suite.eval_max_new_tokens]
        own = self.suite.seed_rationales
        if isinstance(own, SelfRationales):
            longest.append(own.rollouts.max_new_tokens)
        shown = self.suite.models[model].prompts.shown
        return digest([own.kind, *longest, *([shown] if shown else [])])

    def curation_settings(self, run: str) -> str:
        """Settings of a training set: how examples are chosen from its files, and the order of these.

        What else a method says decides which files those are, how they are trained on, or how often.
        """
        this = grid.Run.parse(run)
        method = self.suite.methods[this.method]
        if isinstance(method, OnlineMethod):  # queries with what their responses are judged by
            files = self._in_order(self.reads.curation(this).every_file)
            return digest(["asked", *self._prompts(run, verified=True), files])
        stated: list[Any] = [training_section(method) == "dpo", *self._prompts(run, verified=False)]
        if isinstance(method, SelfImprovement):
            choice = method.model_dump(mode="json", include={"filter", "dedupe", "max_per_query"})
            stated += [choice, sorted(method.reflect)]
        if words := trained_templates(method):
            stated.append(self.suite.wording.model_dump(include=set(words)))
        if method.trains_on_seed:
            rationales = self.suite.seed_rationales
            # Other rationales than the base model's own come with the queries; a teacher's may be lacking.
            stated += [rationales.kind, getattr(rationales, "max_per_query", None)]
        if self.suite.pilot:  # with stand-ins where there is nothing to train on
            stated.append(["pilot", self.suite.wording.chosen])
        return digest([*stated, self._in_order(self.reads.curation(this).every_file)])

    def training_settings(self, run: str) -> str:
        """Settings of a training run, but not how many processes and passes share a step.

        Raises:
            VistaError: the model's config file of accelerate, which can change numbers, cannot be read.
        """
        this = grid.Run.parse(run)
        method = self.suite.methods[this.method]
        training = self.suite.models[this.model].training
        tuning = training.tuning.model_dump()
        if training.accelerate is not None:
            tuning["accelerate"] = _accelerate_settings(training.accelerate)
        section = training_section(method)
        stated: list[Any] = [getattr(self.suite.training, str(section)).model_dump(), tuning]
        if isinstance(method, SelfImprovement):
            stated.append(method.objective.model_dump())
        if isinstance(method, OnlineMethod):
            stated += [method.objective.model_dump(), method.rollouts.model_dump()]
            if self.suite.engine.kind != "hf":
                stated.append(self.suite.engine.kind)
            if method.budget is not None:
                stated.append(self._in_order(self.reads.budget(this)))
        if method.trains_on_seed:
            # A special token in a text that somebody wrote is an error; of models' texts it leaves one out.
            stated.append(isinstance(self.suite.seed_rationales, AnnotatedRationales))
        return digest(stated)

    def evaluation_settings(self, run: str) -> str:
        """Settings of an evaluation: of decoding that is not greedy, and which scorers lmms-eval uses."""
        decoding = self._decoding(run)
        if scorers := self.scorers():
            decoding.append(scorers)
        decoding += self._own_tasks()
        decoding += self._prompts(run, verified=True)
        if self.reads.responds_elsewhere:
            decoding.append(self.suite.engine.kind)
        return digest([self.suite.evaluated_tasks, self.suite.eval_max_new_tokens, *decoding])

    def response_settings(self, run: str) -> str:
        """Settings of the responses that are generated in the engine's environment."""
        decoding = [self.suite.engine.kind, *self._decoding(run), *self._prompts(run, verified=False)]
        return digest([self.suite.evaluated_tasks, self.suite.eval_max_new_tokens, *decoding])

    def request_settings(self, task: str) -> str:
        """Settings of what one of lmms-eval's own tasks asks."""
        return digest([self.definitions.get(task), self.suite.eval_max_new_tokens])

    def _decoding(self, run: str) -> list[Any]:
        """How responses are decoded, if not greedily."""
        method = self.suite.methods[grid.Run.parse(run).method]
        if not isinstance(method, SelectMethod):
            return []
        return [
            method.model_dump(mode="json"),
            self.suite.wording.model_dump(include=set(templates_of(method))),
        ]

    def _own_tasks(self) -> list[list[str]]:
        """What files outside the config say of the evaluated tasks; nothing where no task has such files."""
        own = [self.definitions[task] for task in self.suite.evaluated_tasks if task in self.definitions]
        return [own] if own else []

    def asking_settings(self, run: str) -> str:
        """Settings of an evaluation of a model at an endpoint: which, and how it is asked."""
        entry = self.suite.endpoints[grid.Run.parse(run).model]
        stated = [entry.asking, self.scorers(), *self._own_tasks(), *self._prompts(run, verified=True)]
        return digest([self.suite.evaluated_tasks, self.suite.eval_max_new_tokens, *stated])

    def suite_settings(self) -> str:
        """The whole suite, in its order."""
        return digest([self.suite.model_dump_json()])

    def collection_settings(self) -> str:
        """What decides the rows of ``long.csv`` and their order."""
        return digest([[run.id for run in grid.runs(self.suite)], self.suite.evaluated_tasks])

    def cost_settings(self) -> str:
        """What decides the rows of the table of costs, besides the measurements that there are."""
        return digest([self.suite.name, self.suite.every_model])

    def pilot_settings(self) -> str:
        """What decides the rows of the table of a pilot, besides what its jobs left: the whole suite."""
        return self.suite_settings()

    def table_settings(self, rule: str) -> str:
        """What decides the rows of a rule's tables and their order, besides what is in the files.

        Raises:
            VistaError: the tables need scenes, which a task does not have.
        """
        if rule == "training":
            trained = self.reads.histories()
            sections = [training_section(self.suite.methods[run.method]) for run in trained]
            return digest([self.suite.name, [run.id for run in trained], sections])
        stated = [self.suite.name, _items(self.suite.train_sets)]
        if rule == "audit":
            pools = measured.scored_pools(self.suite)
            stated.append([[setting.model_dump() for setting in pool.filters] for pool in pools])
        if rule in ("audit", "prefix"):
            return digest([*stated, self._in_order(self.table_inputs(rule))])
        methods = {name: method.model_dump(mode="json") for name, method in self.suite.methods.items()}
        swept = {name: swept.model_dump(mode="json") for name, swept in self.suite.swept.items()}
        stated += [_items(methods), _items(swept), self.suite.out_of_domain, self.suite.every_model]
        if rule == "results":
            chosen = {name: choice.model_dump() for name, choice in self.suite.tables.items()}
            stated.append(sorted((name, choice) for name, choice in chosen.items() if choice))
        return digest([self.collection_settings(), *stated])


def _accelerate_settings(file: Path) -> dict[str, Any]:
    """What a config file of accelerate says, but where processes run, and the DeepSpeed file that it names.

    Raises:
        VistaError: it cannot be read.
    """
    said = {name: value for name, value in load_yaml(file).items() if name not in PLACEMENT}
    deepspeed = said.get("deepspeed_config")
    named = deepspeed.get("deepspeed_config_file") if isinstance(deepspeed, dict) else None
    if named is not None and Path(str(named)).is_file():
        said["deepspeed_config_file"] = Path(str(named)).read_bytes().hex()
    return said


def _items(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A mapping whose order decides; ``digest`` sorts the others."""
    return list(mapping.items())


LIGHT_MEMORY = 8_000  # MB, of jobs that run no model: queries with their images are the largest they hold
LIGHT_MINUTES = 60
WITHOUT_GPU = ("adopt",)  # of the commands that hold a model


class Resources(Base):
    """The threads and resources of the rules. ``model`` is a model's name, or a run of it."""

    def _job(self, stage: ModelStage, model: str) -> tuple[JobResources, int]:
        """Resources of a model's jobs of one stage, and in how many processes each runs."""
        entry = self.suite.models[grid.Run.parse(model).model if "/" in model else model]
        processes = entry.training.processes if stage == "training" else 1
        return entry.resources.of(stage), processes

    def cpus(self, stage: ModelStage, model: str) -> int:
        """CPU cores of a job."""
        job, processes = self._job(stage, model)
        return self.suite.threads * processes if job.cpus is None else job.cpus

    def gpus(self, stage: ModelStage, model: str) -> int:
        """GPUs of a job."""
        job, processes = self._job(stage, model)
        return self.suite.gpus * processes if job.gpus is None else job.gpus

    def gpus_of(self, command: str, named: str) -> int:
        """GPUs of the job of a command, which is called with a model or a run first."""
        if command not in PARTS or command in WITHOUT_GPU:
            return 0
        if command == "evaluate" and self.suite.engine.kind == "vllm":
            return 0  # it scores what was generated before (``respond``)
        return self.gpus(cast("ModelStage", PARTS[command]), named)

    def devices(self) -> list[Device]:
        """The GPUs of this machine, if any job may ask for one."""
        commands = [command for command in PARTS if command not in WITHOUT_GPU]
        asked = (self.gpus_of(command, model) for command in commands for model in self.suite.models)
        return devices.of_machine() if any(asked) else []

    def hand_out(self, there: Sequence[Device], limit: int, jobs: Iterable[tuple[str, str]]) -> None:
        """Let each job on this machine have GPUs of its own.

        Args:
            there: The machine's.
            limit: How many may be in use at a time.
            jobs: Those that will run: the command, and the model or run that it is called with.

        Raises:
            VistaError: a job asks for more than there are, or ``limit`` says more.
        """
        if there and limit > len(there):
            raise VistaError(
                f"--resources gpu={limit}: this machine has {len(there)} GPUs; leave the option out, or "
                "lower it"
            )
        for command, named in sorted(jobs) if there else []:  # Snakemake has them in no order
            if (asked := self.gpus_of(command, named)) > limit:
                raise VistaError(f"vista {command} {named}: {devices.too_many(asked, limit)}")
        devices.offer(there)

    def memory(self, stage: ModelStage, model: str, attempt: int) -> int:
        """Main memory of a job at its first, second … attempt, MB."""
        return math.ceil(1000 * self._job(stage, model)[0].memory_gb * attempt)

    def minutes(self, stage: ModelStage, model: str, attempt: int) -> int:
        """Time limit of a job at its first, second … attempt, minutes."""
        return math.ceil(60 * self._job(stage, model)[0].hours * attempt)

    def only_fetches(self) -> bool:
        """Whether no base model is built here: all are fetched, or already on disk."""
        return not any(isinstance(entry, BuiltModel) for entry in self.suite.models.values())

    def slurm_extra(self, model: str) -> str:
        """Options of ``sbatch`` for training: several processes take one whole node."""
        return "--nodes=1 --exclusive" if self._job("training", model)[1] > 1 else ""

    def light_memory(self, attempt: int) -> int:
        """Main memory of a job without a model, MB."""
        return LIGHT_MEMORY * attempt

    def light_minutes(self, attempt: int) -> int:
        """Time limit of a job without a model, minutes."""
        return LIGHT_MINUTES * attempt
