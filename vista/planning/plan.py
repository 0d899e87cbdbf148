"""A suite's plan: its jobs, their cost, what sharing them saves; printed by ``vista plan``.

Sharing is measured against the suite's methods run apart: each makes all that its own predictions need
(queries, base models, initial policies, rollouts). Everything is derived from the inputs that ``vista.dag``
gives to the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vista import grid
from vista.config import OnlineMethod, Suite, up_to
from vista.dag.inputs import RULE_OF_KIND
from vista.planning.assumptions import CPU_SECONDS, Assumptions
from vista.planning.estimate import BUILT_PARAMETERS, HOUR, Estimator, Shared, Work, larger_models
from vista.planning.jobs import Job, JobTree, RolloutFile, answering_rule, job_counts
from vista.planning.release import Releases
from vista.planning.resolution import Resolution, resolutions
from vista.shown import markup

STAGE_OF_RULE = {
    "tasks": "tasks",
    "models": "models",
    "check": "models",
    "sample": "rollouts",
    "resample": "rollouts",
    "score": "rollouts",
    "gains": "rollouts",
    "encodable": "rollouts",
    "curate": "curation",
    "train": "training",
    "requests": "evaluation",
    "respond": "evaluation",
    "evaluate": "evaluation",
    "ask": "evaluation",
}
GIGABYTE = 1e9
SHOWN = 5  # checkpoints that a line names
# The same for every method, so made (or fetched) once even by users who run one method after another.
COMMON = ("tasks", "models", "check", "encodable")


@dataclass(frozen=True)
class Sharing:
    """Jobs and hours (GPU hours, or core hours without GPUs) of a suite, and of its methods apart."""

    jobs: int
    jobs_apart: int
    hours: float
    hours_apart: float
    hours_common: float  # of ``hours``: queries and base models
    hours_common_apart: float

    @property
    def share(self) -> float:
        """Hours of the suite divided by those of the methods run apart."""
        return self.hours / self.hours_apart if self.hours_apart else 1.0

    @property
    def share_without_common(self) -> float:
        """The same if queries and base models already exist."""
        apart = self.hours_apart - self.hours_common_apart
        return (self.hours - self.hours_common) / apart if apart else 1.0


@dataclass(frozen=True)
class Asking:
    """What a model at an endpoint is asked."""

    endpoint: str
    requests: int  # one for each query, if none fails
    budget: int  # requests that may be sent


@dataclass(frozen=True)
class Block:
    """A part of the suite: what it adds to the parts before it."""

    name: str
    has: tuple[str, ...]  # methods, and sweeps by name
    jobs: int
    gpu_hours: float
    disk_bytes: float


@dataclass(frozen=True)
class Again:
    """What has to be made again, since checkpoints were released that the suite has come to need."""

    checkpoints: tuple[str, ...]
    jobs: int  # their trainings, and everything made from them
    hours: float  # GPU hours, or core hours without GPUs


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
    prompts: dict[str, dict[str, str]] = field(default_factory=dict)  # by model, if not as the queries say
    requests: dict[str, Asking] = field(default_factory=dict)  # by model at an endpoint
    blocks: tuple[Block, ...] = ()
    waiting_bytes: float = 0.0  # of checkpoints that are released once they were read, on top of ``work``
    again: Again | None = None
    resolution: tuple[Resolution, ...] = ()
    larger: tuple[str, ...] = ()  # models whose jobs take longer than ``assumptions.cpu_seconds``

    @property
    def disk_bytes(self) -> float:
        """What the suite takes at most at a time."""
        return self.total(lambda work: work.disk_bytes) + self.state_bytes + self.waiting_bytes

    def total(self, what: Callable[[Work], float], rule: str | None = None) -> float:
        """A quantity of ``work`` added up over all rules or one."""
        return sum(what(each) for each in self.work if rule in (None, each.rule))


def make_plan(suite: Suite, assumptions: Assumptions) -> Plan:
    """Everything that the main table of ``suite`` needs, when nothing has been made yet."""
    estimator = Estimator(suite, assumptions)
    return Plan(
        suite=suite.name,
        jobs=job_counts(suite),
        work=estimator.work(),
        shared=estimator.shared(),
        state_bytes=estimator.state_bytes(),
        sharing=sharing(suite, estimator),
        larger=() if suite.gpus else larger_models(suite),
        gpus=suite.gpus,
        assumptions=assumptions,
        prompts={name: said["prompts"] for name in suite.every_model if (said := suite.prompts(name).stated)},
        requests={
            name: Asking(entry.endpoint, estimator.test_queries, entry.max_requests)
            for name, entry in suite.endpoints.items()
        },
        blocks=tuple(blocks(suite, assumptions)),
        waiting_bytes=estimator.waiting_bytes(),
        again=again(suite, estimator),
        resolution=tuple(resolutions(suite, assumptions)),
    )


def again(suite: Suite, estimator: Estimator) -> Again | None:
    """The released checkpoints that the suite needs, with everything made from them, if there are any."""
    needed = Releases(suite).needed()
    if not needed:
        return None
    tree = JobTree(suite)
    trainings = {Job("train", run) for run in needed}
    jobs = frozenset().union(*(tree.made_from(trainings, run) for run in grid.runs(suite)))
    return Again(tuple(needed), len(jobs), sum(job_hours(estimator, job) for job in jobs))


def blocks(suite: Suite, assumptions: Assumptions) -> Iterator[Block]:
    """The cost of each of the suite's blocks, run one after another."""
    before = (0, 0.0, 0.0)
    for name, has in suite.blocks.items():
        so_far = up_to(suite, name)
        work = Estimator(so_far, assumptions).work()
        # Both end in the tables, which are made again with each block.
        jobs = sum(job_counts(so_far).values())
        now = (jobs, sum(each.gpu_hours for each in work), sum(each.disk_bytes for each in work))
        added = [after - earlier for after, earlier in zip(now, before, strict=True)]
        yield Block(name, tuple(has), int(added[0]), added[1], added[2])
        before = now


# --- what sharing saves ---


def sharing(suite: Suite, estimator: Estimator) -> Sharing:
    """Count and cost the jobs of all runs together, and of each method by itself."""
    tree = JobTree(suite)
    apart: dict[str, set[Job]] = {}
    for run in grid.runs(suite):
        apart.setdefault(run.method, set()).update(tree.of_run(run))
    together = set().union(*apart.values())
    hours = {job: job_hours(estimator, job) for job in together}

    def total(jobs: set[Job], common: bool = False) -> float:
        return sum(hours[job] for job in jobs if not common or job.rule in COMMON)

    return Sharing(
        jobs=len(together),
        jobs_apart=sum(len(jobs) for jobs in apart.values()),
        hours=total(together),
        hours_apart=sum(total(jobs) for jobs in apart.values()),
        hours_common=total(together, common=True),
        hours_common_apart=sum(total(jobs, common=True) for jobs in apart.values()),
    )


def job_hours(estimator: Estimator, job: Job) -> float:
    """Hours of one job: of GPUs, or of a CPU core where the suite asks for none."""
    suite = estimator.suite
    if not suite.gpus:
        known = CPU_SECONDS | estimator.assumptions.cpu_seconds
        online = job.rule == "train" and isinstance(
            suite.methods[grid.Run.parse(job.name).method], OnlineMethod
        )
        return known["train-online" if online else job.rule] * suite.threads / HOUR
    if job.rule == "models":
        return estimator.building_hours(job.name)
    if job.rule == "train":
        return estimator.training_hours(grid.Run.parse(job.name))
    if job.rule == answering_rule(suite):
        return estimator.evaluation_hours(grid.Run.parse(job.name))
    if job.rule in RULE_OF_KIND.values():
        *policy, kind, name, _shard = job.name.split("/")
        file = RolloutFile(grid.Run.parse("/".join(policy)), kind, name, ())
        return estimator.rollout_hours(file) / suite.shards
    return 0.0


# --- as tables, and as JSON ---


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, for ``--json``."""
    return {
        "suite": plan.suite,
        "jobs": plan.jobs,
        "gpu_hours": {rule: plan.total(lambda work: work.gpu_hours, rule) for rule in plan.jobs},
        "gpu_hours_by_model": {
            model: sum(work.gpu_hours for work in plan.work if work.model == model) for model in models(plan)
        },
        "gpu_hours_total": plan.total(lambda work: work.gpu_hours),
        "disk_bytes": {rule: plan.total(lambda work: work.disk_bytes, rule) for rule in plan.jobs},
        "disk_bytes_total": plan.disk_bytes,
        "training_state_bytes": plan.state_bytes,
        **({"waiting_checkpoint_bytes": plan.waiting_bytes} if plan.waiting_bytes else {}),
        **({"again": asdict(plan.again)} if plan.again else {}),
        **({"larger_models": list(plan.larger)} if plan.larger else {}),
        "sharing": asdict(plan.sharing) | {"share": plan.sharing.share},
        "shared": [asdict(group) | {"unshared_gpu_hours": group.unshared_gpu_hours} for group in plan.shared],
        "assumptions": plan.assumptions.model_dump(),
        "resolution": [asdict(each) for each in plan.resolution],
        **({"blocks": [asdict(block) for block in plan.blocks]} if plan.blocks else {}),
        **({"prompts": plan.prompts} if plan.prompts else {}),
        **(
            {"requests": {name: asdict(each) for name, each in plan.requests.items()}}
            if plan.requests
            else {}
        ),
    }


def models(plan: Plan) -> list[str]:
    """The models of a plan, in its order."""
    return list(dict.fromkeys(work.model for work in plan.work if work.model))


def show(plan: Plan, console: Console) -> None:
    """Print the plan."""
    console.print(_stages(plan), *([_blocks(plan)] if plan.blocks else []), sep="\n")
    if plan.again:
        console.print(_again(plan.again, "GPU hours" if plan.gpus else "core hours"), soft_wrap=True)
    console.print(_models(plan), _sharing(plan), sep="\n")
    if plan.requests:
        console.print(_requests(plan))
    if plan.prompts:
        console.print(_prompts(plan))
    console.print(*_saving(plan), sep="\n", soft_wrap=True)
    if plan.resolution:
        console.print(_resolution(plan))
    console.print(
        "Estimates, not measurements. They follow from these assumptions; change any of them with "
        "`--assume name=value`:",
        soft_wrap=True,
    )
    console.print(_assumptions(plan))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table that reads the same on a terminal and in a file."""
    return Table(*columns, title=title, title_justify="left", box=box.MARKDOWN)


def _stages(plan: Plan) -> Table:
    found = table("stage", "rule", title=f"Jobs of suite {plan.suite}, when nothing has been made yet")
    for name in ("jobs", "GPU hours", "disk GB"):
        found.add_column(name, justify="right")
    for rule, jobs in plan.jobs.items():
        hours, disk = (plan.total(what, rule) for what in (lambda w: w.gpu_hours, lambda w: w.disk_bytes))
        found.add_row(STAGE_OF_RULE.get(rule, "analysis"), rule, f"{jobs:,}", _hours(hours), _gigabytes(disk))
    found.add_row("training", "state to resume from, during a run", "", "", _gigabytes(plan.state_bytes))
    if plan.waiting_bytes:
        waiting = _gigabytes(plan.waiting_bytes)
        found.add_row("training", "checkpoints to be read, then released", "", "", waiting)
    found.add_section()
    hours = plan.total(lambda w: w.gpu_hours)
    found.add_row("all", "", f"{sum(plan.jobs.values()):,}", _hours(hours), _gigabytes(plan.disk_bytes))
    return found


def _models(plan: Plan) -> Table:
    found = table("model", title="By model")
    for name in ("GPU hours", "disk GB"):
        found.add_column(name, justify="right")
    for model in models(plan):
        own = [work for work in plan.work if work.model == model]
        hours, disk = sum(work.gpu_hours for work in own), sum(work.disk_bytes for work in own)
        found.add_row(model, _hours(hours), _gigabytes(disk))
    return found


def _blocks(plan: Plan) -> Table:
    found = table("block", "methods and sweeps", title="By block, each on top of those before it")
    for name in ("jobs", "GPU hours", "so far", "disk GB"):
        found.add_column(name, justify="right")
    so_far = 0.0
    for block in plan.blocks:
        so_far += block.gpu_hours
        hours, disk = _hours(block.gpu_hours), _gigabytes(block.disk_bytes)
        found.add_row(block.name, ", ".join(block.has), f"{block.jobs:,}", hours, _hours(so_far), disk)
    return found


def _again(again: Again, unit: str) -> str:
    named = ", ".join(again.checkpoints[:SHOWN]) + (", …" if len(again.checkpoints) > SHOWN else "")
    return (
        f"Of the results there are, {len(again.checkpoints)} checkpoints were released and are needed again: "
        f"{named}. They are trained again, with everything made from them: {again.jobs:,} jobs, "
        f"{again.hours:,.1f} {unit}."
    )


def _requests(plan: Plan) -> Table:
    found = table("model", "endpoint", title="Models at endpoints, which take requests and no hours of GPUs")
    for name in ("requests", "budget"):
        found.add_column(name, justify="right")
    for model, asking in plan.requests.items():
        found.add_row(model, markup(asking.endpoint), f"{asking.requests:,}", f"{asking.budget:,}")
    return found


def _prompts(plan: Plan) -> Table:
    found = table("model", "setting", "text", title="How models are asked, where not as the queries say")
    for model, prompts in plan.prompts.items():
        for name, text in prompts.items():
            found.add_row(model, f"prompts.{name}", markup(repr(text)))
    return found


def _sharing(plan: Plan) -> Table:
    found = table(
        "rollouts", "settings", "sampled by", "read by", title="Rollouts, and which methods share them"
    )
    for name in ("files", "GPU hours", "unshared"):
        found.add_column(name, justify="right")
    for group in plan.shared:
        found.add_row(
            group.kind,
            group.name,
            group.policy,
            ", ".join(group.readers),
            f"{group.files}",
            _hours(group.gpu_hours),
            _hours(group.unshared_gpu_hours),
        )
    return found


def _saving(plan: Plan) -> list[str]:
    """What the suite takes in all, compared with its methods run apart."""
    found, unit = plan.sharing, "GPU hours" if plan.gpus else "core hours"
    lines = []
    if plan.gpus:
        made = sum(group.gpu_hours for group in plan.shared)
        unshared = sum(group.unshared_gpu_hours for group in plan.shared)
        if unshared:
            saved, share = unshared - made, 1 - made / unshared
            lines.append(f"Sharing rollouts saves {saved:,.1f} of {unshared:,.1f} GPU hours ({share:.0%}).")
    else:
        cores = plan.assumptions.cores
        lines.append(
            f"The suite needs no GPUs: {found.hours:,.1f} core hours, {found.hours / cores:,.1f} hours on "
            f"{cores} cores."
        )
        if plan.larger:
            lines.append(
                f"That is the time of models of {BUILT_PARAMETERS / 1e6:g} million parameters. These are "
                f"larger and take many times as long: {', '.join(plan.larger)}. Have one job of each rule "
                "run, and say what it took: --assume 'cpu_seconds={train: 900}'."
            )
    lines.append(
        f"Run separately, each from the start, the methods take {found.jobs_apart:,} jobs instead of "
        f"{found.jobs:,} and {found.hours_apart:,.1f} {unit} instead of {found.hours:,.1f}. The suite takes "
        f"{found.share:.0%} of that, or {found.share_without_common:.0%} if queries and base models "
        "already exist."
    )
    return lines


def _resolution(plan: Plan) -> Table:
    first = plan.resolution[0]
    title = (
        "Smallest difference of two methods that is found with 80 % power (two-sided, 5 %) with "
        f"{first.seeds} seed{'s' if first.seeds > 1 else ''}, from {first.source}"
    )
    found = table("model", "train set", "after round", title=title)
    for name in ("points", *(f"seeds for {points}" for points in first.seeds_needed), "false alarms"):
        found.add_column(name, justify="right")
    for each in plan.resolution:
        # One seed tells nothing of seeds: what is found is a difference of these checkpoints.
        points = f"{'≥ ' if each.seeds == 1 else ''}{each.detectable:.1f}"
        needed = [f"{seeds:,}" if seeds else "more queries" for seeds in each.seeds_needed.values()]
        names = (each.model, each.train_set, str(each.round))
        found.add_row(*names, points, *needed, f"{each.false_alarms:.0f} %")
    return found


def _assumptions(plan: Plan) -> Table:
    found = table("assumption", "value", "meaning")
    for name, about in type(plan.assumptions).model_fields.items():
        value = getattr(plan.assumptions, name)
        shown = (
            ", ".join(f"{key}: {number:g}" for key, number in value.items()) or "{}"
            if isinstance(value, dict)
            else format(value, ",g")
        )
        found.add_row(name, shown, about.description)
    return found


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value else ""


def _gigabytes(value: float) -> str:
    return f"{value / GIGABYTE:,.1f}" if value else ""
