"""Everything that can be found amiss before anything is spent; ``vista doctor``.

Every check runs, whatever the others found. Nothing is downloaded, and no endpoint is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from vista.config import Suite
from vista.errors import VistaError
from vista.planning.assumptions import Assumptions
from vista.planning.findings import Finding, fail
from vista.planning.inputs import check_data, check_models, check_rationales
from vista.planning.machine import (
    check_commands,
    check_disk,
    check_git,
    check_gpus,
    check_results,
    check_versions,
)
from vista.planning.report import table

LOCK = Path("requirements.lock")


def examine(suite: Suite, assumptions: Assumptions, lock: Path = LOCK) -> list[Finding]:
    """Run all checks.

    Args:
        suite: The resolved suite.
        assumptions: What the estimate of disk and memory is made from.
        lock: The file with the versions that this project is tested with.
    """
    checks: dict[str, Callable[[], list[Finding]]] = {
        "models": lambda: check_models(suite),
        "data": lambda: check_data(suite),
        "seed rationales": lambda: check_rationales(suite),
        "GPUs": lambda: check_gpus(suite, assumptions),
        "disk": lambda: check_disk(suite, assumptions),
        "versions": lambda: check_versions(lock),
        "commands": lambda: check_commands(suite),
        "results": lambda: check_results(suite),
        "git": check_git,
    }
    return [finding for subject, check in checks.items() for finding in _guarded(subject, check)]


def _guarded(subject: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that cannot be made is a finding as well, and hides none of the others."""
    try:
        return check()
    except VistaError as error:
        return [fail(subject, str(error), "as it says")]
    except (OSError, ValueError, KeyError, ImportError) as error:
        return [fail(subject, f"could not be checked: {type(error).__name__}: {error}", "look into it first")]


def show(findings: list[Finding], console: Console) -> None:
    """Print the findings, worst last, and a summary."""
    order = {"ok": 0, "warn": 1, "fail": 2}
    listed = table("verdict", "what", "found", "remedy")
    for finding in sorted(findings, key=lambda finding: order[finding.verdict]):
        told = (finding.subject, finding.message, finding.remedy)
        listed.add_row(finding.verdict, *map(escape, told))
    console.print(listed)
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in order}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


def has_failed(findings: list[Finding]) -> bool:
    """Whether the suite cannot run as it is."""
    return any(finding.verdict == "fail" for finding in findings)
