"""What ``vista doctor`` says of the user's own data, read as the ``tasks`` jobs read it, and of its words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import get_args

from vista.config import Suite
from vista.engines.folders import read_object
from vista.images import seen_size
from vista.paths import Paths
from vista.planning.findings import Finding, ok, warn
from vista.reads import Reads
from vista.records import Row, Split
from vista.task_kinds.own.files import parts_of
from vista.task_kinds.table import Table, TableSettings

SHOWN = 3  # rows
REMEDY = "ask in words that it knows, or take a model whose tokenizer takes any text"


def findings(name: str, settings: TableSettings) -> Iterator[tuple[str, str, str]]:
    """What is found in a task's files: subject, message and, if somebody should look, a remedy.

    Raises:
        VistaError: what the ``tasks`` job would refuse; nothing is downloaded.
    """
    table = Table(settings)
    splits = [split for split in get_args(Split) if getattr(settings.sizes, split) != 0]
    only = splits[0] if len(splits) == 1 else None
    parts = parts_of(name, settings.source, settings.parts(only), fetch=False)
    readings = table.read(name, parts)
    drawings = {split: table.drawn(name, split, readings) for split in splits}
    for split, drawing in drawings.items():
        yield f"task {name}, {split}", _counted(drawing.counts), ""
        kept = int(drawing.counts.get("shared_kept", 0))
        if kept:
            yield (
                f"task {name}, {split}",
                f"{kept} queries are about pictures of the test split",
                "set shared_images: drop to leave them out; the tables count them either way",
            )
        wrong = int(
            drawing.counts["queries"] - drawing.counts.get("right_rationales", drawing.counts["queries"])
        )
        if wrong:
            yield (
                f"task {name}, {split}",
                f"{wrong} rationales do not end with the right answer",
                "end them with a line such as 'Answer: 42'; they are trained on as they are",
            )
    last = splits[-1]
    rows = table.queries(name, last, parts, drawings[last].questions[:SHOWN])
    for row in islice(rows, SHOWN):
        yield f"query {row['query_id']}", _shown(row), ""


def _counted(counts: dict[str, float]) -> str:
    """The counts of a split in words, those of nothing left out."""
    words = {
        "repeated": "that repeat another",
        "duplicates": "published ones asked by the test split",
        "removed": "of these left out",
        "shared_images": "published ones about pictures of the test split",
        "shared_dropped": "of these left out",
        "unanswered": "rows without an answer left out",
        "other": "unused rows left out",
        "in_words": "asked for a number and answered in words",
    }
    told = [f"{counts[name]:.0f} {text}" for name, text in words.items() if counts.get(name)]
    return "; ".join([f"{counts['queries']:.0f} queries about {counts['images']:.0f} pictures", *told])


def _shown(row: Row) -> str:
    """A query as a model sees it, and its answer."""
    sizes = ", ".join("×".join(map(str, seen_size(image["bytes"]))) for image in row["images"])
    return "\n".join(
        [
            f"system: {row['system'] or '(none)'}",
            f"instruction: {row['instruction']}",
            f"images: {len(row['images'])} ({sizes})",
            f"answer: {row['answer']} ({row['answer_type']})",
        ]
    )


def check_words(suite: Suite) -> list[Finding]:
    """What the last ``vista encodable`` of every model counted."""
    paths = Paths(suite.results)
    reads = Reads(suite, paths)
    found: list[Finding] = []
    for model in suite.models:
        subject, file = f"words of {model}", paths.encodable(model)
        if not reads.asked(model):
            continue
        if not file.is_file():
            found.append(ok(subject, "counted before anything is spent (vista encodable)"))
            continue
        unknown = read_object(file).get("unknown", {})
        found += [warn(subject, str(counted["said"]), REMEDY) for counted in unknown.values()]
        found += [] if unknown else [ok(subject, "its tokenizer has tokens for all that it is asked")]
    return found
