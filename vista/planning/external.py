"""What external methods name, looked at before a run; for ``vista doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vista import grid
from vista.config import Suite
from vista.dag import Dag
from vista.engines.adapters import check_base_name, read_adapter
from vista.engines.folders import folder_problems, is_adapter
from vista.errors import VistaError
from vista.evaluation.grade import check_responses
from vista.planning.findings import Finding, fail, ok


@dataclass(frozen=True)
class Look:
    """What was found of one run's checkpoint or responses."""

    run: grid.Run
    found: str
    problems: list[str]


def looks(suite: Suite) -> Iterator[Look]:
    """Every run of an external method; what its base decides, the job finds out (``vista adopt``)."""
    dag = Dag(suite)
    for run in grid.evaluations(suite):
        source = grid.given(suite, run)
        if source is None:
            continue
        if problem := dag.lacking(run):
            yield Look(run, "", [problem])
        elif not dag.reads.given(run):
            yield Look(run, f"{source}: gone, but taken in before", [])
        elif grid.is_graded(suite, run):
            yield _responses(dag, run)
        elif is_adapter(source):
            yield _adapter(dag, run, source)
        else:
            yield Look(run, f"{source}: has weights", folder_problems(source, is_whole=False))


def _responses(dag: Dag, run: grid.Run) -> Look:
    try:
        return Look(run, check_responses(dag.suite, dag.paths, run), [])
    except VistaError as error:
        return Look(run, "", [str(error)])


def _adapter(dag: Dag, run: grid.Run, source: Path) -> Look:
    model = run.model
    try:
        said = read_adapter(source)
        check_base_name(source, said, model, dag.suite.models[model], dag.paths.base(model))
    except VistaError as error:
        return Look(run, "", [str(error)])
    return Look(run, f"{source}: a {said['peft_type']} adapter of {model}", [])


def check_external(suite: Suite) -> list[Finding]:
    """What every external method names: that it is there, and what it should be."""
    found = []
    for look in looks(suite):
        told = [problem.partition("; ") for problem in look.problems]
        found += [fail(look.run.id, what, remedy or "see the message") for what, _, remedy in told]
        found += [] if told else [ok(look.run.id, look.found)]
    return found
