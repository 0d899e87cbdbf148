"""What a training leaves beside its weights: the history of its steps, and logs for other programs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from tests.training.conftest import example, pair, responses
from tests.training.test_launch import with_model
from tests.training.test_losses import Fresh, log_probs
from tests.training.test_losses import mean as average
from tests.training.test_train import prepare, run_of, some_rows, with_training
from vista.config import Hyperparameters, ModelTraining, Suite, load_suite, load_yaml
from vista.damage import sha256
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.paths import Paths
from vista.training.fit import fit
from vista.training.trace import FIRST, history_text
from vista.training.train import train

Make = Callable[..., Hyperparameters]
OF_PAIRS = [
    *("logps/chosen", "logps/rejected"),
    *("rewards/accuracies", "rewards/chosen", "rewards/margins", "rewards/rejected"),
]


def trained(suite: Suite, paths: Paths, method: str, count: int = 6) -> pd.DataFrame:
    prepare(paths, run_of(method), some_rows(method, count))
    train(suite, paths, run_of(method))
    return pd.read_csv(paths.history(run_of(method).id))


@pytest.mark.parametrize(("method", "own"), [("rest-em", []), ("dpo", OF_PAIRS)])
def test_every_step_is_a_row_of_the_history_with_all_that_trl_logs(
    suite: Suite, hyper: Make, paths: Paths, method: str, own: list[str]
) -> None:
    history = trained(with_training(suite, hyper(epochs=3)), paths, method)
    assert list(history) == [*FIRST, *own]
    assert history["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history["epoch"].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert not history.isna().any().any()
    counts = read_manifest(paths.trained(run_of(method).id)).counts
    assert history["loss"].iloc[0] == counts["first_loss"]
    assert history["loss"].iloc[-1] == counts["last_loss"]
    assert history["num_tokens"].iloc[-1] == counts["tokens"]
    assert (history["grad_norm"] > 0).all()
    found = read_manifest(paths.history(run_of(method).id))
    assert (found.status, found.counts, found.stage) == ("complete", {"steps": 6.0}, "training")


def test_the_history_has_no_clock_in_it(suite: Suite, hyper: Make, tmp_path: Path) -> None:
    small = with_training(suite, hyper(epochs=2))
    for name in "ab":
        trained(small, Paths(tmp_path / name), "dpo")
    first, second = (sha256(Paths(tmp_path / name).history(run_of("dpo").id)) for name in "ab")
    assert first == second


def test_of_pairs_it_has_the_means_of_log_probabilities_rewards_and_ranks(
    fresh: Fresh, hyper: Make, tmp_path: Path
) -> None:
    rows = [pair(0, [31, 32], [33] * 5), pair(1, [33, 34, 35, 36], [30]), pair(2, [31], [36, 37])]
    start, checkpoint = fresh(), fresh()
    objective = DpoSettings(kind="dpo", beta=0.3)
    settings = hyper(batch_size=3, epochs=2, learning_rate=1e-2)
    fit(checkpoint, rows, settings, objective, "trace", history=tmp_path / "history.csv")
    history = pd.read_csv(tmp_path / "history.csv")

    def of(model: Any, side: str) -> list[float]:
        return [sum(log_probs(model, row, row[f"{side}_ids"])) for row in rows]

    first = history.iloc[0]
    assert first["logps/chosen"] == pytest.approx(average(of(start, "chosen")), abs=1e-4)
    assert first["logps/rejected"] == pytest.approx(average(of(start, "rejected")), abs=1e-4)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
    second = history.iloc[1]
    assert second["rewards/margins"] == pytest.approx(
        second["rewards/chosen"] - second["rewards/rejected"], abs=1e-5
    )
    assert second["rewards/chosen"] == pytest.approx(
        0.3 * (second["logps/chosen"] - first["logps/chosen"]), abs=1e-5
    )
    assert second["rewards/accuracies"] in [pytest.approx(n / 3) for n in range(4)]


def test_entropy_and_accuracy_are_over_the_tokens_of_the_whole_step(
    fresh: Fresh, hyper: Make, tmp_path: Path
) -> None:
    rows = [example(n, ids) for n, ids in enumerate(responses(6))]
    found = []
    for size in (6, 1):  # passes of unequal lengths
        training = ModelTraining(device_batch_size=size)
        file = tmp_path / f"{size}.csv"
        settings = hyper(batch_size=6, epochs=2)
        fit(fresh(), rows, settings, SftSettings(kind="sft"), "trace", training, history=file)
        found.append(pd.read_csv(file))
    together, apart = found
    pd.testing.assert_frame_equal(together, apart, rtol=1e-3)
    assert 0 < together["entropy"].iloc[0] < math.log(100)
    assert together["mean_token_accuracy"].between(0, 1).all()


def test_a_run_without_positives_has_a_history_without_steps(suite: Suite, paths: Paths) -> None:
    prepare(paths, run_of("rest-em"), [], "no-positives")
    train(suite, paths, run_of("rest-em"))
    history = paths.history(run_of("rest-em").id)
    assert history.read_text() == ",".join(FIRST) + "\n"
    assert read_manifest(history).status == "no-positives"


def test_the_order_in_which_a_state_gives_its_entries_back_does_not_count() -> None:
    entry = {"loss": 1.0, "step": 1, "rewards/margins": 2.0, "logps/chosen": 3.0}
    assert history_text([entry]) == history_text([dict(sorted(entry.items()))])


def test_a_number_that_a_step_lacks_is_an_empty_cell() -> None:
    text = history_text([{"step": 1, "loss": 2.5, "mine": 1}, {"step": 2, "loss": 0.1}, {"train_loss": 1.0}])
    assert text.splitlines()[1:] == ["1,,2.5,,,,,,1", "2,,0.1,,,,,,"]


class StandIn(TrainerCallback):  # type: ignore[misc]
    """In the place of a program's callback of transformers."""

    seen: list[tuple[int, dict[str, Any]]]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        StandIn.seen = []
        StandIn.named = args.run_name, args.project
        StandIn.variables = {name: os.environ.get(name, "") for name in VARIABLES}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        StandIn.seen.append((state.global_step, dict(logs)))


VARIABLES = ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR", "WANDB_DIR", "WANDB_MODE", "WANDB_PROJECT")


def reporting(suite: Suite, *programs: str) -> Suite:
    training = suite.training.model_copy(update={"report_to": list(programs)})
    return suite.model_copy(update={"training": training})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*VARIABLES, "WANDB_SILENT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("program", ["tensorboard", "trackio", "wandb"])
def test_every_step_is_reported_to_the_program_that_the_suite_names(
    suite: Suite, hyper: Make, paths: Paths, tmp_path: Path, environment: pytest.MonkeyPatch, program: str
) -> None:
    environment.setitem(integration_utils.INTEGRATION_TO_CALLBACK, program, StandIn)
    environment.setattr("vista.config.checks.find_spec", lambda name: name)
    small = with_training(suite, hyper(epochs=2))
    history = trained(reporting(small, program), paths, "rest-em")
    steps = [(step, logs["loss"]) for step, logs in StandIn.seen if "loss" in logs]
    assert steps == list(zip(history["step"], history["loss"], strict=True))
    folder = str(paths.results / "logs/training" / run_of("rest-em").id)
    for name in VARIABLES[:3]:
        assert StandIn.variables[name].startswith(folder)
    assert StandIn.variables["WANDB_MODE"] == "offline"
    assert StandIn.named == (run_of("rest-em").id, suite.name)
    plain = Paths(tmp_path / "plain")
    trained(small, plain, "rest-em")
    weights = [each.trained(run_of("rest-em").id) / "model.safetensors" for each in (plain, paths)]
    assert sha256(weights[0]) == sha256(weights[1])


def test_the_users_own_mode_of_wandb_wins(
    suite: Suite, hyper: Make, paths: Paths, environment: pytest.MonkeyPatch
) -> None:
    environment.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", StandIn)
    environment.setenv("WANDB_MODE", "online")
    trained(reporting(with_training(suite, hyper()), "wandb"), paths, "rest-em")
    assert StandIn.variables["WANDB_MODE"] == "online"


def test_a_program_that_is_not_installed_is_an_error_of_the_config_with_its_extra(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vista.config.checks.find_spec", lambda name: None if name == "trackio" else name)
    raw = load_yaml(root / "config/smoke.yaml")
    raw["training"]["report_to"] = ["tensorboard", "trackio"]
    with pytest.raises(
        VistaError, match=r"training\.report_to: trackio is not installed.*\[trackio\]"
    ) as caught:
        load_suite(root / "config/smoke.yaml", raw, root)
    assert "tensorboard" not in str(caught.value)


def test_a_job_without_the_program_says_so_before_it_loads_a_model(
    suite: Suite, hyper: Make, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vista.config.checks.find_spec", lambda name: None)
    with pytest.raises(VistaError, match=r"report_to: tensorboard is not installed"):
        trained(reporting(with_model(suite, ModelTraining()), "tensorboard"), paths, "rest-em")
