"""Where a number of a table comes from: its runs, and everything they were made from (``vista show``).

Every output's manifest names its inputs with their fingerprints, so a number can be followed from the table
to the predictions, the checkpoint, the training set, the rollouts, and the commit of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.tree import Tree

from vista import grid
from vista.analysis.comparisons import reference_of
from vista.config import SeedMethod, Suite, load_resolved
from vista.errors import VistaError
from vista.manifest import Manifest, read_manifest, sha256
from vista.paths import Paths, manifest_of
from vista.shown import markup

EVERY = {"all", "all models"}  # what a cell of a table says instead of one name
KEYS = ["model", "train_set", "method", "round", "seed"]
NAMED = [*KEYS, "against", "policy", "task", "detector", "layer", "measure", "what", "group", "x"]
OF_DIFFERENCES = {"error", "test", "p", "p_holm"}  # columns that go with a difference
SHORT = 12  # characters of a fingerprint that are shown
MOST_DIGITS = 18  # of a row's number: Python refuses to read thousands
# Of a manifest's counts, those that say what an output is.
TOLD = ["examples", "solutions", "predictions", "positives", "queries", "steps", "tokens", "rows"]


@dataclass(frozen=True)
class Cell:
    """One number of a table on disk."""

    table: Path
    row: dict[str, str]
    column: str

    @property
    def value(self) -> str:
        """The number as the table has it."""
        return self.row[self.column]


def find(table: Path, row: str, column: str) -> Cell:
    """The cell of a table.

    Args:
        table: The CSV.
        row: Its number, from 1, or ``column=value`` pairs that match only this row, joined by commas.
        column: The name of the column.

    Raises:
        VistaError: the table, column or row does not exist, or several rows match.
    """
    if not table.is_file():
        raise VistaError(f"{table}: no such file; name a CSV such as results/tables/main.csv")
    try:
        rows = pd.read_csv(table, dtype="str", keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise VistaError(f"{table}: cannot be read ({error}); delete it and rerun its rule") from error
    if column not in rows:
        raise VistaError(f"{table}: no column {column!r}; it has {', '.join(rows.columns)}")
    if row.isdecimal():
        if len(row) > MOST_DIGITS or not 1 <= int(row) <= len(rows):
            raise VistaError(f"{table}: no row {row[:MOST_DIGITS]}; it has {len(rows)}")
        found = rows.iloc[[int(row) - 1]]
    else:
        found = rows
        for pair in row.split(","):
            name, _, value = pair.partition("=")
            if name.strip() not in rows:
                raise VistaError(f"{table}: {pair!r}: no column {name.strip()!r}; write column=value")
            found = found[found[name.strip()] == value.strip()]
    if len(found) != 1:
        what = "no row is" if found.empty else f"{len(found)} rows are"
        raise VistaError(f"{table}: {what} {row!r}; give more of column=value, or the row's number")
    return Cell(table, {str(name): str(value) for name, value in found.iloc[0].items()}, column)


def runs_of(suite: Suite, cell: Cell) -> list[grid.Run]:
    """The runs of the grid that a number is made of; of a difference, those of both sides.

    The other side is the method ``against``; SFT-Seed where the table has differences to it; and what a
    round sampled where the number is the round's gain.
    """
    row = cell.row

    def about(run: grid.Run, method: str) -> bool:
        wanted = {name: row[name] for name in KEYS if row.get(name, "") not in {"", *EVERY}}
        wanted["method"] = method
        if isinstance(suite.methods.get(method), SeedMethod):
            wanted.pop("round", None)
        return all(str(getattr(run, name)) == value for name, value in wanted.items())

    methods = [row[name] for name in ("method", "against") if row.get(name, "") not in {"", *EVERY}]
    runs = [run for method in methods for run in grid.runs(suite) if about(run, method)]
    of_difference = cell.column in OF_DIFFERENCES or cell.column.startswith(("delta", "gain"))
    if "against" in row or not of_difference:
        return runs
    if "gain" in row:
        others: list[grid.Run | None] = [grid.policy(suite, run) for run in runs]
    else:
        others = [reference_of(suite, run) for run in runs]
    return list(dict.fromkeys([*runs, *(other for other in others if other is not None)]))


def show(table: Path, row: str, column: str) -> list[Tree | str]:
    """What ``vista show`` prints: the cell, then a tree of everything it was made from.

    A number about runs has their predictions below it, a number about a policy's rollouts the rollouts
    that the table read of that policy, any other number all inputs of its table.

    Raises:
        VistaError: the cell cannot be found, or the table's results folder has no suite.
    """
    cell = find(table, row, column)
    paths = Paths(table.parent.parent)
    suite = load_resolved(paths.suite)
    names = ", ".join(f"{name} {value}" for name, value in cell.row.items() if name in NAMED and value)
    said = [f"{table.name}: {names}", f"{column} = {cell.value or '(empty)'}"]
    parts: list[Tree | str] = [markup(line) for line in said]
    seen: set[Path] = set()
    manifest = read_manifest(table)
    top = Tree(_told(table, manifest, manifest.checksums.get(table.name)))
    parts.append(top)
    runs = runs_of(suite, cell)
    scores = read_manifest(paths.long).inputs if runs else {}
    for run in runs:
        branch = top.add(f"run [bold]{run.id}[/bold]")
        predictions = paths.predictions(run.id)
        _grow(branch, predictions, scores.get(str(predictions)), seen)
    if not runs:
        _inputs(top, about_policy(paths, cell.row, manifest.inputs), seen)
    return parts


def about_policy(paths: Paths, row: Mapping[str, str], inputs: Mapping[str, str]) -> dict[str, str]:
    """Of a table's inputs, those that a row's model and policy made, and the queries that they answer."""
    rollouts = paths.rollouts("", "any", "any", 0, 1).parent.parent.parent

    def other(name: str) -> bool:
        if not Path(name).is_relative_to(rollouts):
            return False
        policy = Path(name).relative_to(rollouts).parts
        wanted = (row.get("model", ""), row.get("train_set", ""), row.get("policy", ""))
        return any(want not in {"", *EVERY, have} for want, have in zip(wanted, policy, strict=False))

    return {name: fingerprint for name, fingerprint in inputs.items() if not other(name)}


def _grow(tree: Tree, output: Path, recorded: str | None, seen: set[Path]) -> None:
    """Add an output and what it was made from; outputs shown before are only named."""
    if not manifest_of(output).is_file():
        state = "" if output.exists() else " [red](gone)[/red]"
        tree.add(f"{markup(output)}{state}{_changed(output, recorded)}")
        return
    if output in seen:
        tree.add(f"{markup(output)} (above){_changed(output, recorded)}")
        return
    seen.add(output)
    manifest = read_manifest(output)
    _inputs(tree.add(_told(output, manifest, recorded)), manifest.inputs, seen)


def _inputs(tree: Tree, inputs: Mapping[str, str], seen: set[Path]) -> None:
    for name, fingerprint in inputs.items():
        _grow(tree, Path(name), fingerprint, seen)


def _told(output: Path, manifest: Manifest, recorded: str | None) -> str:
    counts = [f"{name} {manifest.counts[name]:,.0f}" for name in TOLD if name in manifest.counts]
    commit = manifest.commit[:SHORT] + (" with changes" if manifest.dirty else "")
    about = markup("; ".join([f"commit {commit}", manifest.started, *counts]))
    return f"{markup(output)}{_changed(output, recorded)}\n  [dim]{about}[/dim]"


def _changed(output: Path, recorded: str | None) -> str:
    """A warning if a file has changed since it was read or written."""
    file = manifest_of(output) if output.is_dir() else output
    if recorded is None or not file.is_file() or sha256(file) == recorded:
        return ""
    return " [red](changed since)[/red]"
