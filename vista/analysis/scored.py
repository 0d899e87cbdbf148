"""Per-sample scores from anybody's files, for ``vista compare``: read, checked, brought to the same items.

A file is a CSV, a parquet or a JSONL with the columns ``id`` and ``score`` and, if it has them, ``cluster``,
``seed`` and ``task``; our ``predictions.parquet``; runs of our ``long.csv``; or what lmms-eval's
``--log_samples`` writes. What is wrong with any of them is one error, with the file and the row.
"""

from __future__ import annotations

import csv
import glob
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vista.errors import VistaError, fail_if
from vista.shown import from_spreadsheet

MOST = 20  # problems, or ids, that a message lists
# What columns may be called: the first is what the messages say.
NAMES = {
    "id": ("id", "query_id", "doc_id"),
    "score": ("score",),
    "cluster": ("cluster", "cluster_id"),
    "seed": ("seed",),
    "task": ("task",),
}
RUN = ("model", "train_set", "method")  # of long.csv, in the order of a run's name
ALL = "all"  # the task of files that name none
ONE = "-"  # the seed of a system that has none: one checkpoint, compared with every seed of another
# What lmms-eval writes of each sample besides its metrics.
LOGGED = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "token_counts", "doc_hash"),
    *("input", "input_media", "cluster_id"),
}
LOG = re.compile(r"\d{8}_\d{6}_samples_(?P<task>.+)\.jsonl")
TRUTH = {"true": 1.0, "false": 0.0}

Item = tuple[str, str]  # task and id


@dataclass(frozen=True)
class Score:
    """One score of one item, and where it stands."""

    value: float
    cluster: str | None
    where: str


@dataclass
class System:
    """What is compared: a checkpoint, or a method with a checkpoint for each seed.

    Attributes:
        name: What it is called.
        source: What the user named.
        scores: By seed, the score of each item; ``ONE`` where there are no seeds.
    """

    name: str
    source: str
    scores: dict[str, dict[Item, Score]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[str]:
        """Its seeds in order; none for a system without."""
        named = [seed for seed in self.scores if seed != ONE]
        return sorted(named, key=lambda seed: seed.rjust(20) if seed.isdecimal() else seed)

    @property
    def items(self) -> set[Item]:
        """The items that every seed has."""
        return set.intersection(*(set(found) for found in self.scores.values()))


@dataclass
class Problems:
    """What is wrong with the files, gathered for one error."""

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: str) -> None:
        """Count a problem; the first ``MOST`` are told."""
        self.count += 1
        if self.count <= MOST:
            self.lines.append(line)

    def raise_if_any(self, heading: str) -> None:
        """Raise one error, if there was a problem."""
        more = [f"and {self.count - MOST} more"] if self.count > MOST else []
        fail_if([*self.lines, *more], heading)


def read_systems(named: Sequence[str], metric: str | None = None) -> list[System]:
    """Read what is to be compared.

    Args:
        named: ``[NAME=]FILE``, where ``FILE`` may be a pattern of several (seeds, or tasks) and ``long.csv``
            is followed by ``:MODEL/TRAIN_SET/METHOD[/seedS][/roundR]``.
        metric: The column of the scores, or of a dictionary in it as ``metric.field``.

    Raises:
        VistaError: lists everything that is wrong in all files.
    """
    problems, systems = Problems(), []
    for text in named:
        name, files, run = _located(text)
        system = System(name or text, text)
        for file in files:
            _read(system, file, run, metric, problems)
        systems.append(system)
    problems.raise_if_any("The scores cannot be compared:")
    for system in systems:
        if not system.scores:
            raise VistaError(f"{system.source}: no scores; name a file with at least one")
    if all(len(system.scores) == 1 for system in systems):  # nothing to pair by seed
        for system in systems:
            system.scores = {ONE: next(iter(system.scores.values()))}
    names = [system.name for system in systems]
    if twice := [name for name in names if names.count(name) > 1]:
        raise VistaError(f"{twice[0]}: named twice; give each a name of its own, such as A={twice[0]}")
    _same_tasks(systems)
    return systems


def _located(text: str) -> tuple[str, list[Path], str]:
    """The name, the files and the run that the user's text means."""
    name, rest = "", text
    for _ in range(2):
        path, run = rest, ""
        if not Path(path).exists() and ":" in rest:
            path, _, run = rest.rpartition(":")
        if Path(path).is_dir():
            files = sorted(each for each in Path(path).rglob("*.jsonl") if LOG.fullmatch(each.name))
            if not files:
                raise VistaError(
                    f"{path}: a folder without lmms-eval's logs (*_samples_TASK.jsonl); name a file of scores"
                )
            return name, files, run
        if files := [Path(path)] if Path(path).is_file() else sorted(map(Path, glob.glob(path))):
            return name, files, run
        if "=" not in rest:
            break
        name, _, rest = rest.partition("=")
    raise VistaError(f"{rest}: no such file; name a file of scores, as FILE or NAME=FILE")


def _read(system: System, file: Path, run: str, metric: str | None, problems: Problems) -> None:
    """Add the scores of a file to a system."""
    rows = list(_rows(file, problems))
    if not rows:
        return
    if set(rows[0][1]).issuperset((*RUN, "round", "query_id")):
        rows = _of_run(file, rows, run, problems)
    elif run:
        problems.add(f"{file}: only long.csv has runs to choose from; leave out {run!r}")
        return
    columns = set().union(*(row for _, row in rows))
    if not rows:
        return
    logged = "doc_id" in columns and file.suffix == ".jsonl"
    score = metric or (_only_metric(file, rows) if logged and "score" not in columns else "score")
    known = {what: next((name for name in names if name in columns), None) for what, names in NAMES.items()}
    task = LOG.fullmatch(file.name)
    for what in ("id", "score"):
        name = score.partition(".")[0] if what == "score" else known[what]
        if name not in columns and score not in columns:
            problems.add(f"{file}: no column {name or what!r}; it has {', '.join(sorted(columns))}")
            return
    for number, row in rows:
        where = f"{file}: row {number}"
        value = _number(row, score)
        if isinstance(value, str):
            problems.add(f"{where}: {score} is {value}; it should be a number")
            continue
        texts = {what: _text(row.get(name)) if name else None for what, name in known.items()}
        if "run" in columns and texts["seed"] is None:  # our predictions: model/train_set/method/seedS/roundR
            found = re.search(r"/seed(\d+)/round\d+$", str(row["run"]))
            texts["seed"] = found[1] if found else None
        if empty := [what for what in ("id", "cluster", "seed", "task") if texts[what] == ""]:
            problems.add(f"{where}: {empty[0]} is empty; fill it in, in every row or in none")
            continue
        item = (texts["task"] or (task["task"] if task else ALL), str(texts["id"]))
        of_seed = system.scores.setdefault(texts["seed"] or ONE, {})
        if item in of_seed:
            also = "" if texts["seed"] is None else f" of seed {texts['seed']}"
            problems.add(f"{where}: {_told(item)}{also} has a score already, at {of_seed[item].where}")
            continue
        of_seed[item] = Score(value, texts["cluster"], where)


def _rows(file: Path, problems: Problems) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a file with their numbers, from 1."""
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet as parquet

            have = parquet.read_schema(file).names
            wanted = [name for name in have if name not in ("response", "answer")]
            yield from enumerate(parquet.read_table(file, columns=wanted).to_pylist(), 1)
        elif file.suffix in (".jsonl", ".json", ".ndjson"):
            yield from _json_rows(file, problems)
        elif file.suffix in (".csv", ".tsv"):
            with file.open(encoding="utf-8-sig", newline="") as lines:
                read = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
                names = list(read.fieldnames or [])
                if twice := [name for name in names if names.count(name) > 1]:
                    problems.add(f"{file}: two columns {twice[0]!r}; rename one")
                for number, row in enumerate(read, 1):
                    if None in row or None in row.values():
                        problems.add(f"{file}: row {number}: not as many cells as columns")
                    else:
                        yield number, row
        else:
            problems.add(f"{file}: the name should end in .csv, .tsv, .jsonl or .parquet")
    except (
        OSError,
        ValueError,
        TypeError,
        NotImplementedError,
        csv.Error,
    ) as error:  # Arrow has all of these
        problems.add(f"{file}: cannot be read ({str(error).splitlines()[0]}); name a file of scores")


def _json_rows(file: Path, problems: Problems) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = error
            if isinstance(row, dict):
                yield number, row
            else:
                problems.add(f"{file}: row {number}: not a JSON object on one line")


def _of_run(
    file: Path, rows: list[tuple[int, Mapping[str, Any]]], run: str, problems: Problems
) -> list[tuple[int, Mapping[str, Any]]]:
    """The rows of one method and round in ``long.csv``; a base's without seed: it is one checkpoint."""
    rows = [(number, {key: _as_meant(value) for key, value in row.items()}) for number, row in rows]
    names = run.strip("/").split("/")
    wanted = dict(zip(RUN, names, strict=False))
    for part in names[len(RUN) :]:
        if (found := re.fullmatch(r"(seed|round)(\d+)", part)) is None:
            problems.add(f"{file}:{run}: {part!r}: expected MODEL/TRAIN_SET/METHOD[/seedS][/roundR]")
            return []
        wanted[found[1]] = found[2]
    of_run = [(n, row) for n, row in rows if all(str(row[name]) == value for name, value in wanted.items())]
    rounds = sorted({str(row["round"]) for _, row in of_run})
    if len(names) < len(RUN) or not of_run:
        there = sorted({"/".join(str(row[name]) for name in RUN) for _, row in rows})
        problems.add(
            f"{file}:{run}: choose a run, as {file}:MODEL/TRAIN_SET/METHOD; it has {', '.join(there)}"
        )
        return []
    if len(rounds) > 1:
        problems.add(f"{file}:{run}: has the rounds {', '.join(rounds)}; choose one, as {file}:{run}/round1")
        return []
    if wanted["method"] in _bases(file):
        return [(number, {name: row[name] for name in row if name != "seed"}) for number, row in of_run]
    return of_run


def _as_meant(value: Any) -> Any:
    return from_spreadsheet(value) if isinstance(value, str) else value


def _bases(long: Path) -> set[str]:
    """Methods of the suite beside ``long.csv`` that train nothing: one checkpoint for all seeds."""
    try:
        methods = json.loads((long.parent / "suite.json").read_text(encoding="utf-8"))["methods"]
        return {name for name, method in methods.items() if method["kind"] == "base"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _only_metric(file: Path, rows: list[tuple[int, Mapping[str, Any]]]) -> str:
    """The metric of a log of lmms-eval that has one.

    Raises:
        VistaError: it has none, or several.
    """
    found: dict[str, None] = {}
    for name, value in rows[0][1].items():
        inner = value if isinstance(value, dict) else {}
        named = {name: inner["score"]} if "score" in inner else {f"{name}.{key}": inner[key] for key in inner}
        for key, each in {name: value, **named}.items():
            if name not in LOGGED and isinstance(each, bool | int | float):
                found[key] = None
    if len(found) == 1:
        return next(iter(found))
    said = (
        f"several metrics: {', '.join(found)}; choose one with" if found else "no number; name a metric with"
    )
    raise VistaError(f"{file}: {said} --metric")


def _number(row: Mapping[str, Any], name: str) -> float | str:
    """A score; or what stands there instead, as text."""
    value: Any = row
    for key in [name] if name in row else name.split(".", 1):
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and isinstance(value.get("score"), bool | int | float):
        value = value["score"]
    if value is None:
        return "missing"
    try:
        found = TRUTH.get(value.strip().lower(), value) if isinstance(value, str) else value
        found = float(found)
    except (TypeError, ValueError, OverflowError):
        return repr(value)[:60]
    return found if math.isfinite(found) else str(value)


def _text(value: Any) -> str:
    """An id, cluster, seed or task as text; a whole number as one, whatever the file made of it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()


def _told(item: Item) -> str:
    return repr(item[1]) if item[0] == ALL else f"{item[1]!r} of task {item[0]!r}"


# --- the same items for all ---


def _same_tasks(systems: Iterable[System]) -> None:
    """Give a file that names no task the task of the others, if they have a single one."""
    tasks = {task for system in systems for scores in system.scores.values() for task, _ in scores}
    if len(tasks) == 2 and ALL in tasks:
        (task,) = tasks - {ALL}
        for system in systems:
            for seed, scores in system.scores.items():
                system.scores[seed] = {(task, name): score for (_, name), score in scores.items()}


@dataclass(frozen=True)
class LeftOut:
    """What ``--common`` leaves out, as it is not in all files.

    Attributes:
        items: By system, how many of its items.
        seeds: By system, which of its seeds.
    """

    items: dict[str, int]
    seeds: dict[str, list[str]]


def in_common(systems: Sequence[System], tasks: Sequence[str], common: bool) -> LeftOut:
    """Bring systems to the same items and the same seeds, in place, and each item to its cluster.

    Args:
        systems: As ``read_systems`` gives them.
        tasks: Only items of these, if there are any.
        common: Leave out what is not in all.

    Raises:
        VistaError: a task is in no file; items or seeds are not in all files, and ``common`` is not set; an
            item has two clusters.
    """
    known = sorted({task for system in systems for scores in system.scores.values() for task, _ in scores})
    if strange := [task for task in tasks if task not in known]:
        raise VistaError(f"--task {strange[0]}: there is none in the files; they have {', '.join(known)}")
    if tasks:
        for system in systems:
            for seed, scores in system.scores.items():
                system.scores[seed] = {item: score for item, score in scores.items() if item[0] in tasks}
    with_seeds = [set(system.seeds) for system in systems if system.seeds]
    seeds = set.intersection(*with_seeds) if with_seeds else set()
    items = set.intersection(*(system.items for system in systems))
    left = LeftOut(
        {each.name: len(set().union(*each.scores.values()) - items) for each in systems},
        {each.name: [seed for seed in each.seeds if seed not in seeds] for each in systems},
    )
    if not common:
        _refuse(systems, items, left)
    if not items:
        raise VistaError("no item is in all files; the ids should be the same in each")
    if not seeds and any(system.seeds for system in systems):
        raise VistaError(
            "no seed is in all files; compare one seed of each, or files without the column seed"
        )
    clusters = _clusters(systems, items)
    for system in systems:
        kept = [seed for seed in system.scores if seed == ONE or seed in seeds]
        system.scores = {
            seed: {
                item: Score(system.scores[seed][item].value, clusters[item], system.scores[seed][item].where)
                for item in sorted(items)
            }
            for seed in sorted(kept, key=([ONE, *system.seeds]).index)
        }
    return left


def _refuse(systems: Sequence[System], items: set[Item], left: LeftOut) -> None:
    """Raise an error that lists what is not in all files, if anything is not."""
    problems = Problems()
    for system in systems:
        for seed in left.seeds[system.name]:
            problems.add(f"seed {seed} is in {system.name}, and not in all")
        for seed, scores in system.scores.items():
            of_seed = f", seed {seed}," if len(system.scores) > 1 else ""
            for item in sorted(set(scores) - items):
                problems.add(
                    f"{_told(item)} is in {system.name}{of_seed} and not in all ({scores[item].where})"
                )
    problems.raise_if_any("Not everything is in all files; correct them, or add --common to leave this out:")


def _clusters(systems: Sequence[System], items: set[Item]) -> dict[Item, str]:
    """The cluster of each item, from whichever files say it; an item that none says has its own.

    Raises:
        VistaError: files say different ones.
    """
    problems, found = Problems(), dict[Item, Score]()
    for system in systems:
        for scores in system.scores.values():
            for item, score in scores.items():
                if item not in items or score.cluster is None:
                    continue
                first = found.setdefault(item, score)
                if first.cluster != score.cluster:
                    problems.add(
                        f"{score.where}: {_told(item)} is in cluster {score.cluster!r}, "
                        f"but in {first.cluster!r} at {first.where}"
                    )
    problems.raise_if_any("An item should have the same cluster everywhere:")
    # As JSON, no two are alike, nor like a cluster of a file that is not such text.
    return {item: found[item].cluster or "" if item in found else json.dumps(item) for item in items}
