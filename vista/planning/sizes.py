"""How many queries and parameters a suite is about, from the config alone; for ``vista plan``."""

from __future__ import annotations

import re

from vista.config import BuiltModel, HubModel, Suite
from vista.errors import VistaError
from vista.planning.assumptions import Assumptions
from vista.records import Split

BUILT_PARAMETERS = 0.6e6


def queries(suite: Suite, task: str, split: Split) -> int:
    """Queries in a split of a task, before duplicates are left out."""
    return suite.tasks[task].queries(split)


def train_queries(suite: Suite, train_set: str, split: Split) -> int:
    """Queries of a split over all tasks of a train set."""
    return sum(queries(suite, task, split) for task in suite.train_sets[train_set])


def parameters(suite: Suite, model: str, assumptions: Assumptions) -> float:
    """Parameters of a model: as assumed, else as its name says.

    Raises:
        VistaError: neither tells.
    """
    if model in assumptions.parameters:
        return assumptions.parameters[model]
    spec = suite.models[model]
    if isinstance(spec, BuiltModel):
        return BUILT_PARAMETERS
    name = spec.repo if isinstance(spec, HubModel) else f"{model} {spec.path.name}"
    found = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([BM])(?![a-z])", name, re.IGNORECASE)
    if not found:
        raise VistaError(
            f"model {model}: {name!r} does not say how many parameters it has; "
            f"add --assume 'parameters={{{model}: 3.0e9}}'"
        )
    return float(found[1]) * (1e9 if found[2].upper() == "B" else 1e6)
