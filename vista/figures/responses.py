"""A page of test responses: the question with its image, and what one run, or each of two, answered to it.

``vista show TABLE ROW COLUMN --page FILE.html`` writes it for the responses behind a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vista.figures import browser
from vista.records import Row, write_text
from vista.testbed.audit import audit_query

RIGHT = 1.0  # a full score
TITLES = {
    "right": "Right",
    "wrong": "Wrong",
    "gained": "Gained: better than the other side",
    "lost": "Lost: worse than the other side",
    "same": "The same on both sides",
}
# What readers filter by: its name in the page's address, and on the page.
FILTERS = {
    "what": "Outcome",
    "model": "Model",
    "train": "Train set",
    "method": "Method",
    "seed": "Seed",
    "task": "Task",
    "answer": "Answer",
    "rationale": "Rationale",
}
OF_OTHER = {"other": "Other side's answer", "beside": "Other side's rationale"}


@dataclass(frozen=True)
class Response:
    """What a run answered, held against the scene if that is known."""

    run: str
    before: str  # where it first departs from the truth; all of it where it does not
    after: str
    expected: str | None  # at the departure
    answer: str | None
    finished: bool
    verdict: str
    rationale: str
    says: str


@dataclass(frozen=True)
class Case(browser.Case):
    """A response, or two to one query, ready to be shown."""

    responses: Sequence[Response]


def case(query: Row, what: str, answered: Row, against: Row | None) -> Case:
    """A case from its rows.

    Args:
        query: A row of ``records.QUERY``; its task, id, instruction, answer, images and scene are read.
        what: What became of it, one of ``TITLES``.
        answered: A row of ``records.PREDICTION``.
        against: The other side's row; ``None`` if there is no other side.

    Raises:
        VistaError: an image cannot be decoded.
    """
    rows = [answered, *([] if against is None else [against])]
    responses = [_response(row, query["scene"]) for row in rows]
    model, train, method, seed, _ = answered["run"].split("/")
    values = {"what": what, "model": model, "train": train, "method": method, "task": query["task"]}
    values |= {"seed": seed.removeprefix("seed")}
    for response, (answer, rationale) in zip(
        responses, (("answer", "rationale"), ("other", "beside")), strict=False
    ):
        values |= {answer: response.verdict, rationale: response.rationale}
    said = [query["instruction"], query["answer"]]
    said += [text for row in rows for text in (row["response"], row["answer"])]
    return Case(
        name=browser.anchor(query["task"], query["query_id"], *(row["run"] for row in rows)),
        query=browser.query_of(query),
        values=values,
        title=TITLES[what],
        responses=responses,
        text="\n␟\n".join(text for text in said if text is not None),
    )


def _response(row: Row, scene: str | None) -> Response:
    text: str = row["response"]
    verdict = None if scene is None else audit_query(scene, text)
    place = len(text) if verdict is None or verdict.offset is None else verdict.offset
    departs = verdict is not None and not verdict.faithful
    return Response(
        run=row["run"],
        before=text[:place],
        after=text[place:],
        expected=browser.expected(verdict) if departs else None,
        answer=row["answer"],
        finished=row["finished"],
        verdict=_in_a_word(row),
        rationale=browser.rationale(verdict),
        says=browser.told(verdict, is_marked=True),
    )


def _in_a_word(row: Row) -> str:
    if row["answer"] is None:
        return "none was found"
    return "right" if row["score"] == RIGHT else "partly right" if row["score"] > 0 else "wrong"


def write_page(to: Path, number: str, said: str, cases: Sequence[Case]) -> None:
    """Write the page of some of the responses behind a number.

    Args:
        to: The HTML file.
        number: The number and where it stands.
        said: How many responses there are of each sort, and which are shown.
        cases: Those that are shown.

    Raises:
        VistaError: the file cannot be written.
    """
    beside = any(len(each.responses) > 1 for each in cases)
    filters = FILTERS | (OF_OTHER if beside else {})
    labels = {"what": TITLES}
    title = "Responses behind a number"
    write_text(to, browser.page("responses.html.j2", title, cases, filters, labels, number=number, said=said))
