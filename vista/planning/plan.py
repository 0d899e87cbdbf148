"""A suite's plan: its jobs, their cost, and what they share; what ``vista plan`` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vista.config import Suite
from vista.planning.assumptions import Assumptions
from vista.planning.estimate import Estimator, Shared, Work
from vista.planning.jobs import job_counts
from vista.planning.sharing import Sharing, sharing


@dataclass(frozen=True)
class Plan:
    """What ``vista plan`` prints."""

    suite: str
    jobs: dict[str, int]
    work: list[Work]
    shared: list[Shared]
    state_bytes: float  # of the largest training run that is under way, on top of ``work``
    sharing: Sharing
    gpus: int  # that each job asks for; without any, hours are those of CPU cores
    assumptions: Assumptions

    def total(self, what: Callable[[Work], float], rule: str | None = None) -> float:
        """A quantity of ``work`` added up over all rules or one."""
        return sum(what(each) for each in self.work if rule in (None, each.rule))


def make_plan(suite: Suite, assumptions: Assumptions) -> Plan:
    """Everything that the main table of ``suite`` takes, when nothing is made yet."""
    estimator = Estimator(suite, assumptions)
    return Plan(
        suite=suite.name,
        jobs=job_counts(suite),
        work=estimator.work(),
        shared=estimator.shared(),
        state_bytes=estimator.state_bytes(),
        sharing=sharing(suite, estimator),
        gpus=suite.gpus,
        assumptions=assumptions,
    )
