"""How a model is asked: `prompts` of a suite and of a model's entry, from the config to every stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from tests.families import FAMILIES, made
from tests.nano import SYSTEM, checkpoint, query
from tests.rollouts.conftest import suite_at
from vista import chat
from vista.config import Prompts, Suite, Wording, load_suite, load_yaml
from vista.curation.curate import curate
from vista.dag import Dag
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import save_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate
from vista.grid import Run, rollout_files
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.planning.assumptions import Assumptions
from vista.planning.plan import as_dict, make_plan, show
from vista.records import EXAMPLE, PREDICTION, QUERY, ROLLOUT, Row, read_rows, write_rows
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.segments import INSTRUCTION, segments
from vista.segments import SYSTEM as SYSTEM_SEGMENT
from vista.training.train import train
from vista.verdicts import answer_of
from vista.wording import hinted, refining, selecting

OWN = Prompts(system="read the grid", suffix="what is the answer ?", answer_mark="so")
SAID = "step there 4 so 7"


# --- config ---


def resolved(root: Path, suite: dict[str, Any], model: dict[str, Any], tmp_path: Path) -> Suite:
    """The smoke suite with ``prompts`` of its own and of its only model."""
    models = load_yaml(root / "models.yaml")
    (tmp_path / "models.yaml").write_text(json.dumps({**models, "nano-smoke": models["nano-smoke"] | model}))
    value = {**load_yaml(root / "config/smoke.yaml"), **suite, "models_file": str(tmp_path / "models.yaml")}
    return load_suite(root / "config/smoke.yaml", value, root)


def test_a_models_prompts_win_over_the_suites_key_by_key(root: Path, tmp_path: Path) -> None:
    own = {"prompts": {"suffix": "Think.", "answer_mark": None}}
    shared = {"prompts": {"system": "You look.", "suffix": "Be brief.", "answer_mark": "Verdict ->"}}
    found = resolved(root, shared, own, tmp_path).models["nano-smoke"].prompts
    assert found == Prompts(system="You look.", suffix="Think.")
    assert resolved(root, shared, {}, tmp_path).models["nano-smoke"].prompts.answer_mark == "Verdict ->"
    assert resolved(root, {}, own, tmp_path).models["nano-smoke"].prompts == Prompts(suffix="Think.")


def test_without_prompts_nothing_is_printed_recorded_or_made_again(root: Path, tmp_path: Path) -> None:
    plain = load_suite(root / "config/smoke.yaml", root=root)
    assert "prompts" not in plain.model_dump_json()
    assert Suite.model_validate_json(plain.model_dump_json()) == plain
    assert resolved(root, {"prompts": {}}, {"prompts": {"suffix": None}}, tmp_path) == plain


def test_prompts_are_in_the_resolved_suite(root: Path, tmp_path: Path) -> None:
    suite = resolved(root, {"prompts": {"suffix": "Think."}}, {}, tmp_path)
    assert '"suffix": "Think."' in suite.model_dump_json(indent=2)
    assert Suite.model_validate_json(suite.model_dump_json()) == suite


def test_an_empty_suffix_changes_nothing_and_wins_over_the_suites(root: Path, tmp_path: Path) -> None:
    plain = load_suite(root / "config/smoke.yaml", root=root)
    assert resolved(root, {"prompts": {"suffix": ""}}, {}, tmp_path).models == plain.models
    found = resolved(root, {"prompts": {"suffix": "Think."}}, {"prompts": {"suffix": ""}}, tmp_path)
    assert found.models["nano-smoke"].prompts == Prompts()


@pytest.mark.parametrize("mark", ["", " ", "\n"])
def test_a_mark_of_blanks_is_refused(mark: str) -> None:
    with pytest.raises(ValidationError, match="marks nothing"):
        Prompts(answer_mark=mark)


def test_a_wrong_key_or_value_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"prompts\.suffux: unknown key; did you mean 'suffix'"):
        resolved(root, {"prompts": {"suffux": "Think."}}, {}, tmp_path)
    with pytest.raises(VistaError, match=r"nano-smoke.built.prompts.system"):
        resolved(root, {"prompts": {"suffix": "Think."}}, {"prompts": {"system": 3}}, tmp_path)
    with pytest.raises(VistaError, match=r"nano-smoke.built.prompts: "):
        resolved(root, {"prompts": {"suffix": "Think."}}, {"prompts": "Think."}, tmp_path)


# --- what a model is shown ---


def test_a_suffix_has_a_line_of_its_own_unless_it_begins_with_a_blank() -> None:
    asked = query(1)
    assert chat.prompted(asked, Prompts()) == asked
    first = chat.prompted(asked, Prompts(suffix="Think."))["instruction"]
    assert first == f"{asked['instruction']}\nThink."
    second = chat.prompted(asked, Prompts(suffix=" Answer:"))["instruction"]
    assert second == f"{asked['instruction']} Answer:"


def test_an_empty_system_text_is_no_system_turn() -> None:
    turns = chat.messages(chat.prompted(query(1), Prompts(system="")))
    assert [turn["role"] for turn in turns] == ["user"]


def test_hints_and_candidates_come_after_the_suffix() -> None:
    asked, wording = chat.prompted(query(1), OWN), Wording()
    begin = f"{query(1)['instruction']}\nwhat is the answer ?\n"
    for row in (
        hinted(asked, wording),
        refining(asked, SAID, wording),
        selecting(asked, [SAID, SAID], wording),
    ):
        assert row["instruction"].startswith(begin)
        assert (row["system"], row["answer_mark"]) == ("read the grid", "so")


@pytest.mark.parametrize("mark", ["Final verdict ->", "so", "<verdict>"])
def test_the_own_mark_counts_besides_the_usual_ones(mark: str) -> None:
    asked = chat.prompted(query(1), Prompts(answer_mark=mark))
    assert answer_of(asked, f"It is this.\n{mark} 7") == "7"
    assert answer_of(asked, f"{mark} 7\nAnswer: 8") == "8", "what is written last counts"
    assert answer_of(asked, f"\\boxed{{7}} {mark} 8") == "8"
    assert answer_of(query(1), f"It is this.\n{mark} 7") is None


@pytest.mark.parametrize(
    ("mark", "text", "found"),
    [
        ("answer", "The answer is 5.", "5"),
        ("answer", "Answer: 5", "5"),
        ("Answer", "**Final answer:** 5", "5"),
        ("the answer is", "So the answer is: 5.", "5"),
        ("boxed", r"\boxed{5}", "5"),
        ("<answer>", "<answer>5</answer>", "5"),
        ("A:", "A: 5\nData: 4", "5"),
        ("A", "Answer: Apple", "Apple"),
        ("result", "result 5, of several results", "5"),
        ("答案:", "所以答案:5", "5"),
        ("<result>", "<result>5</result>", "5"),
        ("<result>", "<Result>\n5\n</Result> Done.", "5"),
    ],
)
def test_an_own_mark_is_no_part_of_a_word_or_of_a_usual_mark(mark: str, text: str, found: str) -> None:
    said = answer_of({"answer_mark": mark}, text)
    assert said is not None
    assert said.split(",")[0] == found


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_suffix_is_instruction_and_the_system_text_system(family: str) -> None:
    _, processor = made(family)
    asked = chat.prompted(query(1), Prompts(system="You look .", suffix="What is the answer ?"))
    prompt = chat.encode_query(processor, asked)
    kinds = segments(processor, chat.messages(asked), prompt)

    def text(kind: int) -> str:
        ids = [token for token, own in zip(prompt.input_ids, kinds, strict=True) if own == kind]
        return str(processor.tokenizer.decode(ids))

    assert "You look" in text(SYSTEM_SEGMENT)
    assert "You look" not in text(INSTRUCTION)
    assert "What is the answer" in text(INSTRUCTION)


# --- what is refused before any work ---


@pytest.mark.parametrize("name", ["system", "suffix", "answer_mark"])
def test_a_special_token_in_a_prompt_is_refused(name: str) -> None:
    processor = checkpoint("qwen2.5-vl").processor
    with pytest.raises(VistaError, match=rf"model m: prompts.{name} spells '<\|image_pad\|>'"):
        chat.check_prompts(processor, Prompts(**{name: "read <|image_pad|> ."}), "m")


@pytest.mark.parametrize("name", ["system", "suffix", "answer_mark"])
def test_words_that_a_model_does_not_know_are_refused(name: str) -> None:
    processor = checkpoint("qwen2.5-vl").processor
    with pytest.raises(VistaError, match=rf"model m: prompts.{name}: .* does not know 'Consider'"):
        chat.check_prompts(processor, Prompts(**{name: "Consider the grid"}), "m")
    chat.check_prompts(processor, OWN, "m")


def test_a_template_that_leaves_the_system_turn_out_is_refused() -> None:
    tokenizer = checkpoint("qwen2.5-vl").processor.tokenizer
    processor = SimpleNamespace(
        tokenizer=tokenizer, chat_template="x", apply_chat_template=lambda *_, **__: "x"
    )
    with pytest.raises(VistaError, match=r"leaves the system turn out; move the text to prompts\.suffix"):
        chat.check_prompts(processor, Prompts(system="read the grid"), "m")


# --- every stage ---

BASE = "zero-shot"


class Said(HfEngine):
    """Says the same to every prompt, which it writes down."""

    prompts: list[str]

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        self.prompts.extend(request.prompt.text for request in requests)
        ids = checkpoint("qwen2.5-vl").processor.tokenizer(SAID, add_special_tokens=False)["input_ids"]
        return [[Sample(list(ids), -1.0, finished=True)] * len(request.seeds) for request in requests]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The prompts since it was last called."""
    prompts: list[str] = []
    monkeypatch.setattr("vista.engines.hf.HfEngine", type("Said", (Said,), {"prompts": prompts}))

    def take() -> list[str]:
        taken = list(prompts)
        prompts.clear()
        return taken

    return take


@pytest.fixture
def two(tmp_path: Path) -> tuple[Suite, Paths]:
    """Two models with the same weights, one of which has prompts."""
    entry = {"kind": "built", "architecture": "qwen2.5-vl", "corpus": "corpus"}
    models = {"own": {**entry, "prompts": OWN.model_dump()}, "plain": entry}
    step = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4}
    suite = suite_at(tmp_path, models=models, training=dict.fromkeys(["seed", "sft", "dpo"], step))
    start = {"kind": "self-improvement", "initial_policy": BASE, "mix_seed": False}
    rft = {**start, "rollouts": {"k": 2, "max_new_tokens": 12}}
    select = {**rft, "reflect": ["refine", "select"]}
    methods = {"zero-shot": {"kind": "base"}, "rft": rft, "r3v": select, "star": suite.methods["star"]}
    changed = suite.model_dump() | {"methods": methods, "eval_max_new_tokens": 12}
    words = {"refine": "{instruction} no : {solution}", "select": "{instruction} {candidates} what is it ?"}
    suite = Suite.model_validate(changed | {"out_of_domain": [], "wording": words})
    paths = Paths(tmp_path)
    for name in models:
        save_checkpoint(checkpoint("qwen2.5-vl").model, checkpoint("qwen2.5-vl").processor, paths.base(name))
        Recorder("models", {}, []).write(paths.base(name), {})
    for task, first in (("first", 0), ("second", 20)):
        for split in ("train", "test"):
            rows = [asked(task, split, first + 10 * (split == "test") + number) for number in (6, 7)]
            write_rows(paths.queries(task, split), rows, QUERY)
    return suite, paths


def asked(task: str, split: str, number: int) -> Row:
    row = {**query(number), "task": task, "split": split}
    return row | {"answer": "7", "answer_type": "number"}


def test_every_stage_asks_a_model_in_its_own_form(
    two: tuple[Suite, Paths], said: Callable[[], list[str]]
) -> None:
    suite, paths = two
    for model, own in (("own", True), ("plain", False)):
        run = Run(model, "tasks", "rft", 0, 1)
        policy = Run(model, "tasks", BASE, 0, 0)
        name = rollout_files(suite.methods["rft"]).samples
        sample_shard(suite, paths, policy, name, 0)
        shown = said()
        assert len(shown) == 4
        assert all(("read the grid" in text) is own for text in shown)
        assert all((SYSTEM in text) is not own for text in shown)
        assert all(("what is the answer ?<|im_end|>" in text) is own for text in shown)
        file = paths.rollouts(policy.id, "samples", name, 0, 1)
        solutions = read_rows(file, ROLLOUT)
        assert {(row["answer"], row["correct"]) for row in solutions} == {("7" if own else None, own)}
        assert ("prompts" in read_manifest(file).settings) is own
        curate(suite, paths, run)
        rows = read_rows(paths.training_set(run.id), EXAMPLE)
        assert len(rows) == (8 if own else 0), "two samples of each of four queries"
        for row in rows:
            system, user = row["prompt"]
            assert system["content"][0]["text"] == "read the grid"
            assert user["content"][1]["text"].endswith("\nwhat is the answer ?")
        train(suite, paths, run)
        evaluate(suite, paths, run)
        assert all("what is the answer ?<|im_end|>" in text for text in said())
        assert len(read_rows(paths.predictions(run.id), PREDICTION)) == (4 if own else 0)
        evaluate(suite, paths, policy)
        found = read_rows(paths.predictions(policy.id), PREDICTION)
        assert sorted(said()) == sorted(
            chat.encode_query(
                checkpoint("qwen2.5-vl").processor,
                chat.prompted(
                    asked(row["task"], "test", int(row["query_id"][1:])), OWN if own else Prompts()
                ),
            ).text
            for row in found
        )
        assert {(row["answer"], row["score"]) for row in found} == {("7" if own else None, float(own))}
        assert read_manifest(paths.predictions(policy.id)).settings.get("prompts") == (
            {"system": "read the grid", "suffix": "what is the answer ?", "answer_mark": "so"}
            if own
            else None
        )


def test_a_hint_is_given_in_the_models_own_form(
    two: tuple[Suite, Paths], said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, paths = two
    wording = Wording(hint="{instruction} hint : {answer}", **suite.wording.model_dump(exclude={"hint"}))
    suite = suite.model_copy(update={"wording": wording})
    names = rollout_files(suite.methods["star"])
    policy = Run("own", "tasks", BASE, 0, 0)
    monkeypatch.setattr("vista.verdicts.is_correct", lambda *_: False)
    sample_shard(suite, paths, policy, names.samples, 0)
    said()
    resample_shard(suite, paths, policy, names.resamples, 0)
    shown = said()
    assert len(shown) == 4
    assert all("read the grid" in text for text in shown)
    assert all("what is the answer ? hint : 7<|im_end|>" in text for text in shown)
    (rows,) = [read_rows(paths.rollouts(policy.id, "resamples", names.resamples, 0, 1), ROLLOUT)]
    assert {row["answer"] for row in rows} == {"7"}


def test_unknown_words_stop_the_jobs_that_would_ask_in_them(two: tuple[Suite, Paths]) -> None:
    suite, paths = two
    changed = suite.models["own"].model_copy(update={"prompts": Prompts(suffix="Consider")})
    suite = suite.model_copy(update={"models": {"own": changed}})
    policy = Run("own", "tasks", BASE, 0, 0)
    with pytest.raises(VistaError, match=r"model own: prompts\.suffix: .*'Consider'"):
        sample_shard(suite, paths, policy, "k2-t1-n12", 0)
    with pytest.raises(VistaError, match=r"model own: prompts\.suffix: .*'Consider'"):
        evaluate(suite, paths, policy)


# --- staleness and plans ---


def digests(suite: Suite, model: str) -> dict[str, str]:
    plan, policy = Dag(suite), Run(model, "tasks", BASE, 0, 0).id
    run = Run(model, "tasks", "r3v", 0, 1).id
    name = str(rollout_files(suite.methods["vista"]).samples)
    resamples = str(rollout_files(suite.methods["vista"]).resamples)
    scores = str(rollout_files(suite.methods["vista"]).scores)
    return {
        "model": plan.model_settings(model),
        "samples": plan.rollout_settings("samples", name, policy),
        "resamples": plan.rollout_settings("resamples", resamples, policy),
        "scores": plan.rollout_settings("scores", scores, policy),
        "gains": plan.rollout_settings("gains", scores, policy),
        "curation": plan.curation_settings(run),
        "training": plan.training_settings(run),
        "evaluation": plan.evaluation_settings(run),
    }


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"system": "read"}, {"samples", "resamples", "scores", "gains", "curation", "evaluation"}),
        ({"suffix": "read"}, {"samples", "resamples", "scores", "gains", "curation", "evaluation"}),
        ({"answer_mark": "total"}, {"samples", "resamples", "evaluation"}),
    ],
)
def test_prompts_make_stale_what_they_change_of_their_model_only(
    two: tuple[Suite, Paths], changes: dict[str, str], stale: set[str]
) -> None:
    suite, paths = two
    suite = suite.model_copy(
        update={"methods": {**suite.methods, "vista": suite_at(paths.results).methods["vista"]}}
    )
    entry = suite.models["own"]
    changed = entry.model_copy(update={"prompts": entry.prompts.model_copy(update=changes)})
    other = suite.model_copy(update={"models": {**suite.models, "own": changed}})
    before, after = digests(suite, "own"), digests(other, "own")
    assert {name for name in before if before[name] != after[name]} == stale
    assert digests(suite, "plain") == digests(other, "plain")


def test_a_plan_names_the_prompts_that_are_set(two: tuple[Suite, Paths]) -> None:
    suite, _ = two
    plan = make_plan(suite, Assumptions())
    assert as_dict(plan)["prompts"] == {"own": OWN.model_dump()}
    console = Console(record=True, width=160)
    show(plan, console)
    text = console.export_text()
    assert "prompts.suffix" in text
    assert "'what is the answer ?'" in text
    plain = suite.model_copy(update={"models": {"plain": suite.models["plain"]}})
    assert "prompts" not in as_dict(make_plan(plain, Assumptions()))
