"""Training on what the policy samples as it trains: GRPO's formula, groups and seeds, and what stops it."""

from __future__ import annotations

import csv
import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import WORDS
from tests.training.groups import LIMIT, K, Us, UsSettings, asked, online
from tests.training.test_launch import with_model
from tests.training.test_losses import differentiable, log_probs
from tests.training.test_resume import Killed, states_of, stop_at
from tests.training.test_train import MODEL, run_of
from vista import chat
from vista.config import (
    HfEngineSettings,
    Hyperparameters,
    LoraTuning,
    ModelTraining,
    OnlineMethod,
    Suite,
    load_yaml,
)
from vista.engines.base import Request
from vista.engines.checkpoints import Checkpoint, save_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.images import open_images
from vista.manifest import Recorder, Status, read_manifest
from vista.models.nano import build_nano
from vista.paths import Paths
from vista.reads import Reads
from vista.records import ASKED, ROLLOUT, Row, write_rows
from vista.rewards import Reward, RewardSettings
from vista.training.data import Online
from vista.training.fit import fit, make_trainer
from vista.training.online import GroupSampler
from vista.training.train import objective_of, train

Fresh = Callable[..., Checkpoint]
Hyper = Callable[..., Hyperparameters]


class NothingSettings(RewardSettings):
    kind: Literal["nothing"] = "nothing"
    value: Any = float("nan")


class Nothing(Reward[NothingSettings]):
    def of(self, solution: Row, query: Mapping[str, Any]) -> float:
        return self.settings.value


def made(checkpoint: Checkpoint, hyper: Hyperparameters, what: Online, folder: Path, **training: Any) -> Any:
    rows = [asked(n) for n in range(4)]
    return make_trainer(
        checkpoint, rows, hyper, what, folder, 7, ModelTraining(**training), title="a/b/c/seed0/round1"
    )


def first_step(trainer: Any) -> list[dict[str, Any]]:
    """The forward passes of the first step, with the responses that they were made of."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    seen: list[list[Row]] = []
    sampled = trainer._solutions
    trainer._solutions = lambda rows: seen.append(sampled(rows)) or seen[-1]
    trainer.model.train()
    step = list(itertools.islice(iter(trainer.sampler), trainer.online.sampling.k * trainer.sampler.groups))
    passes = trainer._sampled(step[:: trainer.online.sampling.k])
    trainer.drawn = seen[0]
    return passes


def advantages_by_hand(rewards: list[float], scale: str) -> list[float]:
    groups = [rewards[at : at + K] for at in range(0, len(rewards), K)]
    found = []
    for group in groups:
        spread = {"group": statistics.stdev(group), "batch": statistics.stdev(rewards)}.get(scale)
        centred = [value - statistics.fmean(group) for value in group]
        found += centred if spread is None else [value / (spread + 1e-4) for value in centred]
    return found


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "internvl"])
@pytest.mark.parametrize(("loss_type", "scale"), [("grpo", "group"), ("dapo", "batch"), ("dr_grpo", "none")])
def test_the_loss_is_grpos_formula_written_out_sequence_by_sequence(
    fresh: Fresh, hyper: Hyper, tmp_path: Path, architecture: str, loss_type: str, scale: str
):
    what = online(beta=0.3, loss_type=loss_type, scale_rewards=scale)
    policy = fresh(architecture)
    trainer = made(policy, hyper(batch_size=2 * K), what, tmp_path, device_batch_size=K)
    with torch.no_grad():  # away from the reference, so that the divergence counts
        for number, weight in enumerate(policy.model.parameters()):
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    passes = first_step(trainer)
    rows = {row["query_id"]: row for row in trainer.rows}
    rewards = [Us(UsSettings()).of(solution, {}) for solution in trainer.drawn]
    assert len(set(rewards)) > 1, "the rewards must differ for this to test anything"
    reference, terms = fresh(architecture), []
    for solution, advantage in zip(trainer.drawn, advantages_by_hand(rewards, scale), strict=True):
        row, ids, ended = rows[solution["query_id"]], solution["token_ids"], solution["finished"]
        own = log_probs(policy, row, ids, ended)
        first = log_probs(reference, row, ids, ended)
        divergence = [float(torch.tensor(f - o).exp() - (f - o) - 1) for f, o in zip(first, own, strict=True)]
        terms.append([-advantage + 0.3 * each for each in divergence])
    expected = {
        "grpo": statistics.fmean(map(statistics.fmean, terms)),
        "dapo": sum(map(sum, terms)) / sum(map(len, terms)),
        "dr_grpo": sum(map(sum, terms)) / (len(terms) * LIMIT),
    }[loss_type]
    trainer.model.train()
    losses = [float(trainer.compute_loss(trainer.model, each).detach()) for each in passes]
    assert sum(losses) == pytest.approx(expected, abs=2e-5)


def test_the_gradient_pushes_up_what_was_rewarded_more(fresh: Fresh, hyper: Hyper, tmp_path: Path):
    """By finite differences: a small step along the gradient lowers −Σ A log p by its squared length."""
    policy = fresh()
    trainer = made(policy, hyper(batch_size=2 * K), online(beta=0.0), tmp_path)
    (only,) = first_step(trainer)
    trainer.compute_loss(trainer.model, only).backward()
    rewards = [Us(UsSettings()).of(solution, {}) for solution in trainer.drawn]
    advantages = advantages_by_hand(rewards, "group")

    def surrogate() -> float:
        rows = {row["query_id"]: row for row in trainer.rows}
        means = [
            statistics.fmean(log_probs(policy, rows[s["query_id"]], s["token_ids"], s["finished"]))
            for s in trainer.drawn
        ]
        return -statistics.fmean(a * mean for a, mean in zip(advantages, means, strict=True))

    gradients = [weight.grad for weight in policy.model.parameters()]
    length = sum(float((each**2).sum()) for each in gradients if each is not None)
    before, step = surrogate(), 1e-4
    with torch.no_grad():
        for weight, gradient in zip(policy.model.parameters(), gradients, strict=True):
            if gradient is not None:
                weight -= step * gradient
    assert (before - surrogate()) / step == pytest.approx(length, rel=0.05)


def test_rloo_is_a_row_with_the_gradient_of_its_formula_but_for_a_constant(
    root: Path, fresh: Fresh, hyper: Hyper, tmp_path: Path
):
    """−(1/B) Σ_i (r_i − mean of the others of its group) Σ_t log p_t (Ahmadian et al. 2024, Sec. 3.2)."""
    named = load_yaml(root / "config/methods.yaml")["rloo"]["objective"]
    policy = fresh()
    what = online(**{name: value for name, value in named.items() if name != "kind"})
    trainer = made(policy, hyper(batch_size=2 * K), what, tmp_path)
    (only,) = first_step(trainer)
    trainer.compute_loss(trainer.model, only).backward()
    found = gradient_of(policy)
    policy.model.zero_grad()
    rows = {row["query_id"]: row for row in trainer.rows}
    rewards = [Us(UsSettings()).of(solution, {}) for solution in trainer.drawn]
    loss = torch.zeros(())
    for place, (solution, reward) in enumerate(zip(trainer.drawn, rewards, strict=True)):
        start = place - place % K
        others = [rewards[at] for at in range(start, start + K) if at != place]
        row, ids, ended = rows[solution["query_id"]], solution["token_ids"], solution["finished"]
        advantage = reward - statistics.fmean(others)
        loss = loss - advantage * sum(differentiable(policy, row, ids, ended)) / len(rewards)
    loss.backward()
    expected = gradient_of(policy)
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.9999
    assert float(found.norm() / expected.norm()) == pytest.approx((K - 1) / K / LIMIT, rel=1e-3)


def gradient_of(policy: Checkpoint) -> torch.Tensor:
    """All weights' gradients, one after the other."""
    return torch.cat(
        [(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in policy.model.parameters()]
    )


def test_what_is_rewarded_becomes_likelier(fresh: Fresh, hyper: Hyper):
    rows = [asked(n) for n in range(4)]
    settings = hyper(epochs=12, batch_size=4 * K, learning_rate=3e-3)
    rates = {}
    for wanted in "ag":
        counts = fit(
            checkpoint := fresh(), rows, settings, online(UsSettings(wanted=wanted), beta=0.0), "run"
        )
        assert counts["solutions"] == 12 * 4 * K
        assert counts["examples"] == 4
        rates[wanted] = share_of_words(checkpoint, wanted)
        assert rates[wanted] > share_of_words(fresh(), wanted) + 0.2, wanted


def share_of_words(checkpoint: Checkpoint, wanted: str) -> float:
    row = asked(0)
    query = chat.encode(checkpoint.processor, row["prompt"], open_images(row))
    (drawn,) = HfEngine(checkpoint, 64).sample([Request(query, range(200))], 1.0, LIMIT)
    texts = [chat.decode(checkpoint.processor, sample.token_ids).split() for sample in drawn]
    words = [word for text in texts for word in text]
    return sum(word.startswith(wanted) for word in words) / max(1, len(words))


def test_adapters_start_on_their_reference_and_learn(fresh: Fresh, hyper: Hyper, tmp_path: Path):
    tuning = LoraTuning(kind="lora", r=4, alpha=8)
    trainer = made(fresh(), hyper(batch_size=2 * K), online(beta=0.1), tmp_path, tuning=tuning)
    (only,) = first_step(trainer)
    trainer.compute_loss(trainer.model, only)
    assert trainer._metrics["train"]["kl"] == [pytest.approx(0.0, abs=1e-6)]
    before = share_of_words(fresh(), "a")
    fit(
        checkpoint := fresh(),
        [asked(n) for n in range(4)],
        hyper(epochs=20, batch_size=4 * K, learning_rate=2e-2),
        online(beta=0.0),
        "run",
        ModelTraining(tuning=tuning),
    )
    assert share_of_words(checkpoint, "a") > before + 0.15


@pytest.mark.parametrize(
    ("value", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (None, "None"), ("1", "'1'")]
)
def test_a_reward_that_is_no_number_ends_the_run(fresh: Fresh, hyper: Hyper, value: Any, shown: str):
    reward = NothingSettings(value=value)
    with pytest.raises(VistaError, match=rf"query 'q\d': reward 'nothing' gives {shown} to a response, not"):
        fit(fresh(), [asked(n) for n in range(4)], hyper(batch_size=K), online(reward), "run")


def test_it_decodes_as_many_at_a_time_as_the_suites_engine(suite: Suite, hyper: Hyper):
    known = suite_with(suite, hyper(batch_size=2 * K))
    engine = HfEngineSettings(kind="hf", batch_size=7)
    asked_of = objective_of(known.model_copy(update={"engine": engine}), run_of("grpo"))
    assert isinstance(asked_of, Online)
    assert asked_of.engine.batch_size == 7


# --- steps ---


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(2, 4), st.integers(1, 3))
def test_every_query_is_asked_in_every_pass_and_a_group_stays_together(
    queries: int, epochs: int, groups: int, k: int, passes: int
):
    sampler = GroupSampler(queries, epochs, groups, k, passes, 3)
    order = list(sampler)
    assert len(order) == len(sampler)
    size = groups * k
    steps = [order[at : at + size * passes] for at in range(0, len(order), size * passes)]
    assert len(steps) == sampler.steps
    asked_in_all: list[int] = []
    for step in steps:
        once = step[:size]
        assert step == once * passes
        assert all(len(set(once[at : at + k])) == 1 for at in range(0, size, k))
        asked_in_all += once[::k]
    assert len(asked_in_all) - queries * epochs in range(groups)
    counts = Counter(asked_in_all[: queries * epochs])
    assert set(counts.values()) == {epochs}
    for epoch in range(epochs):
        assert set(asked_in_all[epoch * queries : (epoch + 1) * queries]) == set(range(queries))


def test_how_many_responses_go_through_at_once_changes_rounding_alone(fresh: Fresh, hyper: Hyper):
    found = []
    for size in (None, 2):
        fit(
            checkpoint := fresh(),
            [asked(n) for n in range(4)],
            hyper(epochs=2, batch_size=2 * K, learning_rate=1e-4),
            online(),
            "run",
            ModelTraining(device_batch_size=size),
        )
        found.append(list(checkpoint.model.parameters()))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


# --- on files ---


BUDGET = {"tokens_of": "rest-em"}


def suite_with(
    suite: Suite, hyper: Hyperparameters, budget: dict[str, str] | None = None, **training: Any
) -> Suite:
    method = OnlineMethod.model_validate(
        {
            "kind": "online",
            "rollouts": {"k": K, "max_new_tokens": LIMIT},
            "objective": {"kind": "grpo", "reward": {"kind": "format"}},
            "budget": budget,
        }
    )
    changed = suite.model_copy(
        update={
            "methods": {**suite.methods, "grpo": method},
            "training": suite.training.model_copy(update={"grpo": hyper}),
        }
    )
    return with_model(changed, ModelTraining(**training))


def prepared(paths: Paths) -> Paths:
    model, processor = build_nano("internvl", WORDS, 0)
    start = paths.trained(run_of("sft-seed", 0).id)
    save_checkpoint(model, processor, start)
    Recorder("training", {}, []).write(start, {})
    queries = paths.training_set(run_of("grpo").id)
    write_rows(queries, [asked(n) for n in range(4)], ASKED)
    Recorder("curation", {}, []).write(queries, {"examples": 4})
    return paths


def test_a_killed_run_ends_in_the_bytes_of_one_that_was_not(suite: Suite, hyper: Hyper, tmp_path: Path):
    settings = hyper(epochs=4, batch_size=2 * K, schedule="cosine")
    keeping = suite_with(suite, settings, save_every=2)
    run, stopped, whole = run_of("grpo"), prepared(Paths(tmp_path / "a")), prepared(Paths(tmp_path / "b"))
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(Killed):
            train(keeping, stopped, run)
    assert [state.name for state in states_of(stopped, "grpo").glob("checkpoint-*")] == ["checkpoint-4"]
    train(keeping, stopped, run)
    train(suite_with(suite, settings), whole, run)
    for one, other in zip(
        *([paths.history(run.id), paths.trained(run.id) / "model.safetensors"] for paths in (stopped, whole)),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes(), one.name
    counts, expected = (read_manifest(paths.trained(run.id)).counts for paths in (stopped, whole))
    assert counts.pop("resumed_at_step") == 4
    del counts["train_seconds"], expected["train_seconds"]
    assert counts == expected
    assert counts["solutions"] == 8 * 2 * K
    assert counts["drawn_tokens"] > counts["solutions"]


def test_the_manifest_and_the_history_say_what_was_sampled(suite: Suite, hyper: Hyper, tmp_path: Path):
    paths = prepared(Paths(tmp_path))
    train(suite_with(suite, hyper(batch_size=2 * K)), paths, run_of("grpo"))
    manifest = read_manifest(paths.trained(run_of("grpo").id))
    assert manifest.settings["rollouts"]["k"] == K
    assert manifest.settings["objective"]["reward"] == {"kind": "format"}
    head = paths.history(run_of("grpo").id).read_text().splitlines()[0].split(",")
    assert {"reward", "reward_std", "kl", "drawn_tokens", "completions/clipped_ratio"} <= set(head)
    assert "step_time" not in head
    assert MODEL in manifest.settings["run"]


def with_rollouts(suite: Suite, paths: Paths, tokens: int, status: Status = "complete") -> None:
    """The rollouts of the method whose tokens are the budget, spread over the shards."""
    files = Reads(suite, paths).budget(run_of("grpo"))
    for file in files:
        write_rows(file, [], ROLLOUT)
        Recorder("rollouts", {}, []).write(file, {"tokens": tokens / len(files)}, status)


def test_a_round_ends_with_the_step_that_has_sampled_the_tokens_of_another_method(
    suite: Suite, hyper: Hyper, tmp_path: Path
):
    """Also where it is killed after that step: a run that resumed from there would make one more."""
    settings = hyper(epochs=4, batch_size=2 * K, schedule="constant")
    keeping = suite_with(suite, settings, BUDGET, save_every=1)
    run, stopped, whole = run_of("grpo"), prepared(Paths(tmp_path / "a")), prepared(Paths(tmp_path / "b"))
    for paths in (stopped, whole):
        with_rollouts(keeping, paths, 120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vista.training.train.save_checkpoint", killed)
        with pytest.raises(Killed):
            train(keeping, stopped, run)
    train(keeping, stopped, run)
    train(suite_with(suite, settings, BUDGET), whole, run)
    weights = [(paths.trained(run.id) / "model.safetensors").read_bytes() for paths in (stopped, whole)]
    assert weights[0] == weights[1]
    with whole.history(run.id).open() as file:
        drawn = list(itertools.accumulate(float(row["drawn_tokens"]) for row in csv.DictReader(file)))
    assert drawn[-2] < 120 <= drawn[-1]
    assert 1 < len(drawn) < 8
    manifest = read_manifest(whole.trained(run.id))
    assert (manifest.counts["drawn_tokens"], manifest.settings["budget_tokens"]) == (drawn[-1], 120)
    assert any("rollouts" in name for name in manifest.inputs)


def killed(*_: Any) -> None:
    raise Killed


def test_epochs_that_end_before_the_budget_are_told(
    suite: Suite, hyper: Hyper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    known = suite_with(suite, hyper(batch_size=2 * K), BUDGET)
    paths = prepared(Paths(tmp_path))
    with_rollouts(known, paths, 10_000)
    train(known, paths, run_of("grpo"))
    assert "fewer than the 10,000 of its budget; for as many raise epochs" in capsys.readouterr().err


def test_a_budget_of_a_method_without_a_policy_leaves_nothing_to_train(
    suite: Suite, hyper: Hyper, tmp_path: Path
):
    known = suite_with(suite, hyper(batch_size=2 * K), BUDGET)
    paths = prepared(Paths(tmp_path))
    with_rollouts(known, paths, 0, "no-positives")
    train(known, paths, run_of("grpo"))
    assert read_manifest(paths.trained(run_of("grpo").id)).status == "no-positives"
