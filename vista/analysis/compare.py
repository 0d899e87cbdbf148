"""Compares systems by their scores on the same items (``vista compare``), with the statistics of our tables.

Where there are several tasks, ``overall`` is the mean over tasks of the mean over items, each task with the
same weight, as in ``main.csv``; errors are clustered (``vista.analysis.stats``). Differences are paired on
the item, and on the seed where both systems have seeds. Numbers are in the unit of the scores.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from vista.analysis.power import LEVEL, POWER, smallest_difference
from vista.analysis.scored import ONE, LeftOut, System
from vista.analysis.stats import (
    averaged,
    bootstrap_interval,
    holm,
    mcnemar_p,
    overall_mean,
    paired_scores,
    pooled_difference,
    unlike,
)
from vista.errors import VistaError

if TYPE_CHECKING:
    from rich.console import Console

MACRO = "mean over tasks of the mean over items, each task with the same weight"

# By seed, the rows of a system: task, query_id, cluster_id, score.
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Comparison:
    """What was found, as ``--json`` prints it."""

    systems: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    tasks: list[str]
    left_out: LeftOut
    percent: bool  # whether all scores lie within 0 … 1, and are shown as percentages

    def as_dict(self) -> dict[str, Any]:
        """The comparison as plain values; ``None`` for what is not known."""
        left = {"items": self.left_out.items, "seeds": self.left_out.seeds}
        return {
            "tasks": self.tasks,
            "overall": MACRO,
            "level": LEVEL,
            "power": POWER,
            "left_out": left,
            "systems": self.systems,
            "comparisons": self.comparisons,
        }


def compare(systems: Sequence[System], against: str | None, left_out: LeftOut) -> Comparison:
    """Compare systems with one of them.

    Args:
        systems: With the same items and seeds, as ``scored.in_common`` leaves them.
        against: The name of the system that the others are compared with; the first if none is named.
        left_out: What ``in_common`` left out.

    Raises:
        VistaError: there is no such system, or only one.
    """
    if len(systems) < 2:
        raise VistaError(f"{systems[0].name}: name at least one other to compare it with")
    names = [system.name for system in systems]
    if against is not None and against not in names:
        raise VistaError(f"--against {against}: not one of {', '.join(names)}")
    frames = {system.name: _frames(system) for system in systems}
    reference = against or names[0]
    tasks = list(dict.fromkeys(task for task, _ in next(iter(systems[0].scores.values()))))
    others = [name for name in names if name != reference]
    overall = [_difference(frames[name], frames[reference], macro=len(tasks) > 1) for name in others]
    by_task = {
        name: {task: _difference(_of(frames[name], task), _of(frames[reference], task)) for task in tasks}
        for name in others
    }
    _correct(overall, ["p"] * len(overall))
    rows = [row for found in by_task.values() for row in found.values()]
    _correct(rows, ["p" if row["p_mcnemar"] is None else "p_mcnemar" for row in rows])
    return Comparison(
        [
            {"name": system.name, "source": system.source, "seeds": system.seeds}
            | _mean(frames[system.name])
            | {"tasks": {task: _mean(_of(frames[system.name], task)) for task in tasks}}
            for system in systems
        ],
        [
            {"name": name, "against": reference} | found | {"tasks": by_task[name]}
            for name, found in zip(others, overall, strict=True)
        ],
        tasks,
        left_out,
        all(frame["score"].between(0.0, 1.0).all() for each in frames.values() for frame in each.values()),
    )


def _frames(system: System) -> dict[str, pd.DataFrame]:
    return {
        seed: pd.DataFrame(
            [(*item, score.cluster, score.value) for item, score in scores.items()],
            columns=["task", "query_id", "cluster_id", "score"],
        )
        for seed, scores in system.scores.items()
    }


def _of(frames: Frames, task: str) -> dict[str, pd.DataFrame]:
    return {seed: frame[frame["task"] == task] for seed, frame in frames.items()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(frames: Frames) -> dict[str, Any]:
    """A mean over seeds, with its error and interval over items, and the spread between seeds."""
    together = averaged({("", number): frame for number, frame in enumerate(frames.values())})
    mean, (low, high) = overall_mean(together), bootstrap_interval(together)
    single = [overall_mean(frame).mean for frame in frames.values()]
    return {
        "n": mean.n,
        "clusters": mean.clusters,
        "mean": mean.mean,
        "se": _known(mean.se),
        "low": _known(low),
        "high": _known(high),
        "seed_sd": statistics.stdev(single) if len(single) > 1 else None,
    }


def _difference(frames: Frames, reference: Frames, macro: bool = False) -> dict[str, Any]:
    """A system against the reference: seed by seed, and one checkpoint against every seed of the other."""
    seeds = list(dict.fromkeys(seed for seed in [*frames, *reference] if seed != ONE)) or [ONE]
    both = [(frames.get(seed, frames.get(ONE)), reference.get(seed, reference.get(ONE))) for seed in seeds]
    pairs = {
        ("", number): paired_scores(own, other)
        for number, (own, other) in enumerate(both)
        if own is not None and other is not None
    }
    found = pooled_difference(pairs)
    exact = math.nan
    if len(pairs) == 1 and not macro and _is_binary([*frames.values(), *reference.values()]):
        exact = mcnemar_p(next(iter(pairs.values())))
    return {
        "n": found.n,
        "pairs": found.runs,
        "difference": found.mean,
        "se": _known(found.se),
        "low": _known(found.low),
        "high": _known(found.high),
        "error": found.error,
        "test": "t" if found.seeds else "normal",
        "p": _known(found.p),
        "p_mcnemar": _known(exact),
        "detectable": _known(smallest_difference(found.variances)),
    }


def _is_binary(frames: Iterable[pd.DataFrame]) -> bool:
    return all(bool(frame["score"].isin([0.0, 1.0]).all()) for frame in frames)


def _correct(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Add ``p_holm`` to rows of one family; those without the error over seeds of others are in none."""
    alone = unlike([row["error"] for row in rows])
    found = [row[name] for row, name in zip(rows, columns, strict=True)]
    values = [math.nan if p is None or out else p for p, out in zip(found, alone, strict=True)]
    for row, p in zip(rows, holm(values), strict=True):
        row["p_holm"] = _known(p)


# --- to read ---


def _number(value: float | None, scale: float, sign: str = "") -> str:
    return "" if value is None else f"{value * scale:{sign}.2f}"


def _interval(row: Mapping[str, Any], name: str, scale: float, sign: str = "") -> str:
    value, low, high = (_number(row[each], scale, sign) for each in (name, "low", "high"))
    return f"{value} [{low}, {high}]" if low else value


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def cells(found: Comparison) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The two tables as text: of the systems, and of their differences; of each task if there are several."""
    scale, unit = (100.0, "%") if found.percent else (1.0, "score")
    several = len(found.tasks) > 1
    means, differences = [], []
    for task in ["overall", *(found.tasks if several else [])]:
        named = {"task": task} if several else {}
        for system in found.systems:
            row = system if task == "overall" else system["tasks"][task]
            spread = {"seed sd": _number(row["seed_sd"], scale)}
            counts = {"items": str(row["n"]), "clusters": str(row["clusters"])}
            seeds = {"seeds": str(len(system["seeds"]) or 1)}
            mean = {f"mean ({unit})": _interval(row, "mean", scale)}
            means.append({"system": system["name"]} | named | counts | seeds | mean | spread)
        for one in found.comparisons:
            row = one if task == "overall" else one["tasks"][task]
            differences.append(
                {"system": one["name"], "against": one["against"]}
                | named
                | {"difference": _interval(row, "difference", scale, "+"), "test": row["test"]}
                | {"p": _p(row["p"]), "McNemar": _p(row["p_mcnemar"]), "p (Holm)": _p(row["p_holm"])}
                | {"detectable": _number(row["detectable"], scale)}
            )
    return _without_empty(means), _without_empty(differences)


def _without_empty(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    filled = {name for row in rows for name, value in row.items() if value}
    return [{name: value for name, value in row.items() if name in filled} for row in rows]


def notes(found: Comparison) -> list[str]:
    """What the tables show, in sentences; first what was left out."""
    lines = []
    for name, count in found.left_out.items.items():
        if count:
            lines.append(f"Left out, as they are not in all: {count} items of {name}.")
    for name, seeds in found.left_out.seeds.items():
        if seeds:
            lines.append(f"Left out, as they are not in all: seeds {', '.join(seeds)} of {name}.")
    if len(found.tasks) > 1:
        lines.append(f"overall: {MACRO}.")
    errors = {each["error"] for each in found.comparisons}
    lines.append(
        "In brackets: 95 % intervals, clustered; differences are paired on the item, and their error is over "
        f"{' or '.join(sorted(errors)).replace('queries', 'items').replace(',', ' and')}."
    )
    lines.append(
        "detectable: the smallest true difference that the test would have found with a power of "
        f"{POWER:.0%} (two-sided, 5 %, before Holm's correction)."
    )
    return lines


def markdown(found: Comparison) -> str:
    """The tables and their notes as Markdown."""
    from tabulate import tabulate

    from vista.shown import as_markdown, in_one_line

    parts = []
    for rows in cells(found):
        escaped = [
            {name: as_markdown(in_one_line(text)).replace("|", "\\|") for name, text in row.items()}
            for row in rows
        ]
        parts.append(tabulate(escaped, headers="keys", tablefmt="pipe", disable_numparse=True))
    return "\n\n".join([*parts, *map(as_markdown, notes(found))])


def show(found: Comparison, console: Console) -> None:
    """Print the tables and their notes."""
    from rich import box
    from rich.table import Table

    from vista.shown import in_one_line, markup, printable

    for rows in cells(found):
        table = Table(box=box.SIMPLE_HEAD)
        for name in rows[0]:
            left = name in ("system", "against", "task", "test")
            table.add_column(name, justify="left" if left else "right")
        for row in rows:
            table.add_row(*(markup(in_one_line(text)) for text in row.values()))
        console.print(table)
    for line in notes(found):
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
