"""The task files: lmms-eval loads them, from wherever the results folder lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lmms_eval.tasks import TaskManager

from tests.evaluation.conftest import RUN, TASKS, SmallSuite
from vista import chat
from vista.config import Prompts
from vista.errors import VistaError
from vista.evaluation.harness import write_task_files
from vista.evaluation.tasks.queries import doc_to_messages, mean_score, process_results
from vista.images import open_images


def load(folder: Path, task: str) -> object:
    """A task as lmms-eval builds it."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return manager.load_task_or_group([task], "chat")[task]


def test_every_evaluated_task_has_a_file_and_stale_ones_go(small: SmallSuite, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "old-task.yaml").write_text("task: old-task")
    write_task_files(small.suite, small.paths, folder)
    assert sorted(path.stem for path in folder.iterdir()) == sorted(TASKS)


def test_a_task_decodes_greedily_without_stop_strings(small: SmallSuite, tmp_path: Path) -> None:
    write_task_files(small.suite, small.paths, tmp_path / "files")
    task = load(tmp_path / "files", TASKS[0])
    assert task.config.generation_kwargs == {
        "max_new_tokens": 8,
        "do_sample": False,
        "temperature": 0.0,
        "until": [],
    }


def test_documents_are_the_queries(small: SmallSuite, tmp_path: Path) -> None:
    write_task_files(small.suite, small.paths, tmp_path / "files")
    task = load(tmp_path / "files", TASKS[0])
    assert list(task.test_docs()) == small.queries[TASKS[0]]
    assert "images" not in task.test_docs_no_media()[0]


def test_a_task_file_asks_as_its_model_is_asked(small: SmallSuite, tmp_path: Path) -> None:
    prompts = Prompts(system="", suffix="so look", answer_mark="row")
    entry = small.suite.models[RUN.model].model_copy(update={"prompts": prompts})
    suite = small.suite.model_copy(update={"models": {**small.suite.models, RUN.model: entry}})
    write_task_files(suite, small.paths, tmp_path / "own", RUN.model)
    task = load(tmp_path / "own", TASKS[0])
    (doc, *_), (query, *_) = list(task.test_docs()), small.queries[TASKS[0]]
    assert doc == {
        **query,
        "system": None,
        "instruction": f"{query['instruction']}\nso look",
        "answer_mark": "row",
    }
    assert task.process_results(doc, ["look row 0"])["score"] == 1.0
    assert process_results(query, ["look row 0"])["extracted"] is None
    other = next(name for name in suite.models if name != RUN.model)
    write_task_files(suite, small.paths, tmp_path / "other", other)
    write_task_files(small.suite, small.paths, tmp_path / "before")
    for path in (tmp_path / "before").iterdir():
        assert path.read_text() == (tmp_path / "other" / path.name).read_text()


def test_the_results_folder_may_be_moved(small: SmallSuite, tmp_path: Path) -> None:
    folder = small.paths.results / "evaluation/some/run/tasks"
    write_task_files(small.suite, small.paths, folder)
    moved = tmp_path / "elsewhere"
    shutil.move(small.paths.results, moved)
    task = load(moved / "evaluation/some/run/tasks", TASKS[0])
    assert len(task.test_docs()) == 12


def test_missing_queries_are_refused(small: SmallSuite, tmp_path: Path) -> None:
    small.paths.queries(TASKS[0], "test").unlink()
    write_task_files(small.suite, small.paths, tmp_path / "files")
    with pytest.raises(VistaError, match=r"test\.parquet: no such file"):
        load(tmp_path / "files", TASKS[0])


def test_a_file_without_queries_is_refused(small: SmallSuite, tmp_path: Path) -> None:
    small.write_queries(TASKS[0], [])
    write_task_files(small.suite, small.paths, tmp_path / "files")
    with pytest.raises(VistaError, match="no rows"):
        load(tmp_path / "files", TASKS[0])


def test_the_conversation_is_that_of_chat_with_the_images_in_it(small: SmallSuite) -> None:
    query = small.queries[TASKS[0]][0]
    turns = doc_to_messages(query)
    plain = [
        {
            "role": turn["role"],
            "content": [
                {"type": "image", "text": None} if part["type"] == "image" else part
                for part in turn["content"]
            ],
        }
        for turn in turns
    ]
    assert plain == chat.messages(query)
    (image,) = [part["url"] for part in turns[1]["content"] if part["type"] == "image"]
    assert image.tobytes() == open_images(query)[0].tobytes()


def test_a_response_is_scored_by_its_answer(small: SmallSuite) -> None:
    query = small.queries[TASKS[0]][3]
    right, wrong, none = (process_results(query, [text]) for text in ("so answer : 3", "answer : 4", "so"))
    assert [item["score"] for item in (right, wrong, none)] == [1.0, 0.0, 0.0]
    assert [item["extracted"] for item in (right, wrong, none)] == ["3", "4", None]
    assert right["accuracy"] == {"score": 1.0, "cluster_id": query["cluster_id"]}
    assert mean_score([right["accuracy"], wrong["accuracy"]]) == 0.5
