"""The grid models × train sets × methods × seeds × rounds, and who depends on whom.

Pure: the Snakefile and the stages ask it the same questions and get the same answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vista.config import (
    BaseMethod,
    ExternalMethod,
    Improving,
    OnlineMethod,
    Sampling,
    SeedMethod,
    SelectMethod,
    SelfImprovement,
    SelfRationales,
    Suite,
)
from vista.errors import VistaError
from vista.filters import ScoreFilterSettings
from vista.records import Split
from vista.settings import NAME

if TYPE_CHECKING:  # sampling does not depend on how samples are tried again
    from vista.resamplers import ResampleSettings

_NAME = NAME.strip("^$")
RUN = re.compile(rf"({_NAME})/({_NAME})/({_NAME})/seed([0-9]{{1,18}})/round([0-9]{{1,9}})")
# Ends the name of a samples folder with solutions to the seed queries, not the train queries.
ON_SEED = "@seed"
SHOWN = 5  # runs that an error names


@dataclass(frozen=True, order=True)
class Run:
    """One checkpoint of the grid, ``{model}/{train_set}/{method}/seed{seed}/round{round}``."""

    model: str
    train_set: str
    method: str
    seed: int
    round: int

    @property
    def id(self) -> str:
        """The run's name, which is also its folder under every stage."""
        return f"{self.model}/{self.train_set}/{self.method}/seed{self.seed}/round{self.round}"

    @classmethod
    def parse(cls, text: str) -> Run:
        """The inverse of ``id``."""
        found = RUN.fullmatch(text)
        if found is None:
            raise VistaError(
                f"{text!r} is not a run; expected model/train_set/method/seedS/roundR, with names as in the "
                "config and numbers"
            )
        model, train_set, method, seed, number = found.groups()
        return cls(model, train_set, method, int(seed), int(number))


def run_named(suite: Suite, text: str) -> Run:
    """The run that a command's argument names.

    Raises:
        VistaError: it is not the name of a run, or the suite's grid does not have it.
    """
    run = Run.parse(text)
    for what, name, known in (
        ("model", run.model, suite.every_model),
        ("train set", run.train_set, suite.train_sets),
        ("method", run.method, suite.methods),
    ):
        if name not in known:
            has = ", ".join(known)
            raise VistaError(f"{text}: suite {suite.name!r} has no {what} {name!r}; it has {has}")
    alike = [other.id for other in runs(suite) if other.method == run.method]
    if run.id not in alike:
        has = ", ".join(alike[:SHOWN]) + (", …" if len(alike) > SHOWN else "")
        raise VistaError(f"{text}: suite {suite.name!r} has no such run of {run.method!r}; it has {has}")
    return run


def runs(suite: Suite) -> list[Run]:
    """Every run of the grid, a method's rounds in order."""
    found = []
    where = {name: suite.where(name) for name in suite.methods}
    for model in suite.every_model:
        for train_set in suite.train_sets:
            for name, (models, seeds) in where.items():
                for seed in seeds if model in models else []:
                    found += [
                        Run(model, train_set, name, seed, number) for number in rounds(suite, name, model)
                    ]
    return found


def rounds(suite: Suite, method: str, model: str) -> range:
    """The rounds of a method on a model: 1..T, or round 0 for the base model and SFT-Seed.

    A method that decodes another's checkpoints has that one's.
    """
    spec = suite.methods[method]
    if isinstance(spec, SelectMethod):
        return rounds(suite, spec.of, model)
    if not isinstance(spec, Improving | ExternalMethod):
        return range(1)
    return range(1, min(spec.rounds, suite.max_rounds.get(model, spec.rounds)) + 1)


def self_improvement(suite: Suite, run: Run) -> SelfImprovement:
    """The method of a run that trains on rollouts."""
    method = suite.methods[run.method]
    if not isinstance(method, SelfImprovement):
        raise VistaError(f"{run.id}: method {run.method!r} has no rollouts (kind: {method.kind})")
    return method


def policy(suite: Suite, run: Run) -> Run:
    """The run whose checkpoint samples the rollouts that ``run`` is trained on, or begins to as it trains."""
    method = suite.methods[run.method]
    if not isinstance(method, OnlineMethod):
        method = self_improvement(suite, run)
    if run.round > 1:
        return replace(run, round=run.round - 1)
    last = rounds(suite, method.initial_policy, run.model)[-1]
    first = replace(run, method=method.initial_policy, round=last)
    return replace(first, seed=suite.seeds[0]) if suite.has_one_seed(method.initial_policy) else first


def policies(suite: Suite, run: Run) -> list[Run]:
    """The runs whose rollouts ``run`` is selected from, the latest first.

    That is its policy; where rollouts accumulate, also the policies of its earlier rounds.
    """
    if not self_improvement(suite, run).accumulate:
        return [policy(suite, run)]
    return [policy(suite, replace(run, round=number)) for number in range(run.round, 0, -1)]


def restart(suite: Suite, run: Run) -> Run | None:
    """The run whose weights ``run`` starts training from; ``None`` for the base model."""
    method = suite.methods[run.method]
    goes_on = isinstance(method, SelfImprovement) and method.restart == "previous"
    return policy(suite, run) if goes_on or isinstance(method, OnlineMethod) else None


def is_trained(suite: Suite, run: Run) -> bool:
    """Whether ``run`` has its own checkpoint, not the base model's or another run's."""
    return isinstance(suite.methods[run.method], SeedMethod | Improving)


def keeps_checkpoint(suite: Suite, run: Run) -> bool:
    """Whether the weights of ``run`` stay when nothing of the suite has to be made from them any more."""
    last = run.round == rounds(suite, run.method, run.model)[-1]
    return suite.keep_checkpoints == "all" or (suite.keep_checkpoints == "last" and last)


def given(suite: Suite, run: Run) -> Path | None:
    """What the user gives in place of a training or of an evaluation: a folder or a file."""
    method = suite.methods[run.method]
    return method.path(run.model, run.seed, run.round) if isinstance(method, ExternalMethod) else None


def is_adopted(suite: Suite, run: Run) -> bool:
    """Whether the checkpoint of ``run`` is one that was trained elsewhere."""
    method = suite.methods[run.method]
    return isinstance(method, ExternalMethod) and bool(method.checkpoints)


def is_graded(suite: Suite, run: Run) -> bool:
    """Whether ``run`` has no checkpoint, but responses that were generated elsewhere."""
    method = suite.methods[run.method]
    return isinstance(method, ExternalMethod) and bool(method.predictions)


def weights(suite: Suite, run: Run) -> Run:
    """The run whose checkpoint ``run`` evaluates: itself, unless it decodes another method's."""
    method = suite.methods[run.method]
    return replace(run, method=method.of) if isinstance(method, SelectMethod) else run


def evaluated(suite: Suite, run: Run) -> Run:
    """The run whose predictions, and whose checkpoint from elsewhere, stand for those of ``run``.

    That is ``run`` itself, unless no train set has a part in it: then it is that of the first train set, so
    that the base model, and what somebody trained or answered elsewhere, is evaluated once for all of them.
    """
    own = suite.methods[weights(suite, run).method]
    if isinstance(own, BaseMethod | ExternalMethod):
        return replace(run, train_set=next(iter(suite.train_sets)))
    return run


def evaluations(suite: Suite) -> list[Run]:
    """Every run of the grid that is evaluated itself, in its order."""
    return list(dict.fromkeys(evaluated(suite, run) for run in runs(suite)))


@dataclass(frozen=True)
class Resampling:
    """Which samples are resampled, and how: all that decides a resamples folder, except its policy."""

    sampling: Sampling
    settings: ResampleSettings

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"{self.sampling.slug}+{self.settings.slug}"

    @property
    def matched(self) -> Resampling | None:
        """The resampling of the same samples whose rows this one reads, to be matched to it."""
        matched = self.settings.matched
        return None if matched is None else Resampling(self.sampling, matched)

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """Kind and name of the rollout files that it reads: the samples, then what it is matched to."""
        matched = [] if self.matched is None else [("resamples", self.matched.name)]
        return [("samples", self.sampling.slug), *matched]


def resampling(method: SelfImprovement) -> Resampling | None:
    """How ``method`` resamples; ``None`` if it does not."""
    if method.resample.kind == "none":
        return None
    return Resampling(method.rollouts, method.resample)


@dataclass(frozen=True)
class RolloutFiles:
    """Names of the rollout folders that a method reads, below its policy's folder."""

    samples: str
    resamples: str | None
    scores: str | None
    gains: str | None


def rollout_files(method: SelfImprovement) -> RolloutFiles:
    """Which samples, resamples, scores and gains ``method`` needs; equal needs have equal names.

    Samples depend only on the sampling settings, resamples also on the resampler, and scores
    and gains on which solutions there are. So methods that agree on these share the files.
    """
    samples = method.rollouts.slug
    work = resampling(method)
    resamples = None if work is None else work.name
    measured = {method.filter.reads: f"{resamples or samples}+{measured_scope(method)}"}
    return RolloutFiles(samples, resamples, measured.get("scores"), measured.get("gains"))


def measured_scope(method: SelfImprovement) -> Literal["positives", "all"]:
    """Which solutions a method's filter wants measured."""
    return method.filter.scope if isinstance(method.filter, ScoreFilterSettings) else "positives"


def asks_system(suite: Suite, model: str) -> bool:
    """Whether a model is asked with system texts: its entry's, or those that generated tasks bring."""
    own = suite.models[model].prompts.system
    return len(suite.tasks_without_scene) < len(suite.tasks) if own is None else own != ""


def reads_attention(suite: Suite) -> bool:
    """Whether a method of the suite filters by attention."""
    methods = [method for method in suite.methods.values() if isinstance(method, SelfImprovement)]
    return any(method.filter.reads == "scores" for method in methods)


@dataclass(frozen=True)
class SeedSamples:
    """The base model's own solutions to the seed queries (``seed_rationales: self``)."""

    policy: Run
    name: str  # of the samples folder
    settings: SelfRationales


def seed_samples(suite: Suite, run: Run) -> SeedSamples | None:
    """The samples that ``run`` takes seed rationales from; ``None`` if it takes none from samples.

    They are the base model's, so every method and seed of a model and train set shares them.
    """
    settings = suite.seed_rationales
    if not isinstance(settings, SelfRationales) or not suite.methods[run.method].trains_on_seed:
        return None
    bases = [name for name, method in suite.methods.items() if isinstance(method, BaseMethod)]
    if not bases:
        raise VistaError(f"suite {suite.name!r}: seed_rationales: self needs a method of kind base")
    policy = replace(run, method=bases[0], seed=suite.seeds[0], round=0)
    return SeedSamples(policy, settings.rollouts.slug + ON_SEED, settings)


@dataclass(frozen=True)
class Sources:
    """The rollouts that a run's training set is selected from."""

    seed: SeedSamples | None  # where the seed rationales are the base model's own
    policies: list[tuple[Run, RolloutFiles]]  # each with the names of its files, the latest first


def sources(suite: Suite, run: Run) -> Sources:
    """Whose rollouts ``run`` is trained on, and their names."""
    method = suite.methods[run.method]
    found: list[tuple[Run, RolloutFiles]] = []
    if isinstance(method, SelfImprovement):
        found = [(each, rollout_files(method)) for each in policies(suite, run)]
    return Sources(seed_samples(suite, run), found)


def sampled_split(name: str) -> Split:
    """The split whose queries a samples folder's solutions answer."""
    return "seed" if name.endswith(ON_SEED) else "train"


def sampling_named(suite: Suite, name: str) -> Sampling:
    """The sampling settings that a samples folder's name stands for."""
    if sampled_split(name) == "train":
        return _method_where(suite, "samples", name).rollouts
    settings = suite.seed_rationales
    if isinstance(settings, SelfRationales) and settings.rollouts.slug + ON_SEED == name:
        return settings.rollouts
    raise VistaError(f"suite {suite.name!r} asks for no samples {name!r}; see seed_rationales")


def resampling_named(suite: Suite, name: str) -> Resampling:
    """The resampling that a folder's name stands for: a method's own, or one that it is matched to."""
    for method in suite.methods.values():
        own = resampling(method) if isinstance(method, SelfImprovement) else None
        for work in (own, own and own.matched):
            if work is not None and work.name == name:
                return work
    raise _unasked(suite, "resamples", name)


def method_with(suite: Suite, kind: str, name: str) -> SelfImprovement:
    """A method whose ``kind`` of rollout file (a field of ``RolloutFiles``) has this name."""
    return _method_where(suite, kind, name)


def _method_where(suite: Suite, kind: str, name: str) -> SelfImprovement:
    for method in suite.methods.values():
        if isinstance(method, SelfImprovement) and getattr(rollout_files(method), kind) == name:
            return method
    raise _unasked(suite, kind, name)


def _unasked(suite: Suite, kind: str, name: str) -> VistaError:
    """The error for a rollout folder that no method reads, with a list of those that are read."""
    methods = [method for method in suite.methods.values() if isinstance(method, SelfImprovement)]
    names = sorted({getattr(rollout_files(method), kind) or "" for method in methods} - {""})
    known = ", ".join(names) or "none"
    return VistaError(f"no method of suite {suite.name!r} asks for {kind} {name!r}; known: {known}")
