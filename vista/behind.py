"""The responses behind a number of a table (``vista show --cases``, ``--page``).

Of an accuracy its own; of a difference those of both sides to the same query.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from vista import grid
from vista.config import Suite, load_resolved
from vista.errors import VistaError
from vista.paths import Paths
from vista.provenance import Cell, find, named, sides_of
from vista.reads import Reads
from vista.records import PREDICTION, Row, read_queries, read_rows
from vista.shown import in_one_line, markup

# Tables whose rows are about runs and whole tasks.
OF_RUNS = ("main", "tasks", "runs", "rounds", "ood", "benchmarks", "ablation", "across_models", "reported")
RIGHT = 1.0  # a full score
SCORED = "as its task scores it"  # where there is no right answer to show
# Of a query what is shown, and what says whether it must have a right answer.
ASKED = ["task", "query_id", "instruction", "answer", "answer_type"]
PICTURED = [*ASKED, "images", "scene"]  # on a page
ON_A_PAGE = 100  # responses of each sort
TELLING = ("gained", "lost", "wrong", "right", "same")  # which sorts a page has first


@dataclass(frozen=True)
class Case:
    """A test query as a run answered it, and as the other side of a difference did.

    Attributes:
        query: ``ASKED`` of a row of ``records.QUERY``.
        answered: A row of ``records.PREDICTION``.
        against: The other side's row; ``None`` for a number that is no difference.
    """

    query: Row
    answered: Row
    against: Row | None

    @property
    def what(self) -> str:
        """What became of it, in a word."""
        if self.against is None:
            return "right" if self.answered["score"] == RIGHT else "wrong"
        gain = self.answered["score"] - self.against["score"]
        return "gained" if gain > 0 else "lost" if gain < 0 else "same"

    def as_dict(self) -> dict[str, Any]:
        """The case as plain values, for ``--json``."""
        names = ("run", "response", "answer", "finished", "score")
        sides = {"answered": self.answered, "against": self.against}
        return {
            **{name: self.query[name] for name in ("task", "query_id", "instruction")},
            "right_answer": self.query["answer"],
            "what": self.what,
            **{side: row and {name: row[name] for name in names} for side, row in sides.items()},
        }


def cases_of(table: Path, row: str, column: str) -> list[Case]:
    """The responses that a number is made of: in a difference those to the same query side by side.

    Raises:
        VistaError: as ``find``; the table was copied without its results, or is not about runs and whole
            tasks; predictions are missing or damaged.
    """
    cell = find(table, row, column)
    paths = Paths(table.parent.parent)
    if table.stem not in OF_RUNS and not table.stem.startswith("sweep_"):
        tables = ", ".join(OF_RUNS)
        raise VistaError(
            f"{table}: cases are shown of numbers that responses of runs to whole tasks make up: those of "
            f"{tables}; name a row and a column of one of these"
        )
    if not os.path.lexists(paths.suite):
        raise VistaError(f"{table}: the responses are not here, since it was copied without its results")
    suite = load_resolved(paths.suite)
    reads = Reads(suite, paths)
    ours, others = sides_of(suite, cell)
    beside = {(run.model, run.train_set, run.seed): run for run in others}
    queries = {
        task: read_queries(paths.queries(task, "test"), ASKED)
        for task in dict.fromkeys(task for run in ours for task in _tasks(suite, run, cell))
    }
    found = []
    for run in ours:
        other = beside.get((run.model, run.train_set, run.seed))
        if others and other is None:
            continue  # a seed that the other side lacks is in no difference
        answers, against = (
            {} if each is None else _answers(reads.predictions(each)) for each in (run, other)
        )
        for task in _tasks(suite, run, cell):
            for query in queries[task]:
                key = task, query["query_id"]
                if key in answers and (other is None or key in against):
                    found.append(Case(query, answers[key], against.get(key)))
    if not found:
        raise VistaError(f"{table}: no response is behind {column!r} of {row!r}")
    return found


def _answers(predictions: Path) -> dict[tuple[str, str], Row]:
    return {(row["task"], row["query_id"]): row for row in read_rows(predictions, PREDICTION)}


def _tasks(suite: Suite, run: grid.Run, cell: Cell) -> list[str]:
    """The tasks that a number is about."""
    named = [name for name in (cell.column, cell.row.get("task", "")) if name in suite.evaluated_tasks]
    return named[:1] or list(suite.train_sets[run.train_set])


def page_of(table: Path, row: str, column: str, most: int, to: Path) -> str:
    """Write a page of the responses behind a number, and return what there is to say of it.

    Args:
        table: As for ``cases_of``, with ``row`` and ``column``.
        row: See there.
        column: See there.
        most: How many of each sort; the first of each run and task in turn.
        to: The HTML file.

    Raises:
        VistaError: as ``cases_of``; an image cannot be decoded, or the file cannot be written.
    """
    from vista.figures import responses  # takes a second

    cases = cases_of(table, row, column)
    shown = [case for sort in _sorts(cases) for case in spread(cases, sort, most)]
    wanted: dict[str, set[str]] = defaultdict(set)
    for case in shown:
        wanted[case.query["task"]].add(case.query["query_id"])
    paths = Paths(table.parent.parent)
    pictured = {
        (task, query["query_id"]): query
        for task, ids in wanted.items()
        for query in read_queries(paths.queries(task, "test"), PICTURED)
        if query["query_id"] in ids
    }
    cell = find(table, row, column)
    said = f"{_counted(cases)}."
    if len(shown) < len(cases):
        said += f" Here are at most {most:,} of each sort, the first of every run and task in turn."
    # On the page those to one query stand together.
    order = {key: place for place, key in enumerate(pictured)}
    found = [
        responses.case(pictured[key], case.what, case.answered, case.against)
        for case in sorted(shown, key=lambda case: (TELLING.index(case.what), order[_key(case)]))
        for key in [_key(case)]
    ]
    responses.write_page(
        to, f"{table.name}: {named(cell)}; {column} = {cell.value or '(empty)'}", said, found
    )
    return f"{to}: {len(found):,} of {len(cases):,} responses ({_counted(cases)})"


def _key(case: Case) -> tuple[str, str]:
    return case.query["task"], case.query["query_id"]


def spread(cases: Sequence[Case], sort: str, most: int) -> list[Case]:
    """The first cases of a sort, from each run and task in turn."""
    by_source: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        if case.what == sort:
            by_source[case.answered["run"], case.query["task"]].append(case)
    turns = chain.from_iterable(zip_longest(*by_source.values()))
    return [case for case in turns if case is not None][:most]


def _sorts(cases: Sequence[Case]) -> tuple[str, ...]:
    return ("right", "wrong") if cases[0].against is None else ("gained", "lost", "same")


def _counted(cases: Sequence[Case]) -> str:
    """How many cases there are of each sort."""
    counts = Counter(case.what for case in cases)
    silent = sum(case.answered["answer"] is None for case in cases)
    told = ", ".join(f"{counts[sort]:,} {sort}" for sort in _sorts(cases))
    return f"{told}; {silent:,} without an answer"


def drawn_cases(cases: Sequence[Case], most: int) -> list[str]:
    """What is printed of cases: how many there are of each sort, then the first few that say most."""
    sorts = _sorts(cases)
    told = [_counted(cases)]
    for sort in sorts[1:2] if cases[0].against is None else sorts[:2]:
        chosen = [case for case in cases if case.what == sort]
        if chosen[:most]:
            told.append(f"\n[bold]{sort}[/bold], the first {min(most, len(chosen))} of {len(chosen):,}:")
        told += [_case_told(case) for case in chosen[:most]]
    return told


def _case_told(case: Case) -> str:
    lines = [
        f"[bold]{markup(in_one_line(case.query['query_id']))}[/bold] "
        f"{markup(in_one_line(case.query['instruction']))}",
        f"  right: {markup(in_one_line(case.query['answer'] or SCORED))}",
    ]
    for side in filter(None, (case.answered, case.against)):
        answer = "no answer" if side["answer"] is None else in_one_line(side["answer"])
        cut = "" if side["finished"] else ", cut at the length limit"
        lines.append(f"  {markup(in_one_line(side['run']))}: {markup(answer)}{cut}")
        lines.append(f"    [dim]{markup(in_one_line(side['response']))}[/dim]")
    return "\n".join(lines)
