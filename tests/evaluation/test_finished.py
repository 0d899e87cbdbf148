"""An evaluation that is killed goes on where it was, response by response."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import RUN, TASKS, SmallSuite
from tests.evaluation.test_parts import (
    ids,
    other_limit,
    other_prompts,
    other_weights,
    run,
)
from vista.config import SelectMethod
from vista.engines.hf import HfEngine
from vista.evaluation import parts
from vista.evaluation.evaluate import evaluate
from vista.grid import Run
from vista.manifest import ORIGIN, read_manifest

KILLED = """
import os, signal, sys
from pathlib import Path
from vista.config import load_resolved
from vista.engines.hf import HfEngine
from vista.evaluation import parts
from vista.evaluation.evaluate import evaluate
from vista.grid import Run
from vista.paths import Paths

suite, run, owner, name, calls = load_resolved(Path(sys.argv[1])), *sys.argv[2:]
owner = {"engine": HfEngine, "parts": parts}[owner]
whole, left = getattr(owner, name), int(calls)

def killed(*args, **kwargs):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args, **kwargs)

setattr(owner, name, killed)
evaluate(suite, Paths(suite.results), Run.parse(run))
"""


@pytest.fixture(autouse=True)
def kept_one_by_one(monkeypatch: pytest.MonkeyPatch, small: SmallSuite) -> None:
    """Keep the responses of every batch of two."""
    monkeypatch.setattr("vista.evaluation.evaluate.TOGETHER", 1)
    small.suite = small.suite.model_copy(update={"eval_batch_size": 2})


def stop_after(monkeypatch: pytest.MonkeyPatch, small: SmallSuite, calls: int, of: Run = RUN) -> None:
    """Evaluate until the engine was called so often."""
    sample, left = HfEngine.sample, [calls]

    def stopping(self: HfEngine, *args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return sample(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(HfEngine, "sample", stopping)
        with pytest.raises(KeyboardInterrupt):
            evaluate(small.suite, small.paths, of)


def folder(small: SmallSuite, of: Run = RUN) -> Path:
    return small.paths.predictions(of.id).parent / ".responses"


def responses(small: SmallSuite) -> list[Path]:
    return sorted(folder(small).iterdir())


@pytest.mark.parametrize("at", [["engine", "sample"], ["parts", "settle"]])
def test_after_a_kill_the_rest_is_generated_and_the_predictions_are_those_of_an_undisturbed_job(
    small: SmallSuite, asked: list[list[str]], at: list[str]
) -> None:
    whole = run(small)
    calls = [list(call) for call in asked]
    output = small.paths.predictions(RUN.id)
    shutil.rmtree(output.parent)
    small.paths.suite.write_text(small.suite.model_dump_json())
    code = KILLED.replace(
        "\nowner =", "\nimport vista.evaluation.evaluate as stage; stage.TOGETHER = 1\nowner ="
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small.paths.suite), RUN.id, *at, "3"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert not output.exists()
    asked.clear()
    assert run(small) == whole
    # In the same calls, with the same company in every batch.
    assert asked == calls[3:]
    assert not folder(small).exists()


def test_what_a_kill_left_half_written_is_no_response(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(small)
    shutil.rmtree(small.paths.predictions(RUN.id).parent)
    stop_after(monkeypatch, small, 3)
    first, second, _ = responses(small)
    first.write_bytes(first.read_bytes()[:-9])
    second.rename(second.with_name(f".{TASKS[0]}.parquet.part"))
    asked.clear()
    assert run(small) == whole
    assert len(set().union(*asked)) == len(ids(small, *TASKS)) - 2


@pytest.mark.parametrize("change", [other_weights, other_limit, other_prompts, "code", "versions"])
def test_responses_of_another_checkpoint_setting_or_code_are_not_used(
    small: SmallSuite,
    asked: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[SmallSuite], None] | str,
) -> None:
    stop_after(monkeypatch, small, 3)
    assert len(responses(small)) == 3
    asked.clear()
    if change == "code":
        monkeypatch.setattr(ORIGIN, "digests", lambda: {f"code of {task}": "edited" for task in TASKS})
    elif change == "versions":
        monkeypatch.setattr("vista.evaluation.evaluate.installed", lambda: {"torch": "3.0"})
    elif callable(change):
        change(small)
    again = run(small)
    assert set().union(*asked) == ids(small, *TASKS)
    shutil.rmtree(small.paths.predictions(RUN.id).parent)
    assert run(small) == again


def test_how_the_machine_is_used_loses_no_response(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, small, 3)
    asked.clear()
    small.suite = small.suite.model_copy(update={"eval_batch_size": 5, "threads": 2})
    run(small)
    assert len(set().union(*asked)) == len(ids(small, *TASKS)) - 6


def test_candidates_and_choices_are_kept_and_counted_as_if_nothing_had_happened(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {**small.suite.methods, "chosen": SelectMethod(kind="select", of="vista-sft", k=2)}
    words = small.suite.wording.model_copy(update={"select": "{instruction}\n{candidates}\nwhich answer ?"})
    small.suite = small.suite.model_copy(update={"methods": methods, "wording": words})
    shutil.copytree(
        small.paths.base(RUN.model), small.paths.trained(Run(RUN.model, "grids", "vista-sft", 0, 1).id)
    )
    chosen = Run(RUN.model, "grids", "chosen", 0, 1)
    output = small.paths.predictions(chosen.id)
    evaluate(small.suite, small.paths, chosen)
    whole, counts, calls = output.read_bytes(), read_manifest(output).counts, len(asked)
    assert calls > 9
    for after in (2, 7):
        shutil.rmtree(output.parent)
        stop_after(monkeypatch, small, after, chosen)
        asked.clear()
        evaluate(small.suite, small.paths, chosen)
        assert (output.read_bytes(), read_manifest(output).counts) == (whole, counts)
        assert len(asked) == calls - after


def test_the_manifest_names_every_device_that_answered(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vista.engines.checkpoints.device_name", lambda device: "another card")
        stop_after(monkeypatch, small, 3)
    run(small)
    assert read_manifest(small.paths.predictions(RUN.id)).device == "another card and cpu"


def test_runs_side_by_side_keep_their_responses_apart(
    small: SmallSuite, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Run(RUN.model, "grids", "zero-shot", 1, 0)
    stop_after(monkeypatch, small, 3)
    before = responses(small)
    stop_after(monkeypatch, small, 2, other)
    assert responses(small) == before
    assert len(list(folder(small, other).iterdir())) == 2
    asked.clear()
    run(small)
    assert len(list(folder(small, other).iterdir())) == 2
    assert len(asked) == 9


def test_a_request_is_known_by_all_that_is_asked(small: SmallSuite) -> None:
    from vista.chat import Prompt
    from vista.engines.base import Request

    prompt = Prompt([1, 2], {}, {}, query_id="q")
    other = Prompt([1, 3], {}, {}, query_id="q")
    asked = [
        parts.request_key(Request(prompt, [0]), 0.0, 8),
        parts.request_key(Request(other, [0]), 0.0, 8),
        parts.request_key(Request(prompt, [1]), 0.0, 8),
        parts.request_key(Request(prompt, [0], [5]), 0.0, 8),
        parts.request_key(Request(prompt, [0]), 1.0, 8),
        parts.request_key(Request(prompt, [0]), 0.0, 9),
    ]
    assert len(set(asked)) == len(asked)
