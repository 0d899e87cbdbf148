"""Every figure from small tables: what is drawn, what is said to be missing, and the same bytes each time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.analysis.conftest import make_suite
from vista.analysis.plan import FIGURES, figures
from vista.config import Suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.figures import drawing
from vista.manifest import read_manifest

MAIN = pd.DataFrame(
    [
        {
            **{
                "model": model,
                "train_set": "both",
                "method": method,
                "round": number,
                "objective": objective,
            },
            **{"status": "complete", "seeds": 1, "missing": 0, "easy": value, "hard": value - 5},
            **{"overall": value, "se": 1.0, "low": value - 2, "high": value + 2, "seed_sd": None},
            **{"far": value - 20, "delta_sft_seed": value - 60, "samples_drawn_total": 1000 * number},
        }
        for model in ("nano-b", "nano-a")
        for method, number, objective, value in (
            *[("zero-shot", 0, None, 50.0), ("sft-seed", 0, "seed", 60.0), ("rest-em", 1, "sft", 64.0)],
            *[("rest-em", 2, "sft", 66.0), ("vista-sft", 1, "sft", 65.0), ("vista-sft", 2, "sft", 69.0)],
            *[("vista-sft+tau=0", 1, "sft", 63.0), ("r3v-select", 1, "select", 40.0)],
        )
    ]
)
ABLATION = pd.DataFrame(
    [
        {
            **{
                "kind": "sweep",
                "train_set": "both",
                "method": f"vista-sft+tau={value}",
                "against": "vista-sft",
            },
            **{"differs": f"filter.tau = {value}", "model": "all models", "round": 1, "missing": 0},
            **{"difference": float(value), "low": float(value) - 1, "high": float(value) + 1},
        }
        for value in (-1, 0, 1)
    ]
)
DIFFICULTY = pd.DataFrame(
    [
        {
            **{
                "part": "test",
                "model": "all models",
                "train_set": "both",
                "method": method,
                "round": 1,
                "group": group,
            },
            **{"pass_rate": rate, "delta": 3.0, "delta_low": 1.0, "delta_high": 5.0},
        }
        for method in ("rest-em", "vista-sft")
        for group, rate in (("sums", 20.0), ("digits", 80.0))
    ]
)
DISTRIBUTIONS = pd.DataFrame(
    [
        {
            "what": what,
            "model": "nano-b",
            "train_set": "both",
            "group": group,
            "x": x,
            "count": 5,
            "share": 50.0,
        }
        for what, group, places in (
            ("imbalance", "easy", ["0", "1", "2"]),
            ("imbalance", "hard", ["0", "1"]),
            ("attention", "vision", ["0", "1"]),
            ("attention", "system", ["0", "1"]),
            ("vas", "faithful", ["-0.125", "0.125"]),
            ("vas", "unfaithful", ["-0.125", "0.125"]),
            ("distance", "all", ["-1", "0", "1", "none"]),
        )
        for x in places
    ]
)
REPORTED = pd.DataFrame(
    [
        {
            "method": "rest-em",
            "reported": 60.0,
            "reproduced": 61.0,
            "low": 59.0,
            "high": 63.0,
            "model": "nano-b",
        }
    ]
)
AUDIT = pd.DataFrame(
    [
        {
            **{
                "model": "nano-b",
                "train_set": "both",
                "solutions": solutions,
                "policy": policy,
                "task": task,
                "source": "all",
            },
            **{"detector": detector, "layer": layer, "measure": measure},
            **{"value": 0.7, "low": 0.6, "high": 0.8},
        }
        for solutions, policy, detectors in (
            ("few", "sft-seed", [("logprob", None)]),
            ("many", "sft-seed", [("visual-share", "1"), ("vas", "0"), ("vas", "0+1"), ("logprob", None)]),
            ("many", "all", [("vas", "0"), ("vas", "1"), ("logprob", None), ("length", None)]),
        )
        for detector, layer in detectors
        for task in ("easy", "hard")
        for measure in ("auroc", "auroc-within-query")
    ]
)
OOD = pd.DataFrame(
    [
        {
            **{"model": model, "train_set": "both", "method": method, "round": 1, "task": "far"},
            **{"missing": 0, "delta_sft_seed": delta},
        }
        for model, method, delta in (
            *[("nano-b", "sft-seed", None), ("nano-b", "rest-em", 1.0), ("nano-b", "vista-sft", 3.0)],
            *[("nano-a", "sft-seed", None), ("nano-a", "rest-em", 2.0)],
        )
    ]
)
TRAINING = pd.DataFrame(
    [
        {
            **{"model": model, "train_set": "both", "method": method, "round": 1, "seed": seed},
            **{"objective": objective, "status": "complete", "step": step, "loss": 3.0 / step + seed},
            "rewards/accuracies": step / 50 if objective == "dpo" else None,
        }
        for model in ("nano-b", "nano-a")
        for method, objective in (("sft-seed", "seed"), ("vista-sft", "sft"), ("vista-dpo", "dpo"))
        for seed in (0, 1)
        for step in range(1, 51)
    ]
)
TABLES = {
    "training": TRAINING,
    "ood": OOD,
    "audit": AUDIT,
    "main": MAIN,
    "ablation": ABLATION,
    "difficulty": DIFFICULTY,
    "distributions": DISTRIBUTIONS,
    "reported": REPORTED,
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No figure stays open behind a test."""
    yield
    plt.close("all")


def figure(name: str, table: pd.DataFrame | None = None) -> Figure:
    drawn: Figure = getattr(importlib.import_module(f"vista.figures.{name}"), name)(
        TABLES[FIGURES[name]] if table is None else table
    )
    return drawn


def texts(drawn: Figure) -> str:
    return " ".join(text.get_text() for text in drawn.findobj(plt.Text))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_module_that_draws_its_table(name: str) -> None:
    drawn = figure(name)
    assert any(axis.has_data() for axis in drawn.axes)
    plt.close(drawn)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figures_script_writes_the_same_bytes_each_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.csv"
    TABLES[FIGURES[name]].to_csv(table, index=False)
    module = importlib.import_module(f"vista.figures.{name}")
    written = []
    for number in (1, 2):
        to = tmp_path / str(number) / name
        monkeypatch.setattr(sys, "argv", [name, str(table), "--to", str(to)])
        drawing.draw(getattr(module, name))
        written.append([to.with_suffix(suffix).read_bytes() for suffix in (".pdf", ".png")])
        assert read_manifest(to.with_suffix(".pdf")).inputs.keys() == {str(table)}
    assert written[0] == written[1]
    assert b"CreationDate" not in written[0][0]
    assert Image.open(tmp_path / "1" / f"{name}.png").width >= 600


def test_what_a_suite_has_not_done_is_said_and_not_drawn() -> None:
    assert "sweeps no setting" in texts(figure("sweeps", ABLATION.iloc[:0]))
    assert "compared with SFT-Seed out of domain" in texts(figure("ood", OOD[OOD["method"] == "sft-seed"]))
    assert "No method" in texts(figure("rounds", MAIN[MAIN["round"] == 0]))
    assert "Nothing has been sampled" in texts(figure("data_imbalance", DISTRIBUTIONS.iloc[:0]))
    assert "No solution" in texts(figure("attention", DISTRIBUTIONS.iloc[:0]))
    assert "No run" in texts(figure("cost", MAIN.assign(overall=None)))
    assert "No run" in texts(figure("training", TRAINING.assign(loss=None)))
    assert "No curve" in texts(figure("training", TRAINING.assign(objective="mine")))


@pytest.mark.parametrize(
    "name", ["attention", "cost", "critical_tokens", "data_imbalance", "rounds", "training", "vas"]
)
def test_what_was_trained_on_other_tasks_is_drawn_apart(name: str) -> None:
    table = TABLES[FIGURES[name]]
    two = pd.concat([table, table.assign(train_set="other")], ignore_index=True)
    (alone, both) = (figure(name, each) for each in (table, two))
    assert len(both.axes) == 2 * len(alone.axes)
    assert "nano-b, other" in texts(both)
    points = [
        [len(line.get_xdata()) for axis in drawn.axes for line in axis.get_lines()] for drawn in (alone, both)
    ]
    assert sorted(points[0] * 2) == sorted(points[1]), "no line joins the two"


def test_many_panels_are_broken_into_lines() -> None:
    drawn, axes = drawing.panels([f"model {n}" for n in range(5)])
    assert [axis.get_title() for axis in axes] == [f"model {n}" for n in range(5)]
    assert len(drawn.axes) == 5
    assert axes[3].get_position().y0 < axes[0].get_position().y0


def test_a_method_that_lacks_a_model_says_so_out_of_domain() -> None:
    (axis,) = figure("ood").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["rest-em", "vista-sft (1 of 2)"]


def test_an_interval_that_rounding_puts_beside_its_value_is_drawn_as_none() -> None:
    rows = pd.DataFrame({"overall": [50.0, 33.33], "low": [40.0, 33.34], "high": [60.0, 33.34]})
    below, above = drawing.reach(rows, "overall")
    assert below.tolist() == [10.0, 0.0]
    assert above.tolist() == pytest.approx([10.0, 0.01])
    figure("reported", REPORTED.assign(low=REPORTED["reproduced"] + 0.01))


def test_the_users_own_matplotlib_settings_change_nothing() -> None:
    with plt.rc_context({"font.size": 30, "lines.linewidth": 9}):
        drawing.style()
        assert plt.rcParams["font.size"] == 8
        assert plt.rcParams["lines.linewidth"] == 1.4


def test_missing_runs_are_counted_below_the_figure() -> None:
    drawn = figure("rounds", MAIN.assign(missing=[1] + [0] * (len(MAIN) - 1)))
    assert "without a result" not in texts(drawn), "the base model is not drawn here"
    # Rounds that have no result at all are counted as well.
    lost = MAIN.index == 2
    drawn = figure("rounds", MAIN.assign(missing=2 * lost, overall=MAIN["overall"].mask(lost)))
    assert "2 runs without a result are missing" in texts(drawn)


def test_test_time_selection_and_sweeps_are_no_lines_of_the_rounds() -> None:
    shown = texts(figure("rounds"))
    assert "rest-em" in shown
    assert "r3v-select" not in shown
    assert "tau" not in shown


def test_detectors_are_those_of_one_policy_and_the_solutions_that_most_of_them_score() -> None:
    (axis,) = figure("detectors").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "vas, layer 0",
        "vas, layer 0+1",
        "logprob",
    ]


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"nothing\.csv: no such file"):
        drawing.read(tmp_path / "nothing.csv")


def test_a_suite_has_the_figures_that_it_has_something_for(tmp_path: Path) -> None:
    suite: Suite = make_suite(tmp_path)
    assert figures(suite) == [
        *("data_imbalance", "attention", "rounds", "ood", "difficulty"),
        *("vas", "detectors", "critical_tokens", "cost", "training"),
    ]
    alone = {name: suite.methods[name] for name in ("zero-shot", "sft-seed")}
    fewer = suite.model_copy(update={"methods": alone, "out_of_domain": []})
    assert figures(fewer) == ["rounds", "cost", "training"]
    untrained = fewer.model_copy(update={"methods": {"zero-shot": suite.methods["zero-shot"]}})
    assert figures(untrained) == ["rounds", "cost"]


def test_training_curves_are_means_over_seeds_of_forty_parts_of_the_last_round() -> None:
    earlier = TRAINING.assign(round=0, loss=100.0)
    drawn = figure("training", pd.concat([earlier, TRAINING], ignore_index=True))
    assert [axis.get_ylabel() for axis in drawn.axes[::2]] == [
        "SFT: loss per token",
        "DPO: loss",
        "DPO: pairs ranked right, %",
    ]
    seed, vista = drawn.axes[0].get_lines()
    assert (seed.get_label(), vista.get_label()) == ("sft-seed", "vista-sft")
    assert len(seed.get_xdata()) == 40
    assert seed.get_ydata()[0] == pytest.approx(3.5)
    assert seed.get_ydata()[-1] == pytest.approx((3.0 / 49 + 3.0 / 50) / 2 + 0.5)
    assert drawn.axes[-1].get_lines()[0].get_ydata()[-1] == pytest.approx(99.0)


def test_training_curves_differ_in_black_and_white() -> None:
    many = [TRAINING[TRAINING["method"] == "vista-sft"].assign(method=f"m{n}") for n in range(16)]
    lines = figure("training", pd.concat(many)).axes[0].get_lines()
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in lines[:8]}) == 8
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 16


def test_trainings_without_steps_are_counted_below_their_curves() -> None:
    lost = TRAINING["method"] == "vista-dpo"
    empty = TRAINING[lost].drop_duplicates(["model", "seed"]).assign(status="no-positives", loss=None)
    shown = texts(figure("training", pd.concat([TRAINING[~lost], empty])))
    assert "4 runs without a result are missing" in shown
    assert "DPO" not in shown


def test_a_figure_is_drawn_anew_for_its_own_script_alone(tmp_path: Path) -> None:
    dag = Dag(make_suite(tmp_path))
    own, other = (Path(dag.figure_code(name)).read_text() for name in ("rounds", "cost"))
    assert "vista.figures.rounds" in own
    assert "vista.figures.cost" not in own
    assert "vista.figures.drawing" in own
    assert "vista.mplstyle" in own
    assert own != other
    assert "figures.rounds" not in Path(dag.code("tables")).read_text()
