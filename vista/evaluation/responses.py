"""Files of responses that were generated elsewhere, read and matched with the queries that they answer.

Stage ``evaluation``, for ``vista grade``. Read are tables (CSV, JSON lines, parquet) with ``query_id`` and
``response``, and the samples that lmms-eval logs, of our task files and of its own tasks. Nothing is dropped:
what matches no query is an error, and all such errors are told together, by row.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vista.errors import VistaError
from vista.records import Row
from vista.verdicts import unmarked

COLUMNS = ("query_id", "response", "task", "finished", "question")
# Of our own predictions; what they say is computed anew.
KNOWN = ("run", "cluster_id", "answer", "score")
SAMPLES = re.compile(r"(?:.*_)?samples_(?P<task>.+)\.jsonl")
SHOWN = 20  # rows that an error names
TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Given:
    """One row of such a file."""

    where: str  # file and row, counted from 1
    query_id: str  # empty in a sample of one of lmms-eval's own tasks, until ``located`` finds it
    task: str | None
    response: str
    finished: bool
    question: str | None  # as the file has it
    is_whole: bool  # whether ``question`` is that alone, and not a prompt that it is a part of
    target: str | None  # the right answer, as the file has it
    place: int | None = None  # in a sample of one of lmms-eval's own tasks, its document's
    is_raw: bool = True  # whether ``response`` is as the model gave it, for the task's filters to go through

    @property
    def what(self) -> str:
        """What it answers, for errors."""
        return f"query {self.query_id!r}" if self.query_id else f"document {self.place}"


def read_given(files: Sequence[Path]) -> list[Given]:
    """Every row of every file, in their order.

    Raises:
        VistaError: a file cannot be read; or lists the rows that have no id or no response.
    """
    found: list[Given] = []
    problems: list[str] = []
    for file in files:
        for number, row in _rows(file):
            where = f"{file}: row {number}"
            try:
                found.append(_sample(row, file, where) if "doc_id" in row else _plain(row, where))
            except ValueError as error:
                problems.append(f"{where}: {error}")
    refuse(problems, "The responses cannot be read:")
    return found


def refuse(problems: Sequence[str], heading: str) -> None:
    """Raise one error that lists problems, the first ``SHOWN`` of them, if there are any."""
    if problems:
        rest = len(problems) - SHOWN
        listed = [f"  - {problem}" for problem in problems[:SHOWN]]
        raise VistaError("\n".join([heading, *listed, *([f"  - and {rest} more"] if rest > 0 else [])]))


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers: of JSON lines the line's, else counted without the header."""
    readers: dict[str, Callable[[Path], Iterable[tuple[int, Any]]]] = {
        ".csv": _csv,
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    if file.suffix not in readers:
        raise VistaError(
            f"{file}: the name ends in none of {', '.join(readers)}; write the responses as one of these"
        )
    columns: set[str] = set()
    for number, row in readers[file.suffix](file):
        if not isinstance(row, dict):
            raise VistaError(f"{file}: row {number}: expected an object, found {type(row).__name__}")
        if not row.keys() <= columns and "doc_id" not in row:
            _check_columns(file, number, row)
            columns |= row.keys()
        yield number, row


def _check_columns(file: Path, number: int, row: Mapping[str, Any]) -> None:
    for name in row:
        if name not in COLUMNS and name not in KNOWN:
            close = difflib.get_close_matches(str(name), COLUMNS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(COLUMNS)}; remove it"
            raise VistaError(f"{file}: row {number}: unknown column {name!r}; {hint}")


def _csv(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        table = pd.read_csv(file, dtype="str", keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise VistaError(f"{file}: cannot be read as CSV ({error}); correct it") from error
    for number, row in enumerate(table.to_dict("records"), 1):
        # An empty cell of a column that may be left out is none.
        yield number, {k: v for k, v in row.items() if v != "" or k in ("query_id", "response")}


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VistaError(f"{file}: cannot be read ({error}); save it as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise VistaError(f"{file}: row {number}: not JSON ({error}); correct the line") from error


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        rows = pq.read_table(file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise VistaError(f"{file}: not a readable parquet file ({error}); write it again") from error
    return iter(enumerate(rows, 1))


def _plain(row: Mapping[str, Any], where: str) -> Given:
    """A row of a table."""
    return Given(
        where=where,
        query_id=_id(row.get("query_id")),
        task=_text(row, "task"),
        response=_response(row.get("response")),
        finished=_finished(row.get("finished")),
        question=_text(row, "question"),
        is_whole=True,
        target=None,
    )


def _sample(row: Mapping[str, Any], file: Path, where: str) -> Given:
    """A sample that lmms-eval logged: of one of our task files, so with a query id, or of its own tasks.

    lmms-eval filters responses to its own tasks before it scores them, and will do so again. So they are
    taken as the model gave them: ``resps``, which it leaves out where filtering changed nothing.
    """
    named = SAMPLES.fullmatch(file.name)
    doc, stated = row.get("doc"), row.get("finished")
    is_ours = row.get("query_id") is not None
    raw = None if is_ours else row.get("resps")
    text, finished = unmarked(_response(_single(row.get("filtered_resps") if raw is None else raw)))
    if is_ours:
        question = doc.get("instruction") if isinstance(doc, dict) else row.get("input")
    elif named is None:
        raise ValueError(
            "a sample of lmms-eval without a query_id, in a file whose name does not tell its task; name it "
            "as lmms-eval does, DATE_samples_TASK.jsonl"
        )
    else:
        question = _question(row)
    target = row.get("target")
    if not is_ours:
        target = str(target)  # as lmms-eval writes it to its files
    return Given(
        where=where,
        query_id=_id(row["query_id"]) if is_ours else "",
        task=named["task"] if named else None,
        response=text,
        finished=finished and (True if stated is None else _finished(stated)),
        question=question if isinstance(question, str) and (question or not is_ours) else None,
        is_whole=isinstance(doc, dict),
        target=target if isinstance(target, str) else None,
        place=None if is_ours else _place(row["doc_id"]),
        is_raw=not isinstance(raw, str),
    )


def _single(responses: Any) -> Any:
    """The one response in lists of one, as deep as they are."""
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    if isinstance(responses, list):
        raise ValueError(f"{len(responses)} responses to one document; keep the one that counts")
    return responses


def _question(row: Mapping[str, Any]) -> str:
    """What lmms-eval asked, which is all that tells whether a document is the suite's."""
    found = row.get("input", row.get("arguments"))
    while isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, str) or "target" not in row:
        raise ValueError(
            "a sample of lmms-eval without its input or target, so nothing tells whether its document is the "
            "suite's; log it with lmms-eval 0.7, or write a table with query_id and response"
        )
    return found


def _place(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"doc_id: expected the place of a document, from 0, found {value!r}")
    return value


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"query_id: expected the id of a test query, found {value!r}")
    return str(value)


def _response(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"response: expected a text, found {str(value)[:80]!r}; leave the row out and set missing: "
            "unanswered if there is no response"
        )
    return value


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: expected a text, found {str(value)[:80]!r}")
    return value


def _finished(value: Any) -> bool:
    """Whether a response ended by itself; one that does not say so did."""
    found = True if value is None else value if isinstance(value, bool) else TRUTHS.get(str(value).lower())
    if found is None:
        raise ValueError(f"finished: expected true or false, found {value!r}")
    return found


Key = tuple[str, str]  # task and query id


@dataclass(frozen=True)
class Logged:
    """A document of one of lmms-eval's own tasks, as lmms-eval logs it."""

    query_id: str
    inputs: tuple[str, ...]  # what it may ask
    target: str
    filters: int  # whose responses are logged, one after another
    has_own_filters: bool


@dataclass(frozen=True)
class Asked:
    """The test queries, by task and id, and the ids of the other splits as far as these are made."""

    queries: Mapping[Key, Row]  # as the run's model is asked
    plain: Mapping[Key, str]  # their own instructions
    others: Callable[[], Mapping[str, tuple[str, str]]]  # id → task and split
    # Of lmms-eval's own tasks that there are samples of: its name → the suite's name → documents by place.
    logged: Mapping[str, Mapping[str, Sequence[Logged]]] = field(default_factory=dict)


def located(given: Sequence[Given], asked: Asked) -> Iterator[tuple[Given, Logged | None]]:
    """The rows, those of lmms-eval's own tasks with the query of every task of the suite that asks it."""
    for row in given:
        found = []
        if row.place is not None and row.task is not None:
            tasks = asked.logged.get(row.task, {})
            found = [(task, of[row.place]) for task, of in tasks.items() if row.place < len(of)]
        if not found:
            yield row, None
        for task, document in found:
            yield replace(row, task=task, query_id=document.query_id), document


def matched(given: Sequence[Given], asked: Asked, missing_is_wrong: bool) -> dict[Key, Given | None]:
    """The response to each test query, in the order of the queries; ``None`` where there is none.

    Args:
        given: The rows.
        asked: What they should answer.
        missing_is_wrong: Whether queries may lack a response.

    Raises:
        VistaError: lists every row that answers no test query, or one that an earlier row answers; whose
            question or right answer is another; and every query without a response, if none may lack one.
    """
    by_id: dict[str, list[Key]] = {}
    for key in asked.queries:
        by_id.setdefault(key[1], []).append(key)
    found: dict[Key, Given] = {}
    named: set[Key] = set()
    problems = []
    for row, document in located(given, asked):
        keys = [key for key in by_id.get(row.query_id, []) if row.task in (None, key[0])]
        named.update(keys)
        problem = _problem(row, document, keys, found, asked)
        if problem is None:
            found[keys[0]] = row
        else:
            problems.append(f"{row.where}: {row.what}: {problem}")
    if not missing_is_wrong:
        lacking = [key for key in asked.queries if key not in named]
        problems += [f"task {task}: query {query!r}: no response" for task, query in lacking]
        if lacking:
            count = f"{len(lacking)} of {len(asked.queries)} test queries have no response"
            problems.insert(0, f"{count}; add them, or set missing: unanswered to count them as wrong")
    refuse(problems, "The responses are not those to the suite's test queries:")
    return {key: found.get(key) for key in asked.queries}


def _problem(
    row: Given, document: Logged | None, keys: Sequence[Key], found: Mapping[Key, Given], asked: Asked
) -> str | None:
    """What is wrong with a row; ``None`` if it answers the one query of ``keys``."""
    if not keys:
        return _stranger(row, asked)
    if len(keys) > 1:
        return f"tasks {' and '.join(task for task, _ in keys)} have one of this id; add a column task"
    (key,) = keys
    earlier = found.get(key)
    if earlier and not (document and document.filters > 1 and earlier.response == row.response):
        return f"answered before, in {earlier.where}; keep one of the two"
    query = asked.queries[key]
    is_same = _is_asked(row, document) if document else _same(row, query, asked.plain[key])
    if not is_same:
        expected = document.inputs[0] if document else asked.plain[key]
        told = f"{_short(str(row.question))} in the file, {_short(expected)} in the suite"
        return f"another question: {told}; the file is of other queries"
    answer = document.target if document else query["answer"]
    if row.target is not None and _tidy(row.target) != _tidy(answer):
        return f"another right answer: {_short(row.target)} in the file, {_short(answer)} in the suite"
    if document and document.has_own_filters and not row.is_raw:
        return (
            "its response went through the task's filters, which score it only as the model gave it; log it "
            "without --reasoning_tags"
        )
    return None


def _stranger(row: Given, asked: Asked) -> str:
    """Why a row's query is none of the test queries."""
    tasks = dict.fromkeys(task for task, _ in asked.queries)
    if row.place is not None and row.task is not None and row.task in asked.logged:
        (name, documents), *_ = asked.logged[row.task].items()
        return f"task {name} asks documents 0 to {len(documents) - 1} (sizes.test); remove the row"
    if row.place is not None and row.task in tasks:
        return (
            f"a sample of lmms-eval's task {row.task!r} without a query_id, but task {row.task} of this "
            "suite asks queries of its own; run the task files of evaluation/RUN/tasks with lmms-eval's "
            "--include_path, or write a table with query_id and response"
        )
    if row.task is not None and row.task not in tasks:
        return f"task {row.task!r} is not evaluated in this suite ({', '.join(tasks)}); remove its rows"
    task, split = asked.others().get(row.query_id, ("", ""))
    if task:
        return (
            f"it belongs to split {split} of task {task}, which is trained on; give responses to test queries"
        )
    where = f"task {row.task!r}" if row.task is not None else "any task"
    return f"no test query of {where} has this id; correct or remove the row"


def _same(row: Given, query: Row, instruction: str) -> bool:
    """Whether a row's question is a query's, as it is or as the model is asked, or there is none."""
    if row.question is None:
        return True
    own = _tidy(row.question)
    wanted = {_tidy(instruction), _tidy(query["instruction"])}
    return own in wanted if row.is_whole else any(each in own for each in wanted)


def _is_asked(row: Given, document: Logged) -> bool:
    """Whether lmms-eval asked a document: with its text, or with a prompt around it, such as examples."""
    own, inputs = _tidy(str(row.question)), [_tidy(text) for text in document.inputs]
    return own in inputs or any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", own) for text in inputs if text)


def _tidy(text: str) -> str:
    """A text without what files change in it: line ends, blanks, how letters are put together."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
