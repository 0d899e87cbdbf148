"""What every output is made from: input files, code and settings, for the Snakefile's rules.

Functions of the suite and, for ``Dag.code``, of the package's source (``vista.closure``), so that
the DAG can be tested without running it. The Snakefile calls them through ``Dag``; the stages never do. Jobs
write what their rule's digests are into their manifests (``digests``), where the next run finds them
(``vista.dag.stale``): staleness does not rest on Snakemake's memory alone, which may be lost.
"""

from collections.abc import Callable

from vista import closure
from vista.config import Suite
from vista.dag.inputs import RULE_OF_KIND, Outputs
from vista.dag.settings import Resources, Settings
from vista.manifest import fingerprint
from vista.planned import Plan

__all__ = ["Dag", "digests"]


class Dag(Outputs, Settings, Resources):
    """Answers of the grid to the questions of the rules, as strings that Snakemake takes."""


class Made(Dag):
    """Answers what code decides an output with a digest: of the plan, or of the source as it is now."""

    def __init__(self, suite: Suite, plan: Plan | None) -> None:
        super().__init__(suite)
        self.known = {} if plan is None else plan.checksums

    def code(self, command: str, *named: str, module: str = "") -> str:
        """The digest of the checksums of the code that decides what a command computes."""
        file, entries = self.code_file(command, *named, module=module)
        return self.known.get(file.name) or fingerprint(closure.checksums_text(entries))


def digests(suite: Suite, plan: Plan | None, command: str, *arguments: str) -> dict[str, str]:
    """The digests of the settings and of the code that decide what a command makes.

    Args:
        suite: The resolved suite.
        plan: What the job was planned with; none if it is run by hand.
        command: A command of ``vista.cli`` that a rule calls.
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
    asked: dict[str, tuple[Callable[..., str] | None, Callable[..., str] | None]] = {
        "tasks": (dag.task_settings, dag.task_code),
        "models": (dag.model_settings, dag.model_code),
        "check": (dag.check_settings, lambda _: dag.check_code()),
        "encodable": (dag.encodable_settings, lambda _: dag.code(command)),
        "cases": (None, lambda _: dag.code(command)),
        "curate": (dag.curation_settings, dag.curation_code),
        "train": (dag.training_settings, dag.training_code),
        "evaluate": (dag.evaluation_settings, lambda _: dag.evaluation_code()),
        "collect": (dag.analysis_settings, lambda: dag.code(command)),
        "cost": (dag.analysis_settings, lambda: dag.code(command)),
        "suite": (dag.suite_settings, None),
    }
    settings, code = asked[command]
    found = {"settings": settings, "code": code}
    return {name: ask(*arguments) for name, ask in found.items() if ask is not None}
