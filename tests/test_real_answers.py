"""Verdicts on what real models answered to real benchmarks.

The files are parts of public repositories, not of this one; docs/benchmarks.md names them.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vista.answers import extract, verify
from vista.formulae import equal

SAMPLES = os.environ.get("VISTA_SAMPLES", "")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="VISTA_SAMPLES names no folder of real records")


def read(path: str) -> Any:
    """A JSON file, or the rows of one, packed or not."""
    file = Path(SAMPLES) / path
    text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()] if ".jsonl" in path else json.loads(text)


def test_every_form_of_an_answer_gets_the_verdict_that_it_should() -> None:
    for row in read("answer-formats.jsonl"):
        verdict = verify(extract(row["response"]), row["answer"], row["answer_type"], row["choices"])
        assert verdict == row["expected"], row


@pytest.mark.parametrize(
    "form", ["{}", "Answer: {}", "The correct answer is:\n\n{}", "**Answer:** {}", "<answer>{}</answer>"]
)
def test_choices_named_by_21_models_on_mathvista_are_read(form: str) -> None:
    verdicts: Counter[tuple[bool, bool]] = Counter()
    for row in read("mathvista/choice-answers.jsonl.gz"):
        found = row["extracted"] if form == "{}" else extract(form.format(row["extracted"]))
        verdicts[row["right"], verify(found, row["gold"], "choice", row["choices"])] += 1
    assert verdicts[False, True] == 0
    assert verdicts[True, True] >= 0.99 * (verdicts[True, True] + verdicts[True, False])
    assert verdicts.total() == 807


def test_gpt3s_answers_to_scienceqa_are_right_exactly_where_the_authors_count_them_so() -> None:
    answered = [row for row in read("scienceqa/gpt3-cot-300.jsonl.gz") if row["output"]]
    agree = 0
    for row in answered:
        found = extract(row["output"])
        named = [verify(found, letter, "choice", ["q", "w", "x", "y", "z"]) for letter in "ABCDE"]
        agree += named == [index == row["official_index"] for index in range(5)]
    assert len(answered) == 278
    assert agree >= 0.99 * len(answered)


@pytest.mark.parametrize(
    "form",
    ["{}", "Answer: {}", "Solution: I read it off.\n\nAnswer:\n{}", "**Answer: {}**", "<answer>{}</answer>"],
)
def test_chart_verdicts_are_lmms_evals_and_their_mean_is_the_published_score(form: str) -> None:
    from lmms_eval.tasks.chartqa.utils import relaxed_correctness as theirs

    scores: dict[str, list[bool]] = {}
    for row in read("chartqa/qwen2.5-vl-7b-test-2500.json.gz"):
        found = row["prediction"] if form == "{}" else extract(form.format(row["prediction"]))
        verdict = verify(found, row["answer"], "relaxed")
        assert verdict == bool(theirs(row["prediction"], row["answer"])), row
        scores.setdefault(row["split"], []).append(verdict)
    means = {split: round(100 * sum(found) / len(found), 2) for split, found in scores.items()}
    assert means == {"test_human": 80.72, "test_augmented": 94.96}
    assert sum(map(len, scores.values())) == 2500


def test_all_seed_solutions_of_r3v_are_right() -> None:
    solutions = [row["conversations"][1]["value"] for row in read("chartqa/r3v-seed-solutions-800.json.gz")]
    assert len(solutions) == 800
    for text in solutions:
        assert verify(extract(text), text.rsplit("Answer:\n", 1)[1], "relaxed"), text


def plain(latex: str) -> str:
    """A formula as one types it: 4 4/11, 5*sqrt(3), 10 pi."""
    typed = re.sub(r"\\frac \{ (\d+) \} \{ (\d+) \}", r"\1/\2", latex)
    typed = re.sub(r"\\frac \{ (.*) \} \{ (\d+) \}", r"(\1)/\2", typed)
    return re.sub(r"\\sqrt (?:\{ (\d+) \}|(\d))", r"sqrt(\1\2)", typed).replace("\\pi", "pi")


WRITINGS = [
    lambda gold: gold,
    lambda gold: re.sub(r"\s(?![A-Za-z])", "", gold),
    plain,
    lambda gold: plain(gold).replace("pi", "π").replace("sqrt", "√"),
    lambda gold: plain(gold).replace(" sqrt", "*sqrt").replace(" pi", "*pi"),
    lambda gold: f"${gold}$",
    lambda gold: f"{gold} units",
    lambda gold: f"approximately {gold}" if gold[0].isdigit() else gold,
]
MARKS = [
    "Answer: {}",
    "**Answer:** {}",
    "The answer is {}.",
    "The correct answer is:\n\n{}",
    "<answer>{}</answer>",
    r"\boxed{{{}}}",
    r"So $\boxed{{{}}}$ it is.",
    "### Final Answer\n\n$$\n{}\n$$",
    "Answer:\n\\[\n{}\n\\]",
    r"Answer: \({}\). This follows.",
]


def geometry() -> list[str]:
    return [row["ground_truth"] for row in read("geometry3k/test-601.jsonl")]


def test_the_golds_of_geometry3k_are_right_in_every_form() -> None:
    golds = geometry()
    assert len(golds) == 601
    for gold in sorted(set(golds)):
        for writing, mark in itertools.product(WRITINGS, MARKS):
            text = mark.format(writing(gold))
            assert verify(extract(text), gold, "math"), text
            assert verify(writing(gold), gold, "math"), writing(gold)


def test_no_gold_of_geometry3k_is_taken_for_one_of_another_value() -> None:
    from math_verify import parse

    def value(gold: str) -> float | str:
        mixed = re.fullmatch(r"(\d+) \\frac \{ (\d+) \} \{ (\d+) \}", gold)
        if mixed:
            return int(mixed[1]) + int(mixed[2]) / int(mixed[3])
        return gold if re.search(r"[A-Z]|angles", gold) else float(parse(f"${gold}$")[0].evalf(15))

    values = {gold: value(gold) for gold in set(geometry())}
    for one, two in itertools.product(values, repeat=2):
        same = (
            values[one] == pytest.approx(values[two], rel=1e-9)
            if isinstance(values[one], float) and isinstance(values[two], float)
            else one == two
        )
        assert equal(one, two) == same, (one, two)


@pytest.mark.parametrize(
    "form", ["Answer: {}", "**Answer:** {}.", r"\boxed{{\text{{{}}}}}", "The answer is {}.", "Answer:\n- {}"]
)
def test_the_golds_of_slake_are_right_after_any_mark(form: str) -> None:
    for split in ("train", "test"):
        for row in read(f"slake/{split}.json.gz"):
            if row["q_lang"] == "en" and row["answer"].strip():
                kind = "closed" if row["answer"].casefold() in ("yes", "no") else "term"
                assert verify(extract(form.format(row["answer"])), row["answer"], kind), row
