"""Test queries answered by vLLM in its own environment: asked and scored as transformers' answers are."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.engines.test_vllm import fake  # noqa: F401 - a fixture
from tests.evaluation.conftest import RUN, SmallSuite
from tests.evaluation.test_own_tasks import with_own_tasks
from tests.own_tasks import SCORED, write_task
from vista import chat, damage
from vista.analysis.cost import COLUMNS, cost_rows, read_benchmarks, read_outputs
from vista.closure import closure, entry_points
from vista.config import SelectMethod, Suite, VllmEngineSettings
from vista.dag import Dag
from vista.engines.base import Request
from vista.engines.checkpoints import load_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate
from vista.evaluation.parts import SAMPLE
from vista.evaluation.requests import requests
from vista.evaluation.respond import respond
from vista.grid import Run
from vista.manifest import ORIGIN, Recorder, read_manifest
from vista.records import read_rows, write_rows
from vista.released import release

ENGINE = VllmEngineSettings(kind="vllm", batch_size=2)
CHOSEN = Run(RUN.model, "grids", "chosen", 0, 1)
TRAINED = Run(RUN.model, "grids", "vista-sft", 0, 1)  # whose checkpoint it decodes


class Serving:
    """Takes vLLM's place: answers what it is asked with transformers."""

    calls: ClassVar[list[int]] = []  # prompts of each
    left: ClassVar[float] = math.inf  # calls until it is interrupted
    started: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **options: Any) -> None:
        self.started.append(options)
        self.hf = HfEngine(load_checkpoint(Path(options["model"]), device="cpu"), 32)

    def generate(self, prompts: list[Any], params: list[Any], use_tqdm: bool) -> list[Any]:
        if len(Serving.calls) >= Serving.left:
            raise KeyboardInterrupt
        Serving.calls.append(len(prompts))
        return [self._answer(*pair) for pair in zip(prompts, params, strict=True)]

    def _answer(self, prompt: dict[str, Any], params: SimpleNamespace) -> SimpleNamespace:
        processor = self.hf.checkpoint.processor
        text = processor.tokenizer.decode(prompt["prompt_token_ids"])
        images = prompt.get("multi_modal_data", {"image": []})["image"]
        (shown,) = chat._encode_together(processor, [text], [images])
        ((sample,),) = self.hf.sample([Request(shown, [params.seed])], params.temperature, params.max_tokens)
        tokens = [*sample.token_ids, *(params.stop_token_ids[:1] if sample.finished else [])]
        never = dict.fromkeys(params.logit_bias, SimpleNamespace(logprob=-math.inf))
        logprobs = [{**never, token: SimpleNamespace(logprob=-0.5)} for token in tokens]
        reason = "stop" if sample.finished else "length"
        output = SimpleNamespace(token_ids=tokens, finish_reason=reason, logprobs=logprobs)
        return SimpleNamespace(prompt_token_ids=shown.input_ids, outputs=[output])


@pytest.fixture(autouse=True)
def served(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(sys.modules["vllm"], "LLM", Serving)
    monkeypatch.setattr("vista.evaluation.respond.TOGETHER", 2)
    Serving.calls, Serving.started, Serving.left = [], [], math.inf


@pytest.fixture
def both(small: SmallSuite, tmp_path: Path) -> SmallSuite:
    """A suite with tasks of its own and of lmms-eval's, with stop strings and pictures; and with a choice."""
    tasks = tmp_path / "mine"
    write_task(tasks, "stops", SCORED.replace("max_new_tokens: 4", 'max_new_tokens: 4, until: [" row"]'))
    with_own_tasks(small, write_task(tasks, "pictured", pictures=2), "stops", "pictured")
    methods = {**small.suite.methods, "chosen": SelectMethod(kind="select", of="vista-sft", k=2)}
    words = small.suite.wording.model_copy(update={"select": "{instruction}\n{candidates}\nwhich answer ?"})
    small.suite = small.suite.model_copy(update={"methods": methods, "wording": words})
    shutil.copytree(small.paths.base(RUN.model), small.paths.trained(TRAINED.id))
    return small


def by_vllm(small: SmallSuite) -> Suite:
    small.suite = small.suite.model_copy(update={"engine": ENGINE})
    return small.suite


def answer(small: SmallSuite, run: Run = RUN) -> bytes:
    """Make a run's predictions as the rules do."""
    for path in Dag(small.suite).reads.requests():
        requests(small.suite, small.paths, path.stem)
    respond(small.suite, small.paths, run)
    evaluate(small.suite, small.paths, run)
    return small.paths.predictions(run.id).read_bytes()


@pytest.mark.parametrize("run", [RUN, CHOSEN], ids=["greedy", "chosen"])
def test_predictions_are_those_of_transformers_where_the_tokens_are(
    both: SmallSuite, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(both.suite, both.paths, run)
    output = both.paths.predictions(run.id)
    whole, counts = output.read_bytes(), read_manifest(output).counts
    assert 0 < counts["unfinished"] < counts["predictions"]
    shutil.rmtree(output.parent)
    by_vllm(both)
    with monkeypatch.context() as patch:
        patch.setattr("vista.engines.checkpoints.require_gpu", lambda *_: pytest.fail("scoring needs no GPU"))
        assert answer(both, run) == whole
    manifest = read_manifest(output)
    assert manifest.counts == counts
    assert (
        manifest.settings["engine"]
        == read_manifest(both.paths.responses(run.id)).settings["engine"]
        == "vllm"
    )
    (started,) = Serving.started
    assert started["limit_mm_per_prompt"]["image"] == 2
    assert str(both.paths.responses(run.id)) in manifest.inputs


def test_the_table_of_costs_takes_no_document_for_a_request_to_an_endpoint(both: SmallSuite) -> None:
    for path in Dag(by_vllm(both)).reads.requests():
        requests(both.suite, both.paths, path.stem)
        assert read_manifest(path).counts == {"documents": 6}
    models = both.suite.every_model
    rows = cost_rows(read_benchmarks(both.paths, models), read_outputs(both.paths, models), models)
    assert list(rows) == COLUMNS


def test_greedy_decoding_has_the_limit_the_ends_and_the_forbidden_tokens_of_transformers(
    both: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    whole = Serving.generate
    monkeypatch.setattr(
        Serving,
        "generate",
        lambda self, prompts, params, **_: asked.extend(params) or whole(self, prompts, params, False),
    )
    by_vllm(both)
    answer(both)
    checkpoint = load_checkpoint(both.paths.base(RUN.model), device="cpu")
    assert {each.temperature for each in asked} == {0.0}
    assert {tuple(each.stop_token_ids) for each in asked} == {tuple(checkpoint.end_ids)}
    assert {tuple(sorted(each.logit_bias)) for each in asked} == {tuple(sorted(checkpoint.forbidden_ids))}
    assert [each.max_tokens for each in asked] == [8] * 24 + [4] * 12
    assert {each.ignore_eos for each in asked} == {True}


def test_what_an_interrupted_job_was_answered_is_not_asked_again_and_another_task_is_all_that_is(
    both: SmallSuite,
) -> None:
    suite = by_vllm(both)
    whole = answer(both)
    assert (len(Serving.calls), sum(Serving.calls)) == (10, 36)
    shutil.rmtree(both.paths.predictions(RUN.id).parent)
    Serving.calls, Serving.left = [], 5
    with pytest.raises(KeyboardInterrupt):
        answer(both)
    assert not both.paths.responses(RUN.id).exists()
    Serving.calls, Serving.left = [], math.inf
    assert answer(both) == whole
    assert Serving.calls == [4, 4, 2, 4, 2]
    both.suite = suite.model_copy(update={"out_of_domain": []})
    answer(both)
    both.suite = suite
    Serving.calls = []
    assert answer(both) == whole
    assert sum(Serving.calls) == 24, "all but the task that stayed"


def other_weights(small: SmallSuite) -> None:
    small.save_base("qwen3-vl")


def other_limit(small: SmallSuite) -> None:
    small.suite = small.suite.model_copy(update={"eval_max_new_tokens": 7})


def other_code(small: SmallSuite) -> None:
    ORIGIN.digests = lambda: {"code": "edited"}


@pytest.mark.parametrize("change", [other_weights, other_limit, other_code])
def test_what_decides_responses_has_all_asked_again(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(ORIGIN, "digests", dict)
    by_vllm(small)
    respond(small.suite, small.paths, RUN)
    respond(small.suite, small.paths, RUN)
    assert sum(Serving.calls) == 24
    change(small)
    respond(small.suite, small.paths, RUN)
    assert sum(Serving.calls) == 48


def test_a_prompt_that_is_another_one_in_the_main_environment_is_refused(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_vllm(small)
    respond(small.suite, small.paths, RUN)
    encode = chat.encode_named

    def with_one_token_more(*args: Any) -> list[chat.Prompt]:
        return [replace(prompt, input_ids=[*prompt.input_ids, 5]) for prompt in encode(*args)]

    monkeypatch.setattr(chat, "encode_named", with_one_token_more)
    with pytest.raises(VistaError, match=r"query 'grid-open/0': .*no response to the prompt.*same version"):
        evaluate(small.suite, small.paths, RUN)


def test_a_response_that_is_lacking_is_told_and_scored_as_nothing_else(small: SmallSuite) -> None:
    by_vllm(small)
    respond(small.suite, small.paths, RUN)
    path = small.paths.responses(RUN.id)
    manifest = read_manifest(path)
    write_rows(path, read_rows(path, SAMPLE)[:-1], SAMPLE)
    with pytest.raises(VistaError, match="changed after they were made"):
        evaluate(small.suite, small.paths, RUN)
    Recorder("evaluation", manifest.settings, []).write(path, {})
    with pytest.raises(VistaError, match="has no response"):
        evaluate(small.suite, small.paths, RUN)


@pytest.mark.parametrize("run", [TRAINED, CHOSEN], ids=["greedy", "chosen"])
def test_responses_of_a_released_checkpoint_are_scored_as_they_were(both: SmallSuite, run: Run) -> None:
    """An edited scorer asks for no weights: none are there, nor are those that are left looked at."""
    checkpoint = both.paths.trained(TRAINED.id)
    Recorder("training", {"run": TRAINED.id}, []).write(checkpoint, {})
    both.paths.results.joinpath("suite.json").write_text("{}")
    by_vllm(both)
    whole = answer(both, run)
    shutil.rmtree(both.paths.predictions(run.id).parent / ".tasks")
    assert release(both.paths.results, checkpoint, read_manifest(checkpoint).checksums) > 0
    evaluate(both.suite, both.paths, run)
    assert both.paths.predictions(run.id).read_bytes() == whole
    assert str(checkpoint) in read_manifest(both.paths.predictions(run.id)).inputs
    with pytest.raises(VistaError, match="the weights were released"):
        respond(both.suite, both.paths, run)
    # What is kept of it is still checked.
    (checkpoint / "config.json").write_text("{}")
    with pytest.raises(VistaError, match=r"config\.json: cut short"):
        evaluate(both.suite, both.paths, run)


def test_weights_that_are_released_while_their_responses_are_scored_are_not_missed(
    both: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = both.paths.trained(TRAINED.id)
    Recorder("training", {"run": TRAINED.id}, []).write(checkpoint, {})
    by_vllm(both)
    whole = answer(both, TRAINED)
    shutil.rmtree(both.paths.predictions(TRAINED.id).parent / ".tasks")
    opened, hashed = damage.sha256, list[str]()
    monkeypatch.setattr(damage, "sha256", lambda path: hashed.append(path.name) or opened(path))
    evaluate(both.suite, both.paths, TRAINED)
    assert both.paths.predictions(TRAINED.id).read_bytes() == whole
    assert "config.json" in hashed
    assert "model.safetensors" not in hashed


def test_other_responses_are_scored_anew(small: SmallSuite) -> None:
    by_vllm(small)
    before = answer(small)
    path = small.paths.responses(RUN.id)
    rows = [row | {"token_ids": row["token_ids"][:1]} for row in read_rows(path, SAMPLE)]
    settings = read_manifest(path).settings
    write_rows(path, rows, SAMPLE)
    Recorder("evaluation", settings, []).write(path, {})
    evaluate(small.suite, small.paths, RUN)
    assert small.paths.predictions(RUN.id).read_bytes() != before


def test_a_checkpoint_without_positives_passes_its_status_on(small: SmallSuite) -> None:
    suite, run = by_vllm(small), Run(RUN.model, "grids", "vista-dpo", 0, 1)
    small.finish_without_positives(run)
    respond(suite, small.paths, run)
    evaluate(suite, small.paths, run)
    assert read_manifest(small.paths.responses(run.id)).status == "no-positives"
    assert read_manifest(small.paths.predictions(run.id)).status == "no-positives"


def test_requests_that_are_missing_are_named_before_vllm_starts(both: SmallSuite) -> None:
    suite = by_vllm(both)
    with pytest.raises(VistaError, match=r"requests/stops\.parquet: no such file"):
        respond(suite, both.paths, RUN)
    assert Serving.started == []


def test_with_transformers_nothing_is_answered_elsewhere(small: SmallSuite) -> None:
    plain = Dag(small.suite)
    assert plain.responses(RUN.id) == plain.requests() == []
    assert (plain.responding(), plain.requested_tasks()) == ("(?!)", "(?!)")
    with pytest.raises(VistaError, match=r"engine: hf answers in `vista evaluate`"):
        respond(small.suite, small.paths, RUN)


def test_the_rules_answer_with_the_command_of_its_environment_and_score_without_a_gpu(
    both: SmallSuite,
) -> None:
    plain = Dag(both.suite.model_copy(update={"gpus": 1}))
    fast = Dag(by_vllm(both).model_copy(update={"gpus": 1}))
    assert (plain.command("responses"), fast.command("responses")) == ("vista", ENGINE.command)
    assert (plain.gpus_of("evaluate", RUN.id), plain.gpus("evaluation", RUN.id)) == (1, 1)
    assert (fast.gpus_of("evaluate", RUN.id), fast.gpus("evaluation", RUN.id)) == (0, 1)
    assert plain.evaluation_settings(RUN.id) != fast.evaluation_settings(RUN.id)
    assert [Path(path).stem for path in fast.requests()] == ["stops", "pictured"]


def test_the_code_that_scores_answers_nothing_again() -> None:
    answering = set(closure(entry_points("respond")))
    assert {"vista.engines.vllm", "vista.evaluation.answering", "vista.chat"} <= answering
    scoring = {"vista.evaluation.evaluate", "vista.evaluation.harness", "vista.evaluation.chat_model"}
    assert not answering & scoring
    assert not {name for name in answering if name.startswith("vista.evaluation.tasks.")}
