"""What config/paper.yaml costs, as docs/paper.md shows it: written there, or just printed.

python benchmarks/paper_plan.py [--write]

Each table takes the place of the one after its mark, `<!-- paper_plan: NAME -->`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from vista.config import Suite, load_suite, up_to
from vista.planning.assumptions import Assumptions
from vista.planning.plan import GIGABYTE, STAGE_OF_RULE, Plan, make_plan

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/paper.md"
STAGES = {
    "sampling, resampling, scoring": ("rollouts",),
    "training sets and training": ("curation", "training"),
    "evaluation": ("evaluation",),
    "the rest": ("tasks", "models", "analysis"),
}
# The main grid as it was planned until November 2026, with 20,000 tokens a second of a model of one billion
# parameters: eight shards, evaluation with transformers and of the same zero-shot model for every train set,
# activations recomputed in training.
BEFORE = {
    "sampling, resampling, scoring": (1685, 118),
    "training sets and training": (330, 467),
    "evaluation": (180, 367),
    "the rest": (39, 0),
}


def tables(root: Path = ROOT) -> dict[str, str]:
    """The tables of the page, by name, as Markdown."""
    suite = load_suite(root / "config/paper.yaml", root=root)
    return {"blocks": _blocks(make_plan(suite, Assumptions())), "stages": _stages(suite)}


def _blocks(plan: Plan) -> str:
    rows, so_far = [], 0.0
    for block in plan.blocks:
        so_far += block.gpu_hours
        has = ", ".join(f"`{name}`" for name in block.has)
        cells = (f"{block.jobs:,}", f"{block.gpu_hours:,.0f}", f"{so_far:,.0f}")
        rows.append(f"| {block.name} | {has} | {' | '.join(cells)} | {block.disk_bytes / GIGABYTE:,.0f} |")
    head = [
        "| block | methods and sweeps | jobs | GPU hours | so far | disk GB |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def _stages(suite: Suite) -> str:
    plan = make_plan(up_to(suite, next(iter(suite.blocks))), Assumptions())
    rows = [
        (name, *BEFORE[name], *(sum(part) for part in zip(*_of(plan, stages), strict=True)))
        for name, stages in STAGES.items()
    ]
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, 6))))
    head = [
        "| main grid | jobs before | GPU hours before | jobs | GPU hours | disk GB |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(
        [
            *head,
            *(
                f"| {name} | {was:,} | {_hours(had)} | {jobs:,} | {_hours(hours)} | {disk / GIGABYTE:,.0f} |"
                for name, was, had, jobs, hours, disk in rows
            ),
        ]
    )


def _of(plan: Plan, stages: tuple[str, ...]) -> Iterator[tuple[int, float, float]]:
    """By rule of some stages: jobs, GPU hours, bytes."""
    if "training" in stages:
        yield 0, 0.0, plan.state_bytes
    for rule, jobs in plan.jobs.items():
        if STAGE_OF_RULE.get(rule, "analysis") in stages:
            hours = plan.total(lambda work: work.gpu_hours, rule)
            yield jobs, hours, plan.total(lambda work: work.disk_bytes, rule)


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value else ""


def filled(page: str, found: dict[str, str]) -> str:
    """The page with each table after its mark."""
    for name, table in found.items():
        mark = f"<!-- paper_plan: {name} -->"
        if page.count(mark) != 1:
            raise SystemExit(f"{PAGE}: expected one {mark}")
        # As a template of re.sub, a table's backslashes would be escapes.
        new = f"{mark}\n{table}\n".replace("\\", r"\\")
        page = re.sub(rf"{re.escape(mark)}\n(?:\|.*\n)*", new, page)
    return page


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write them into {PAGE.relative_to(ROOT)}")
    found = tables()
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text(), found))
    else:
        print("\n\n".join(found.values()))


if __name__ == "__main__":
    main()
