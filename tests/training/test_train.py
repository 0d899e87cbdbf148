"""The training stage on files: checkpoints, manifests, determinism and what stops it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import WORDS, example, pair, responses
from vista import plugins
from vista.config import (
    AnnotatedRationales,
    Hyperparameters,
    LoraTuning,
    ModelTraining,
    Suite,
    TeacherRationales,
)
from vista.damage import sha256
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, Status, read_manifest
from vista.models.nano import build_nano
from vista.objectives.sft import SftSettings
from vista.paths import Paths
from vista.reads import Reads
from vista.records import EXAMPLE, PAIR, Row, write_rows
from vista.training.fit import fit
from vista.training.train import settings_of, train

MODEL = "nano-internvl"
Make = Callable[..., Hyperparameters]


def run_of(method: str, round_number: int = 1) -> Run:
    return Run(MODEL, "grids", method, 0, round_number)


def with_training(suite: Suite, hyper: Hyperparameters) -> Suite:
    same = {"seed": hyper, "sft": hyper, "dpo": hyper}
    return suite.model_copy(update={"training": suite.training.model_copy(update=same)})


def prepare(paths: Paths, run: Run, rows: list[Row], status: Status = "complete") -> None:
    """A base checkpoint and a training set."""
    model, processor = build_nano("internvl", WORDS, 0)
    base = paths.base(MODEL)
    save_checkpoint(model, processor, base)
    Recorder("models", {}, []).write(base, {})
    examples = paths.training_set(run.id)
    write_rows(examples, rows, PAIR if "dpo" in run.method else EXAMPLE)
    Recorder("curation", {}, []).write(examples, {}, status)


def some_rows(method: str, count: int = 6) -> list[Row]:
    words = responses(count)
    if "dpo" in method:
        return [pair(n, words[n], [50 + n % 3] * (1 + n % 4)) for n in range(count)]
    return [example(n, words[n]) for n in range(count)]


@pytest.mark.parametrize("method", ["rest-em", "dpo"])
def test_two_trainings_give_the_same_bytes(suite: Suite, hyper: Make, tmp_path: Path, method: str):
    small = with_training(suite, hyper(epochs=2))
    run = run_of(method)
    weights = []
    for name in "ab":
        paths = Paths(tmp_path / name)
        prepare(paths, run, some_rows(method))
        train(small, paths, run)
        weights.append((paths.trained(run.id) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != (Paths(tmp_path / "a").base(MODEL) / "model.safetensors").read_bytes()


def test_a_trained_run_is_a_whole_checkpoint_with_a_manifest(
    suite: Suite, hyper: Make, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = run_of("rest-em")
    prepare(paths, run, some_rows("rest-em"))
    train(with_training(suite, hyper(epochs=2)), paths, run)
    folder = paths.trained(run.id)
    load_checkpoint(folder)
    counts = read_manifest(folder).counts
    assert (counts["examples"], counts["steps"], counts["epochs"]) == (6, 4, 2)
    sampled = sum(len(ids) + 1 for ids in responses(6))
    assert counts["tokens"] > 2 * sampled
    assert counts["last_loss"] < counts["first_loss"]
    assert not list(tmp_path.glob("vista-training-*"))
    assert not list(folder.parent.glob(".*"))
    assert not list(folder.rglob("*optimizer*"))


def test_the_manifest_says_how_a_run_was_trained(suite: Suite, hyper: Make, paths: Paths, root: Path):
    run = run_of("rest-em")
    small = with_training(suite, hyper())
    training = ModelTraining(tuning=LoraTuning(kind="lora", r=2), device_batch_size=2)
    entry = small.models[MODEL].model_copy(update={"training": training})
    small = small.model_copy(update={"models": {**small.models, MODEL: entry}})
    prepare(paths, run, some_rows("rest-em", 4))
    train(small, paths, run)
    found = read_manifest(paths.trained(run.id)).settings
    assert found["training"]["tuning"] == training.tuning.model_dump()
    assert {name: found["training"][name] for name in ("processes", "device_batch_size", "passes")} == {
        "processes": 1,
        "device_batch_size": 2,
        "passes": 2,
    }
    assert found["training"]["accelerate"] is None
    assert set(found["dtype"].values()) == {"torch.float32"}
    file = root / "config/accelerate/fsdp.yaml"
    spread = training.model_copy(update={"accelerate": file})
    entry = entry.model_copy(update={"training": spread})
    recorded = settings_of(small.model_copy(update={"models": {MODEL: entry}}), run)["training"]["accelerate"]
    assert recorded == {"file": str(file), "sha256": sha256(file), "text": file.read_text()}


def test_an_objective_from_outside_the_package_is_recorded(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    run = run_of("dpo")
    assert "plugins" not in settings_of(suite, run)
    monkeypatch.setattr(plugins, "origin", lambda settings: {"kind": settings.kind})
    assert settings_of(suite, run)["plugins"] == [{"kind": "dpo"}]


ODD = "au bv <|im_end|>"


def test_an_annotated_rationale_that_spells_a_special_token_stops_training_and_names_its_file(
    suite: Suite, hyper: Make, paths: Paths
):
    run = run_of("rest-em")
    rows = [*some_rows("rest-em", 2), example(5, None, text=ODD, source="seed")]
    prepare(paths, run, rows)
    files = {suite.train_sets[run.train_set][0]: Path("data/mine.jsonl")}
    annotated = with_training(suite, hyper()).model_copy(
        update={"seed_rationales": AnnotatedRationales(files=files)}
    )
    with pytest.raises(VistaError) as caught:
        train(annotated, paths, run)
    said = str(caught.value)
    for part in (str(paths.training_set(run.id)), "row 2", "'q5'", "'<|im_end|>'", "data/mine.jsonl"):
        assert part in said
    assert not paths.trained(run.id).exists()


def test_a_teachers_rationale_that_spells_a_special_token_is_left_out_and_counted(
    suite: Suite, hyper: Make, paths: Paths, tmp_path: Path
):
    run = run_of("rest-em")
    prepare(paths, run, [*some_rows("rest-em", 4), example(5, None, text=ODD, source="seed")])
    teacher = TeacherRationales(
        kind="teacher", endpoint="http://localhost/v1", model="m", cache=tmp_path / "cache", max_requests=1
    )
    taught = with_training(suite, hyper()).model_copy(update={"seed_rationales": teacher})
    train(taught, paths, run)
    counts = read_manifest(paths.trained(run.id)).counts
    assert (counts["examples"], counts["dropped_special_tokens"]) == (4, 1)


def test_nothing_is_printed_to_stdout(suite: Suite, hyper: Make, paths: Paths, capfd: Any):
    run = run_of("dpo")
    prepare(paths, run, some_rows("dpo", 2))
    train(with_training(suite, hyper()), paths, run)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert f"train {run.id}" in printed.err


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "internvl"])
@pytest.mark.parametrize("method", ["rest-em", "dpo"])
def test_a_few_examples_are_learnt_by_heart(
    suite: Suite, hyper: Make, fresh: Any, method: str, architecture: str
):
    objective = suite.methods[method].objective if method == "dpo" else SftSettings(kind="sft")  # type: ignore[union-attr]
    settings = hyper(epochs=40, learning_rate=3e-3)
    counts = fit(fresh(architecture), some_rows(method, 4), settings, objective, "overfit")
    assert counts["last_loss"] < 0.4 * counts["first_loss"]


def test_a_loss_that_is_no_number_stops_the_run_and_saves_nothing(suite: Suite, hyper: Make, paths: Paths):
    run = run_of("rest-em")
    prepare(paths, run, some_rows("rest-em"))
    wild = with_training(suite, hyper(learning_rate=1e30, epochs=3))
    with pytest.raises(VistaError, match=rf"{run.id}: the loss is (nan|inf) at step \d of 6.*learning rate"):
        train(wild, paths, run)
    assert not paths.trained(run.id).exists()


def test_weights_broken_by_the_last_step_are_not_saved(suite: Suite, hyper: Make, paths: Paths):
    run = run_of("rest-em")
    prepare(paths, run, some_rows("rest-em", 2))
    with pytest.raises(VistaError, match=r"is not finite after training|the loss is"):
        train(with_training(suite, hyper(learning_rate=1e39)), paths, run)
    assert not paths.trained(run.id).exists()


def test_a_training_set_without_positives_passes_its_status_on(suite: Suite, paths: Paths):
    run = run_of("rest-em")
    prepare(paths, run, [], "no-positives")
    stale = paths.trained(run.id) / "model.safetensors"
    stale.parent.mkdir(parents=True)
    stale.touch()
    train(suite, paths, run)
    assert read_manifest(paths.trained(run.id)).status == "no-positives"
    assert [path.name for path in paths.trained(run.id).iterdir()] == ["manifest.json"]


def test_an_empty_training_set_that_claims_to_be_complete_is_refused(suite: Suite, paths: Paths):
    run = run_of("rest-em")
    prepare(paths, run, [])
    with pytest.raises(VistaError, match="no rows, though its manifest says complete"):
        train(suite, paths, run)


def test_prompts_in_words_that_the_model_does_not_know_are_refused(suite: Suite, hyper: Make, paths: Paths):
    method = suite.methods["rest-em"].model_copy(update={"reflect": ["refine"]})
    reflecting = suite.model_copy(update={"methods": {**suite.methods, "rest-em": method}})
    run = run_of("rest-em")
    prepare(paths, run, some_rows("rest-em"))
    with pytest.raises(VistaError, match=r"model nano-internvl does not know .* wording\.refine: 'no'"):
        train(with_training(reflecting, hyper()), paths, run)
    assert not paths.trained(run.id).exists()


def test_a_missing_base_is_named(suite: Suite, paths: Paths):
    run = run_of("rest-em")
    examples = paths.training_set(run.id)
    write_rows(examples, some_rows("rest-em"), EXAMPLE)
    Recorder("curation", {}, []).write(examples, {})
    with pytest.raises(VistaError, match=f"models/{MODEL}"):
        train(suite, paths, run)


def test_training_restarts_from_the_base_unless_told_to_go_on(suite: Suite, paths: Paths):
    assert Reads(suite, paths).start(run_of("rest-em", 3)) == paths.base(MODEL)
    going_on = suite.methods["rest-em"].model_copy(update={"restart": "previous"})
    other = suite.model_copy(update={"methods": {**suite.methods, "rest-em": going_on}})
    assert Reads(other, paths).start(run_of("rest-em", 3)) == paths.trained(run_of("rest-em", 2).id)
    assert Reads(other, paths).start(run_of("rest-em")) == paths.trained(run_of("sft-seed", 0).id)


def test_a_method_that_trains_nothing_is_refused(suite: Suite, paths: Paths):
    with pytest.raises(VistaError, match="'zero-shot' trains nothing"):
        train(suite, paths, run_of("zero-shot", 0))
