"""A plan as tables to read, and as JSON; for ``vista plan``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vista.planning.plan import Plan

STAGE_OF_RULE = {
    "tasks": "tasks",
    "models": "models",
    "sample": "rollouts",
    "resample": "rollouts",
    "score": "rollouts",
    "gains": "rollouts",
    "curate": "curation",
    "train": "training",
    "evaluate": "evaluation",
}
GIGABYTE = 1e9


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
        "disk_bytes_total": plan.total(lambda work: work.disk_bytes) + plan.state_bytes,
        "training_state_bytes": plan.state_bytes,
        "sharing": asdict(plan.sharing) | {"share": plan.sharing.share},
        "shared": [asdict(group) | {"unshared_gpu_hours": group.unshared_gpu_hours} for group in plan.shared],
        "assumptions": plan.assumptions.model_dump(),
    }


def models(plan: Plan) -> list[str]:
    """The models of a plan, in its order."""
    return list(dict.fromkeys(work.model for work in plan.work if work.model))


def show(plan: Plan, console: Console) -> None:
    """Print the plan."""
    console.print(_stages(plan), _models(plan), _sharing(plan), sep="\n")
    console.print(*_saving(plan), sep="\n", soft_wrap=True)
    console.print(
        "Estimates, not measurements. They follow from these assumptions, each of which "
        "`--assume name=value` replaces:",
        soft_wrap=True,
    )
    console.print(_assumptions(plan))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table that reads the same on a terminal and in a file."""
    return Table(*columns, title=title, title_justify="left", box=box.MARKDOWN)


def _stages(plan: Plan) -> Table:
    found = table("stage", "rule", title=f"Jobs of suite {plan.suite}, when nothing is made yet")
    for name in ("jobs", "GPU hours", "disk GB"):
        found.add_column(name, justify="right")
    for rule, jobs in plan.jobs.items():
        hours, disk = (plan.total(what, rule) for what in (lambda w: w.gpu_hours, lambda w: w.disk_bytes))
        found.add_row(STAGE_OF_RULE.get(rule, "analysis"), rule, f"{jobs:,}", _hours(hours), _gigabytes(disk))
    found.add_row("training", "state to resume from, while one runs", "", "", _gigabytes(plan.state_bytes))
    found.add_section()
    hours, disk = plan.total(lambda w: w.gpu_hours), plan.total(lambda w: w.disk_bytes) + plan.state_bytes
    found.add_row("all", "", f"{sum(plan.jobs.values()):,}", _hours(hours), _gigabytes(disk))
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


def _sharing(plan: Plan) -> Table:
    found = table("rollouts", "settings", "sampled by", "read by", title="Rollouts, and who shares them")
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
    """What the suite takes in all, beside its methods run apart."""
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
            f"The suite asks for no GPUs: {found.hours:,.1f} core hours, {found.hours / cores:,.1f} hours on "
            f"{cores} cores."
        )
    lines.append(
        f"With its methods run apart, each from nothing: {found.jobs_apart:,} jobs in place of "
        f"{found.jobs:,}, {found.hours_apart:,.1f} {unit} in place of {found.hours:,.1f}. The suite takes "
        f"{found.share:.0%} of that, or {found.share_without_common:.0%} where queries and base models are "
        "at hand."
    )
    return lines


def _assumptions(plan: Plan) -> Table:
    found = table("assumption", "value", "of what")
    for name, field in type(plan.assumptions).model_fields.items():
        value = getattr(plan.assumptions, name)
        shown = (
            ", ".join(f"{key}: {number:g}" for key, number in value.items()) or "{}"
            if isinstance(value, dict)
            else format(value, ",g")
        )
        found.add_row(name, shown, field.description)
    return found


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value else ""


def _gigabytes(value: float) -> str:
    return f"{value / GIGABYTE:,.1f}" if value else ""
