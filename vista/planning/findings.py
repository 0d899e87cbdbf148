"""What a check of ``vista doctor`` finds: a verdict, and a remedy where something is amiss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    subject: str
    verdict: Verdict
    message: str
    remedy: str = ""


def ok(subject: str, message: str) -> Finding:
    """All is well."""
    return Finding(subject, "ok", message)


def warn(subject: str, message: str, remedy: str) -> Finding:
    """It may run, but somebody should look first."""
    return Finding(subject, "warn", message, remedy)


def fail(subject: str, message: str, remedy: str) -> Finding:
    """It cannot run as it is."""
    return Finding(subject, "fail", message, remedy)
