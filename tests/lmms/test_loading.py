"""A task that cannot be asked or scored here is refused before anything is spent, with the reason."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.own_tasks import BASE, SCORED, write_task
from vista.errors import VistaError
from vista.lmms.files import find
from vista.lmms.judges import judge_of
from vista.lmms.loading import NotHere, load
from vista.planning.own_tasks import look
from vista.task_kinds.lmms_eval import LmmsEvalSettings

PARSED = """
process_results: !function utils.parsed
metric_list:
  - {metric: parsed_acc, aggregation: !function utils.AGGREGATE, higher_is_better: true}
"""


def refused(folder: Path, name: str = "mine") -> str:
    with pytest.raises(VistaError) as error:
        load(find(name, folder))
    return str(error.value)


def test_documents_are_numbered_known_by_what_they_are_and_clustered_by_picture(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "mine", pictures=2)
    first, again = (list(load(find("mine", folder)).documents()) for _ in range(2))
    ids = [document.query_id("mine") for document in first]
    assert ids == [document.query_id("mine") for document in again]
    assert len(set(ids)) == 6
    assert ids[2].startswith("mine-test-00002-")
    assert [document.text for document in first[:2]] == ["which digit in row 0 ?", "which digit in row 1 ?"]
    assert [document.target for document in first] == ["0", "1", "2", "3", "4", "5"]
    assert first[0].picture_ids == first[1].picture_ids != first[2].picture_ids
    assert len(first[0].pictures) == 2
    found = load(find("mine", folder)).data_set()
    assert (found["path"], found["split"]) == ("parquet", "test")
    assert found["fingerprint"]


@pytest.mark.parametrize(
    ("text", "was", "becomes", "said"),
    [
        (SCORED, "generate_until", "loglikelihood", "its output_type is loglikelihood"),
        (
            SCORED,
            "generate_until",
            "generate_until_multi_round",
            "its output_type is generate_until_multi_round",
        ),
        (SCORED, "output_type", "repeats: 5\noutput_type", "it asks 5 times for each response"),
        (SCORED, "dataset_kwargs:\n", "dataset_kwargs:\n  video: true\n", "it shows videos"),
        (SCORED, "task:", "class: !function utils.scored\ntask:", "it is a Python class"),
        (SCORED.replace("max_new_tokens: 4", "temperature: 0.7"), "", "", "ask for sampling or beams"),
        (SCORED.replace("utils.scored", "utils.missing"), "", "", "its code cannot be imported .*'missing'"),
        (SCORED.replace("metric: exact", "metric: other"), "", "", "gives no such metric, but exact"),
        (PARSED.replace("AGGREGATE", "by_row"), "", "", "its aggregate is no mean over responses"),
        (PARSED.replace("AGGREGATE", "total"), "", "", "made-up responses|its aggregate fails"),
        (SCORED, "test_split: test", "test_split: other", "cannot be loaded"),
    ],
)
def test_what_cannot_be_asked_or_scored_is_refused(
    tmp_path: Path, text: str, was: str, becomes: str, said: str
) -> None:
    base = BASE.replace(was, becomes) if was else BASE
    if "loglikelihood" in becomes:
        text = text.replace("generation_kwargs: {max_new_tokens: 4}", "")
    message = refused(write_task(tmp_path, "mine", text, base=base))
    assert "mine" in message
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(message)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("str(doc['image'].width)", "document 0: the right answer needs its 'image', but lmms-eval hands no"),
        ("str(1 // int(doc['answer'] != '3'))", "document 3: the task's code fails .ZeroDivisionError"),
    ],
)
def test_a_right_answer_that_cannot_be_told_when_scoring_is_refused_with_its_document(
    tmp_path: Path, code: str, said: str
) -> None:
    base = BASE.replace("doc_to_target: answer", "doc_to_target: !function utils.right")
    folder = write_task(tmp_path, "mine", SCORED, base=base)
    with (folder / "utils.py").open("a") as file:
        file.write(f"\n\ndef right(doc):\n    return {code}\n")
    assert re.search(said, refused(folder))


def test_a_judge_is_found_in_the_code_that_scores_with_what_configures_it(tmp_path: Path) -> None:
    message = refused(write_task(tmp_path, "mine", SCORED.replace("utils.scored", "utils.judged")))
    assert "judged asks openai, which lmms-eval configures by OPENAI_API_KEY, OPENAI_API_URL" in message
    assert message.endswith("; name a task without one")


def test_a_judge_is_found_by_where_scoring_looks_for_it(tmp_path: Path) -> None:
    message = refused(write_task(tmp_path, "mine", SCORED.replace("utils.scored", "utils.called")))
    assert "its scores come from a judge (scoring looks for the address" in message
    assert "judge.example" in message


@pytest.mark.parametrize(
    ("task", "asks"),
    [
        ("mathverse_testmini", True),
        ("mmmu_val_reasoning", True),
        ("mathverse_testmini_reasoning", False),
        ("mmmu_val", False),
        ("blink_counting", False),
    ],
)
def test_which_of_lmms_evals_tasks_ask_a_judge(task: str, asks: bool) -> None:
    with pytest.raises(VistaError) as error:
        load(find(task, None))
    assert ("its scores come from a judge" in str(error.value)) is asks
    assert isinstance(error.value, NotHere) is not asks
    assert "OPENAI_API_KEY" not in os.environ


def test_code_without_a_judge_has_none() -> None:
    assert judge_of(find, None) is None


def test_a_data_set_that_is_not_here_says_how_to_fetch_it() -> None:
    with pytest.raises(
        NotHere, match=r"lmms-lab-encoder/MMMU is not in the cache.*load_dataset\('lmms-lab-enc"
    ):
        load(find("mmmu_val", None))


def test_the_doctor_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_task(tmp_path, "mine")

    def seen(task: str, folder: Path | None, **more: object) -> tuple[str, str]:
        settings = LmmsEvalSettings.model_validate(
            {"kind": "lmms-eval", "task": task, "include_path": folder, **more}
        )
        verdict, found, remedy = look(settings)
        return verdict, f"{found}; {remedy}"

    assert seen("mine", folder) == ("ok", "lmms-eval's mine: 6 documents, scored without a judge; ")
    assert seen("mine", folder, sizes={"test": 9})[0] == "fail"
    assert seen("mine", folder, metric="other") == (
        "fail",
        "lmms-eval's task 'mine' has no metric 'other'; it has exact",
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert seen("mmmu_val", None)[0] == "fail"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert seen("mmmu_val", None)[0] == "warn"
