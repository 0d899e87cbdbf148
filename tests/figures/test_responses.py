"""The page of responses: both sides beside the image and its truth, to be filtered, and escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import answered, needs_chromium, opened
from tests.figures.test_gallery import RIGHT, SCENE, png
from tests.safety.hostile import TEXTS
from vista.figures.responses import FILTERS, OF_OTHER, case, write_page
from vista.records import Row
from vista.testbed.questions import Question, dump

WRONG = "row 1 : 3 7 2 . answer : 2"
OURS, OTHERS = (f"nano/grids/{method}/seed0/round{turn}" for method, turn in (("vista-sft", 3), ("rft", 1)))
QUERY: Row = {
    **{"query_id": "q", "task": "t", "images": [{"bytes": png(), "path": None}], "answer": "7"},
    **{"instruction": "which digit ?", "scene": dump(SCENE, Question("largest", row=1))},
}


def prediction(response: str, run: str = OURS, **changes: Any) -> Row:
    score = float(response.endswith("7"))
    return {
        "run": run,
        "response": response,
        "answer": response[-1:] or None,
        "finished": True,
        "score": score,
    } | changes


LOST = case(QUERY, "lost", prediction(WRONG), prediction(RIGHT, OTHERS))
GAINED = case(QUERY | {"query_id": "p"}, "gained", prediction(RIGHT), prediction(WRONG, OTHERS))


def test_both_sides_are_held_against_the_scene() -> None:
    ours, others = LOST.responses
    assert (ours.before, ours.after) == ("row 1 : 3 7 ", "2 . answer : 2")
    assert ours.expected == "expected '1', found '2'"
    assert ours.says.startswith("unfaithful, it misreads the image")
    assert (others.before, others.after, others.expected) == (RIGHT, "", None)
    assert (ours.rationale, others.rationale) == ("unfaithful", "faithful")


def test_a_case_has_a_value_for_every_filter() -> None:
    assert LOST.values == {
        **{
            "what": "lost",
            "model": "nano",
            "train": "grids",
            "method": "vista-sft",
            "seed": "0",
            "task": "t",
        },
        **{"answer": "wrong", "rationale": "unfaithful", "other": "right", "beside": "faithful"},
    }
    assert set(LOST.values) == {*FILTERS, *OF_OTHER}
    alone = case(QUERY, "right", prediction(RIGHT), None)
    assert set(alone.values) == set(FILTERS)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"score": 1.0}, "right"),
        ({"score": 0.4}, "partly right"),
        ({"score": 0.0}, "wrong"),
        ({"score": 0.0, "answer": None}, "none was found"),
    ],
)
def test_the_verdict_is_a_word(changes: dict[str, Any], word: str) -> None:
    assert case(QUERY, "wrong", prediction("…", **changes), None).values["answer"] == word


def test_a_response_that_was_cut_or_is_empty_is_shown_as_it_is(tmp_path: Path) -> None:
    cut = case(QUERY | {"scene": None}, "wrong", prediction("", finished=False, score=0.0), None)
    write_page(tmp_path / "page.html", "a number", "some", [cut])
    page = (tmp_path / "page.html").read_text()
    assert "cut at the length limit" in page
    assert "none was found" in page
    assert "whether it is faithful is not known" in page
    assert "other side" not in page.lower()


@needs_chromium
def test_filters_take_either_side(tmp_path: Path) -> None:
    to = tmp_path / "page.html"
    write_page(to, "main.csv: …; overall = 61.2", "1 gained, 1 lost.", [LOST, GAINED])
    document, console = opened(to)
    assert console == []
    assert "1 gained, 1 lost." in document
    assert document.count('title="departs from the truth: expected') == 2
    script = """
    const choose = (name, value) => {
      const select = document.querySelector(`select[name=${name}]`);
      select.value = value;
      select.dispatchEvent(new Event('input', {bubbles: true}));
      const shown = [...document.querySelectorAll('article')].filter(each => !each.hidden);
      return shown.map(each => each.dataset.what);
    };
    return [['what', 'lost'], ['what', ''], ['other', 'wrong'], ['rationale', 'unfaithful']]
      .map(each => choose(...each));
    """
    assert answered(to, script) == [["lost"], ["lost", "gained"], ["gained"], []]


@needs_chromium
def test_what_models_write_is_shown_and_not_run(tmp_path: Path) -> None:
    to = tmp_path / "page.html"
    cases = [
        case(
            QUERY | {"query_id": f"q{place}", "instruction": text, "scene": None},
            "wrong",
            prediction(text, score=0.0, answer=text),
            None,
        )
        for place, text in enumerate(TEXTS)
    ]
    write_page(to, TEXTS[0], TEXTS[0], cases)
    document, console = opened(to)
    assert console == []
    assert document.count("<article") == len(TEXTS)
