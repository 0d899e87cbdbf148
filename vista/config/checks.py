"""Conflicts between the parts of a suite, each of which is well formed. For ``load_suite``.

Every function takes the resolved suite and the path of its file, which each line names.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vista.batches import Shares
from vista.config.blocks import block_of, block_problems
from vista.config.methods import (
    BaseMethod,
    ExternalMethod,
    Improving,
    OnlineMethod,
    SeedMethod,
    SelectMethod,
    SelfImprovement,
    training_section,
)
from vista.config.models import BuiltModel
from vista.config.online import online_problems
from vista.config.rationales import AnnotatedRationales, SelfRationales
from vista.config.suites import Suite
from vista.config.tables import table_problems
from vista.filters import AttentionFilterSettings

CODE = ("benchmarks", "config", "docs", "profiles", "tests", "vista", "workflow")  # folders of the checkout
TOOLS = (".git", ".snakemake", ".venv")  # folders that are another program's, wherever they are
# What is directly in a results folder (`vista.paths`).
RESULTS = re.compile(
    r"(benchmarks|checks|code|curation|evaluation|external|figures|logs|models|rollouts|tables|tasks|training"
    r"|long\.csv|lost\+found|suite\.(html|json|yaml))(\.manifest\.json)?"
)


def consistency_problems(suite: Suite, path: str) -> list[str]:
    """All conflicts between the parts, one line each; ``path`` is that of the suite file."""
    return [
        *_task_problems(suite, path),
        *_model_problems(suite, path),
        *_endpoint_problems(suite, path),
        *_method_problems(suite, path),
        *_only_problems(suite, path),
        *_block_problems(suite, path),
        *_filter_problems(suite, path),
        *_seed_problems(suite, path),
        *_scene_problems(suite, path),
        *_training_problems(suite, path),
        *online_problems(suite, path),
        *table_problems(suite, path),
    ]


def _task_problems(suite: Suite, path: str) -> list[str]:
    """Tasks that are named but not defined, or lack a split that is needed."""
    problems = []
    needed = _needed_splits(suite)
    for train_set, tasks in suite.train_sets.items():
        for task in tasks:
            if task not in suite.tasks:
                problems.append(
                    f"{path}: train_sets.{train_set}: unknown task {task!r}; define it under tasks"
                )
                continue
            if suite.tasks[task].only_evaluated:
                problems.append(
                    f"{path}: train_sets.{train_set}: {task!r} (kind: {suite.tasks[task].kind}) can only be "
                    "evaluated on; move it to out_of_domain"
                )
                continue
            for split in needed:
                if getattr(suite.tasks[task].sizes, split) == 0:
                    problems.append(
                        f"{path}: tasks.{task}.sizes.{split}: 0, but {train_set!r} trains on this task; "
                        "give it at least one query"
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
    return problems


def _needed_splits(suite: Suite) -> list[str]:
    """The splits of a task in a train set that some job reads."""
    trained = any(isinstance(method, Improving) for method in suite.methods.values())
    seeded = any(method.trains_on_seed for method in suite.methods.values())
    return [*(["seed"] if seeded else []), *(["train"] if trained else []), "test"]


def results_problems(suite: Suite, path: str) -> list[str]:
    """Why outputs cannot be written to a suite's folder, or would be among other things.

    Of no concern to a resolved suite, which is read where its results are now.
    """
    where, example = f"{path}: results: {suite.results}", f"results/{suite.name}"
    folder = Path(os.path.realpath(suite.results))
    checkout = Path(__file__).resolve().parents[2]
    taken = [("the code", checkout)]
    if not os.path.exists(folder / "suite.json"):  # one may stand in one's results
        taken.append(("the working directory", Path.cwd().resolve()))
    for what, holder in taken:
        if holder.is_relative_to(folder):
            return [f"{where} holds {what}; name a folder of its own, such as {example}"]
    owned = [part for part in folder.parts if part in TOOLS]
    if folder.is_relative_to(checkout):
        owned += [part for part in folder.relative_to(checkout).parts[:1] if part in CODE]
    if owned:
        return [f"{where} is inside {owned[0]}, which is not for results; name another, such as {example}"]
    inside = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not inside.is_dir():
        what = "is not a folder" if inside == folder else f"would be inside {inside}, which is not a folder"
        return [f"{where} {what}; name another, or remove the file"]
    if folder.is_relative_to(checkout / "results"):
        return []
    return [
        f"{where} holds other things ({name}); name a new folder, or remove them"
        for name in _strange(folder)[:1]
    ]


def _strange(folder: Path) -> list[str]:
    """What is in a folder that no suite's results hold; nothing if there is a suite."""
    if os.path.exists(folder / "suite.json") or not os.access(folder, os.R_OK | os.X_OK):
        return []
    return sorted(
        name
        for name in os.listdir(folder)
        if not name.startswith(".")
        and not RESULTS.fullmatch(name)
        and not os.path.exists(folder / name / "suite.json")
    )


def _model_problems(suite: Suite, path: str) -> list[str]:
    """Rounds of models that are not in the suite, and models built from a corpus that is not."""
    problems = []
    for name in sorted(set(suite.max_rounds) - set(suite.models)):
        what = (
            "is at an endpoint and has no rounds"
            if name in suite.endpoints
            else "is not among the suite's models"
        )
        problems.append(f"{path}: max_rounds: {name!r} {what}; remove it")
    for name, model in suite.models.items():
        if isinstance(model, BuiltModel) and (
            model.corpus not in suite.tasks or suite.tasks[model.corpus].sizes.train == 0
        ):
            problems.append(
                f"{path}: model {name}: corpus {model.corpus!r} is not a task with a train split; "
                "define it under tasks"
            )
    return problems


def _endpoint_problems(suite: Suite, path: str) -> list[str]:
    """Methods that nothing can run but models at endpoints, which cannot, and such models without a run."""
    problems = []
    run = {
        name
        for each, spec in suite.methods.items()
        if isinstance(spec, BaseMethod)
        for name in suite.where(each)[0]
    }
    for name in sorted(set(suite.endpoints) - run):
        problems.append(
            f"{path}: models: {name!r} is at an endpoint, where only methods of kind base run, and none of "
            "the suite runs on it; add zero-shot to methods (or widen its `only`), or remove the model"
        )
    if not suite.models:
        problems += [
            f"{path}: methods: {name} (kind: {spec.kind}) trains or samples a model, and the models are "
            "all at endpoints, which only answer; add a model with weights, or remove the method"
            for name, spec in suite.methods.items()
            if not isinstance(spec, BaseMethod)
        ]
    return problems


def _method_problems(suite: Suite, path: str) -> list[str]:
    """Methods that name another method that they cannot use, or whose parts do not go together."""
    problems = []
    for name, method in suite.methods.items():
        if isinstance(method, SelectMethod):
            problems += _select_problems(suite, name, method, path)
        if isinstance(method, ExternalMethod):
            where = f"{path}: method {name}: {'checkpoints' if method.checkpoints else 'predictions'}"
            problems += _strangers(list(method.paths), list(suite.models), where, "models")
        if not isinstance(method, Improving):
            continue
        if isinstance(method, SelfImprovement) and method.reflect and method.objective.pairs:
            problems.append(
                f"{path}: method {name}: reflect {method.reflect} makes examples, but objective "
                f"{method.objective.kind} trains on pairs; remove reflect, or use objective sft"
            )
        first = suite.methods.get(method.initial_policy)
        is_adopted = isinstance(first, ExternalMethod) and bool(first.checkpoints)
        if not isinstance(first, BaseMethod | SeedMethod) and not is_adopted:
            problems.append(
                f"{path}: method {name}: initial_policy {method.initial_policy!r} must be among the "
                "suite's methods and be of kind base or seed, or external with checkpoints; add it to methods"
            )
    return problems


def _select_problems(suite: Suite, name: str, method: SelectMethod, path: str) -> list[str]:
    """Why a method of kind select has no checkpoints to decode."""
    if method.of not in suite.methods:
        close = difflib.get_close_matches(method.of, suite.methods, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "add it to methods"
        return [f"{path}: method {name}: of {method.of!r} is not among the suite's methods; {hint}"]
    other = suite.methods[method.of]
    trained = isinstance(other, Improving)
    if trained or (isinstance(other, ExternalMethod) and other.checkpoints):
        return []
    kind = f"kind {other.kind}{', with predictions' if isinstance(other, ExternalMethod) else ''}"
    return [
        f"{path}: method {name}: of {method.of!r} is of {kind}; name a method of kind self-improvement "
        "or online, whose rounds are evaluated, or external with checkpoints"
    ]


def _training_problems(suite: Suite, path: str) -> list[str]:
    """Models whose processes cannot share the batch of a method that trains them."""
    sections = {name for method in suite.methods.values() if (name := training_section(method)) is not None}
    problems = []
    for model, entry in suite.models.items():
        training = entry.training
        for section in sorted(sections):
            batch_size = getattr(suite.training, section).batch_size
            if not Shares(batch_size, training.processes, training.device_batch_size).leaves_no_rest:
                problems.append(
                    f"{path}: training.{section}.batch_size: {batch_size} examples are not shared evenly by "
                    f"model {model}: training.processes is {training.processes}, training.device_batch_size "
                    f"{training.device_batch_size}; make batch_size a multiple of both together"
                )
    return problems


def reporting_problems(suite: Suite, path: str) -> list[str]:
    """Programs that losses are to be reported to and that are not installed here.

    Of no concern to a resolved suite: jobs that do not train may run in another environment.
    """
    return [
        f"{path}: training.report_to: {name} is not installed; `pip install 'vista-bench[{name}]'`, or "
        "remove it"
        for name in suite.training.report_to
        if find_spec(name) is None
    ]


def _only_problems(suite: Suite, path: str) -> list[str]:
    """Everything that is wrong with ``only``, in the suite or in its sweeps, one line each."""
    problems = []
    for name, only in suite.only.items():
        swept = suite.swept.get(name)
        where = f"{path}: only.{name}" if swept is None else f"{path}: sweeps: {name}: only"
        if name not in suite.methods:
            problems.append(f"{where}: {_no_member(name, list(suite.methods), 'methods')}")
            continue
        wrong = _strangers(only.models, suite.every_model, f"{where}.models", "models")
        if not isinstance(suite.methods[name], BaseMethod):
            wrong += [
                f"{where}.models: {each!r} is at an endpoint, where only methods of kind base run; remove it"
                for each in only.models or []
                if each in suite.endpoints
            ]
        wrong += _strangers(only.seeds, suite.seeds, f"{where}.seeds", "seeds")
        problems += wrong
        if not wrong and not all(suite.where(name)):
            problems.append(
                f"{where}: leaves no run of {name}; a base method, and an external one without {{seed}} in "
                "its paths, runs only with the first seed"
            )
    return problems or _lacking(suite, path)


def _block_problems(suite: Suite, path: str) -> list[str]:
    """Everything that is wrong with ``blocks``, one line each."""
    problems = block_problems(suite, path)
    order = list(suite.blocks)
    for name in suite.methods if order and not problems else ():
        own = block_of(suite, name)
        needed = [*_builds_on(suite, name)]
        if name in suite.swept:
            needed.append((suite.swept[name].of, "which it varies"))
        for first, why in needed:
            its = block_of(suite, first) if first in suite.methods else own
            if own is not None and its is not None and order.index(its) > order.index(own):
                problems.append(
                    f"{path}: blocks.{own}: {name} needs {first} ({why}), which is in the later block {its}; "
                    "move one of them"
                )
    return problems


def _lacking(suite: Suite, path: str) -> list[str]:
    """Methods that run where a method that they depend on does not."""
    problems = []
    for name in suite.methods:
        models, seeds = suite.where(name)
        for first, why in _builds_on(suite, name):
            if first not in suite.methods:
                continue  # reported elsewhere
            its_models, its_seeds = suite.where(first)
            missing: list[Any] = [model for model in models if model not in its_models]
            if not suite.has_one_seed(first):
                missing += [f"seed {seed}" for seed in seeds if seed not in its_seeds]
            if missing:
                is_given = isinstance(suite.methods[first], ExternalMethod)
                remedy = f"limit {name} by only" if is_given else f"widen only.{first}"
                problems.append(
                    f"{path}: only: {name} needs {first} ({why}), which does not run on "
                    f"{', '.join(missing)}; {remedy}"
                )
    return problems


def _builds_on(suite: Suite, name: str) -> list[tuple[str, str]]:
    """The other methods whose runs a method's runs read, each with the reason."""
    method = suite.methods[name]
    found = []
    if isinstance(method, Improving):
        found.append((method.initial_policy, "its initial policy"))
    if isinstance(method, OnlineMethod) and method.budget is not None:
        found.append((method.budget.tokens_of, "whose tokens are its budget"))
    if isinstance(method, SelectMethod):
        found.append((method.of, "whose checkpoints it evaluates"))
    if isinstance(suite.seed_rationales, SelfRationales) and method.trains_on_seed:
        bases = [each for each, spec in suite.methods.items() if isinstance(spec, BaseMethod)]
        found += [(bases[0], "which writes its seed rationales")] if bases else []
    return found


def _strangers(wanted: Sequence[Any] | None, known: Sequence[Any], where: str, what: str) -> list[str]:
    return [f"{where}: {_no_member(each, known, what)}" for each in wanted or [] if each not in known]


def _no_member(name: Any, known: Sequence[Any], what: str) -> str:
    close = difflib.get_close_matches(str(name), [str(each) for each in known], n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(str, known))}"
    return f"{name!r} is not among the suite's {what}; {hint}"


def _seed_problems(suite: Suite, path: str) -> list[str]:
    """Everything that is wrong with ``seed_rationales``, one line each."""
    settings = suite.seed_rationales
    where = f"{path}: seed_rationales"
    if isinstance(settings, AnnotatedRationales):
        return _file_problems(suite, settings, where) + _lacking_files(suite, settings, where)
    if isinstance(settings, SelfRationales) and not any(
        isinstance(method, BaseMethod) for method in suite.methods.values()
    ):
        return [
            f"{where}: kind self samples the base model, but no method of the suite is of kind base; "
            "add zero-shot to methods"
        ]
    return []


def _file_problems(suite: Suite, settings: AnnotatedRationales, where: str) -> list[str]:
    """Files of tasks that do not exist, or that have no seed split."""
    problems = []
    for task in settings.files:
        if task not in suite.tasks:
            close = difflib.get_close_matches(task, suite.tasks, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(suite.tasks))}"
            problems.append(f"{where}.files: unknown task {task!r}; {hint}")
        elif suite.tasks[task].sizes.seed == 0:
            problems.append(
                f"{where}.files.{task}: the task has no seed split (tasks.{task}.sizes.seed is 0); "
                "give it one, or remove the file"
            )
    return problems


def _lacking_files(suite: Suite, settings: AnnotatedRationales, where: str) -> list[str]:
    """Tasks that are trained on and bring no rationales."""
    if not any(method.trains_on_seed for method in suite.methods.values()):
        return []
    return [
        f"{where}.files.{task}: missing; this task brings no rationales: name a file with them, "
        "or let a teacher (kind: teacher) or the base model (kind: self) write them"
        for task in suite.trained_tasks
        if task in suite.tasks
        and not (suite.tasks[task].brings_rationales or suite.tasks[task].only_evaluated)
        and task not in settings.files
    ]


def _filter_problems(suite: Suite, path: str) -> list[str]:
    """Filters that read layers that are not scored."""
    problems = []
    for name, method in suite.methods.items():
        if not isinstance(method, SelfImprovement) or suite.scoring.layers == "all":
            continue
        if isinstance(method.filter, AttentionFilterSettings):
            missing = sorted(set(method.filter.layers) - set(suite.scoring.layers))
            if missing:
                problems.append(
                    f"{path}: method {name}: filter.layers {missing} are not scored; "
                    "add them to scoring.layers"
                )
    return problems


def _scene_problems(suite: Suite, path: str) -> list[str]:
    """Filters that look at the scene, and resamplers that need gold rationales, where a task has neither."""
    published = suite.tasks_without_scene
    problems = []
    for name, method in suite.methods.items():
        if not isinstance(method, SelfImprovement):
            continue
        if method.filter.needs_scene:
            problems += [
                f"{path}: method {name}: filter {method.filter.kind!r} looks at the scene, but task {task!r} "
                f"(kind: {suite.tasks[task].kind}) has none; only generated tasks (kind: grid) do: take the "
                "method or the task out of the suite"
                for task in published
            ]
        if published and method.resample.needs_gold:
            problems.append(
                f"{path}: method {name}: resample.kind {method.resample.kind!r} needs gold rationales for "
                f"the train queries, which {', '.join(published)} does not have; use it only with generated "
                "tasks (kind: grid)"
            )
    return problems
