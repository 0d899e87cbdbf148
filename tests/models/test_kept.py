"""A base model's training that is killed goes on where it was, and ends in the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.grown import built
from tests.models.test_pretrain import prepare
from tests.starved import Starvation
from vista.config import BuiltModel, Decoder
from vista.engines.checkpoints import wrap
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.models import build
from vista.models import kept as states
from vista.models import pretrain as loop
from vista.models.kept import Kept
from vista.models.pretrain import Outcome, Recipe, pretrain
from vista.paths import Paths

Rows = list[dict[str, Any]]
Trained = tuple[dict[str, torch.Tensor], Outcome]  # weights, and what the training reports
RECIPE = Recipe(6, 8, 2e-3)


class Killed(BaseException):
    """Ends a training as a signal would."""


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches went through the model, in the first item; a second item kills that one."""
    counted = [0]
    accumulate = loop._accumulate

    def counting(*given: Any) -> float:
        counted[0] += 1
        if counted[1:] == [counted[0]]:
            raise Killed
        return accumulate(*given)

    monkeypatch.setattr(loop, "_accumulate", counting)
    return counted


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state after each step."""
    monkeypatch.setattr(states, "MINUTES", 0.0)


def trained(architecture: Any, rows: Rows, kept: Kept | None, most: int = RECIPE.part) -> Trained:
    """What a start in a new process ends with, where so many examples fit through the model at once."""
    model, processor, corpus = prepare(architecture, rows)
    Starvation(rows=most).of(wrap(model, processor))
    outcome = pretrain(model, corpus, processor.tokenizer.pad_token_id, RECIPE, "nano", kept=kept)
    return model.state_dict(), outcome


def same(
    one: tuple[dict[str, torch.Tensor], Outcome], other: tuple[dict[str, torch.Tensor], Outcome]
) -> bool:
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "internvl"])
def test_a_training_killed_at_any_step_ends_as_one_that_was_not(
    architecture: Any, rows: Rows, tmp_path: Path, passes: list[int], often: None
) -> None:
    whole = trained(architecture, rows, None)
    for step in (1, 2, RECIPE.steps):
        kept = Kept(tmp_path / str(step), {"seed": 0})
        passes[:] = [0, step]
        with pytest.raises(Killed):
            trained(architecture, rows, kept)
        passes[:] = [0]
        assert same(trained(architecture, rows, kept), whole)
        assert passes == [RECIPE.steps - step + 1]  # what was done is not done again


def test_one_that_is_killed_again_and_again_arrives(
    rows: Rows, tmp_path: Path, passes: list[int], often: None
) -> None:
    kept = Kept(tmp_path / "states", {})
    for _ in range(RECIPE.steps - 1):
        passes[:] = [0, 2]
        with pytest.raises(Killed):
            trained("internvl", rows, kept)
    passes[:] = [0]
    assert same(trained("internvl", rows, kept), trained("internvl", rows, None))


def test_states_are_minutes_apart_but_for_the_last(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Kept, "save", lambda self, name, model, active, progress: saved.append(progress.step))
    trained("internvl", rows, Kept(tmp_path, {}))
    assert saved == [RECIPE.steps]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: Kept(file.parent, {"seed": 1}), "of other settings, inputs, code or versions"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "cannot be read"),
        (lambda file: file.write_bytes(b""), "cannot be read"),
    ],
)
def test_a_state_that_is_not_this_models_is_said_and_not_used(
    rows: Rows,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    often: None,
    spoil: Callable[[Path], Any],
    said: str,
) -> None:
    kept = Kept(tmp_path / "states", {"seed": 0})
    whole = trained("internvl", rows, kept)
    changed = spoil(tmp_path / "states/nano.safetensors")
    assert same(trained("internvl", rows, changed if isinstance(changed, Kept) else kept), whole)
    message = capsys.readouterr().err
    assert said in message
    assert "starting again" in message


def test_what_did_not_fit_once_is_not_tried_again(
    rows: Rows, tmp_path: Path, passes: list[int], often: None
) -> None:
    kept = Kept(tmp_path / "states", {})
    whole = trained("internvl", rows, None, most=4)
    passes[:] = [0, 5]
    with pytest.raises(Killed):
        trained("internvl", rows, kept, most=4)
    passes[:] = [0]
    assert same(trained("internvl", rows, kept), whole)  # in the parts that fitted, though more would now


@pytest.mark.parametrize("killed", [2, 4, 6])
def test_a_model_with_a_decoder_goes_on_in_whichever_of_its_trainings_it_was(
    made: Callable[[BuiltModel, str], Paths],
    decoder: Decoder,
    passes: list[int],
    often: None,
    killed: int,
) -> None:
    entry = built(decoder)
    whole = made(entry, "whole").base("grown")
    every = passes[0]
    passes[:] = [0, killed]
    with pytest.raises(Killed):
        made(entry, "killed")
    passes[:] = [0]
    paths = made(entry, "killed")
    assert passes == [every - killed + 1]
    for file in sorted(whole.glob("*.safetensors")):
        assert file.read_bytes() == (paths.base("grown") / file.name).read_bytes()
    counts = read_manifest(paths.base("grown")).counts
    resumed = [counts.get(each) for each in ("resumed_at_step", "adapted_resumed_at_step")]
    assert resumed == {2: [1, None], 4: [3, None], 6: [3, 2]}[killed]
    assert sorted(each.name for each in paths.base("grown").parent.iterdir()) == ["grown"]


def test_a_checkpoint_that_found_no_room_costs_no_training(
    made: Callable[[BuiltModel, str], Paths],
    decoder: Decoder,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*given: Any) -> None:
        raise VistaError("no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(build, "save_checkpoint", full)
        with pytest.raises(VistaError, match="no space left"):
            made(built(decoder), "grown")
    passes[:] = [0]
    paths = made(built(decoder), "grown")
    assert passes == [0]  # every step had been done
    assert read_manifest(paths.base("grown")).counts["adapted_resumed_at_step"] == decoder.steps


def test_a_training_that_diverges_leaves_no_states(
    made: Callable[[BuiltModel, str], Paths],
    decoder: Decoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    often: None,
) -> None:
    monkeypatch.setattr(loop, "_RISE", -100.0)
    with pytest.raises(VistaError, match="the loss has risen"):
        made(built(decoder), "broken")
    assert not list((tmp_path / "broken").rglob("*.safetensors"))
