"""The report of ``vista doctor``: its lines, and how they are told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console

from vista.config import Suite
from vista.planning.plan import table
from vista.shown import markup

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    subject: str
    verdict: Verdict
    message: str
    remedy: str = ""


def ok(subject: str, message: str) -> Finding:
    """Nothing is wrong."""
    return Finding(subject, "ok", message)


def warn(subject: str, message: str, remedy: str) -> Finding:
    """The suite may run, but somebody should look first."""
    return Finding(subject, "warn", message, remedy)


def fail(subject: str, message: str, remedy: str) -> Finding:
    """The suite cannot run as it is."""
    return Finding(subject, "fail", message, remedy)


def show(findings: list[Finding], console: Console) -> None:
    """Print the findings, worst last, and a summary."""
    order = {"ok": 0, "warn": 1, "fail": 2}
    listed = table("verdict", "what", "found", "remedy")
    for finding in sorted(findings, key=lambda finding: order[finding.verdict]):
        told = (finding.subject, finding.message, finding.remedy)
        listed.add_row(finding.verdict, *map(markup, told))
    console.print(listed)
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in order}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


def as_dict(suite: Suite, findings: list[Finding]) -> dict[str, Any]:
    """The findings as plain values, for ``--json``."""
    return {
        "suite": suite.name,
        "ok": not has_failed(findings),
        "findings": [asdict(finding) for finding in findings],
    }


def has_failed(findings: list[Finding]) -> bool:
    """Whether the suite cannot run as it is."""
    return any(finding.verdict == "fail" for finding in findings)
