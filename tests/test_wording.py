"""What prompts say beside a query's own text, and that models know the words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer

from tests.nano import checkpoint
from vista import chat
from vista.answers import extract
from vista.config import PLACEHOLDERS, SelectMethod, SelfImprovement, Wording, load_suite
from vista.errors import VistaError
from vista.wording import check_wording, chosen, hinted, refining, selecting, templates_of

QUERY: dict[str, Any] = {
    "query_id": "q",
    "images": [],
    "system": None,
    "instruction": "what is row",
    "answer": "7",
}


def asked(query: dict[str, Any]) -> str:
    (turn,) = chat.messages(query)
    text: str = turn["content"][0]["text"]
    return text


def test_a_hint_stands_after_the_instruction() -> None:
    assert asked(hinted(QUERY, Wording())) == "what is row\nhint : the answer is 7"


def test_a_wrong_solution_and_candidates_stand_in_their_prompts() -> None:
    wording = Wording(
        refine="{solution} is wrong : {instruction}", select="{instruction}\n{candidates}\nwhich ?"
    )
    assert asked(refining(QUERY, "so 3", wording)) == "so 3 is wrong : what is row"
    assert asked(selecting(QUERY, ["so 3", "so 7"], wording)) == "what is row\n1 : so 3\n2 : so 7\nwhich ?"


def test_the_query_itself_is_left_as_it_was() -> None:
    before = dict(QUERY)
    hinted(QUERY, Wording())
    selecting(QUERY, ["a", "b"], Wording())
    assert before == QUERY


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_braces_in_a_solution_are_no_placeholders(text: str) -> None:
    assert text in asked(refining(QUERY, text + "{answer}", Wording()))


@given(st.sampled_from(["4", "yes", "left lung", "\\frac{1}{2}", "3.5"]))
def test_the_answer_that_is_chosen_is_found_in_the_response(answer: str) -> None:
    assert extract(chosen(answer, Wording())) == answer


@pytest.mark.parametrize(
    ("field", "template", "complaint"),
    [
        ("hint", "{instruction} only", r"placeholders \{answer\}, \{instruction\}"),
        ("select", "{instruction} {candidates} {solution}", "and no others"),
        ("refine", "{instruction} {solution", "not a template"),
        ("candidate", "{} : {solution}", "and no others"),
        ("candidate", "{number:03d} : {solution}", "without format options"),
        ("chosen", "it is {answer}", "no answer can be found"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(field: str, template: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Wording(**{field: template})


def test_a_method_uses_the_templates_of_what_it_does() -> None:
    def of(**settings: Any) -> list[str]:
        return templates_of(SelfImprovement(kind="self-improvement", **settings))

    assert of() == []
    assert of(resample={"kind": "rationalize"}) == ["hint"]
    assert of(reflect=["select", "refine"]) == ["refine", "select", "candidate", "chosen"]
    assert templates_of(SelectMethod(kind="select", of="r3v")) == ["select", "candidate"]


@pytest.mark.parametrize("suite_file", ["config/testbed.yaml", "config/smoke.yaml"])
@pytest.mark.parametrize("model", ["nano-internvl", "nano-qwen2.5-vl"])
def test_the_testbeds_wording_is_made_of_words_that_its_models_know(
    root: Path, suite_file: str, model: str
) -> None:
    wording = load_suite(root / suite_file, root=root).wording
    tokenizer = AutoTokenizer.from_pretrained(root / "tests/frozen" / model)
    check_wording(tokenizer, wording, PLACEHOLDERS, model)
    solutions = ["row 1 : 3 4 5 . 3 + 4 = 7 . answer : 12", "answer : yes"]
    for query in (refining(QUERY, solutions[0], wording), selecting(QUERY, solutions, wording)):
        assert tokenizer.unk_token_id not in tokenizer(asked(query))["input_ids"]
    assert tokenizer.unk_token_id not in tokenizer(chosen("12", wording))["input_ids"]


def test_the_testbeds_hint_is_the_default_so_that_its_base_models_stay_as_they_are(root: Path) -> None:
    for name in ("testbed", "smoke"):
        assert load_suite(root / f"config/{name}.yaml", root=root).wording.hint == Wording().hint
    words = set(
        json.loads((root / "tests/frozen/nano-internvl/tokenizer.json").read_text())["model"]["vocab"]
    )
    assert {"▁hint", "▁:", "▁the", "▁answer", "▁is"} <= words


def test_words_that_a_tokenizer_does_not_know_are_listed_for_every_template() -> None:
    tokenizer = checkpoint("internvl").processor.tokenizer
    with pytest.raises(VistaError) as caught:
        check_wording(tokenizer, Wording(), ["refine", "hint", "select"], "tiny")
    message = str(caught.value)
    assert "tokenizer of model tiny" in message
    assert "wording.refine: 'This', 'solution'" in message
    assert "wording.select: 'Candidate'" in message
    assert "wording.hint" not in message


def test_a_word_glued_to_a_number_is_found_as_well() -> None:
    tokenizer = checkpoint("internvl").processor.tokenizer
    check_wording(tokenizer, Wording(hint="{instruction} hint : {answer} ."), ["hint"], "tiny")
    with pytest.raises(VistaError, match=r"'1\.'"):
        check_wording(tokenizer, Wording(hint="{instruction} hint : {answer}."), ["hint"], "tiny")
