"""The check of a model before anything is spent: which families fit, and that what is wrong is found."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import FAMILIES, PLAIN, WIDE, save
from tests.more_families import TRIED
from tests.nano import query
from vista import chat, fitness, segments
from vista.config import LocalModel, ScoringSettings, Suite, load_suite
from vista.config.models import Prompts
from vista.dag import Dag
from vista.engines import hf
from vista.engines.checkpoints import Checkpoint, load_checkpoint, wrap
from vista.errors import VistaError
from vista.fitness import CHECKS, Verdict, check_model, examine, refusal, without_rounding
from vista.grid import asks_system
from vista.manifest import read_manifest
from vista.models.build import build_model
from vista.paths import Paths, manifest_of
from vista.planning.doctor import check_fitness
from vista.rollouts.score import AttentionReader, score_rows
from vista.scores import fraction_of, layer_indices, layers_read, visual_share
from vista.verify import files_to_make, verify

NAMES = [*FAMILIES, *TRIED]
MIDDLE = [0.5]


@cache
def folder_of(family: str, parent: Path) -> Path:
    return save(family, parent / family)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    parent = tmp_path_factory.mktemp("published")
    return lambda family: folder_of(family, parent)


@pytest.fixture
def qwen(saved: Callable[[str], Path]) -> Checkpoint:
    return load_checkpoint(saved("qwen2.5-vl"), device="cpu")


def found(checkpoint: Checkpoint, folder: Path, linear: str = "refuse") -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in examine(checkpoint, folder / "scratch", MIDDLE, linear)}


def failing(verdicts: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in verdicts.items() if verdict.verdict == "fail"}


# --- families ---


def documented(root: Path) -> dict[str, dict[str, str]]:
    """The table of docs/adding.md: by family, the cell of each check."""
    lines = (root / "docs/adding.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    start = next(number for number, row in enumerate(rows) if row[0] == "family")
    table = [row for row in rows[start + 2 :] if len(row) == len(rows[start])]
    return {row[0].strip("`"): dict(zip(rows[start][1:], row[1:], strict=True)) for row in table}


def test_the_table_of_families_has_every_family_and_every_check(root: Path) -> None:
    table = documented(root)
    assert set(table) == set(NAMES)
    assert all(list(row) == list(CHECKS) for row in table.values())


@pytest.mark.parametrize("family", NAMES)
def test_the_table_of_families_is_what_the_check_says(
    root: Path, saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = load_checkpoint(saved(family), device="cpu")
    verdicts = found(checkpoint, tmp_path)
    cells = {name: "no" if verdict.verdict == "fail" else "yes" for name, verdict in verdicts.items()}
    if "linear_layers" in verdicts["attention"].measured:
        assert found(checkpoint, tmp_path, "nearest")["attention"].verdict == "ok"
        cells["attention"] = "`nearest`"
    assert cells == documented(root)[family]
    assert not list(tmp_path.iterdir()), "nothing is left"


@pytest.mark.parametrize("family", NAMES)
def test_batches_of_unequal_lengths_change_no_verdict(
    root: Path, saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    joined: list[int] = []
    own = hf._joined
    monkeypatch.setattr(hf, "_joined", lambda parts: joined.append(len(parts)) or own(parts))
    checkpoint = load_checkpoint(saved(family), device="cpu", padding=True)
    verdicts = found(checkpoint, tmp_path, "nearest")
    cells = documented(root)[family]
    assert failing(verdicts) == {name for name, cell in cells.items() if cell == "no"}
    linear = cells["attention"] == "`nearest`"
    if "no" not in cells.values():
        assert (max(joined) > 1) != linear, "all but linear attention is joined"


def test_a_model_is_left_as_it_was(saved: Callable[[str], Path], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved("qwen3.5"), device="cpu")
    model = checkpoint.model

    def state() -> tuple[Any, ...]:
        return (
            {name: value.clone() for name, value in model.state_dict().items()},
            model.config.to_dict(),
            model.generation_config.to_dict(),
            model.get_decoder().config is model.config.get_text_config(),
            [module.training for module in model.modules()],
            [weight.requires_grad for weight in model.parameters()],
            "forward" in vars(model),
        )

    before = state()
    found(checkpoint, tmp_path)
    after = state()
    assert before[1:] == after[1:]
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["qwen3-vl", "granite-vision", "molmo2"])
def test_in_low_precision_a_model_gets_the_same_verdicts(
    root: Path, saved: Callable[[str], Path], tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    verdicts = found(load_checkpoint(saved(family), device="cpu", dtype=dtype), tmp_path)
    assert failing(verdicts) == {check for check, cell in documented(root)[family].items() if cell == "no"}


# --- what is wrong is found, by the check that is for it ---


def scaled(checkpoint: Checkpoint) -> None:
    """As classes do that leave out a scale which TRL applies."""
    checkpoint.model.config.get_text_config().logit_scale = 0.25


def blind(checkpoint: Checkpoint) -> None:
    own = checkpoint.model.forward

    def forward(*args: Any, pixel_values: Any = None, **more: Any) -> Any:
        shown = None if pixel_values is None else torch.zeros_like(pixel_values)
        return own(*args, pixel_values=shown, **more)

    checkpoint.model.forward = forward


def forgetful(checkpoint: Checkpoint) -> None:
    """A model that does not read what is in its cache."""
    own = type(checkpoint.model).forward

    def forward(model: Any, *args: Any, **inputs: Any) -> Any:
        if inputs["input_ids"].shape[1] == 1:
            inputs["past_key_values"] = copy.deepcopy(inputs["past_key_values"])
            for layer in inputs["past_key_values"].layers:
                layer.keys, layer.values = layer.keys * 0, layer.values * 0
        return own(model, *args, **inputs)

    checkpoint.model.forward = MethodType(forward, checkpoint.model)


def drifting(checkpoint: Checkpoint) -> None:
    """A model that does not save a weight as it is."""
    own = checkpoint.model.save_pretrained

    def save_pretrained(folder: Path) -> None:
        own(folder)
        with torch.no_grad():
            next(checkpoint.model.parameters()).add_(1e-3)

    checkpoint.model.save_pretrained = save_pretrained


def otherwise_in_training(checkpoint: Checkpoint) -> None:
    """A model that scales its logits only while it is trained."""
    checkpoint.model.get_decoder().norm.register_forward_hook(
        lambda norm, _, made: made * (0.5 if norm.training else 1.0)
    )


def mixed_up_when_padded(checkpoint: Checkpoint) -> None:
    """A model that shows every row the first row's text where a batch has padding."""
    own = type(checkpoint.model).forward

    def forward(model: Any, *args: Any, **inputs: Any) -> Any:
        output = own(model, *args, **inputs)
        mask = inputs.get("attention_mask")
        if mask is not None and mask.ndim == 2 and not mask.all():
            output.logits = output.logits[:1].expand_as(output.logits)
        return output

    checkpoint.model.forward = MethodType(forward, checkpoint.model)


def misnumbered(checkpoint: Checkpoint) -> None:
    """A model that counts its attention layers from another one."""
    layers = checkpoint.model.get_decoder().layers
    for number, layer in enumerate(layers):
        layer.self_attn.layer_idx = (number + 1) % len(layers)


@pytest.mark.parametrize(
    ("spoil", "checks"),
    [
        (otherwise_in_training, {"trained and sampled"}),
        (mixed_up_when_padded, {"alone and together"}),
        (misnumbered, {"attention"}),
        (scaled, {"trained and sampled"}),
        (blind, {"one pass"}),
        (forgetful, {"sampled and read"}),
        (drifting, {"saved and loaded"}),
    ],
)
def test_a_fault_is_found_by_its_check(
    qwen: Checkpoint, tmp_path: Path, spoil: Callable[[Checkpoint], None], checks: set[str]
) -> None:
    spoil(qwen)
    verdicts = found(qwen, tmp_path)
    assert checks <= failing(verdicts)
    assert failing(verdicts) - checks <= {"trained and sampled"}, "only what follows from it"


def test_dropout_is_no_fault_and_all_chance_is_as_before(qwen: Checkpoint, tmp_path: Path) -> None:
    for layer in qwen.model.get_decoder().layers:
        layer.self_attn.attention_dropout = 0.5
        layer.mlp.act_fn = torch.nn.Sequential(layer.mlp.act_fn, torch.nn.Dropout(0.5))
    qwen.model.eval()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert not failing(found(qwen, tmp_path))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert not any(part.training for part in qwen.model.modules())
    layer = qwen.model.get_decoder().layers[0]
    assert (layer.self_attn.attention_dropout, layer.mlp.act_fn[1].p) == (0.5, 0.5)


def test_segments_that_take_text_for_the_image_are_found(
    qwen: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = segments.segments

    def first_is_vision(*args: Any) -> list[int]:
        return [segments.VISION, *own(*args)[1:]]

    def all_is_instruction(*args: Any) -> list[int]:
        return [segments.INSTRUCTION if kind == segments.SYSTEM else kind for kind in own(*args)]

    for wrong, said in ((first_is_vision, "has no placeholder"), (all_is_instruction, "segment reads")):
        monkeypatch.setattr(segments, "segments", wrong)
        verdict = found(qwen, tmp_path)["segments"]
        assert (verdict.verdict, said in verdict.measured) == ("fail", True)


def test_an_error_names_the_model_the_check_and_what_to_do() -> None:
    verdicts = [Verdict("segments", "ok", "9"), Verdict("one pass", "fail", "ValueError: x: y")]
    verdicts.append(Verdict("attention", "fail", "none"))
    said = str(refusal("mine", verdicts))
    assert said.startswith("model mine: check one pass (does one pass read")
    assert "ValueError: x: y" in said
    assert "attention" in said
    assert "take another model" in said


def test_too_little_memory_is_no_verdict_on_the_model(
    qwen: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(qwen.model, "forward", no_memory)
    with pytest.raises((torch.OutOfMemoryError, VistaError), match="out of memory"):
        found(qwen, tmp_path)


def test_rounding_in_low_precision_is_told_apart_from_a_fault() -> None:
    low = [
        Verdict("segments", "fail", "a"),
        Verdict("alone and together", "fail", "0.3"),
        Verdict("attention", "ok", "b"),
    ]
    asked: list[int] = []

    def in_float32(verdict: str) -> Callable[[], list[Verdict]]:
        def examine() -> list[Verdict]:
            asked.append(1)
            return [Verdict(each.check, verdict, "1e-7") for each in low]

        return examine

    def no_memory() -> list[Verdict]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    rounded = without_rounding(low, in_float32("ok"))
    assert rounded == [low[0], Verdict("alone and together", "ok", "0.3; in float32 1e-7"), low[2]]
    assert without_rounding(low, in_float32("fail"))[1].verdict == "fail"
    assert without_rounding(low, no_memory) == low
    assert len(asked) == 2
    fine = [replace(verdict, verdict="ok") for verdict in low]
    assert without_rounding(fine, in_float32("ok")) == fine
    assert len(asked) == 2, "only where it is in doubt"


# --- in a suite ---


def suite_of(root: Path, folder: Path, results: Path, dtype: Any = "auto", **scoring: Any) -> Suite:
    """The testbed with one model, a folder."""
    suite = load_suite(root / "config/testbed.yaml", root=root)
    changes: dict[str, Any] = {
        "models": {"mine": LocalModel(kind="path", path=folder, dtype=dtype)},
        "results": results,
    }
    if scoring:
        changes["scoring"] = ScoringSettings(**scoring)
    return suite.model_copy(update=changes)


def test_verdicts_are_kept_with_a_manifest_and_shown_by_the_doctor(
    root: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    suite = suite_of(root, saved("qwen3-vl"), tmp_path)
    paths = Paths(tmp_path)
    (before,) = check_fitness(suite)
    assert "vista check" in before.message
    build_model(suite, paths, "mine")
    check_model(suite, paths, "mine")
    manifest = read_manifest(paths.check("mine"))
    assert set(manifest.settings["verdicts"]) == set(CHECKS)
    shown = check_fitness(suite)
    assert [finding.message.split(":")[0] for finding in shown] == list(CHECKS)
    assert {finding.verdict for finding in shown} == {"ok"}
    report = verify(suite)
    assert (report.outputs, report.damaged) == (2, {})
    assert files_to_make(suite, ["models/mine.check.json"]) == {
        "models/mine.check.json": "models/mine.check.json"
    }
    # Of a model that is asked otherwise, or of another checkpoint, it says nothing.
    entry = suite.models["mine"].model_copy(update={"prompts": Prompts(system="")})
    assert len(check_fitness(suite.model_copy(update={"models": {"mine": entry}}))) == 1
    build_model(suite_of(root, saved("internvl"), tmp_path), paths, "mine")
    assert len(check_fitness(suite)) == 1


def test_a_model_that_does_not_fit_is_refused_and_the_doctor_says_so_too(
    root: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    suite, paths = suite_of(root, saved("granite-vision"), tmp_path), Paths(tmp_path)
    build_model(suite, paths, "mine")
    with pytest.raises(VistaError, match="model mine: check trained and sampled"):
        check_model(suite, paths, "mine")
    assert not paths.check("mine").exists()
    wrong = [finding for finding in check_fitness(suite) if finding.verdict == "fail"]
    assert [finding.message.split(":")[0] for finding in wrong] == ["trained and sampled"]


def test_a_model_is_checked_in_its_entrys_precision_and_a_fault_in_float32_too(
    root: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    paths = Paths(tmp_path)
    fits = suite_of(root, saved("qwen3-vl"), tmp_path, "bfloat16")
    build_model(fits, paths, "mine")
    check_model(fits, paths, "mine")
    assert json.loads(paths.check("mine").read_text())["dtype"] == "torch.bfloat16"
    scaled = suite_of(root, saved("granite-vision"), tmp_path, "bfloat16")
    build_model(scaled, paths, "mine")
    with pytest.raises(VistaError, match=r"check trained and sampled.*; in float32 .*\(at most 0.0001\)"):
        check_model(scaled, paths, "mine")


def test_a_hybrid_model_is_refused_unless_the_suite_says_to_read_the_nearest_layer(
    root: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    paths = Paths(tmp_path)
    refused = suite_of(root, saved("qwen3.5"), tmp_path, layers=MIDDLE)
    build_model(refused, paths, "mine")
    with pytest.raises(VistaError, match=r"layers \[1, 3\] can be read: set scoring\.linear_layers: nearest"):
        check_model(refused, paths, "mine")
    nearest = suite_of(root, saved("qwen3.5"), tmp_path, layers=MIDDLE, linear_layers="nearest")
    assert len(check_fitness(nearest)) == 1, "the failure was at other settings"
    check_model(nearest, paths, "mine")
    assert not paths.failed_check("mine").exists()
    verdicts = json.loads(paths.check("mine").read_text())["verdicts"]
    assert "layer 1 for 2" in next(each["measured"] for each in verdicts if each["check"] == "attention")


def test_attention_is_not_needed_where_no_method_reads_it(
    root: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    suite = suite_of(root, saved("qwen3.5"), tmp_path)
    methods = {name: suite.methods[name] for name in ("zero-shot", "sft-seed", "rest-em")}
    suite, paths = suite.model_copy(update={"methods": methods}), Paths(tmp_path)
    build_model(suite, paths, "mine")
    check_model(suite, paths, "mine")
    assert "no method of the suite" in read_manifest(paths.check("mine")).settings["verdicts"]["attention"]


def test_jobs_on_base_weights_wait_for_the_check_and_no_others(root: Path, tmp_path: Path) -> None:
    suite = suite_of(root, tmp_path, tmp_path / "results")
    dag = Dag(suite)
    check = [str(manifest_of(Paths(suite.results).check("mine")))]
    run = "mine/grids/{}/seed0/round{}"
    assert dag.checked(run.format("zero-shot", 0)) == check
    assert dag.checked(run.format("sft-seed", 0), training=True) == check
    assert dag.checked(run.format("sft-seed", 0)) == []
    assert dag.checked(run.format("rest-em", 1)) == []
    built = load_suite(root / "config/testbed.yaml", root=root)
    model = next(iter(built.models))
    assert Dag(built).checked(run.format("zero-shot", 0).replace("mine", model)) == []


def test_every_rule_that_reads_weights_waits_for_the_check_without_going_stale_by_it(root: Path) -> None:
    waiting = 0
    for file in (root / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^ *rule\b", file.read_text(), flags=re.MULTILINE)[1:]:
            reads = "PLAN.checkpoint(" in rule or "PLAN.training_start(" in rule
            assert ("checked=ancient(" in rule) == reads, f"{file.name}: {rule[:40]}"
            waiting += reads
    assert waiting == 5
    check = (root / "workflow/rules/models.smk").read_text().partition("rule check:")[2]
    assert check.count("update(") == 2, "a check that fails leaves the last that passed"


# --- hybrid models ---

QWEN3_5 = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 8


def test_layers_with_attention_are_read_as_they_are() -> None:
    for linear in ("refuse", "nearest"):
        assert layers_read([0, 14, 27], None, linear) == [0, 14, 27]
        assert layers_read([1, 2], ["sliding_attention", "full_attention", "hybrid"], linear) == [1, 2]
        assert layers_read([3, 15], QWEN3_5, linear) == [3, 15]


def test_the_nearest_layer_with_attention_stands_for_one_without() -> None:
    assert layers_read([0, 1, 16, 17, 18, 30], QWEN3_5, "nearest") == [3, 3, 15, 15, 19, 31]
    assert layers_read([1], ["full_attention", "conv", "full_attention"], "nearest") == [0], (
        "of two the earlier"
    )


def test_fractions_that_a_refusal_names_are_layers_that_can_be_read() -> None:
    for kinds in (QWEN3_5, ["conv", "full_attention", "linear_attention"] * 9):
        with pytest.raises(VistaError) as caught:
            layers_read(range(len(kinds)), kinds, "refuse")
        named = re.findall(r"[\d.]+", str(caught.value).partition("such as")[2])
        layers = [int(float(fraction) * len(kinds)) for fraction in named]
        assert layers_read(layers, kinds, "refuse") == layers
        assert len(layers) == kinds.count("full_attention")


@pytest.mark.parametrize("linear", ["refuse", "nearest"])
def test_a_model_without_any_attention_is_refused(linear: Any) -> None:
    with pytest.raises(VistaError, match="no layer has any"):
        layers_read([1], ["linear_attention", "conv"], linear)


def test_a_checkpoint_in_memory_can_be_examined(qwen: Checkpoint, tmp_path: Path) -> None:
    verdicts = fitness.examine(wrap(qwen.model, qwen.processor), tmp_path / "scratch", None)
    assert [verdict.verdict for verdict in verdicts].count("ok") == len(CHECKS) - 1


def test_scores_of_a_layer_without_attention_are_those_of_the_nearest(saved: Callable[[str], Path]) -> None:
    checkpoint = load_checkpoint(saved("qwen3.5"), device="cpu")
    queries = [query(1, size=PLAIN), query(2, size=WIDE)]
    solutions = [
        {**row, "sample": 0, "source": "sample", "parent": None, "correct": True, "token_ids": [10, 11]}
        for row in queries
    ]
    with pytest.raises(VistaError, match=r"layers \[0, 2\] of 4 .* set scoring\.linear_layers"):
        score_rows(checkpoint, queries, solutions, "all", 2)
    instead = score_rows(checkpoint, queries, solutions, [0.0, 0.5, 1.0], 2, "nearest")
    own = score_rows(checkpoint, queries, solutions, [0.25, 1.0], 2)
    for row, other in zip(instead, own, strict=True):
        assert (row["layers"], other["layers"], row["num_layers"]) == ([0, 2, 3], [1, 3], 4)
        for name in ("s_sys", "s_vis", "s_ins"):
            assert row[name] == [other[name][0], other[name][0], other[name][1]]
        assert visual_share(row, MIDDLE) == visual_share(other, [0.25])


def test_where_attention_passes_by_the_interface_the_layers_that_can_be_read_are_named(
    qwen: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = AttentionReader.attend

    def attend(reader: Any, module: Any, *args: Any, **more: Any) -> Any:
        if module.layer_idx == 1:
            more["softcap"] = 30.0
        return own(reader, module, *args, **more)

    monkeypatch.setattr(AttentionReader, "attend", attend)
    said = found(qwen, tmp_path)["attention"].measured
    assert "softcap cannot be scored; layers [0] can be read: set scoring.layers" in said


@pytest.mark.parametrize("first", ["image", "text"])
def test_a_begin_token_that_the_processor_adds_is_no_vision(saved: Callable[[str], Path], first: str) -> None:
    processor = load_checkpoint(saved("molmo2"), device="cpu").processor
    if first == "image":  # before the turns, as Molmo's own template has it
        images = (
            "{%- for message in messages -%}{%- for part in message.content -%}"
            "{%- if part.type == 'image' -%}{{- '<|image|>' -}}{%- endif -%}{%- endfor -%}{%- endfor -%}"
        )
        own = processor.inner.chat_template
        processor.inner.chat_template = images + own.replace("{{- '<|image|>' -}}", "")
    row = {**query(1, size=PLAIN), "system": None, "instruction": "What is it?"}
    prompt = chat.encode_query(processor, row)
    kinds = segments.segments(processor, chat.messages(row), prompt)
    tokens = processor.tokenizer.convert_ids_to_tokens(prompt.input_ids)
    assert tokens[0] == "<|endoftext|>"
    of_image = [token for token, kind in zip(tokens, kinds, strict=True) if kind == segments.VISION]
    assert of_image
    assert all(token.startswith(("<im_", "<low_res_im")) for token in of_image)
    assert kinds[0] == segments.INSTRUCTION


def test_a_template_that_leaves_the_system_turn_out_fits_only_where_no_system_text_is_asked(
    root: Path, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(saved("llava-1.5"), device="cpu")
    inner = checkpoint.processor.inner
    inner.chat_template = inner.chat_template.replace(
        "for message in messages", "for message in messages if message.role != 'system'"
    )
    for asked, expected in ((True, "fail"), (False, "ok")):
        first, *others = examine(checkpoint, tmp_path / "scratch", MIDDLE, system=asked)
        assert first.verdict == expected
        assert {verdict.verdict for verdict in others} == {"ok"}
    assert "leaves the system turn out" in examine(checkpoint, tmp_path / "scratch", MIDDLE)[0].measured
    suite = suite_of(root, tmp_path, tmp_path)
    entry = suite.models["mine"]
    assert asks_system(suite, "mine")
    for system, expected in (("", False), ("Look.", True)):
        own = entry.model_copy(update={"prompts": Prompts(system=system)})
        assert asks_system(suite.model_copy(update={"models": {"mine": own}}), "mine") == expected


def test_without_trl_what_training_sees_is_said_not_to_be_tried(
    qwen: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else find(name))
    verdicts = found(qwen, tmp_path)
    assert verdicts.pop("trained and sampled").verdict == "not tried"
    assert {verdict.verdict for verdict in verdicts.values()} == {"ok"}


@pytest.mark.parametrize("count", [*range(1, 101), 126])
def test_a_fraction_that_an_error_names_means_the_layer(count: int) -> None:
    for layer in range(count):
        assert layer_indices([float(f"{fraction_of(layer, count):g}")], count) == [layer]
