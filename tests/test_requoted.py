"""After a new reference run the documentation has its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quoted import quotes, wrong
from tests.requoted import excerpts, sentences, written

OLD, NEW = (
    f"method,round,difference\na,1,{first}\na,2,{second}\n"
    for first, second in (("-1.26", "3.11"), ("0.04", "-2.98"))
)
PAGE = """\
After 2 rounds by +3.1, <!-- from s/t.csv method=a,round=2: difference -->
not by −1.3 as in round 1. <!-- from s/t.csv method=a,round=1: difference -->

| method |        number |
|:-------|--------------:|
| a      | 3.11 [1 to 5] |
"""
TABLE = "| method | round | number |\n|---|---|---|\n| b | 1 | 9 |\n| a | 2 | {} |\n"


@pytest.fixture
def references(tmp_path: Path) -> tuple[Path, Path]:
    for name, table, cell in (("new", NEW, "-2.98 [-4 to -1]"), ("old", OLD, "3.11 [1 to 5]")):
        (tmp_path / name / "s").mkdir(parents=True)
        (tmp_path / name / "s/t.csv").write_text(table)
        (tmp_path / name / "s/t.md").write_text(TABLE.format(cell))
    return tmp_path / "new", tmp_path / "old"


def test_each_number_is_the_new_one_and_round_numbers_stay(references: tuple[Path, Path]) -> None:
    new, old = references
    page, problems = sentences(PAGE, new, old)
    assert problems == []
    assert page.startswith("After 2 rounds by −3.0, <!--")
    assert "not by +0.0 as in round 1." in page
    assert [wrong(quote, new) for quote in quotes(page)] == ["", ""]


def test_a_number_whose_origin_has_not_changed_stays_as_it_was_written(references: tuple[Path, Path]) -> None:
    _, old = references
    page = PAGE.replace("−1.3", "-1.26")
    assert sentences(page, old, old) == (page, [])


def test_a_number_that_is_not_the_old_one_is_left_to_a_person(references: tuple[Path, Path]) -> None:
    page, problems = sentences(PAGE.replace("+3.1", "+3.3"), *references)
    assert len(problems) == 1
    assert "by +3.3" in problems[0]
    assert "by +3.3" in page


def test_rows_of_an_excerpt_are_the_new_ones(references: tuple[Path, Path]) -> None:
    page, problems = excerpts(PAGE, *references)
    assert problems == []
    assert "| a      | -2.98 [-4 to -1] |" in page


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (1.26, "+3.1", "+1.3"),
        (-1.26, "+3.1", "−1.3"),
        (-1.26, "-3.1", "-1.3"),
        (0.04, "−3.1", "+0.0"),
        (4.2, "3", "4"),
        (2345.6, "12,345", "2,346"),
        (-0.04, "0.0", "0.0"),
        (-0.04, "−0.5", "−0.0"),
    ],
)
def test_a_number_is_written_like_the_one_before(value: float, like: str, text: str) -> None:
    assert written(value, like) == text
