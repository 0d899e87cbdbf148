"""Queries that a processor cannot encode are found before anything is spent, in whatever split they are."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.families import FAMILIES, INSTRUCTION, SYSTEM, made, save
from tests.nano import query
from vista import chat
from vista.cli import app
from vista.config import Suite
from vista.config.models import Prompts
from vista.dag import Dag
from vista.engines.checkpoints import save_checkpoint
from vista.engines.presenter import Presenter
from vista.errors import VistaError
from vista.manifest import Recorder, read_manifest
from vista.models.nano import build_nano
from vista.paths import Paths, manifest_of
from vista.planning.own_data import check_words
from vista.reads import Reads
from vista.records import QUERY, Row, write_json, write_rows
from vista.rollouts.encodable import EXAMPLES, MARGIN, Examiner, check_encodable, response_limit

STEP = {"epochs": 1}
TASK = {"kind": "grid", "questions": ["closed"], "sizes": {"seed": 2, "train": 3, "test": 9}}


def picture(width: int, height: int, **options: Any) -> list[Row]:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(buffer, **{"format": "PNG", **options})
    return [{"bytes": buffer.getvalue(), "path": None}]


def asked(number: int, task: str, split: str, **changes: Any) -> Row:
    about = {"query_id": f"{task}-{split}-{number}", "task": task, "split": split, "images": picture(24, 24)}
    return {**query(number), "system": SYSTEM, "instruction": INSTRUCTION, **about, **changes}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite.model_validate(
        {
            "name": "tiny",
            "results": tmp_path / "results",
            "train_sets": {"own": ["own"]},
            "out_of_domain": ["far"],
            "tasks": {"own": TASK, "far": TASK},
            "models": {"m": {"kind": "path", "path": tmp_path / "m"}},
            "methods": {
                "sft-seed": {"kind": "seed"},
                "rest-em": {"kind": "self-improvement", "rollouts": {"k": 2, "max_new_tokens": 20}},
            },
            "training": {"seed": STEP, "sft": STEP, "dpo": STEP},
            "eval_max_new_tokens": 30,
        }
    )


@pytest.fixture
def check(suite: Suite) -> Callable[..., dict[str, Any]]:
    """Checks the queries of all splits, of which some are replaced by file and number."""

    def run(
        replaced: dict[tuple[str, str, int], dict[str, Any]], family: str = "qwen2.5-vl"
    ) -> dict[str, Any]:
        paths = Paths(suite.results)
        base = save(family, paths.base("m"))
        Recorder("models", {}, []).write(base, {})
        for task, split in (("own", "seed"), ("own", "train"), ("own", "test"), ("far", "test")):
            size = TASK["sizes"][split]  # type: ignore[index]
            rows = [asked(n, task, split, **replaced.get((task, split, n), {})) for n in range(size)]
            rows = [{name: row[name] for name in QUERY.names} for row in rows]
            write_rows(paths.queries(task, split), rows, QUERY)
        check_encodable(suite, paths, "m")
        found: dict[str, Any] = json.loads(paths.encodable("m").read_text())
        return found

    return run


def test_what_all_splits_ask_is_counted_if_it_can_be_asked(check: Callable[..., Any], suite: Suite) -> None:
    found = check({("far", "test", 1): {"images": picture(48, 24)}})
    assert (found["model"], found["queries"], found["image_sizes"]) == ("m", 2 + 3 + 9 + 9, 2)
    manifest = read_manifest(Paths(suite.results).encodable("m"))
    assert manifest.counts["queries"] == 23
    assert {Path(name).parent.name for name in manifest.inputs} == {"models", "own", "far"}


BAD = {
    "a picture too long and thin": ({"images": picture(3000, 3)}, "(3000×3 pixels)"),
    "one that lies on its side": ({"images": picture(3, 3000)}, "(3×3000 pixels)"),
    "a place for an image": (
        {"instruction": "What is <|image_pad|> ?"},
        "instruction spells '<|image_pad|>'",
    ),
    "the end of a turn": ({"instruction": "Is it<|im_end|>"}, "its instruction spells '<|im_end|>'"),
    "the same in the system turn": ({"system": "<|im_start|>"}, "its system spells '<|im_start|>'"),
    "the same in a rationale": ({"rationale": "a <|vision_start|>"}, "rationale spells '<|vision_start|>'"),
    "more than the context holds": ({"instruction": "§% " * 400}, "context is 512"),
    "no image at all": ({"images": [{"bytes": b"GIF89a", "path": None}]}, "image cannot be opened"),
}


@pytest.mark.parametrize("place", [("own", "seed"), ("own", "train"), ("own", "test"), ("far", "test")])
@pytest.mark.parametrize("what", BAD)
def test_a_query_that_cannot_be_asked_is_named_with_its_split(
    what: str, place: tuple[str, str], check: Callable[..., Any], suite: Suite
) -> None:
    changes, said = BAD[what]
    task, split = place
    with pytest.raises(VistaError) as raised:
        check({(task, split, 1): changes})
    message = str(raised.value)
    assert f"{task}/{split}: query '{task}-{split}-1': " in message
    assert said in message
    assert "1 of its 23 queries" in message
    assert "kind: path" in message
    assert not Paths(suite.results).encodable("m").exists()


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"suffix": "End with <|im_end|>"}, "prompts.suffix spells '<|im_end|>'"),
        ({"system": "<|im_start|>"}, "prompts.system spells '<|im_start|>'"),
        ({"answer_mark": "<|vision_end|>"}, "prompts.answer_mark spells '<|vision_end|>'"),
    ],
)
def test_prompts_that_cannot_be_shown_are_named_and_not_the_queries(
    prompts: dict[str, str], said: str, check: Callable[..., Any], suite: Suite
) -> None:
    suite.models["m"] = suite.models["m"].model_copy(update={"prompts": Prompts(**prompts)})
    with pytest.raises(VistaError, match=re.escape(f"model m: {said}")) as raised:
        check({})
    assert "23 queries" not in str(raised.value)


def test_the_first_of_many_are_listed_and_the_rest_counted(check: Callable[..., Any]) -> None:
    bad = {("far", "test", n): {"images": picture(900, 3)} for n in range(EXAMPLES + 2)}
    with pytest.raises(VistaError, match=f"{EXAMPLES + 2} of its 23 queries") as raised:
        check(bad)
    assert str(raised.value).count("(900×3 pixels)") == EXAMPLES
    assert "\n  and 2 more\n" in str(raised.value)


def test_a_photo_is_measured_upright(check: Callable[..., Any]) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    with pytest.raises(VistaError, match="3×3000 pixels"):
        check({("own", "test", 0): {"images": picture(3000, 3, format="JPEG", exif=tag)}})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_prompt_is_refused_just_if_it_exceeds_the_context(family: str) -> None:
    processor = Presenter(made(family)[1])
    for size in ((24, 24), (48, 24)):
        shown = asked(0, "own", "test", images=picture(*size))
        length = len(chat.encode_query(processor, shown))
        roomy = Examiner(processor, None)
        assert roomy.problem(shown, 0) is None
        assert abs(roomy.longest - length) < MARGIN
        assert Examiner(processor, length + 7).problem(shown, 7) is None
        assert Examiner(processor, length + 6).problem(shown, 7) is not None


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_special_token_of_every_family_is_found_and_no_ordinary_text(family: str) -> None:
    processor = Presenter(made(family)[1])
    examiner, tokenizer = Examiner(processor, None), processor.tokenizer
    special = {tokenizer.convert_ids_to_tokens(token) for token in chat.forbidden_tokens(processor, [])}
    for name in special - {tokenizer.unk_token}:
        assert examiner.spelled(f"Is {name} in the picture?") == name
    for text in ("Is 2 < 3 > 1?", "[x] | y", "<br> or <image of a lung", "x^2 </ p>", "", "\n"):
        assert examiner.spelled(text) is None


def test_the_name_of_the_unknown_token_is_found_here_as_in_training() -> None:
    processor = Presenter(copy.deepcopy(made("qwen2.5-vl")[1]))
    processor.tokenizer.add_special_tokens({"unk_token": "<unk>"})
    assert chat.gold_ids(processor, "<unk>") == [processor.tokenizer.unk_token_id]
    examiner = Examiner(processor, None)
    assert examiner.spelled("Is <unk> in the picture?") == "<unk>"
    assert examiner.spelled("Is unk in the picture?") is None


UNKNOWN = [
    {"instruction": "is the lung clear ?", "answer": "no"},
    {"instruction": "is the heart clear ?", "answer": "lung"},
    {"instruction": "is there a 3 ?", "answer": "3"},
]


def with_unknown(suite: Suite, model: dict[str, Any], **tasks: Any) -> Suite:
    """The suite with another model, trained on nothing."""
    stated = suite.model_dump(mode="json", exclude_unset=True)
    stated["models"] = {"m": model}
    stated["tasks"] |= tasks
    return Suite.model_validate(stated)


def save_built(suite: Suite) -> None:
    model, processor = build_nano("qwen2.5-vl", ["is", "there", "a", "the", "clear", "?", "no"], seed=0)
    base = Paths(suite.results).base("m")
    save_checkpoint(model, processor, base)
    Recorder("models", {}, []).write(base, {})


def test_words_that_a_built_model_does_not_know_are_counted_and_told(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is asked a table of the user's own; the generated tasks have no such words."""
    table = {"kind": "table", "source": "far.csv", "answer_type": "closed"}
    built = {"kind": "built", "architecture": "qwen2.5-vl", "corpus": "own"}
    suite = with_unknown(suite, built, far=table)
    far = Paths(suite.results).queries("far", "test")
    assert Reads(suite, Paths(suite.results)).asked("m") == [far]
    (before,) = check_words(suite)
    assert (before.verdict, before.message) == ("ok", "counted before anything is spent (vista encodable)")
    save_built(suite)
    rows = [asked(n, "far", "test", system=None, **changes) for n, changes in enumerate(UNKNOWN)]
    write_rows(far, [{name: row[name] for name in QUERY.names} for row in rows], QUERY)
    check_encodable(suite, Paths(suite.results), "m")
    found = json.loads(Paths(suite.results).encodable("m").read_text())["unknown"]
    assert (found["far/test"]["queries"], found["far/test"]["words"], len(found)) == (2, 2, 1)
    assert read_manifest(Paths(suite.results).encodable("m")).counts["unknown/far/test"] == 2
    told = "far/test: 2 of 3 queries have words that its tokenizer has no token for (2: 'lung', 'heart')"
    assert f"warning: model m: {told}" in capsys.readouterr().err
    (finding,) = check_words(suite)
    assert (finding.verdict, finding.subject) == ("warn", "words of m")
    assert finding.message.startswith(told)


def test_nothing_is_said_where_a_tokenizer_takes_any_text(
    check: Callable[..., Any], suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check({("far", "test", 1): {"instruction": "is the lung clear ?"}})
    assert "unknown" not in found
    assert "warning" not in capsys.readouterr().err
    (finding,) = check_words(suite)
    assert (finding.verdict, finding.message) == ("ok", "its tokenizer has tokens for all that it is asked")


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"


def test_a_turn_that_the_template_refuses_is_named_with_its_query() -> None:
    processor = Presenter(copy.deepcopy(made("qwen2.5-vl")[1]))
    processor.inner.chat_template = REFUSING + processor.inner.chat_template
    examiner = Examiner(processor, None)
    said = examiner.problem(asked(0, "own", "test"), 0)
    assert said == "the processor or its chat template refuses its prompt: no system turn"
    assert examiner.problem(asked(0, "own", "test", system=None), 0) is None


def test_seed_queries_leave_room_for_what_is_written_about_them(
    check: Callable[..., Any], suite: Suite
) -> None:
    room = 512 - check({})["longest_prompt"]
    assert check({("own", "seed", 0): {"rationale": "§" * ((room - MARGIN) // 3)}})["queries"] == 23
    with pytest.raises(VistaError, match=r"own/seed: query 'own-seed-0': .* the response up to"):
        check({("own", "seed", 0): {"rationale": "§% " * room}})
    sampled = {"kind": "self", "rollouts": {"k": 1, "max_new_tokens": 511}}
    before = Dag(suite).encodable_settings("m")
    suite = Suite.model_validate({**suite.model_dump(), "seed_rationales": sampled})
    assert [response_limit(suite, split) for split in ("seed", "train", "test")] == [511, 20, 30]
    assert Dag(suite).encodable_settings("m") != before


def test_the_tokens_of_all_prompts_are_added_up(check: Callable[..., Any]) -> None:
    found = check({})
    assert found["longest_prompt"] < found["prompt_tokens"] <= found["queries"] * found["longest_prompt"]


def test_what_costs_something_waits_for_it(suite: Suite) -> None:
    plan = Dag(suite)
    expected = [str(manifest_of(plan.paths.encodable("m")))]
    for run in ("m/own/sft-seed/seed0/round0", "m/own/rest-em/seed0/round1"):
        assert plan.encodable(run) == expected
    assert plan.asked("m") == [
        str(plan.paths.queries(task, split))
        for task, split in (("own", "test"), ("far", "test"), ("own", "seed"), ("own", "train"))
    ]


def test_jobs_of_built_models_wait_for_nothing_where_all_tasks_are_generated(root: Path) -> None:
    from vista.config import load_suite

    suite = load_suite(root / "config/testbed.yaml", root=root)
    plan = Dag(suite)
    assert not any(plan.asked(model) for model in suite.models)


def test_the_rules_take_the_check_as_ancient_so_that_it_makes_nothing_again(root: Path) -> None:
    for name in ("rollouts", "training", "evaluation"):
        rules = (root / f"workflow/rules/{name}.smk").read_text()
        assert "encodable=ancient(lambda w: PLAN.encodable(w.run))," in rules


def test_the_command_says_what_is_wrong_without_a_traceback(check: Callable[..., Any], suite: Suite) -> None:
    with pytest.raises(VistaError):
        check({("own", "test", 0): BAD["a picture too long and thin"][0]})
    write_json(suite.results / "suite.json", suite.model_dump(mode="json"))
    done = CliRunner().invoke(app, ["encodable", str(suite.results / "suite.json"), "m"])
    assert isinstance(done.exception, VistaError)
