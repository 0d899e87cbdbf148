"""Suites name tasks of lmms-eval, by lmms-eval's name or by an entry, to evaluate on them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vista import answers, chat
from vista.config import Prompts, Suite, load_suite, load_yaml
from vista.errors import VistaError
from vista.records import query_problem
from vista.task_kinds.lmms_eval import PUBLISHED


def suite_with(root: Path, **changes: Any) -> Suite:
    raw = load_yaml(root / "config/smoke.yaml")
    tasks = raw["tasks"] | changes.pop("tasks", {})
    return load_suite(root / "config/smoke.yaml", {**raw, **changes, "tasks": tasks}, root)


def test_a_task_is_called_as_by_lmms_eval_in_characters_of_names(root: Path) -> None:
    suite = suite_with(root, out_of_domain=["grid-noisy", "lmms-eval:mmmu_val"])
    assert suite.out_of_domain == ["grid-noisy", "mmmu-val"]
    assert suite.tasks["mmmu-val"].model_dump(exclude={"sizes"}) == {
        "kind": "lmms-eval",
        "task": "mmmu_val",
        "include_path": None,
        "metric": None,
    }
    assert suite.tasks["mmmu-val"].queries("test") == 900


def test_a_suite_without_such_tasks_is_resolved_as_before(root: Path) -> None:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    assert {spec.definition() for spec in suite.tasks.values()} == {None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"train_sets": {"all": ["lmms-eval:mmmu_val"]}},
            "'mmmu-val' (kind: lmms-eval) can only be evaluated on",
        ),
        (
            {"train_sets": {"all": ["mine"]}, "tasks": {"mine": {"kind": "lmms-eval", "task": "x"}}},
            "train_sets.all: 'mine' (kind: lmms-eval) can only be evaluated on; move it to out_of_domain",
        ),
        (
            {"out_of_domain": ["lmms-eval:Ünique"]},
            "cannot be a name in a suite; choose one: tasks: {my-name:",
        ),
        ({"out_of_domain": ["lmms-eval:"]}, "or are lmms-eval:NAME for one of lmms-eval's; rename it"),
        ({"out_of_domain": ["lmms-eval:grid_noisy"]}, "there is another task 'grid-noisy' already"),
        ({"out_of_domain": ["lmms-eval:a_b", "lmms-eval:a-b"]}, "there is another task 'a-b' already"),
        (
            {"tasks": {"mine": {"kind": "lmms-eval", "task": "x", "sizes": {"train": 5}}}},
            "tasks.mine.sizes.train: Input should be 0",
        ),
        ({"tasks": {"mine": {"kind": "lmms-eval"}}}, "tasks.mine.task: missing; add it"),
    ],
)
def test_what_cannot_be_is_an_error_when_the_config_is_read(
    root: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(VistaError) as error:
        suite_with(root, **changes)
    assert said in str(error.value)


def test_how_many_documents_there_are_is_stated_or_known_or_asked_for(root: Path) -> None:
    entry = {"kind": "lmms-eval", "task": "pope"}
    suite = suite_with(root, tasks={"pope": entry, "some": {**entry, "sizes": {"test": 5}}})
    assert suite.tasks["some"].queries("test") == 5
    with pytest.raises(
        VistaError, match=r"'pope' has is known only once it is read; for a plan, set sizes\.test"
    ):
        suite.tasks["pope"].queries("test")


def test_the_papers_suite_has_its_benchmarks_out_of_domain(root: Path) -> None:
    suite = load_suite(root / "config/paper.yaml", root=root)
    named = {spec.task for spec in suite.tasks.values() if spec.kind == "lmms-eval"}  # type: ignore[attr-defined]
    assert named == set(PUBLISHED)
    blink = [task for task in suite.out_of_domain if task.startswith("blink-")]
    assert len(blink) == 14
    assert sum(suite.tasks[task].queries("test") for task in blink) == 1901


QUERY = {
    **{"query_id": "q", "task": "t", "split": "test", "system": None, "instruction": "why ?", "answer": ""},
    **{"answer_type": "lmms-eval", "images": [], "choices": None},
}


def test_its_queries_may_have_no_picture_and_no_answer_and_are_asked_as_they_are() -> None:
    assert query_problem(QUERY, "test", "t") is None
    assert query_problem({**QUERY, "answer_type": "open"}, "test", "t") == "answer is empty"
    prompts = Prompts(system="look", suffix="Think.", answer_mark="So:")
    assert chat.prompted(QUERY, prompts) == QUERY
    with pytest.raises(VistaError, match="lmms-eval's own task scores responses to this query"):
        answers.solves(QUERY, "a")
