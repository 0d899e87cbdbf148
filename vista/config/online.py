"""What keeps a method that samples as it trains from running, told before anything does."""

from __future__ import annotations

from pathlib import Path

from vista.batches import in_whole_groups, smallest_step
from vista.config.documents import load_yaml
from vista.config.methods import OnlineMethod, SelfImprovement
from vista.config.suites import Suite
from vista.errors import VistaError


def online_problems(suite: Suite, path: str) -> list[str]:
    """Methods of kind online that some model, or the training settings, cannot serve; one line each."""
    found = {name: method for name, method in suite.methods.items() if isinstance(method, OnlineMethod)}
    problems = []
    strategy = suite.training.grpo.sampling_strategy
    if found and strategy != "random":
        problems.append(
            f"{path}: training.grpo.sampling_strategy: {strategy!r} would need to know how long responses "
            "are before they are sampled; leave it at random"
        )
    for name, method in found.items():
        problems += _group_problems(suite, name, method, path)
        problems += _budget_problems(suite, name, method, path)
        problems += [
            f"{path}: method {name}: {file} spreads the weights of model {model} by DeepSpeed, and a method "
            "of kind online samples with all of them, which it can gather from FSDP alone; set "
            "training.accelerate of the model to config/accelerate/fsdp.yaml, or name other models under only"
            for model in suite.where(name)[0]
            if model in suite.models and _is_deepspeeds(file := suite.models[model].training.accelerate)
        ]
        if method.objective.reward.needs_scene:
            problems += [
                f"{path}: method {name}: reward {method.objective.reward.kind!r} looks at the scene, but "
                f"task {task!r} (kind: {suite.tasks[task].kind}) has none; only generated tasks (kind: grid) "
                "do: take the method or the task out of the suite"
                for task in suite.tasks_without_scene
            ]
    return problems


def _is_deepspeeds(file: Path | None) -> bool:
    """Whether a config file of accelerate asks for DeepSpeed; what is wrong with it is told elsewhere."""
    try:
        return file is not None and load_yaml(file).get("distributed_type") == "DEEPSPEED"
    except VistaError:
        return False


def _group_problems(suite: Suite, name: str, method: OnlineMethod, path: str) -> list[str]:
    """Groups that a step, or a process's share of one, would cut through."""
    size, k = suite.training.grpo.batch_size, method.rollouts.k
    problems = []
    for model in suite.where(name)[0]:
        if model not in suite.models:
            continue
        processes = suite.models[model].training.processes
        if in_whole_groups(size, processes, k):
            continue
        shared = f" in each of {processes} processes" if processes > 1 else ""
        least = smallest_step(processes, k)
        problems.append(
            f"{path}: training.grpo.batch_size: {size} responses are not whole groups of {k} (rollouts.k of "
            f"method {name}){shared} for model {model}; make batch_size a multiple of {least}"
        )
    return problems


def _budget_problems(suite: Suite, name: str, method: OnlineMethod, path: str) -> list[str]:
    """A budget of a method that is not there, that samples nothing for its data, or of fewer rounds."""
    if method.budget is None:
        return []
    where, other = f"{path}: method {name}: budget.tokens_of", method.budget.tokens_of
    spec = suite.methods.get(other)
    if not isinstance(spec, SelfImprovement):
        found = "is not among the suite's methods" if spec is None else f"is of kind {spec.kind}"
        known = [each for each, its in suite.methods.items() if isinstance(its, SelfImprovement)]
        return [
            f"{where}: {other!r} {found}; name one of kind self-improvement: {', '.join(known) or 'none'}"
        ]
    if spec.rounds < method.rounds:
        return [
            f"{where}: {other!r} has {spec.rounds} rounds, but {name} has {method.rounds}; set the rounds of "
            f"{name} to {spec.rounds} at most"
        ]
    return []
