"""Whether the runs that ``only`` leaves of a suite's methods hold together; part of ``load_suite``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from vista.config.methods import BaseMethod, SelectMethod, SelfImprovement
from vista.config.suites import SelfRationales, Suite


def only_problems(suite: Suite, path: str) -> list[str]:
    """Everything that is wrong with ``only``, in the suite or in its sweeps, a line each.

    Args:
        suite: The resolved suite.
        path: The suite file, named in each line.
    """
    problems = []
    for name, only in suite.only.items():
        swept = suite.swept.get(name)
        where = f"{path}: only.{name}" if swept is None else f"{path}: sweeps: {name}: only"
        if name not in suite.methods:
            problems.append(f"{where}: {_no_member(name, list(suite.methods), 'methods')}")
            continue
        wrong = _strangers(only.models, list(suite.models), f"{where}.models", "models")
        wrong += _strangers(only.seeds, suite.seeds, f"{where}.seeds", "seeds")
        problems += wrong
        if not wrong and not all(suite.where(name)):
            problems.append(f"{where}: leaves no run of {name}; a base method runs with the first seed alone")
    return problems or _lacking(suite, path)


def _lacking(suite: Suite, path: str) -> list[str]:
    """Methods that run where a method that they build on does not."""
    problems = []
    for name in suite.methods:
        models, seeds = suite.where(name)
        for first, why in _builds_on(suite, name):
            if first not in suite.methods:
                continue  # reported elsewhere
            its_models, its_seeds = suite.where(first)
            missing: list[Any] = [model for model in models if model not in its_models]
            if not isinstance(suite.methods[first], BaseMethod):
                missing += [f"seed {seed}" for seed in seeds if seed not in its_seeds]
            if missing:
                problems.append(
                    f"{path}: only: {name} needs {first} ({why}), which does not run on "
                    f"{', '.join(missing)}; widen only.{first}"
                )
    return problems


def _builds_on(suite: Suite, name: str) -> list[tuple[str, str]]:
    """The other methods whose runs those of a method read, each with the reason."""
    method = suite.methods[name]
    found = []
    if isinstance(method, SelfImprovement):
        found.append((method.initial_policy, "its initial policy"))
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
