"""What pages of cases share: the question with its images and their truth, and filters, search and links.

``gallery`` shows rationales of policies token by token, ``responses`` what stands behind a number of a table.
A page is one HTML file that needs no other; each case has an address of its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from vista.images import open_images
from vista.records import Row
from vista.shown import printable
from vista.testbed import rationales
from vista.testbed.audit import Audit
from vista.testbed.questions import Question, Scene, load
from vista.testbed.rationales import Kind

WIDEST = 512  # pixels; larger images are shown smaller
FAULTS: dict[Kind, str] = {
    "read": "it misreads the image",
    "compute": "a step of its computation is wrong",
    "answer": "its answer is wrong",
    "form": "its wording is wrong",
}


@dataclass(frozen=True)
class Picture:
    """An image of a question."""

    source: str  # a data URI
    width: int  # of the original, in pixels
    height: int
    shrunk: bool


@dataclass(frozen=True)
class Truth:
    """What the image shows, where that is known."""

    scene: Scene
    question: Question

    @property
    def gold(self) -> str:
        """The only faithful rationale."""
        return rationales.text(rationales.rationale(self.scene, self.question))


@dataclass(frozen=True)
class Query:
    """A question, with all that is the same for every solution to it."""

    name: str
    task: str
    question: str
    answer: str | None  # empty where only the task can tell
    pictures: tuple[Picture, ...]
    truth: Truth | None


@dataclass(frozen=True)
class Case:
    """What a page shows of a query, of one solution or of two side by side; each page has its own kind."""

    name: str  # its anchor
    query: Query
    values: Mapping[str, str]  # by name of a filter
    title: str
    text: str  # what the search looks in


def query_of(row: Row) -> Query:
    """The question of a row with its images and scene.

    Raises:
        VistaError: an image cannot be decoded.
    """
    scene = row["scene"]
    return Query(
        name=row["query_id"],
        task=row["task"],
        question=row["instruction"],
        answer=row["answer"],
        pictures=tuple(_picture((image or {}).get("bytes"), row["query_id"]) for image in row["images"]),
        truth=None if scene is None else Truth(*load(scene)),
    )


@lru_cache(4096)  # several solutions answer one query
def _picture(data: bytes | None, query: str) -> Picture:
    (image,) = open_images({"query_id": query, "images": [{"bytes": data, "path": None}]})
    width, height = image.size
    shrunk = max(image.size) > WIDEST
    file = io.BytesIO()
    if shrunk:
        image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        image.save(file, format="JPEG", quality=85)
    else:
        image.save(file, format="PNG", optimize=True)
    kind = "jpeg" if shrunk else "png"
    source = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(source, width, height, shrunk)


def rationale(verdict: Audit | None) -> str:
    """Whether a rationale is faithful, in a word."""
    if verdict is None:
        return "truth not known"
    return "faithful" if verdict.faithful else "unfaithful"


def told(verdict: Audit | None, is_marked: bool) -> str:
    """The verdict in a sentence; where the departure ``is_marked`` in the rationale, without its place."""
    if verdict is None:
        return "whether it is faithful is not known: its data set does not say what the image shows"
    if verdict.kind is None:
        return "faithful to the image"
    place = "" if is_marked else f" (character {verdict.offset} of the response)"
    return f"unfaithful, {FAULTS[verdict.kind]}: {expected(verdict)}{place}"


def expected(verdict: Audit | None) -> str:
    """What should have been where a rationale departs from the truth, and what is there."""
    reason = verdict.reason if verdict else None
    return reason.split(": ", 1)[1] if reason else ""


def anchor(*key: Any) -> str:
    """A name that stays the same when other cases come or go, and that every address can hold."""
    return "case-" + hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]


def page(
    template: str,
    title: str,
    cases: Sequence[Case],
    filters: Mapping[str, str],
    labels: Mapping[str, Mapping[str, str]],
    **more: Any,
) -> str:
    """One HTML file with everything in it.

    Args:
        template: Extends ``browser.html.j2``.
        title: Its heading.
        cases: All that is shown. Those of one query stand together, queries in the order in which they come.
        filters: What readers filter by: its name in the page's address, and on the page.
        labels: By filter, values that are shown in other words.
        more: What the template needs besides.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    queries: dict[Query, list[Case]] = {}
    for each in cases:
        queries.setdefault(each.query, []).append(each)
    return environment.get_template(template).render(
        title=title,
        queries=queries,
        total=len(cases),
        counts={name: Counter(each.values[name] for each in cases) for name in filters},
        filters=filters,
        labels=labels,
        **more,
    )
