"""Numbers in the documentation's sentences are those of the reference tables that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.quoted import BEGUN, quotes, wrong

TABLE = "method,round,difference,share,tokens\na-b,1,-1.26,0.4,\na-b,2,3.11,0.45,\nc,1,0.25,,894524\n"


@pytest.mark.parametrize(
    ("page", "least"), [("README.md", 5), ("docs/testbed.md", 5), ("docs/findings.md", 5)]
)
def test_sentences_say_what_the_reference_run_found(root: Path, page: str, least: int) -> None:
    found = list(quotes((root / page).read_text()))
    assert len(found) >= least
    assert len(found) == len(BEGUN.findall((root / page).read_text())), "a comment is not as it should be"
    assert not re.search(r"^ *<!-- from", (root / page).read_text(), re.MULTILINE)  # it would end a paragraph
    problems = [(quote.text[-60:], wrong(quote, root / "results/reference")) for quote in found]
    assert [problem for problem in problems if problem[1]] == []


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def problem(text: str, comment: str, reference: Path) -> str:
    (quote,) = quotes(f"Another 9.9.\n\n{text} <!-- from t.csv {comment} -->")
    return wrong(quote, reference)


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("In round 1 by −1.3 points", "method=a-b,round=1: difference"),
        ("by -1.26", "method=a-b,round=1: difference"),
        ("after three rounds by +3.1 in two runs", "method=a-b,round=2: difference"),
        ("from three to +3.1", "method=a-b,round=2: difference, difference"),
        ("40 to 45 %", "method=a-b: min share%, max share%"),
        ("| 7.5 | about 0.43", "method=a-b: mean share"),
        ("of `k10-t1` and v1.2.3, 0.2", "method=c,round=1: difference"),
        ("0.89 million", "method=c: tokens M"),
    ],
)
def test_a_number_is_compared_as_it_is_rounded(text: str, comment: str, reference: Path) -> None:
    assert problem(text, comment, reference) == ""


@pytest.mark.parametrize(
    ("text", "comment", "said"),
    [
        ("by −1.4 points", "method=a-b,round=1: difference", "difference is -1.26; the text has −1.4"),
        ("by −1.27 points", "method=a-b,round=1: difference", "the text has −1.27"),
        ("by 1.3 points", "method=a-b,round=1: difference", "the text has 1.3"),
        ("by four points", "method=a-b,round=2: difference", "the text has four"),
        ("45 to 40 %", "method=a-b: min share%, max share%", "the text has 45, 40"),
        ("by −1.3 (± 0.8)", "method=a-b,round=1: difference", "the text has −1.3, 0.8"),
        ("in round 1", "method=a-b,round=2: difference", "the text has 1"),
        ("by some points", "method=a-b,round=2: difference", "the text has no number"),
        ("0.88 million", "method=c: tokens M", "the text has 0.88"),
    ],
)
def test_a_wrong_number_is_found(text: str, comment: str, said: str, reference: Path) -> None:
    assert said in problem(text, comment, reference)


@pytest.mark.parametrize("comment", ["method=gone: share", "method=a-b: share", "method=c: share"])
def test_a_row_that_is_not_there_or_not_the_only_one_is_an_error(comment: str, reference: Path) -> None:
    with pytest.raises(AssertionError, match="rows"):
        problem("0.4", comment, reference)
