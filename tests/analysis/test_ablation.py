"""The ablation table: who is compared with whom, how sure that is, and what has no result."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.analysis.conftest import MODELS, World, make_suite
from tests.documents import undocumented
from vista.analysis.ablation import ALL_MODELS, COLUMNS, ablation_table
from vista.analysis.collect import collect
from vista.analysis.comparisons import Contrast, contrasts
from vista.analysis.page import probability
from vista.analysis.stats import holm, overall_mean, paired_difference, pooled_difference, unlike
from vista.config import Suite, Swept
from vista.errors import VistaError
from vista.grid import Run, runs
from vista.manifest import read_manifest
from vista.paths import Paths, manifest_of

IMPROVE = {"kind": "self-improvement", "rollouts": {"k": 2}}
PREFIX, VAS = {"kind": "prefix"}, {"kind": "vas"}
METHODS: dict[str, dict[str, Any]] = {
    "zero-shot": {"kind": "base"},
    "sft-seed": {"kind": "seed"},
    "rest-em": IMPROVE | {"rounds": 2},
    "vista-sft": IMPROVE | {"rounds": 2, "resample": PREFIX, "filter": VAS},
    "prefix-only": IMPROVE | {"rounds": 2, "resample": PREFIX},
    "vas-only": IMPROVE | {"filter": VAS},
    "vista-sft+tau=0": IMPROVE | {"resample": PREFIX, "filter": VAS | {"tau": 0.0}},
}
Table = dict[tuple[str, str, str, str], dict[str, str]]
SWEPT = {"vista-sft+tau=0": Swept(sweep="tau", of="vista-sft", set="filter.tau", value=0.0)}


def ablation_suite(results: Path, **changes: Any) -> Suite:
    return make_suite(results, **({"methods": METHODS, "swept": SWEPT, "seeds": [0, 1]} | changes))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Every run complete; tests only read it."""
    suite = ablation_suite(tmp_path_factory.mktemp("small"))
    return World(suite, Paths(suite.results)).fill(scattered)


@pytest.fixture(scope="module")
def rows(small: World) -> Table:
    return table_of(small)


def scattered(run: Run, task: str, index: int) -> float:
    """Right more often the further the method stands in the list, and not alike in two runs."""
    text = f"{run.id} {task} {index}".encode()
    draw = sum((position + 1) * byte for position, byte in enumerate(text)) % 97 / 97
    return float(draw < 0.3 + 0.08 * list(METHODS).index(run.method))


def table_of(world: World) -> Table:
    """Rows by method, reference, model and round."""
    collect(world.suite, world.paths)
    ablation_table(world.suite, world.paths)
    with world.paths.table("ablation", "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["method"], row["against"], row["model"], row["round"]) for row in rows]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, rows, strict=True))


def compared(suite: Suite, *kinds: str) -> list[tuple[str, str, str]]:
    return [(each.method, each.against, each.differs) for each in contrasts(suite) if each.kind in kinds]


# --- who is compared with whom ---


def test_each_method_is_set_against_those_that_lack_one_part_of_it_or_both(tmp_path: Path) -> None:
    suite = ablation_suite(tmp_path)
    assert compared(suite, "component") == [
        ("vista-sft", "rest-em", "resample + filter"),
        ("vista-sft", "prefix-only", "filter"),
        ("vista-sft", "vas-only", "resample"),
        ("prefix-only", "rest-em", "resample"),
        ("vas-only", "rest-em", "filter"),
    ]
    assert compared(suite, "sweep") == [("vista-sft+tau=0", "vista-sft", "filter.tau = 0.0")]
    assert [method for method, _, _ in compared(suite, "seed")] == [
        *("rest-em", "vista-sft", "prefix-only", "vas-only")
    ]


def test_controls_are_set_against_what_they_replace_and_never_the_other_way(tmp_path: Path) -> None:
    controls = {
        "random-drop": IMPROVE | {"resample": PREFIX, "filter": {"kind": "random-drop"}},
        "vig": IMPROVE | {"resample": PREFIX, "filter": {"kind": "vig"}},
        "budget": IMPROVE | {"resample": {"kind": "budget-matched"}},
        "continue": IMPROVE | {"restart": "previous"},
        "select": {"kind": "select", "of": "rest-em"},
        "star": IMPROVE | {"resample": {"kind": "rationalize"}, "dedupe": True},
        "star-plus": IMPROVE | {"resample": {"kind": "rationalize"}},
    }
    suite = ablation_suite(tmp_path, methods=METHODS | controls)
    assert compared(suite, "alternative") == [
        ("random-drop", "vista-sft", "filter"),
        ("vig", "vista-sft", "filter"),
        ("budget", "prefix-only", "resample"),
        ("star-plus", "prefix-only", "resample"),
    ]
    assert compared(suite, "setting") == [
        ("continue", "rest-em", "restart"),
        ("star-plus", "star", "dedupe"),
    ]
    assert compared(suite, "decoding") == [("select", "rest-em", "decoding")]
    assert compared(suite, "baseline") == [
        ("vista-sft", "continue", "resample + filter + restart"),
        ("vista-sft", "star", "resample + filter + dedupe"),
        ("vista-sft", "star-plus", "resample + filter"),
    ]
    off = [pair for pair in compared(suite, "component") if pair[0] in controls]
    assert off == [
        ("random-drop", "prefix-only", "filter"),
        ("vig", "prefix-only", "filter"),
        ("budget", "rest-em", "resample"),
        ("star-plus", "rest-em", "resample"),
    ]


def test_what_samples_as_it_trains_is_set_against_the_whole_of_vista_and_its_own_variants(
    tmp_path: Path,
) -> None:
    online = {"kind": "online", "rollouts": {"k": 8}}
    grpo = {"kind": "grpo"}
    methods = {
        "grpo": online,
        "format": online | {"objective": grpo | {"reward": {"kind": "format"}}},
        "free": online | {"objective": grpo | {"reward": {"kind": "format"}, "beta": 0.0}},
    }
    others = {
        "star": IMPROVE | {"resample": {"kind": "rationalize"}},
        "dpo": IMPROVE | {"objective": {"kind": "dpo"}},
        "number-matched": IMPROVE | {"resample": {"kind": "budget-matched"}},
        "rest-em+k=4": IMPROVE | {"rollouts": {"k": 4}},
    }
    swept = SWEPT | {"rest-em+k=4": Swept(sweep="k", of="rest-em", set="rollouts.k", value=4)}
    suite = ablation_suite(tmp_path, methods=METHODS | others | methods, swept=swept)
    against = [pair for pair in compared(suite, "baseline") if pair[1] in methods]
    assert against == [("vista-sft", name, "online") for name in methods]
    against = [pair for pair in compared(suite, "baseline") if pair[0] in methods]
    assert against == [(name, plain, "online") for name in methods for plain in ("rest-em", "star")]
    assert [pair for pair in compared(suite, "setting") if pair[0] in methods] == [
        ("format", "grpo", "objective.reward"),
        ("free", "format", "objective.beta"),
    ]
    assert {name for name, _, _ in compared(suite, "seed")} > set(methods)


def test_two_values_of_a_component_are_a_setting_and_the_later_method_is_compared(tmp_path: Path) -> None:
    methods = METHODS | {"strict": IMPROVE | {"resample": PREFIX, "filter": VAS | {"tau": 0.5}}}
    suite = ablation_suite(tmp_path, methods=methods)
    assert Contrast("setting", "strict", "vista-sft", "filter") in contrasts(suite)
    assert not any(each.against == "strict" for each in contrasts(suite))


# --- how sure ---


def frame(differences: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": "t",
            "query_id": [f"q{index}" for index in range(len(differences))],
            "cluster_id": [f"image{index // 2}" for index in range(len(differences))],
            "score": differences,
        }
    )


def test_one_pair_of_runs_has_the_error_over_test_queries_alone() -> None:
    only = frame([1.0, 0.0, -1.0, 1.0, 1.0, 0.0])
    pooled, plain = pooled_difference({("m", 0): only}), overall_mean(only)
    assert (pooled.mean, pooled.se, pooled.n) == (plain.mean, plain.se, 6)
    assert pooled.high - pooled.mean == pytest.approx(1.959964 * plain.se)
    assert pooled.p == pytest.approx(2 * stats.norm.sf(plain.mean / plain.se))


def test_seeds_add_their_own_variance_and_few_of_them_widen_the_interval() -> None:
    a, b, c = [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]
    pooled = pooled_difference({("m", 0): frame(a), ("m", 1): frame(b), ("m", 2): frame(c)})
    averaged = [sum(each) / 3 for each in zip(a, b, c, strict=True)]
    queries = overall_mean(frame(averaged)).se ** 2
    seeds = np.var([0.5, 0.25, 0.75], ddof=1) / 3
    assert pooled.mean == pytest.approx(0.5)
    assert pooled.se == pytest.approx(math.sqrt(queries + seeds))
    degrees = (queries + seeds) ** 2 / (seeds**2 / 2)
    assert pooled.high - pooled.mean == pytest.approx(stats.t.ppf(0.975, degrees) * pooled.se)
    assert pooled.runs == 3


def test_models_weigh_the_same_however_many_seeds_they_have() -> None:
    pairs = {("a", 0): frame([1.0, 1.0, 0.0, 0.0]), ("a", 1): frame([0.0, 0.0, 1.0, 0.0])}
    pairs |= {("b", 0): frame([1.0, 1.0, 1.0, 0.0])}
    pooled = pooled_difference(pairs)
    assert pooled.mean == pytest.approx(((0.5 + 0.25) / 2 + 0.75) / 2)
    spread = np.var([0.5, 0.25], ddof=1)  # known from model a alone, taken for b as well
    averaged = [(0.5 + 1) / 2, (0.5 + 1) / 2, (0.5 + 1) / 2, 0.0]
    assert pooled.se**2 == pytest.approx(
        overall_mean(frame(averaged)).se ** 2 + spread * (1 / 2 + 1) / 4, rel=1e-9
    )


def simulated(rng: np.random.Generator) -> Iterator[tuple[tuple[str, int], pd.DataFrame]]:
    """Differences of a model's three seeds: noise of queries, of seeds and of both."""
    queries = rng.normal(0.0, 0.5, 40)
    for seed in range(3):
        values = queries + rng.normal(0.0, 0.1) + rng.normal(0.0, 0.5, 40)
        yield ("m", seed), frame([float(value) for value in values])


def test_the_interval_holds_the_truth_in_about_95_of_100_repetitions() -> None:
    rng = np.random.default_rng(0)
    found = [pooled_difference(dict(simulated(rng))) for _ in range(80)]
    covered = sum(each.low <= 0.0 <= each.high for each in found)
    assert 0.90 <= covered / len(found) <= 1.0
    naive = sum(abs(each.mean) <= 1.96 * 0.5 / math.sqrt(40 * 3) for each in found)
    assert naive < covered, "without regard to what runs have in common, the interval is too short"


def test_a_pooled_difference_says_what_its_error_accounts_for() -> None:
    first, second = frame([1.0, 0.0, 0.0, 1.0]), frame([0.0, 0.0, 0.0, 1.0])
    assert pooled_difference({("a", 0): first, ("b", 0): second}).error == "queries"
    assert pooled_difference({("a", 0): first, ("a", 1): second}).error == "queries, seeds"
    # Seeds that agree have been looked at, too.
    assert pooled_difference({("a", 0): first, ("a", 1): first}).error == "queries, seeds"
    assert unlike(["queries", None, "queries, seeds"]) == [True, False, False]
    assert unlike(["queries", None, "queries"]) == [False, False, False]


def test_runs_over_different_queries_are_not_pooled() -> None:
    with pytest.raises(VistaError, match="same queries"):
        pooled_difference({("m", 0): frame([0.0, 1.0, 0.0, 1.0]), ("m", 1): frame([0.0, 1.0])})


def test_holms_correction_is_the_textbooks() -> None:
    values = [0.01, 0.04, math.nan, 0.03, 0.005]
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling
    expected = [0.03, 0.06, math.nan, 0.06, 0.02]
    assert holm(values) == pytest.approx(expected, nan_ok=True)
    assert holm([]) == []


# --- the table ---


def test_every_contrast_has_a_row_per_round_for_all_models_and_for_each(rows: Table) -> None:
    table = rows
    for model in (ALL_MODELS, *MODELS):
        assert ("vista-sft", "rest-em", model, "2") in table
        assert ("vista-sft", "vas-only", model, "2") not in table, "vas-only has one round"
    assert table["vista-sft", "rest-em", ALL_MODELS, "1"]["last"] == "False"
    assert table["vista-sft", "rest-em", ALL_MODELS, "2"]["last"] == "True"
    assert table["vista-sft", "vas-only", ALL_MODELS, "1"]["last"] == "True"
    row = table["vista-sft", "sft-seed", ALL_MODELS, "2"]
    assert (row["kind"], row["models"], row["runs"], row["status"]) == ("seed", "2", "4", "complete")


def test_numbers_agree_with_a_recount_from_long_csv(small: World, rows: Table) -> None:
    row = rows["vista-sft", "prefix-only", ALL_MODELS, "2"]
    long = pd.read_csv(small.paths.long)
    inside = long[long["task"].isin(["easy", "hard"]) & (long["round"] == 2)]
    means = inside.groupby(["method", "model", "seed", "task"])["score"].mean().groupby("method").mean()
    assert row["accuracy"] == f"{100 * means['vista-sft']:.2f}"
    assert row["against_accuracy"] == f"{100 * means['prefix-only']:.2f}"
    difference = 100 * (means["vista-sft"] - means["prefix-only"])
    assert row["difference"] == f"{difference:.2f}"
    assert float(row["low"]) < difference < float(row["high"])
    assert row["n_test"] == "10"


def test_one_model_and_seed_agrees_with_the_main_tables_paired_difference(tmp_path: Path) -> None:
    world = World(ablation_suite(tmp_path, seeds=[0]), Paths(tmp_path)).fill(scattered)
    row = table_of(world)["rest-em", "sft-seed", "nano-a", "1"]
    long = pd.read_csv(world.paths.long)
    own = long[(long["model"] == "nano-a") & long["task"].isin(["easy", "hard"])]
    first, second = (
        own[(own["method"] == name) & (own["round"] == number)]
        for name, number in (("rest-em", 1), ("sft-seed", 0))
    )
    plain = paired_difference(first, second)
    assert (row["difference"], row["se"]) == (f"{100 * plain.mean:.2f}", f"{100 * plain.se:.2f}")


def test_holm_counts_each_comparison_once_in_its_last_round_and_sft_seed_apart(rows: Table) -> None:
    own = [row for key, row in rows.items() if key[2] == ALL_MODELS]
    assert all(row["p_holm"] == "" for row in own if row["last"] == "False")
    for seed in (True, False):
        family = [row for row in own if row["last"] == "True" and (row["kind"] == "seed") == seed]
        assert len(family) == (4 if seed else 6)
        # p-values are printed with four decimals, so up to six roundings add up
        again = holm([float(row["p"]) for row in family])
        assert [float(row["p_holm"]) for row in family] == pytest.approx(again, abs=4e-4)


def test_runs_without_positives_are_said_and_never_counted_as_zero(tmp_path: Path) -> None:
    small = World(ablation_suite(tmp_path), Paths(tmp_path)).fill(scattered)
    for model in MODELS:
        for seed in (0, 1):
            small.no_positives(Run(model, "both", "vas-only", seed, 1))
    small.no_positives(Run("nano-a", "both", "prefix-only", 1, 2))
    table = table_of(small)
    row = table["vista-sft", "vas-only", ALL_MODELS, "1"]
    assert (row["status"], row["runs"], row["missing"]) == ("no-positives", "0", "4")
    assert {row[name] for name in ("accuracy", "difference", "low", "high", "p", "p_holm")} == {""}
    row = table["prefix-only", "rest-em", ALL_MODELS, "2"]
    assert (row["status"], row["runs"], row["missing"], row["models"]) == ("partial", "3", "1", "2")
    text = small.paths.table("ablation", "md").read_text()
    line = next(line for line in text.splitlines() if "vas-only" in line and "vista-sft" in line)
    assert "no-positives" in line
    assert "0 of 4" in line


def test_methods_that_run_on_some_models_are_compared_there(tmp_path: Path) -> None:
    only = {"vista-sft+tau=0": {"models": ["nano-a"], "seeds": [1]}}
    world = World(ablation_suite(tmp_path, only=only), Paths(tmp_path)).fill(scattered)
    table = table_of(world)
    row = table["vista-sft+tau=0", "vista-sft", ALL_MODELS, "1"]
    assert (row["models"], row["runs"], row["missing"], row["differs"]) == ("1", "1", "0", "filter.tau = 0.0")
    assert ("vista-sft+tau=0", "vista-sft", "nano-b", "1") not in table


def test_one_seed_beside_several_is_marked_and_in_no_family(tmp_path: Path) -> None:
    only = {"vas-only": {"seeds": [1]}}
    world = World(ablation_suite(tmp_path, only=only), Paths(tmp_path)).fill(
        # Beyond doubt better, were it not for the seeds.
        lambda run, task, index: (
            1.0 if run.method == "vas-only" and index else scattered(run, task, index) / 9
        )
    )
    rows = [row for row in table_of(world).values() if row["last"] == "True"]
    alone = [row for row in rows if "vas-only" in (row["method"], row["against"])]
    assert {row["error"] for row in alone} == {"queries"}
    assert {row["p_holm"] for row in alone} == {""}
    assert min(float(row["p"]) for row in alone) < 0.001
    others = [row for row in rows if row not in alone]
    assert {row["error"] for row in others} == {"queries, seeds"}
    for seed in (True, False):
        family = [r for r in others if r["model"] == ALL_MODELS and (r["kind"] == "seed") == seed]
        again = holm([float(row["p"] or "nan") for row in family])
        found = [float(row["p_holm"] or "nan") for row in family]
        assert found == pytest.approx(again, abs=4e-4, nan_ok=True)
    text = world.paths.table("ablation", "md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ") and "| method" not in line]
    assert all(("†" in line) == ("vas-only" in line) for line in lines)
    assert not any("**" in line for line in lines if "†" in line)
    assert "† behind an interval: it is over test queries alone" in text


def test_with_one_seed_throughout_all_are_alike_and_nothing_is_marked(tmp_path: Path) -> None:
    world = World(ablation_suite(tmp_path, seeds=[0]), Paths(tmp_path)).fill(scattered)
    rows = [row for row in table_of(world).values() if row["last"] == "True" and row["p"]]
    assert {row["error"] for row in rows} == {"queries"}
    assert all(row["p_holm"] for row in rows)
    assert "†" not in world.paths.table("ablation", "md").read_text()


def test_the_markdown_has_a_section_per_kind_and_every_model_beside_the_pooled_row(
    small: World, rows: Table
) -> None:
    text = small.paths.table("ablation", "md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        *("## Without a component", "## Sweeps", "## Against SFT-Seed")
    ]
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    assert all(f" {model} " in header for model in MODELS)
    pooled = [row for key, row in rows.items() if key[2] == ALL_MODELS]
    assert len([line for line in text.splitlines() if line.startswith("| ") and "method" not in line]) == len(
        pooled
    )


def test_columns_are_documented_and_tables_have_manifests_and_equal_bytes(
    small: World, rows: Table, root: Path
) -> None:
    outputs = [small.paths.table("ablation", suffix) for suffix in ("csv", "md")]
    before = [path.read_bytes() for path in outputs]
    table_of(small)
    assert [path.read_bytes() for path in outputs] == before
    assert all(read_manifest(path).stage == "analysis" and manifest_of(path).is_file() for path in outputs)
    assert undocumented(root, COLUMNS) == []


def test_a_small_p_value_is_not_printed_as_zero() -> None:
    assert [probability(p) for p in (None, 1e-9, 0.001, 0.2394)] == ["", "< 0.001", "0.001", "0.239"]


def test_a_suite_that_varies_nothing_has_a_table_that_says_so(tmp_path: Path) -> None:
    suite = ablation_suite(tmp_path, methods={"zero-shot": {"kind": "base"}}, swept={})
    world = World(suite, Paths(tmp_path)).fill(scattered)
    assert table_of(world) == {}
    assert "No two methods" in world.paths.table("ablation", "md").read_text()
    assert len(runs(suite)) == 2
