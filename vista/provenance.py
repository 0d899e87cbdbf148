"""Where a number of a table comes from: its runs, and what they were made from (``vista show``).

Every output's manifest names its inputs with their fingerprints, so a number can be followed from the table
to the predictions, the checkpoint, the training set, the rollouts, and the commit of each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.tree import Tree

from vista import grid
from vista.analysis.comparisons import reference_of
from vista.config import SeedMethod, Suite, load_resolved
from vista.damage import is_regular_below, sha256
from vista.errors import VistaError
from vista.manifest import Manifest, inputs_of, read_manifest
from vista.paths import Paths, manifest_of
from vista.reads import Reads
from vista.shown import in_one_line, markup

EVERY = {"all", "all models"}  # what a cell of a table says instead of one name
KEYS = ["model", "train_set", "method", "round", "seed"]
NAMED = [*KEYS, "against", "policy", "task", "detector", "layer", "measure", "what", "group", "x"]
OF_DIFFERENCES = {"error", "test", "p", "p_holm", "detectable"}  # columns that go with a difference
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
    """The runs of the grid that a number is made of; of a difference, those of both sides."""
    return list(dict.fromkeys(run for side in sides_of(suite, cell) for run in side))


def sides_of(suite: Suite, cell: Cell) -> tuple[list[grid.Run], list[grid.Run]]:
    """The runs that a number is about, and those that it sets them against.

    These are of the method ``against``; of SFT-Seed where the table has differences to it; and what a round
    sampled where the number is the round's gain.
    """
    row = cell.row

    def about(run: grid.Run, method: str) -> bool:
        wanted = {name: row[name] for name in KEYS if row.get(name, "") not in {"", *EVERY}}
        wanted["method"] = method
        if (several := wanted.get("train_set", "")) not in suite.train_sets:
            # A mean over several train sets names them all.
            if several and run.train_set not in several.split(" + "):
                return False
            wanted.pop("train_set", None)
        if isinstance(suite.methods.get(method), SeedMethod):
            wanted.pop("round", None)
        return all(str(getattr(run, name)) == value for name, value in wanted.items())

    def side(name: str) -> list[grid.Run]:
        method = row.get(name, "")
        return [] if method in {"", *EVERY} else [run for run in grid.runs(suite) if about(run, method)]

    runs = side("method")
    of_difference = cell.column in OF_DIFFERENCES or cell.column.startswith(("delta", "gain"))
    if "against" in row or not of_difference:
        return runs, side("against")
    if "gain" in row:
        others: list[grid.Run | None] = [grid.policy(suite, run) for run in runs]
    else:
        others = [reference_of(suite, run) for run in runs]
    return runs, [other for other in others if other is not None]


@dataclass
class Node:
    """One output, or one run, and what it was made from."""

    name: str
    manifest: Manifest | None = None
    state: str = ""  # gone; above: its inputs are shown there; not here: where it was made, it was elsewhere
    changed: bool = False  # since it was read or written
    made_from: list[Node] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The output as plain values, for ``--json``."""
        found: dict[str, Any] = {"name": self.name, "state": self.state, "changed": self.changed}
        if self.manifest is not None:
            found |= {name: getattr(self.manifest, name) for name in ("commit", "dirty", "started", "counts")}
        return found | {"made_from": [node.as_dict() for node in self.made_from]}


@dataclass(frozen=True)
class Trace:
    """Where a number comes from."""

    cell: Cell
    top: Node
    missing: str = ""  # what is not here, and where to look for it

    def as_dict(self) -> dict[str, Any]:
        """The trace as plain values, for ``--json``."""
        cell = {"table": str(self.cell.table), "row": self.cell.row, "column": self.cell.column}
        return cell | {"value": self.cell.value, "missing": self.missing, "made_from": [self.top.as_dict()]}


def trace(table: Path, row: str, column: str) -> Trace:
    """Follow a number of a table.

    A number about runs has their predictions below it, a number about a policy's rollouts the rollouts
    that the table read of that policy, any other number all inputs of its table. A table that was copied
    out of its results folder is followed as far as its manifest reaches.

    Raises:
        VistaError: the cell cannot be found, or the table has no manifest.
    """
    cell = find(table, row, column)
    paths = Paths(table.parent.parent)
    manifest = read_manifest(table)
    branches = Branches(paths.results)
    changed = branches.changed(table, manifest.checksums.get(table.name))
    top = Node(str(table), manifest, changed=changed)
    if not os.path.lexists(paths.suite) and not os.path.lexists(paths.long):
        top.made_from = [Node(name, state="not here") for name in manifest.inputs]
        return Trace(cell, top, _left_behind(table, manifest))
    suite = load_resolved(paths.suite)
    runs = runs_of(suite, cell)
    scores = branches.inputs(paths.long, read_manifest(paths.long)) if runs else {}
    for run in runs:
        predictions = Reads(suite, paths).predictions(run)
        top.made_from.append(Node(f"run {run.id}"))
        branches.grow(top.made_from[-1], predictions, scores.get(str(predictions)))
    if not runs:
        branches.add(top, about_policy(paths, cell.row, branches.inputs(table, manifest)))
    return Trace(cell, top)


def _left_behind(table: Path, manifest: Manifest) -> str:
    """What is not beside a table that is on its own."""
    suite = manifest.settings.get("suite", "")
    return (
        f"{table} was copied without its results folder: the predictions, checkpoints and training sets that "
        f"it was made from are not here, nor is their suite.json. Suite {suite} as it was: git show "
        f"{manifest.commit[:SHORT]}:config/{suite}.yaml; with it, snakemake makes them again"
    )


def show(table: Path, row: str, column: str) -> list[Tree | str]:
    """What ``vista show`` prints: the cell, then a tree of everything it was made from.

    Raises:
        VistaError: as ``trace``.
    """
    return drawn(trace(table, row, column))


def drawn(found: Trace) -> list[Tree | str]:
    """A trace for a terminal."""
    cell = found.cell
    said = [f"{cell.table.name}: {named(cell)}", f"{cell.column} = {cell.value or '(empty)'}"]
    tree = Tree(_told(found.top))
    _draw(tree, found.top)
    return [*map(markup, said), tree, *([markup(found.missing)] if found.missing else [])]


def named(cell: Cell) -> str:
    """What a cell's row is about."""
    return ", ".join(f"{name} {value}" for name, value in cell.row.items() if name in NAMED and value)


def _draw(tree: Tree, node: Node) -> None:
    for part in node.made_from:
        _draw(tree.add(_told(part)), part)


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


class Branches:
    """Grows trees of outputs and what they were made from; outputs shown before are only named."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.seen: set[Path] = set()

    def inputs(self, output: Path, manifest: Manifest) -> dict[str, str]:
        """The fingerprints of an output's inputs, by where these lie now."""
        name = str(output.relative_to(self.results))
        return {str(each.path): each.digest for each in inputs_of(self.results, name, manifest)}

    def add(self, node: Node, inputs: Mapping[str, str]) -> None:
        """Add several inputs."""
        for name, fingerprint in inputs.items():
            self.grow(node, Path(name), fingerprint)

    def grow(self, node: Node, output: Path, recorded: str | None) -> None:
        """Add an output and what it was made from. Only what is among the results is followed."""
        found = Node(str(output), changed=self.changed(output, recorded))
        node.made_from.append(found)
        described = manifest_of(output)
        if not (self._is_result(output) and is_regular_below(described, described.parent)):
            found.state = "" if os.path.lexists(output) else "gone"
        elif output in self.seen:
            found.state = "above"
        else:
            self.seen.add(output)
            found.manifest = read_manifest(output)
            self.add(found, self.inputs(output, found.manifest))

    def changed(self, output: Path, recorded: str | None) -> bool:
        """Whether a file has changed since it was read or written."""
        file = manifest_of(output) if output.is_dir() else output
        folders = [file.parent] if self._is_result(output) else [self.results, Path.cwd()]
        can_read = recorded is not None and is_regular_below(file, *folders)
        return can_read and sha256(file) != recorded

    def _is_result(self, output: Path) -> bool:
        return output.is_relative_to(self.results) and ".." not in output.relative_to(self.results).parts


def _told(node: Node) -> str:
    """One output in a line, and a second one about when and from which commit it was made."""
    name = markup(in_one_line(node.name))
    if node.name.startswith("run "):
        return f"run [bold]{markup(node.name.removeprefix('run '))}[/bold]"
    state = {"gone": " [red](gone)[/red]", "": ""}.get(node.state, f" ({node.state})")
    first = f"{name}{state}{' [red](changed since)[/red]' if node.changed else ''}"
    if node.manifest is None:
        return first
    manifest = node.manifest
    counts = [f"{what} {manifest.counts[what]:,.0f}" for what in TOLD if what in manifest.counts]
    commit = manifest.commit[:SHORT] + (" with changes" if manifest.dirty else "")
    about = markup(in_one_line("; ".join([f"commit {commit}", manifest.started, *counts])))
    return f"{first}\n  [dim]{about}[/dim]"
