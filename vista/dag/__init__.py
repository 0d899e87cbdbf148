"""What every output is made from: input files, code and settings, for the Snakefile's rules.

Functions of the suite and, for ``Dag.code``, of the package's source (``vista.closure``), so that
the DAG can be tested without running it. The Snakefile calls them through ``Dag``; the stages never do. Jobs
write what their rule's digests are into their manifests (``digests``), where the next run finds them
(``vista.dag.stale``): staleness does not rest on Snakemake's memory alone, which may be lost.
"""

from collections.abc import Callable
from pathlib import Path

from vista import closure
from vista.config import Suite
from vista.dag.inputs import RULE_OF_KIND
from vista.dag.settings import Resources, Settings
from vista.manifest import fingerprint
from vista.planned import Plan

__all__ = ["Dag", "digests"]


class Dag(Settings, Resources):
    """Answers of the grid to the questions of the rules, as strings that Snakemake takes."""


class Made(Dag):
    """Answers what code decides an output with a digest: of the plan, or of the source as it is now."""

    def __init__(self, suite: Suite, plan: Plan | None) -> None:
        super().__init__(suite)
        self.planned = {} if plan is None else plan.checksums

    def keep(self, file: Path, entries: list[str]) -> str:
        """The digest of the checksums of what ``entries`` compute with."""
        return self.planned.get(file.name) or fingerprint(closure.checksums_text(entries))


def digests(suite: Suite, plan: Plan | None, command: str, *arguments: str) -> dict[str, str]:
    """The digests of the settings and of the code that decide what a command makes.

    Args:
        suite: The resolved suite.
        plan: What the job was planned with; none if it is run by hand.
        command: A command of ``vista.stages`` that a rule calls.
        arguments: What it is called with besides the suite.
    """
    dag = Made(suite, plan)
    kinds = {rule: kind for kind, rule in RULE_OF_KIND.items()}
    tables = {called: table for table, called in dag.table_commands().items()}
    if command in kinds:
        policy, name, _ = arguments
        kind = kinds[command]
        return {
            "settings": dag.rollout_settings(kind, name, policy),
            "code": dag.rollout_code(kind, name),
        }
    if command in tables:
        table = tables[command]
        return {"settings": dag.table_settings(table), "code": dag.table_code(table)}
    if command in ("evaluate", "ask"):
        settings = dag.evaluation_settings if command == "evaluate" else dag.asking_settings
        # The job keeps the predictions on each task by these.
        tasks = suite.evaluated_tasks
        of_tasks = {f"code of {task}": dag.task_evaluation_code(task, command) for task in tasks}
        return {"settings": settings(*arguments), "code": dag.evaluation_code(command), **of_tasks}
    asked: dict[str, tuple[Callable[..., str], Callable[..., str]]] = {
        "tasks": (dag.task_settings, dag.task_code),
        "models": (dag.model_settings, dag.model_code),
        "check": (dag.check_settings, lambda _: dag.check_code()),
        "adopt": (dag.adoption_settings, lambda _: dag.code(command)),
        "requests": (dag.request_settings, lambda _: dag.code(command)),
        "respond": (dag.response_settings, lambda _: dag.code(command)),
        "grade": (dag.grading_settings, lambda _: dag.grading_code()),
        "encodable": (dag.encodable_settings, lambda _: dag.code(command)),
        "cases": (dag.case_settings, lambda _: dag.code(command)),
        "curate": (dag.curation_settings, dag.curation_code),
        "train": (dag.training_settings, dag.training_code),
        "collect": (dag.collection_settings, lambda: dag.code(command)),
        "cost": (dag.cost_settings, lambda: dag.code(command)),
        "pilot": (dag.pilot_settings, lambda: dag.code(command)),
        "suite": (dag.suite_settings, lambda: dag.code(command)),
    }
    found = dict(zip(("settings", "code"), asked[command], strict=True))
    return {name: ask(*arguments) for name, ask in found.items()}
