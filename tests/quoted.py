"""Numbers in sentences that come from tables: a comment after them says where from.

``<!-- from testbed/ablation.csv method=vista-sft,against=star,model=all models: difference, low, high -->``

names a table in results/reference, rows as ``vista show`` does (``a/b``: either), and columns. Each value, in
this order, is a number of the text before the comment (since the last one, or since the paragraph, item or
cell began), rounded as it is there. Of several rows a column is taken by ``min``, ``max``, ``mean`` or
``median``; ``%`` behind it is for shares that the text has in percent, ``M`` for what it has in millions.
A number with decimals that no column stands for is an error, since nothing would hold it. A comment must not
begin a line, where it would end the paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

BEGUN = re.compile(r"<!--\s*from\b")  # what is meant to be one
COMMENT = re.compile(r"<!--\s+from\s+(?P<table>\S+)\s+(?P<row>[^:]+): (?P<columns>.+?) -->", re.DOTALL)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER = re.compile(
    rf"[+−-]?(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.]*\w)|\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Quote:
    """A comment with the text that it is about."""

    text: str
    table: str
    row: str
    columns: tuple[str, ...]


def quotes(page: str) -> Iterator[Quote]:
    """Every comment of a page that says where numbers are from."""
    for match in COMMENT.finditer(page):
        before = re.split(r"\n\s*\n|-->|\n *[*-] |(?<!\\)\|", page[: match.start()])[-1]
        row = " ".join(match["row"].split())
        yield Quote(before, match["table"], row, tuple(match["columns"].split(", ")))


def wrong(quote: Quote, reference: Path) -> str:
    """What does not hold of the text; nothing if all does."""
    words = NUMBER.findall(quote.text)
    values = [looked_up(quote, column, reference) for column in quote.columns]
    if fits([parsed(word) for word in words], values):
        return ""
    found = ", ".join(f"{column} is {value:g}" for column, value in zip(quote.columns, values, strict=True))
    return f"{found}; the text has {', '.join(words) or 'no number'}"


def fits(shown: Sequence[tuple[float, float]], values: Sequence[float]) -> bool:
    """Whether numbers have the values in their order, and others in between are whole."""
    return places(shown, values) is not None


def places(shown: Sequence[tuple[float, float]], values: Sequence[float]) -> list[int] | None:
    """Which of the numbers have the values, in their order; ``None`` if they do not."""
    if not shown:
        return None if values else []
    (number, unit), *rest = shown
    # Tables have two decimals, rounded themselves.
    slack = unit / 2 + (0.005 if unit > 0.01 else 0) + 1e-9
    found = None
    if values and abs(number - values[0]) <= slack and (found := places(rest, values[1:])) is not None:
        return [0, *(place + 1 for place in found)]
    if unit == 1 and (found := places(rest, values)) is not None:
        return [place + 1 for place in found]
    return None


def parsed(word: str) -> tuple[float, float]:
    """A number, and the unit of its last digit."""
    if word.lower() in WORDS:
        return float(WORDS.index(word.lower())), 1.0
    digits = word.replace("−", "-").replace(",", "")
    return float(digits), 10.0 ** -len(digits.partition(".")[2])


def looked_up(quote: Quote, column: str, reference: Path) -> float:
    """The value of a column as the text has it."""
    table = pd.read_csv(reference / quote.table)
    for condition in quote.row.split(","):
        name, _, value = condition.partition("=")
        table = table[table[name].astype(str).isin(value.split("/"))]
    parts = re.fullmatch(r"(?:(min|max|mean|median) )?(.+?)(%| M)?", column)
    assert parts is not None
    how, name, unit = parts.groups()
    values = table[name].dropna()
    assert len(values) == 1 or (how and len(values)), f"{quote.table} {quote.row}: {len(values)} rows"
    found = float(values.agg(how or "mean"))
    return found * {"%": 100, " M": 1e-6}.get(unit, 1)
