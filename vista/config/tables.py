"""Which tables a suite makes by default, and which rows and columns of them readers see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from vista.config.blind import blind_tasks
from vista.config.methods import Improving
from vista.settings import Distinct, Name, Strict

if TYPE_CHECKING:
    from vista.config.suites import Suite

MeasuredTable = Literal["difficulty", "faithfulness", "audit", "prefix", "distributions", "training"]
# A method in each row.
ResultsTable = Literal["main", "tasks", "runs", "rounds", "ood", "blind", "benchmarks"]
Table = Literal[ResultsTable, "cost", "ablation", "across_models", "findings", "resolution", MeasuredTable]
SAMPLE = 3  # the fewest models that can stand for others

KEYS = ("model", "train_set", "method", "round")
SILENCE = ("unanswered", "unfinished")
COSTS = ("train_samples", "drawn", "tokens drawn")
DELTA = "Δ SFT-Seed"


class Choice(Strict):
    """What readers see of a table, as Markdown, LaTeX and HTML. Its CSV has everything."""

    methods: Annotated[Distinct[Name], Field(min_length=1)] | None = Field(
        None,
        exclude_if=lambda methods: methods is None,
        description="Only the rows of these methods, in this order; the best value of a column is the best "
        "of these.",
    )
    columns: Annotated[Distinct[str], Field(min_length=1)] | None = Field(
        None,
        exclude_if=lambda columns: columns is None,
        description="Only these columns, as they are named on the page, in this order.",
    )


def by_name(tables: Any) -> Any:
    """A list of names as tables without a choice."""
    if isinstance(tables, list) and all(isinstance(name, str) for name in tables):
        return {name: {} for name in tables}
    if isinstance(tables, dict):
        return {name: {} if choice is None else choice for name, choice in tables.items()}
    return tables


Tables = Annotated[
    dict[Table, Choice],
    BeforeValidator(by_name, json_schema_input_type=list[Table] | dict[Table, Choice | None]),
    Field(min_length=1),
]


def columns_of(suite: Suite, table: str) -> list[str]:
    """Every column that the page of a table can have; one with the same value in all rows stands below."""
    rounds = [m.rounds for m in suite.methods.values() if isinstance(m, Improving)]
    in_domain, outside = suite.trained_tasks, suite.out_of_domain
    return {
        "main": [
            *(*KEYS, "status", "seeds", *in_domain, "overall", "seed sd", "reported", *outside, DELTA),
            *("detectable", *SILENCE, *COSTS),
        ],
        "tasks": [*KEYS, "task", "status", "accuracy", DELTA, *SILENCE, "test", "p (Holm)"],
        "runs": [
            *(*KEYS, "seed", "status", *suite.evaluated_tasks, "overall", DELTA, *SILENCE, *COSTS),
        ],
        "rounds": [*KEYS[:3], *(f"round {number}" for number in range(1, max(rounds, default=0) + 1))],
        "ood": [*KEYS, *(name for task in outside for name in (task, f"Δ {task}"))],
        "blind": [*KEYS, "task", "image", "own image", "withheld", "added by the image", "kept", "p (Holm)"],
        "benchmarks": ["model", "method", *suite.train_sets, "mean"],
    }[table]


def is_a_sample(suite: Suite) -> bool:
    """Whether a suite has models enough to ask what holds for others (``across_models.csv``)."""
    return len(suite.models) >= SAMPLE


def table_problems(suite: Suite, path: str) -> list[str]:
    """Tables that the suite does not have, and choices of what they do not have."""
    problems = []
    lacking = {
        "rounds": not any(isinstance(m, Improving) and m.rounds > 1 for m in suite.methods.values()),
        "ood": not suite.out_of_domain,
        "blind": not blind_tasks(suite),
        "benchmarks": len(suite.train_sets) < 2,
        "across_models": not is_a_sample(suite),
    }
    why = {
        "rounds": "no method has several rounds",
        "ood": "out_of_domain is empty",
        "blind": "it evaluates on no task of kind blind and on the task whose questions that one asks",
        "benchmarks": "there is one train set",
        "across_models": f"it has fewer than {SAMPLE} models to train",
    }
    for table, choice in suite.tables.items():
        where = f"{path}: tables.{table}"
        if lacking.get(table):
            problems.append(f"{where}: the suite has no such table: {why[table]}; remove it")
            continue
        chosen = choice.model_dump(exclude_none=True)
        if not chosen:
            continue
        if table not in get_args(ResultsTable):
            problems.append(
                f"{where}: rows and columns can be chosen of {', '.join(get_args(ResultsTable))} only; "
                f"write {table} without {' and '.join(chosen)}"
            )
            continue
        for name, known in (("methods", list(suite.methods)), ("columns", columns_of(suite, table))):
            unknown = [each for each in chosen.get(name, []) if each not in known]
            if unknown:
                problems.append(
                    f"{where}.{name}: no {', '.join(map(repr, unknown))}; there are {', '.join(known)}"
                )
    return problems
