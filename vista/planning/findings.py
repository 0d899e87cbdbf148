"""One line of the report of ``vista doctor``."""

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
    """Nothing is wrong."""
    return Finding(subject, "ok", message)


def warn(subject: str, message: str, remedy: str) -> Finding:
    """The suite may run, but somebody should look first."""
    return Finding(subject, "warn", message, remedy)


def fail(subject: str, message: str, remedy: str) -> Finding:
    """The suite cannot run as it is."""
    return Finding(subject, "fail", message, remedy)
