"""Problems between the parts of a suite that are each well formed. Serves ``load_suite``."""

from __future__ import annotations

import difflib

from vista.config.benchmarks import YES_NO_SIZES
from vista.config.filters import filter_problems
from vista.config.methods import BaseMethod, SeedMethod, SelectMethod, SelfImprovement, training_section
from vista.config.models import BuiltModel
from vista.config.only import only_problems
from vista.config.seeds import seed_problems
from vista.config.suites import Suite
from vista.config.tasks import BenchmarkTask
from vista.config.truth import truth_problems


def consistency_problems(suite: Suite, path: str) -> list[str]:
    """Everything that is wrong between the parts, a line each; ``path`` is the suite file's."""
    return [
        *_task_problems(suite, path),
        *_model_problems(suite, path),
        *_method_problems(suite, path),
        *only_problems(suite, path),
        *filter_problems(suite, path),
        *seed_problems(suite, path),
        *truth_problems(suite, path),
        *_training_problems(suite, path),
    ]


def _task_problems(suite: Suite, path: str) -> list[str]:
    """Tasks that are named but not defined, or lack a split or a kind of question that is asked for."""
    problems = []
    for train_set, tasks in suite.train_sets.items():
        for task in tasks:
            if task not in suite.tasks:
                problems.append(
                    f"{path}: train_sets.{train_set}: unknown task {task!r}; define it under tasks"
                )
                continue
            for split in ("seed", "train", "test"):
                if getattr(suite.tasks[task].sizes, split) == 0:
                    problems.append(
                        f"{path}: tasks.{task}.sizes.{split}: 0, but {train_set!r} trains on this task; "
                        "give it at least one query"
                    )
    for name, spec in suite.tasks.items():
        if isinstance(spec, BenchmarkTask) and spec.questions != "all" and spec.kind not in YES_NO_SIZES:
            problems.append(
                f"{path}: tasks.{name}.questions: {spec.questions!r}, but {spec.kind} does not tell yes/no "
                "questions apart; use 'all'"
            )
    for task in suite.out_of_domain:
        if task not in suite.tasks:
            problems.append(f"{path}: out_of_domain: unknown task {task!r}; define it under tasks")
        elif suite.tasks[task].sizes.test == 0:
            problems.append(
                f"{path}: tasks.{task}.sizes.test: 0, but the task is evaluated on; give it a query"
            )
        if any(task in tasks for tasks in suite.train_sets.values()):
            problems.append(f"{path}: out_of_domain: {task!r} is trained on as well; remove it from either")
    if suite.results.exists() and not suite.results.is_dir():
        problems.append(f"{path}: results: {suite.results} is no folder; name another, or remove the file")
    return problems


def _model_problems(suite: Suite, path: str) -> list[str]:
    """Rounds of models that are not there, and models built from a corpus that is not."""
    problems = [
        f"{path}: max_rounds: {name!r} is not among the suite's models; remove it"
        for name in sorted(set(suite.max_rounds) - set(suite.models))
    ]
    for name, model in suite.models.items():
        if isinstance(model, BuiltModel) and (
            model.corpus not in suite.tasks or suite.tasks[model.corpus].sizes.train == 0
        ):
            problems.append(
                f"{path}: model {name}: corpus {model.corpus!r} is no task with a train split; "
                "define it under tasks"
            )
    return problems


def _method_problems(suite: Suite, path: str) -> list[str]:
    """Methods that name another which cannot serve them, or whose parts do not go together."""
    problems = []
    for name, method in suite.methods.items():
        if isinstance(method, SelectMethod):
            problems += _select_problems(suite, name, method, path)
        if not isinstance(method, SelfImprovement):
            continue
        if method.reflect and method.objective.pairs:
            problems.append(
                f"{path}: method {name}: reflect {method.reflect} makes examples, but objective "
                f"{method.objective.kind} trains on pairs; remove reflect, or use objective sft"
            )
        first = suite.methods.get(method.initial_policy)
        if not isinstance(first, BaseMethod | SeedMethod):
            problems.append(
                f"{path}: method {name}: initial_policy {method.initial_policy!r} must be among the "
                "suite's methods and be of kind base or seed; add it to methods"
            )
    return problems


def _select_problems(suite: Suite, name: str, method: SelectMethod, path: str) -> list[str]:
    """What keeps a method of kind select from having checkpoints to decode."""
    if method.of not in suite.methods:
        close = difflib.get_close_matches(method.of, suite.methods, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "add it to methods"
        return [f"{path}: method {name}: of {method.of!r} is not among the suite's methods; {hint}"]
    kind = suite.methods[method.of].kind
    if kind != "self-improvement":
        return [
            f"{path}: method {name}: of {method.of!r} is of kind {kind}; name a method of kind "
            "self-improvement, whose rounds are evaluated"
        ]
    return []


def _training_problems(suite: Suite, path: str) -> list[str]:
    """Models whose processes cannot share the batch of a method that trains them, or start at all."""
    sections = {name for method in suite.methods.values() if (name := training_section(method)) is not None}
    problems = []
    for model, entry in suite.models.items():
        training = entry.training
        for section in sorted(sections):
            batch_size = getattr(suite.training, section).batch_size
            if not training.divides(batch_size):
                problems.append(
                    f"{path}: training.{section}.batch_size: {batch_size} examples are not shared evenly by "
                    f"model {model}: training.processes is {training.processes}, training.device_batch_size "
                    f"{training.device_batch_size}; make batch_size a multiple of both together"
                )
        if training.accelerate is not None and not training.accelerate.is_file():
            problems.append(
                f"{path}: model {model}: training.accelerate: {training.accelerate} does not exist; "
                "it is a config file of accelerate, such as config/accelerate/fsdp.yaml"
            )
    return problems
