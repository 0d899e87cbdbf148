"""A pilot: the whole grid of a suite on a few queries and training steps, in a results folder of its own.

The models, methods, rounds, launchers, engines and lengths stay those of the suite, so that each job of the
real run has one like it. Built models, which stand in for published ones, are built in full.
"""

from __future__ import annotations

from vista.config.models import BuiltModel
from vista.config.suites import Hyperparameters, Suite
from vista.errors import VistaError
from vista.records import Split
from vista.task_kinds import TaskSettings

ENDING = "-pilot"
EPOCHS = 2  # from the second step on, the optimiser's state is in memory too
SPLITS: tuple[Split, ...] = ("seed", "train", "test")


def pilot_of(suite: Suite, queries: int) -> Suite:
    """The suite cut to a pilot.

    Args:
        suite: As resolved, in full.
        queries: How many of each split are left, where it has more.
    """
    corpora = {entry.corpus for entry in suite.models.values() if isinstance(entry, BuiltModel)}
    tasks = {
        name: spec if name in corpora else _with_few_queries(spec, queries)
        for name, spec in suite.tasks.items()
    }
    sections = {
        name: section.model_copy(update={"epochs": min(section.epochs, EPOCHS)})
        for name in type(suite.training).model_fields
        if isinstance(section := getattr(suite.training, name), Hyperparameters)
    }
    return suite.model_copy(
        update={
            "pilot": queries,
            "name": f"{suite.name}{ENDING}",
            "results": suite.results.with_name(f"{suite.results.name}{ENDING}"),
            "tasks": tasks,
            "training": suite.training.model_copy(update=sections),
            "shards": 1,  # each shard would load the model for a query or two
        }
    )


def _with_few_queries(spec: TaskSettings, queries: int) -> TaskSettings:
    """A task with at most so many queries in each split, drawn as its kind draws them."""
    few: dict[str, int] = {split: min(queries, _known(spec, split, queries)) for split in SPLITS}
    return spec.model_copy(update={"sizes": spec.sizes.model_copy(update=few)})


def _known(spec: TaskSettings, split: Split, otherwise: int) -> int:
    """The queries of a split, as far as they are known before it is read."""
    if getattr(spec.sizes, split) == 0:
        return 0
    try:
        return spec.queries(split)
    except VistaError:
        return otherwise
