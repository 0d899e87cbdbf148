"""Predictions are kept task by task: what is asked again, and what is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import RUN, TASKS, Script, ScriptedEngine, SmallSuite, query
from vista.config import SelectMethod
from vista.engines.hf import HfEngine
from vista.evaluation import evaluate as stage
from vista.evaluation.evaluate import evaluate
from vista.evaluation.harness import lone_process, run_lmms_eval, write_task_files
from vista.grid import Run
from vista.manifest import ORIGIN, read_manifest

Install = Callable[[Script], type[ScriptedEngine]]


def with_tasks(small: SmallSuite, *tasks: str) -> None:
    """Let the suite evaluate these tasks; the first is trained on."""
    update = {"train_sets": {"grids": [tasks[0]]}, "out_of_domain": list(tasks[1:])}
    small.suite = small.suite.model_copy(update=update)


def run(small: SmallSuite) -> tuple[bytes, dict[str, float]]:
    """Evaluate; the bytes of the predictions, and what the manifest counts."""
    output = small.paths.predictions(RUN.id)
    evaluate(small.suite, small.paths, RUN)
    return output.read_bytes(), read_manifest(output).counts


def kept(small: SmallSuite) -> list[Path]:
    return sorted((small.paths.predictions(RUN.id).parent / ".tasks").iterdir())


def ids(small: SmallSuite, *tasks: str) -> set[str]:
    return {row["query_id"] for task in tasks for row in small.queries[task]}


def test_a_further_task_is_all_that_is_asked_and_the_bytes_are_those_of_both_together(
    small: SmallSuite, asked: list[list[str]]
) -> None:
    both = run(small)
    shutil.rmtree(small.paths.predictions(RUN.id).parent)
    with_tasks(small, TASKS[0])
    alone = run(small)
    assert alone != both
    asked.clear()
    with_tasks(small, *TASKS)
    assert run(small) == both
    assert set().union(*asked) == ids(small, TASKS[1])


def test_another_order_and_a_task_less_ask_nothing_and_load_no_model(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small)

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("vista.engines.checkpoints.load_checkpoint", loaded)
    device = read_manifest(small.paths.predictions(RUN.id)).device
    with_tasks(small, *reversed(TASKS))
    run(small)
    assert read_manifest(small.paths.predictions(RUN.id)).device == device
    assert len(kept(small)) == 2
    with_tasks(small, TASKS[1])
    _, counts = run(small)
    assert counts["predictions"] == 12
    assert [file.name.startswith(TASKS[1]) for file in kept(small)] == [True], "the other one is removed"


def test_what_an_interrupted_evaluation_had_answered_is_not_asked_again(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(small)
    shutil.rmtree(small.paths.predictions(RUN.id).parent)
    asked.clear()
    with monkeypatch.context() as patch:
        sample = HfEngine.sample

        def interrupted(self: HfEngine, requests: Any, *args: Any, **kwargs: Any) -> Any:
            if requests[0].prompt.query_id.startswith(TASKS[1]):
                raise KeyboardInterrupt
            return sample(self, requests, *args, **kwargs)

        patch.setattr(HfEngine, "sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(small)
    assert not small.paths.predictions(RUN.id).exists()
    asked.clear()
    assert run(small) == whole
    assert set().union(*asked) == ids(small, TASKS[1])


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "renamed"])
def test_a_damaged_part_is_made_again(small: SmallSuite, asked: list[list[str]], damage: str) -> None:
    whole = run(small)
    before = kept(small)
    (part,) = (file for file in before if file.name.startswith(TASKS[0]))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"cut": content[:-20], "flipped": content, "emptied": b""}
    if damage == "renamed":
        (other,) = (file for file in before if file != part)
        part.write_bytes(other.read_bytes())
    else:
        part.write_bytes(changed[damage])
    asked.clear()
    assert run(small) == whole
    assert set().union(*asked) == ids(small, TASKS[0])
    assert kept(small) == before


def other_weights(small: SmallSuite) -> None:
    small.save_base("qwen3-vl")


def other_limit(small: SmallSuite) -> None:
    small.suite = small.suite.model_copy(update={"eval_max_new_tokens": 7})


def other_prompts(small: SmallSuite) -> None:
    model = small.suite.models[RUN.model]
    prompts = type(model.prompts)(suffix="look")
    models = {RUN.model: model.model_copy(update={"prompts": prompts})}
    small.suite = small.suite.model_copy(update={"models": models})


@pytest.mark.parametrize("change", [other_weights, other_limit, other_prompts])
def test_what_decides_all_predictions_has_all_asked_again(
    small: SmallSuite, asked: list[list[str]], change: Callable[[SmallSuite], None]
) -> None:
    run(small)
    old = kept(small)
    asked.clear()
    change(small)
    run(small)
    assert set().union(*asked) == ids(small, *TASKS)
    assert not set(old) & set(kept(small))


@pytest.mark.parametrize("what", ["code", "versions"])
def test_other_code_and_other_versions_have_all_asked_again(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run(small)
    asked.clear()
    if what == "code":
        monkeypatch.setattr(ORIGIN, "digests", lambda: {f"code of {task}": "edited" for task in TASKS})
    else:
        monkeypatch.setattr(stage, "installed", lambda: {"torch": "3.0"})
    run(small)
    assert set().union(*asked) == ids(small, *TASKS)


def test_the_code_that_scores_one_task_has_it_asked_again_alone(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small)
    asked.clear()
    monkeypatch.setattr(ORIGIN, "digests", lambda: {f"code of {TASKS[1]}": "edited"})
    run(small)
    assert set().union(*asked) == ids(small, TASKS[1])


def test_other_queries_of_a_task_have_it_asked_again_alone(small: SmallSuite, asked: list[list[str]]) -> None:
    run(small)
    asked.clear()
    small.write_queries(TASKS[1], [query(TASKS[1], number) for number in range(30, 34)])
    run(small)
    assert set().union(*asked) == ids(small, TASKS[1])


@pytest.mark.parametrize("update", [{"eval_batch_size": 3}, {"threads": 2}])
def test_how_the_machine_is_used_has_nothing_asked_again(
    small: SmallSuite, asked: list[list[str]], update: dict[str, int]
) -> None:
    whole = run(small)
    asked.clear()
    small.suite = small.suite.model_copy(update=update)
    assert run(small) == whole
    assert asked == []


def test_a_scorer_decides_the_task_that_it_scores(small: SmallSuite) -> None:
    own: Any = small.suite.tasks[TASKS[1]]
    scored = type("Scored", (type(own),), {"lmms_scorer": "vista.evaluation.tasks.scorers.process_chartqa"})
    tasks = {**small.suite.tasks, TASKS[1]: scored.model_construct(**own.__dict__)}
    found = [
        stage.part_keys(suite, RUN, small.paths.base(RUN.model), dict.fromkeys(TASKS, "the same"), {})
        for suite in (small.suite, small.suite.model_copy(update={"tasks": tasks}))
    ]
    assert [found[0][task] == found[1][task] for task in TASKS] == [True, False]


def test_tasks_that_lmms_eval_is_given_together_share_no_batch(
    small: SmallSuite, asked: list[list[str]], tmp_path: Path
) -> None:
    """On a GPU, the last bits of a row depend on the others in its batch."""
    write_task_files(small.suite, small.paths, tmp_path / "tasks")
    with lone_process():
        from vista.evaluation.chat_model import VistaChatModel

        model = VistaChatModel(small.paths.base(RUN.model), batch_size=24)
        run_lmms_eval(model, tmp_path / "tasks", TASKS)
    assert sorted(map(sorted, asked)) == sorted(sorted(ids(small, task)) for task in TASKS)


def test_the_candidates_of_each_task_are_counted(small: SmallSuite) -> None:
    methods = {**small.suite.methods, "chosen": SelectMethod(kind="select", of="vista-sft", k=2)}
    words = small.suite.wording.model_copy(update={"select": "{instruction}\n{candidates}\nwhich answer ?"})
    small.suite = small.suite.model_copy(update={"methods": methods, "wording": words})
    trained = small.paths.trained(Run(RUN.model, "grids", "vista-sft", 0, 1).id)
    shutil.copytree(small.paths.base(RUN.model), trained)
    chosen = Run(RUN.model, "grids", "chosen", 0, 1)
    evaluate(small.suite, small.paths, chosen)
    counts = read_manifest(small.paths.predictions(chosen.id)).counts
    assert counts["candidates"] == 2 * 24
    alone = [sum(counts[f"{what}/{task}"] for task in TASKS) for what in ("unanswered", "unfinished")]
    assert alone == [counts["unanswered"], counts["unfinished"]]
