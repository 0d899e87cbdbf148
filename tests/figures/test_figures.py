"""Every figure from small tables: what is drawn, what is said to be missing, and the same bytes each time."""

from __future__ import annotations

import importlib
import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tests.analysis.conftest import make_suite
from vista.analysis.plan import FIGURES, figures
from vista.analysis.stats import averaged, overall_mean, pooled_difference
from vista.config import Suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.figures import drawing
from vista.figures.cost import front
from vista.figures.looks import LOOKS
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
            **{"status": "complete", "seeds": 3, "missing": 0, "easy": value, "hard": value - 5},
            **{"overall": value, "se": 1.0, "low": value - 2, "high": value + 2, "seed_sd": 1.0},
            **{"far": value - 20, "delta_sft_seed": value - 60, "tokens_drawn_total": 50_000 * number},
        }
        for model in ("nano-b", "nano-a")
        for method, number, objective, value in (
            *[("zero-shot", 0, None, 50.0), ("sft-seed", 0, "seed", 60.0), ("rest-em", 1, "sft", 64.0)],
            *[("rest-em", 2, "sft", 66.0), ("vista-sft", 1, "sft", 65.0), ("vista-sft", 2, "sft", 69.0)],
            *[("vista-sft+tau=0", 1, "sft", 63.0), ("r3v-select", 1, "select", 40.0)],
        )
    ]
)
RUNS = pd.concat(
    [
        MAIN[["model", "train_set", "method", "round"]].assign(seed=seed, overall=MAIN["overall"] + seed - 1)
        for seed in range(3)
    ],
    ignore_index=True,
)
SWEEP = pd.DataFrame(
    [
        {
            **{
                "setting": "filter.tau",
                "value": value,
                "default": "-0.5",
                "method": f"vista-sft+tau={value}",
            },
            **{"against": "vista-sft", "model": "all models", "train_set": "both", "round": 1, "missing": 0},
            **{"difference": float(value), "low": float(value) - 1, "high": float(value) + 1},
            "error": "queries, seeds",
        }
        for value in ("-1", "0", "1")
    ]
)
ONE_VALUE = SWEEP[SWEEP["value"] == "1"].assign(setting="restart", value="previous", default="base")
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
            **{"error": "queries", "runs": 2, "missing": 0},
        }
        for method in ("rest-em", "vista-sft")
        for group, rate in (("sums", 20.0), ("digits", 80.0))
    ]
)
FAITHFULNESS = pd.DataFrame(
    [
        {
            **{"model": model, "train_set": "both", "method": method, "round": number, "task": task},
            **{"accuracy": 60.0 + 2 * number, "delta_sft_seed": delta, "delta_low": delta - 1},
            **{"delta_high": delta + 1, "error": "queries, seeds", "missing": 0},
        }
        for model in ("nano-b", "nano-a")
        for task in ("overall", "easy")
        for method, delta in (("rest-em", 3.0), ("vista-sft", -1.0))
        for number in (1, 2)
    ]
)
DISTRIBUTIONS = pd.DataFrame(
    [
        {
            "what": what,
            "model": model,
            "train_set": "both",
            "group": group,
            "x": x,
            "count": 5,
            "share": 50.0,
        }
        for model in ("nano-b", "nano-a")
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
POOL = {"model": "nano-b", "train_set": "both", "solutions": "many", "policy": "sft-seed", "source": "all"}
DETECTORS = pd.DataFrame(
    [
        {
            **POOL,
            **{"solutions": solutions, "policy": policy, "task": task},
            **{"detector": detector, "layer": layer, "setting": None, "measure": measure},
            **{"value": 0.7, "low": 0.6, "high": 0.8, "n": 100},
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
# Of 100 solutions 20 are unfaithful; 10 are dropped, 6 of them unfaithful; 3 would be by chance.
CUTS = pd.DataFrame(
    [
        {
            **POOL,
            **{"task": task, "detector": detector, "layer": layer, "setting": f"tau={tau} ddof=0"},
            **{"measure": measure, "value": value, "low": value - 0.1, "high": value + 0.1, "n": n},
        }
        for task in ("easy", "hard")
        for detector, layer, tau in (("vas", "1", "-0.5"), ("vas", "1", "0.0"), ("vig", None, "-0.5"))
        for measure, value, n in (
            *[("dropped-share", 0.1, 100), ("recall", 0.3, 20), ("precision-at-random", 0.3, 10)],
        )
    ]
)
AUDIT = pd.concat([DETECTORS, CUTS], ignore_index=True)
OOD = pd.DataFrame(
    [
        {
            **{"model": model, "train_set": "both", "method": method, "round": 1, "task": "far"},
            **{"missing": 0, "delta_sft_seed": delta, "error": None if delta is None else "queries"},
            **{"delta_low": delta and delta - 2, "delta_high": delta and delta + 2},
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
# Each pair of methods compared in two rounds, on three models; the first round is not drawn.
CONTRASTS = [("component", "vista-sft", "rest-em", 1.0), ("seed", "vista-sft", "sft-seed", 6.0)]
CONTRASTS += [("seed", "rest-em", "sft-seed", 5.0), ("seed", "star", "sft-seed", 4.0)]
CONTRASTS += [("sweep", "vista-sft+tau=0", "vista-sft", 0.5)]
ACROSS = pd.DataFrame(
    [
        {
            **{"kind": kind, "method": method, "against": against, "train_set": "both", "round": number},
            **{"last": number == 2, "missing": 0, "difference": value, "low": value - 2, "high": value + 2},
            **{"these_low": value - 1, "these_high": value + 1},
        }
        for kind, method, against, value in CONTRASTS
        for number in (1, 2)
    ]
)
ABLATION = pd.concat(
    [
        ACROSS[["kind", "method", "against", "train_set", "round"]].assign(
            model=model, difference=ACROSS["difference"] + shift
        )
        for model, shift in (("all models", 0.0), ("nano-b", -1.5), ("nano-a", 0.0), ("nano-c", 1.5))
    ],
    ignore_index=True,
)
TABLES = {
    "across_models": ACROSS,
    "ablation": ABLATION,
    "training": TRAINING,
    "ood": OOD,
    "audit": AUDIT,
    "main": MAIN,
    "runs": RUNS,
    "sweep_tau": SWEEP,
    "sweep_restart": ONE_VALUE,
    "difficulty": DIFFICULTY,
    "faithfulness": FAITHFULNESS,
    "distributions": DISTRIBUTIONS,
    "reported": REPORTED,
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No figure stays open behind a test."""
    yield
    plt.close("all")


def tables_of(name: str) -> list[pd.DataFrame]:
    return [TABLES[table] for table in (FIGURES[name] or ("sweep_tau", "sweep_restart"))]


def figure(name: str, *tables: pd.DataFrame) -> Figure:
    module = importlib.import_module(f"vista.figures.{name}")
    drawn: Figure = getattr(module, name)(*(tables or tables_of(name)))
    return drawn


def texts(drawn: Figure) -> str:
    return " ".join(text.get_text() for text in drawn.findobj(plt.Text)).replace("\n", " ")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_module_that_draws_its_table(name: str) -> None:
    drawn = figure(name)
    assert any(axis.has_data() for axis in drawn.axes)
    plt.close(drawn)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figures_script_writes_the_same_bytes_each_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for number, table in enumerate(tables_of(name)):
        files.append(str(tmp_path / f"table-{number}.csv"))
        table.to_csv(files[-1], index=False)
    module = importlib.import_module(f"vista.figures.{name}")
    written = []
    for number in (1, 2):
        to = tmp_path / str(number) / name
        monkeypatch.setattr(sys, "argv", [name, *files, "--to", str(to)])
        drawing.draw(getattr(module, name))
        written.append([to.with_suffix(suffix).read_bytes() for suffix in (".pdf", ".png")])
        assert read_manifest(to.with_suffix(".pdf")).inputs.keys() == set(files)
    assert written[0] == written[1]
    assert b"CreationDate" not in written[0][0]
    assert b"/FontFile2" in written[0][0], "fonts are embedded"
    assert b"/Type3" not in written[0][0], "as journals ask"
    assert Image.open(tmp_path / "1" / f"{name}.png").width >= 600


def test_what_a_suite_has_not_done_is_said_and_not_drawn() -> None:
    assert "No sweep" in texts(figure("sweeps", SWEEP.assign(difference=None)))
    assert "compared with SFT-Seed out of domain" in texts(figure("ood", OOD[OOD["method"] == "sft-seed"]))
    assert "No method" in texts(figure("rounds", MAIN[MAIN["round"] == 0]))
    assert "Nothing has been sampled" in texts(figure("data_imbalance", DISTRIBUTIONS.iloc[:0]))
    assert "No solution" in texts(figure("attention", DISTRIBUTIONS.iloc[:0]))
    assert "No run" in texts(figure("cost", MAIN.assign(overall=None)))
    assert "No run" in texts(figure("training", TRAINING.assign(loss=None)))
    assert "No filter" in texts(figure("filters", DETECTORS))
    assert "No curve" in texts(figure("training", TRAINING.assign(objective="mine")))


@pytest.mark.parametrize(
    "name", ["attention", "cost", "critical_tokens", "data_imbalance", "rounds", "training", "vas"]
)
def test_what_was_trained_on_other_tasks_is_drawn_apart(name: str) -> None:
    tables = tables_of(name)
    two = [pd.concat([table, table.assign(train_set="other")], ignore_index=True) for table in tables]
    (alone, both) = (figure(name, *each) for each in (tables, two))
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
    drawn = figure("rounds", MAIN.assign(missing=[1] + [0] * (len(MAIN) - 1)), RUNS)
    assert "without a result" not in texts(drawn), "the base model is not drawn here"
    # Rounds that have no result at all are counted as well.
    lost = MAIN.index == 2
    drawn = figure("rounds", MAIN.assign(missing=2 * lost, overall=MAIN["overall"].mask(lost)), RUNS)
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
        *("data_imbalance", "attention", "rounds", "ood", "difficulty", "faithfulness"),
        *("vas", "detectors", "filters", "critical_tokens", "cost", "training"),
    ]
    alone = {name: suite.methods[name] for name in ("zero-shot", "sft-seed")}
    fewer = suite.model_copy(update={"methods": alone, "out_of_domain": []})
    assert figures(fewer) == ["rounds", "cost", "training"]
    untrained = fewer.model_copy(update={"methods": {"zero-shot": suite.methods["zero-shot"]}})
    assert figures(untrained) == ["rounds", "cost"]


def test_every_model_is_a_mark_around_the_mean_of_a_comparison_in_its_last_round() -> None:
    others, seed = figure("across_models").axes
    assert [label.get_text() for label in others.get_yticklabels()] == ["vista-sft − rest-em"]
    assert [label.get_text() for label in seed.get_yticklabels()] == ["vista-sft", "rest-em", "star"]
    marks = [line for line in others.get_lines() if line.get_marker() == "|" and len(line.get_xdata()) == 3]
    assert [sorted(line.get_xdata()) for line in marks] == [[-0.5, 1.0, 2.5]]
    left, right = others.get_xlim()
    assert left < -1.0
    assert right > 3.0, "the interval over models is seen whole"
    means = [line for line in seed.get_lines() if line.get_color() == LOOKS["rest-em"].color]
    assert [5.0] in [list(line.get_xdata()) for line in means]


def test_an_interval_of_hardly_anything_known_does_not_hide_the_others() -> None:
    two = (ACROSS["method"] == "rest-em") & ACROSS["last"]
    wide = ACROSS.assign(low=ACROSS["low"] - 80 * two, high=ACROSS["high"] + 80 * two)
    drawn = figure("across_models", wide, ABLATION)
    assert max(axis.get_xlim()[1] for axis in drawn.axes) < 20
    assert "1 of the bars go on beyond the panels" in texts(drawn)
    lost = ACROSS.assign(missing=[0] * 9 + [4], low=ACROSS["low"].mask(ACROSS["kind"] == "seed"))
    drawn = figure("across_models", lost, ABLATION)
    assert len(drawn.axes) == 1
    assert "missing" not in texts(drawn), "a sweep has a figure of its own"
    alone = figure("across_models", ACROSS.assign(low=None), ABLATION)
    assert "on two models or more" in texts(alone)


def test_training_curves_are_means_over_seeds_of_forty_parts_of_the_last_round() -> None:
    earlier = TRAINING.assign(round=0, loss=100.0)
    drawn = figure("training", pd.concat([earlier, TRAINING], ignore_index=True))
    assert [axis.get_ylabel() for axis in drawn.axes[::2]] == [
        "SFT: loss per token",
        "DPO: loss",
        "DPO: pairs\nranked right, %",
    ]
    seed, vista = drawn.axes[0].get_lines()
    assert [line.get_color() for line in (seed, vista)] == [
        LOOKS[name].color for name in ("sft-seed", "vista-sft")
    ]
    assert len(seed.get_xdata()) == 40
    assert seed.get_ydata()[0] == pytest.approx(3.5)
    assert seed.get_ydata()[-1] == pytest.approx((3.0 / 49 + 3.0 / 50) / 2 + 0.5)
    assert drawn.axes[-1].get_lines()[0].get_ydata()[-1] == pytest.approx(99.0)


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


# --- intervals ---


def answers(seeds: int) -> dict[tuple[str, int], pd.DataFrame]:
    """By model and seed, right and wrong answers to forty queries about twenty images."""
    return {
        ("nano-b", seed): pd.DataFrame(
            {
                "task": "easy",
                "query_id": [f"q{n}" for n in range(40)],
                "cluster_id": [f"i{n // 2}" for n in range(40)],
                "score": [float((n * 7 + 5 * seed + n // 3) % (3 + seed) > 0) for n in range(40)],
            }
        )
        for seed in range(seeds)
    }


def row_of(pairs: dict[tuple[str, int], pd.DataFrame], method: str = "mine") -> dict[str, object]:
    means = [100 * frame["score"].mean() for frame in pairs.values()]
    together = overall_mean(averaged(pairs))
    return {
        **{"model": "nano-b", "train_set": "both", "round": 1, "objective": "sft", "method": method},
        **{"seeds": len(pairs), "overall": 100 * together.mean, "se": 100 * together.se},
        **{"low": 1.0, "high": 99.0, "seed_sd": statistics.stdev(means) if len(means) > 1 else None},
    }


def test_an_accuracys_interval_has_both_errors_as_a_differences_has_in_the_tables() -> None:
    pairs = answers(3)
    drawn = drawing.with_seeds(pd.DataFrame([row_of(pairs)])).iloc[0]
    expected = pooled_difference(pairs)
    assert expected.seeds
    assert drawn["error"] == expected.error
    assert [drawn["low"], drawn["high"]] == pytest.approx([100 * expected.low, 100 * expected.high])


def test_methods_that_train_alike_share_their_variance_between_seeds() -> None:
    main = pd.DataFrame([row_of(answers(3)), row_of(answers(3), "other"), row_of(answers(3), "dpo")])
    main["seed_sd"], main["objective"] = [1.0, 3.0, 9.0], ["sft", "sft", "dpo"]
    one, other, dpo = (drawing.with_seeds(main)["high"] - main["overall"]).tolist()
    assert one == pytest.approx(other)
    assert one < dpo
    alone = drawing.with_seeds(main.iloc[1:2])
    assert other < (alone["high"] - alone["overall"]).item(), "five points instead of three"


def test_methods_that_share_seeds_tell_less_of_their_variance_than_independent_ones_would() -> None:
    freedom = [2.0, 2.0, 1.0, 0.0]
    pairs = list(itertools.product(range(len(freedom)), repeat=2))
    joint = sum((1 if i == j else drawing.ALIKE**2) * min(freedom[i], freedom[j]) for i, j in pairs)
    assert drawing.independent(np.array(freedom)) == pytest.approx(5.0**2 / joint)
    assert drawing.independent(np.array([2.0])) == 2.0
    assert drawing.independent(np.array([0.0])) == 0.0
    many = drawing.independent(np.full(1000, 2.0))
    assert many < 2.0 / drawing.ALIKE**2, "however many methods there are"


def test_an_interval_of_one_seed_is_the_tables_own_and_has_no_caps() -> None:
    one = drawing.with_seeds(pd.DataFrame([row_of(answers(1)), row_of(answers(3), "three")]))
    assert one[["low", "high", "error"]].iloc[0].tolist() == [1.0, 99.0, "queries"]
    assert "one seed" in texts(figure("rounds", MAIN.assign(seeds=1, seed_sd=None)))
    assert "one seed" not in texts(figure("rounds"))


def test_every_seed_is_a_thin_line_where_there_are_several() -> None:
    def thin(drawn: Figure) -> int:
        return sum(line.get_linewidth() == 0.5 for axis in drawn.axes for line in axis.get_lines())

    assert thin(figure("rounds", MAIN)) == 0
    assert thin(figure("rounds", MAIN, RUNS)) == 2 * 3 * len(["sft-seed", "rest-em", "vista-sft"])
    assert thin(figure("rounds", MAIN, RUNS[RUNS["seed"] == 0])) == 0
    assert "each seed" not in texts(figure("rounds", MAIN, RUNS[RUNS["seed"] == 0]))


def test_train_sets_of_which_one_has_no_result_leave_no_line_out() -> None:
    other = MAIN.assign(train_set="other").assign(overall=None)
    other.loc[other["objective"] == "seed", "overall"] = 60.0
    both = pd.concat([MAIN, other], ignore_index=True)
    runs = pd.concat([RUNS, RUNS.assign(train_set="other")], ignore_index=True)
    drawn = figure("rounds", both, runs)
    assert {axis.get_title() for axis in drawn.axes if axis.get_title()} == {"nano-a, both", "nano-b, both"}
    one = figure("rounds", MAIN, RUNS)
    assert [len(axis.get_lines()) for axis in drawn.axes] == [len(axis.get_lines()) for axis in one.axes]


def test_seeds_that_are_not_drawn_are_not_in_the_legend() -> None:
    drawn = {"sft-seed", *MAIN.loc[MAIN["round"] > 1, "method"]}
    others = RUNS[(RUNS["seed"] == 0) | ~RUNS["method"].isin(drawn)]
    others = pd.concat([others, others.assign(method="once", seed=1), others.assign(method="once", seed=2)])
    main = pd.concat([MAIN, MAIN[MAIN["round"] == 1].assign(method="once")], ignore_index=True)
    assert "each seed" not in texts(figure("rounds", main, others))


def test_a_swept_method_among_published_numbers_is_drawn_too() -> None:
    swept = pd.concat([REPORTED, REPORTED.assign(method="vista-sft+tau=0.0")], ignore_index=True)
    assert "vista-sft+tau=0.0" in texts(figure("reported", swept))


def test_names_are_told_as_they_are_written() -> None:
    sweep = SWEEP.assign(setting="resample.order", default="top1-swapped", value="as-it-is", difference=-1.0)
    alone = pd.concat([sweep.iloc[:1], SWEEP], ignore_index=True)
    said = texts(figure("sweeps", alone))
    assert "as-it-is instead of top1-swapped: −1.00" in said


# --- what each figure shows ---


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rounds", ["sft-seed", "each seed", "95 %, test queries and seeds", "Round 0 is SFT-Seed"]),
        ("ood", ["SFT-Seed", "mean over models", "nano-a", "95 %, test queries alone"]),
        ("difficulty", ["SFT-Seed", "95 %, test queries alone"]),
        ("faithfulness", ["SFT-Seed", "rounds of a method are joined", "95 %, test queries and seeds"]),
        ("detectors", ["hollow: within queries", "filled: over all", "chance", "95 %"]),
        ("filters", ["at random", "as much of both", "95 %"]),
        ("sweeps", ["as it is (default)", "no difference", "(default)"]),
        ("vas", ["paper's τ", "outermost"]),
        ("critical_tokens", ["at the first error", "before or after it", "outermost"]),
        ("cost", ["Pareto front", "rounds of a method are joined"]),
        ("reported", ["reported = reproduced", "95 %"]),
    ],
)
def test_what_is_hollow_dotted_or_grey_is_explained_below(name: str, says: list[str]) -> None:
    shown = texts(figure(name))
    assert [each for each in says if each not in shown] == []


def test_each_round_stands_at_its_accuracy_and_the_change_of_its_faithful_share() -> None:
    drawn = figure("faithfulness")
    assert [axis.get_title() for axis in drawn.axes] == ["nano-b", "nano-a"]
    joined = [line for line in drawn.axes[0].get_lines() if line.get_marker() == "s"]
    assert [line.get_xydata().tolist() for line in joined] == [[[62.0, 3.0], [64.0, 3.0]]]
    assert texts(figure("faithfulness", FAITHFULNESS.assign(delta_sft_seed=float("nan")))).startswith(
        "No method"
    )


def test_kinds_of_questions_are_not_joined_by_lines() -> None:
    drawn = figure("difficulty")
    lines = [line for axis in drawn.axes for line in axis.get_lines() if line.get_marker() == "s"]
    assert [line.get_linestyle() for line in lines] == ["None"]
    (axis,) = drawn.axes
    assert [each.get_text() for each in axis.get_yticklabels()] == ["sums (20 %)", "digits (80 %)"]
    top, bottom = axis.transData.transform([(0, 0), (0, 1)])[:, 1]
    assert top > bottom, "the hardest is on top"


def test_the_front_is_what_nothing_cheaper_beats() -> None:
    rows = pd.DataFrame({"drawn": [0.0, 1.0, 1.0, 2.0, 3.0], "overall": [50.0, 60.0, 65.0, 64.0, 70.0]})
    assert front(rows)["overall"].tolist() == [50.0, 65.0, 70.0]


def test_points_of_the_cost_are_named_without_covering_each_other() -> None:
    crowded = pd.concat(
        [MAIN.assign(method=MAIN["method"] + f"-{n}", overall=MAIN["overall"] + n / 9) for n in range(9)]
    )
    crowded = crowded[(crowded["round"] == 1) & (crowded["objective"] == "sft")]
    drawn = figure("cost", crowded)
    drawn.draw_without_rendering()
    for axis in drawn.axes:
        boxes = [Text.get_window_extent(text) for text in axis.texts]
        assert len(boxes) > 3
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    (box,) = drawn.legends
    legend = {text.get_text() for text in box.get_texts()}
    assert legend > {method for method in crowded["method"] if "+" not in method}


def test_the_default_of_a_sweep_stands_among_its_values() -> None:
    (axis,) = figure("sweeps").axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["−1", "−0.5\n(default)", "0", "1"]
    marked = [line for line in axis.get_lines() if line.get_marker() == "o"]
    places = {float(x): float(y) for line in marked for x, y in zip(*line.get_data(), strict=True)}
    assert [places[place] for place in range(4)] == [-1.0, 0.0, 0.0, 1.0]


def test_a_sweep_of_one_value_is_told_below_the_others_or_drawn_if_alone() -> None:
    says = "restart = previous instead of base: +1.00 [+0.00, +2.00] (queries, seeds)."
    assert says in texts(figure("sweeps"))
    (axis,) = figure("sweeps", ONE_VALUE).axes
    assert axis.get_title() == "restart"


def test_a_filter_is_drawn_at_the_shares_of_faithful_and_unfaithful_that_it_drops() -> None:
    first, _ = figure("filters").axes
    ends = [zip(*line.get_data(), strict=True) for line in first.get_lines()]
    points = {(round(x, 6), round(y, 6)) for line in ends for x, y in line}
    assert (5.0, 30.0) in points, "4 of 80 faithful, 6 of 20 unfaithful"
    assert (8.75, 15.0) in points, "7 and 3 of them at random"
    assert {"−0.5, layer 1", "0.0, layer 1"} <= {text.get_text() for text in first.texts}


def test_a_sweeps_values_stay_text_when_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "sweep.csv"
    SWEEP.assign(value=["None", "1", "[0.5]"], default="true").to_csv(file, index=False)
    assert drawing.read(file)["value"].tolist() == ["None", "1", "[0.5]"]
    assert drawing.read(file)["default"].tolist() == ["true"] * 3


# --- one column, two columns ---


@pytest.mark.parametrize(("width", "inches"), [("column", 3.4), ("page", 7.0)])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_covered_in_one_column_or_two(name: str, width: str, inches: float) -> None:
    drawing.style()
    for tables in (tables_of(name), [only_one(table) for table in tables_of(name)]):
        with drawing.at_width(width):
            drawn = figure(name, *tables)
        drawn.draw_without_rendering()
        assert drawn.get_figwidth() == inches
        ends = drawn.get_tightbbox().extents
        assert min(ends[:2]) > -0.02
        assert (ends[2:] < drawn.get_size_inches() + 0.02).all()
        for axis, box in itertools.product(drawn.axes, drawn.legends):
            assert axis.get_tightbbox().y0 >= box.get_window_extent().y1 - 1
        boxes = [axis.get_tightbbox() for axis in drawn.axes]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        for axis in drawn.axes:
            assert axis.bbox.height > 60, "a panel keeps its height, whatever is below it"


def only_one(table: pd.DataFrame) -> pd.DataFrame:
    """A table of a suite with one model, one seed and one method that trains on rollouts."""
    for name, kept in (
        ("model", ("nano-b", drawing.ALL_MODELS)),
        ("method", ("zero-shot", "sft-seed", "vista-sft", "vista-sft+tau=1", "rest-em")),
    ):
        table = table[table[name].isin(kept)] if name in table else table
    if "seeds" in table:
        table = table.assign(seeds=1, seed_sd=None)
    return table[table["seed"] == 0] if "seed" in table else table


@pytest.mark.parametrize("name", ["roundz", "looks", "no.such", ""])
def test_the_command_draws_figures_alone_and_names_them(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "vista", "figure", name, "main.csv", "--to", str(tmp_path / "it")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"there is no figure {name!r}; there are" in done.stderr
    assert "rounds" in done.stderr
