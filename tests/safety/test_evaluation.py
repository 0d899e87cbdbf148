"""lmms-eval runs our modules and nothing that lies in a results folder or in a cache."""

from __future__ import annotations

import dill
import pytest
from lmms_eval.api import task as lmms_task
from lmms_eval.caching import cache

from tests.evaluation.conftest import RUN, TASKS, SmallSuite, small
from tests.safety.conftest import Payload, Trap
from vista.evaluation.evaluate import evaluate
from vista.evaluation.harness import write_task_files
from vista.records import PREDICTION, read_rows

__all__ = ["small"]  # a fixture


@pytest.mark.parametrize("linked", [False, True])
def test_python_files_that_lie_among_the_task_files_do_not_run(
    small: SmallSuite, trap: Trap, linked: bool
) -> None:
    folder = small.paths.predictions(RUN.id).parent / "tasks"
    place = small.paths.results / "elsewhere" if linked else folder
    place.mkdir(parents=True)
    if linked:
        folder.parent.mkdir(parents=True)
        folder.symlink_to(place)
    for module in ("queries", "scorers"):
        (place / f"vista.evaluation.tasks.{module}.py").write_text(trap.code)
    (place / "deeper").mkdir()
    (place / "deeper/other.yaml").write_text(f"task: {TASKS[0]}\ntest_split: !function trap.run\n")
    (place / "deeper/trap.py").write_text(trap.code)
    evaluate(small.suite, small.paths, RUN)
    assert len(read_rows(small.paths.predictions(RUN.id), PREDICTION)) == 24
    assert not trap.sprung
    assert sorted(file.name for file in folder.rglob("*")) == sorted(f"{task}.yaml" for task in TASKS)


def test_task_files_name_functions_of_this_package_only(small: SmallSuite) -> None:
    folder = small.paths.results / "tasks-of-lmms-eval"
    write_task_files(small.suite, small.paths, folder)
    for file in folder.glob("*.yaml"):
        named = [line.split("!function ")[1] for line in file.read_text().splitlines() if "!function" in line]
        assert len(named) >= 4
        assert all(name.startswith("vista.evaluation.tasks.") for name in named)


def test_a_cache_of_requests_is_not_unpickled(
    small: SmallSuite, trap: Trap, monkeypatch: pytest.MonkeyPatch, looked_up: list[str]
) -> None:
    folder = small.paths.results / "cache"
    folder.mkdir()
    monkeypatch.setattr(cache, "PATH", str(folder))
    asked: list[str] = []
    before = lmms_task.load_from_cache

    def spoilt(file_name: str) -> object:
        """Find a trap, whatever is looked for."""
        asked.append(file_name)
        (folder / f"{file_name}{cache.FILE_SUFFIX}").write_bytes(dill.dumps(Payload(trap.mark)))
        return before(file_name)

    monkeypatch.setattr(lmms_task, "load_from_cache", spoilt)
    evaluate(small.suite, small.paths, RUN)
    assert not trap.sprung
    assert looked_up == []
    assert asked == []
    spoilt("x")  # the trap works
    assert trap.sprung
