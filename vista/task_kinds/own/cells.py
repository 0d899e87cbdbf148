"""What the cells of the user's own rows say: question, images, choices, answer. Part of stage ``tasks``."""

from __future__ import annotations

import base64
import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field

from vista.answers import extract
from vista.damage import Pictures
from vista.errors import VistaError
from vista.records import AnswerType, Row
from vista.settings import Strict, spelled
from vista.task_kinds.benchmarks.files import inside
from vista.task_kinds.benchmarks.questions import Item

LONGEST_PATH = 4096  # a longer text is an image in base64
PLACEHOLDER = "<image>"
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
Answers = Literal["auto", "letter", "index", "index-from-1", "text"]


class Columns(Strict):
    """The columns of the user's files. One that is named here has to be there."""

    question: str | None = Field(None, description="The question; default: `question`.")
    answer: str | None = Field(None, description="The right answer; default: `answer`.")
    image: str | None = Field(None, description="The picture; default: `image`, if there is one.")
    images: str | None = Field(None, description="A list of pictures; default: `images`, if there is one.")
    choices: str | list[str] | None = Field(
        None,
        description="A list of choices, a JSON text of one, or the columns of one choice each, such as "
        "`[A, B, C, D]`; default: `choices`.",
    )
    rationale: str | None = Field(None, description="Gold rationales, for the seed split.")
    id: str | None = Field(None, description="A unique and stable name; default: the row's number.")
    split: str | None = Field(None, description="The value that `split` maps; default: `split`.")
    cluster: str | None = Field(
        None, description="What standard errors are clustered on; default: the pictures."
    )
    answer_type: str | None = Field(None, description="The answer's type, row by row.")
    messages: str | None = Field(
        None, description="A conversation (`messages`, or ShareGPT's `conversations`) with all of these."
    )


@dataclass(frozen=True)
class Layout:
    """Which columns of one file are read, by what they hold; those with other names are not."""

    by_field: Mapping[str, str]
    choices: Sequence[str]  # one column with a list, or one for each choice
    lists_choices: bool

    @property
    def columns(self) -> set[str]:
        """Every column that is read."""
        return {*self.by_field.values(), *self.choices}


def layout(path: Path, found: Sequence[str], columns: Columns, splits: bool, chooses: bool) -> Layout:
    """Which columns of a file are read.

    Args:
        path: The file; named in errors.
        found: The columns that it has.
        columns: What the config says.
        splits: Whether the split goes by a column.
        chooses: Whether any answer is a choice.

    Raises:
        VistaError: the file lacks columns, or has both `image` and `images`.
    """
    named = {name: value for name, value in columns.model_dump(exclude={"choices"}).items() if value}
    usual = {} if "messages" in named else {"question": "question", "answer": "answer"}
    if splits:
        usual["split"] = "split"
    wanted = {**usual, **named}
    problems = [_missing(column, field, found) for field, column in wanted.items() if column not in found]
    if not {"image", "images"} & set(named):
        there = [name for name in ("image", "images") if name in found]
        wanted.update({name: name for name in there})
        if len(there) != 1:
            what = "both columns 'image' and 'images' are there" if there else "no column 'image' or 'images'"
            problems.append(f"{what}: name the one with the pictures under columns.image or columns.images")
    choices = columns.choices if isinstance(columns.choices, list) else [columns.choices or "choices"]
    if columns.choices is None and (not chooses or "choices" not in found):
        choices = []
    problems += [_missing(column, "choices", found) for column in choices if column not in found]
    if problems:
        hint = next((name for name in ("messages", "conversations") if name in found), None)
        if hint and not columns.messages:
            problems.append(f"conversations are read with columns: {{messages: {hint}}}")
        raise VistaError(f"{path}: {'; '.join(problems)}. Its columns are {', '.join(found) or 'none'}")
    return Layout(wanted, choices, not isinstance(columns.choices, list))


def _missing(column: str, field: str, found: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in found}
    close = [folded[name] for name in difflib.get_close_matches(column.casefold(), folded, n=1)]
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"column {column!r} is missing{meant}: name the right one under columns.{field}"


class Cells:
    """Reads the cells of rows.

    Args:
        columns: What the config says of columns.
        answer_type: The type of all answers; ``None`` if a column says it.
        answers: How choices are answered.
        images: The folder that paths of images are relative to; ``None``: that of their file.
    """

    def __init__(
        self, columns: Columns, answer_type: AnswerType | None, answers: Answers, images: Path | None
    ) -> None:
        self.columns, self.answer_type = columns, answer_type
        self.answers, self.images = answers, images
        self.pictures = Pictures()

    def item(self, row: Row, key: str, layout: Layout, path: Path) -> Item:
        """The question of a row.

        Raises:
            VistaError: a cell is impossible; says which column, what was found and what is right.
        """
        named = {field: row.get(column) for field, column in layout.by_field.items()}
        names = layout.by_field
        images = self._images(named, names, self.images or (path if path.is_dir() else path.parent))
        said = _conversation(named["messages"], len(images)) if "messages" in named else {}
        kind = self._type(named, names)
        rationale = _text(named.get("rationale"), names.get("rationale")) or said.get("assistant", "")
        if "answer" in named or not said:
            answer = named["answer"]
        else:
            answer = extract(said["assistant"])
            if answer is None:
                raise VistaError(
                    "no answer is found in the assistant's turn; end it with a line such as 'Answer: 42', or "
                    "name a column with the answer under columns.answer"
                )
        column = names.get("answer", names.get("messages"))
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        choices = _choices(row, layout) if kind == "choice" else None
        if kind == "choice" and not choices:
            raise VistaError(
                "there are no choices, but the answer is one; name their column: columns.choices"
            )
        if choices and _text(answer, column).strip():
            answer = letter_of(answer, choices, self.answers, str(column))
        question = said.get("user") or _text(named.get("question"), names.get("question"))
        return Item(
            key=key,
            question=question.replace(PLACEHOLDER, "").strip(),
            answer=_text(answer, column),
            answer_type=kind,
            images=images,
            choices=choices,
            rationale=rationale.strip() or None,
            system=said.get("system"),
            cluster=_text(named.get("cluster"), names.get("cluster")) or None,
        )

    def _type(self, named: Mapping[str, Any], names: Mapping[str, str]) -> AnswerType:
        if "answer_type" not in names:
            return cast(AnswerType, self.answer_type)
        value = named["answer_type"]
        if value not in get_args(AnswerType):
            raise VistaError(
                f"column {names['answer_type']!r} is {value!r}, expected a type of answer: "
                f"{', '.join(get_args(AnswerType))}"
            )
        return cast(AnswerType, value)

    def _images(self, named: Mapping[str, Any], names: Mapping[str, str], folder: Path) -> list[bytes]:
        found = []
        for field in ("image", "images"):
            value, column = named.get(field), names.get(field)
            if isinstance(value, str) and value.lstrip().startswith("["):
                value = _json_list(value, str(column))
            for each in value if isinstance(value, list) else [value]:
                if each is not None and each != "":
                    found.append(self._image(each, str(column), folder))
        return found

    def _image(self, value: Any, column: str, folder: Path) -> bytes:
        """The encoded image that a cell holds or names.

        Raises:
            VistaError: it is nothing of the kind, or the path leads out of the folder or to no file.
        """
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path") or value.get("image") or value.get("url")
        if isinstance(value, bytes) and value:
            return value
        if not isinstance(value, str) or not value:
            raise VistaError(f"column {column!r} holds no image; expected bytes, or the path of a file")
        if value.startswith("data:") or len(value) > LONGEST_PATH:
            try:
                return base64.b64decode(
                    value.partition(",")[2] if value.startswith("data:") else value, validate=True
                )
            except ValueError as error:
                raise VistaError(f"column {column!r} holds a text that is no base64 ({error})") from error
        if re.match(r"[a-z]+://", value):
            raise VistaError(f"column {column!r} is {value!r}; download the picture, and name its file")
        try:
            return self.pictures.read(inside(folder, value))
        except OSError as error:
            raise VistaError(
                f"column {column!r}: no image {folder / value} ({error.strerror}); copy it there, or "
                "name the folder that paths are relative to under images"
            ) from error


def _choices(row: Row, layout: Layout) -> list[str]:
    """The choices of a row; of columns with one each, empty ones at the end are none."""
    if not layout.lists_choices:
        texts = [_text(row.get(column), column).strip() for column in layout.choices]
        while texts and not texts[-1]:
            texts.pop()
        if "" in texts:
            raise VistaError(f"column {layout.choices[texts.index('')]!r} is empty, but one after it is not")
        return texts
    for column in layout.choices:
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            value = _json_list(value, column)
        if value is not None and value != "":
            if not isinstance(value, list):
                raise VistaError(f"column {column!r} is {value!r}, expected a list of choices")
            return [_text(each, column).strip() for each in value]
    return []


def _json_list(text: str, column: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VistaError(f"column {column!r} is {text[:80]!r}, no list in JSON ({error})") from error
    if not isinstance(value, list):
        raise VistaError(f"column {column!r} is {text[:80]!r}, expected a list in JSON")
    return value


def letter_of(answer: Any, choices: Sequence[str], form: Answers, column: str) -> str:
    """The letter of the choice that an answer names: by its letter, its index from 0, or its text.

    Raises:
        VistaError: none is named, or two are, read one way or the other.
    """
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    text = _text(answer, column).strip()
    whole = int(text) if re.fullmatch(r"\d{1,9}", text) else None
    lettered = ord(text.upper()) - ord("A") if re.fullmatch(r"[A-Za-z]", text) else None
    readings = {
        "letter": lettered,
        "index": whole,
        "index-from-1": whole - 1 if whole else None,
        "text": choices.index(text) if text in choices else None,
    }
    used = ("letter", "index", "text") if form == "auto" else (form,)
    found = {name: at for name in used if (at := readings[name]) is not None and 0 <= at < len(choices)}
    meant = {choices[at] for at in found.values()}
    if len(meant) == 1:
        return chr(ord("A") + next(iter(found.values())))
    if meant:
        listed = " or ".join(f"by its {name} {choices[at]!r}" for name, at in found.items())
        raise VistaError(
            f"column {column!r} is {text!r}, which is {listed}; say under answers which is meant: "
            "letter, index or text"
        )
    wanted = {"auto": "the letter, the index from 0 or the text", "index-from-1": "the index from 1"}
    at_end = whole == len(choices) and form in ("auto", "index")
    hint = "; if the first choice has index 1, set answers: index-from-1" if at_end else ""
    raise VistaError(
        f"column {column!r} is {text!r}, expected {wanted.get(form, f'the {form}')} of one of "
        f"{len(choices)} choices{hint}"
    )


def _text(value: Any, column: str | None) -> str:
    """A cell as text: numbers as written, nothing for null.

    Raises:
        VistaError: it is something else, or no whole text.
    """
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return spelled(value)
    if not isinstance(value, str):
        raise VistaError(f"column {column!r} is {str(value)[:80]!r}, expected text")
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise VistaError(f"column {column!r} has half of a character; correct it")
    return value


# --- conversations ---


def _conversation(turns: Any, images: int) -> dict[str, str]:
    """The texts of a conversation with one question, by role.

    Raises:
        VistaError: it has other turns, or marks another number of images than there are.
    """
    if isinstance(turns, str):
        turns = _json_list(turns, "messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise VistaError("the conversation is no list of turns with role and content (or from and value)")
    said: list[tuple[str, str]] = []
    for turn in turns:
        role = turn.get("role", turn.get("from"))
        if role not in ROLES:
            raise VistaError(f"a turn is of {role!r}, expected one of {', '.join(ROLES)}")
        said.append((ROLES[role], _content(turn.get("content", turn.get("value")))))
    found = [role for role, _ in said if role != "system"]
    if found != ["user", "assistant"] or len(said) > 3:
        raise VistaError(
            f"the turns are of {', '.join(role for role, _ in said)}, expected one question and one answer; "
            "make a row of each question"
        )
    texts = dict(said)
    marked = texts["user"].count(PLACEHOLDER)
    if marked not in (0, images):
        raise VistaError(f"the question has {marked} {PLACEHOLDER} marks, but there are {images} images")
    return texts


def _content(value: Any) -> str:
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        value = "\n".join(text for text in texts if isinstance(text, str))
    return _text(value, "messages")
