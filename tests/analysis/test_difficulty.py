"""The table of difficulty against counts made by hand."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.conftest import World, make_suite
from tests.documents import undocumented
from vista.analysis.collect import collect, read_long, scores_by_run
from vista.analysis.difficulty import COLUMNS, difficulty_table, mass
from vista.analysis.pass_rates import BINS, PassRates, Reader, bin_of
from vista.analysis.stats import paired_scores, pooled_difference
from vista.config import Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import withdraw
from vista.paths import Paths
from vista.records import EXAMPLE, PAIR, QUERY, ROLLOUT, Row, write_rows
from vista.testbed.questions import Question, Scene, dump

SCENE = Scene(((1, 2), (3, 4)), (("red", "red"), ("red", "red")))
IMPROVE = {"kind": "self-improvement", "rollouts": {"k": 10}}
METHODS = {
    "zero-shot": {"kind": "base"},
    "sft-seed": {"kind": "seed"},
    "rest-em": IMPROVE,
    "vista-sft": IMPROVE | {"resample": {"kind": "prefix"}},
    "dpo": IMPROVE | {"objective": {"kind": "dpo"}},
}
SEED = "m/one/sft-seed/seed0/round0"
# Right samples of ten, by train query of the one task.
RIGHT = {"never": 0, "rarely": 3, "half": 5, "often": 7, "always": 10}
# Its question: two are sums, three read a digit.
TEMPLATES = {"never": "sum-all", "rarely": "sum-all", "half": "digit", "often": "digit", "always": "digit"}


@pytest.fixture
def made(tmp_path: Path) -> World:
    """One model and task; two shards of SFT-Seed's samples, resamples of one query, three training sets."""
    suite = make_suite(
        tmp_path,
        models={"m": {"kind": "path", "path": "/m"}},
        train_sets={"one": ["easy"]},
        out_of_domain=[],
        methods=METHODS,
    )
    world = World(suite, Paths(tmp_path)).fill(lambda run, task, index: float(index < 2 or "sft" in run.id))
    queries(world, "train", TEMPLATES)
    names = ["sum-all", "sum-all", "digit", "digit"]
    queries(world, "test", {f"easy-{index}": name for index, name in enumerate(names)})
    first = suite.methods["rest-em"].model_dump()["rollouts"]
    slug = f"k{first['k']}-t1-n2048"
    halves = (["never", "half", "always"], ["rarely", "often"])
    for shard, own in enumerate(halves):
        rows = [solution(query, n, n < RIGHT[query]) for query in own for n in range(10)]
        rollouts(world, "samples", slug, shard, rows)
        rescued = [solution("never", n, n == 0, "prefix") for n in range(3)] if shard == 0 else []
        rollouts(world, "resamples", f"{slug}+prefix-j3-top5-swapped", shard, rescued)
    train(world, "rest-em", Counter(rarely=1, half=2, always=5), seed_rows=7)
    train(world, "vista-sft", Counter(never=1, rarely=2, half=1), seed_rows=7)
    train(world, "dpo", Counter(half=3), pairs=True)
    return world


def question(template: str) -> Question:
    return Question(template) if template == "sum-all" else Question(template, 1, column=2)


def write_new(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    """Rows in the place of those that the manifest of the world knows."""
    write_rows(path, rows, schema)
    withdraw(path)


def queries(world: World, split: str, templates: dict[str, str]) -> None:
    rows = [
        dict.fromkeys(QUERY.names)
        | {"query_id": query, "task": "easy", "answer_type": "number", "scene": dump(SCENE, question(name))}
        | {"cluster_id": f"easy-image-{index // 2}"}
        for index, (query, name) in enumerate(templates.items())
    ]
    write_new(world.paths.queries("easy", split), rows, QUERY)


def solution(query: str, number: int, correct: bool, source: str = "sample") -> dict[str, Any]:
    known = {"query_id": query, "task": "easy", "sample": number, "source": source, "correct": correct}
    return dict.fromkeys(ROLLOUT.names) | known


def rollouts(world: World, kind: str, name: str, shard: int, rows: list[dict[str, Any]]) -> None:
    path = world.paths.rollouts(SEED, kind, name, shard, 2)
    assert path.exists(), "where the grid expects it"
    write_new(path, rows, ROLLOUT)


def train(world: World, method: str, counts: Counter[str], seed_rows: int = 0, pairs: bool = False) -> None:
    schema = PAIR if pairs else EXAMPLE
    sources = [(query, "sample") for query in counts.elements()] + [("easy-seed", "seed")] * seed_rows
    rows = [dict.fromkeys(schema.names) | {"query_id": q, "source": s} for q, s in sources]
    write_new(world.paths.training_set(f"m/one/{method}/seed0/round1"), rows, schema)


def table_of(world: World) -> list[dict[str, str]]:
    collect(world.suite, world.paths)
    difficulty_table(world.suite, world.paths)
    with world.paths.table("difficulty", "csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], part: str, method: str, name: str, model: str = "m") -> dict[str, str]:
    return {
        r["group"]: r[name] for r in rows if (r["part"], r["method"], r["model"]) == (part, method, model)
    }


@given(st.integers(1, 40), st.data())
def test_bins_cover_every_pass_rate_once_and_in_order(samples: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, samples))
    rate = right / samples
    found = BINS.index(bin_of(right, samples))
    assert (found == 0) == (right == 0)
    assert (found == 4) == (right == samples)
    assert (found == 1) == (0 < rate <= 0.3 + 1e-12 and right < samples)
    assert (found == 3) == (0.7 - 1e-12 <= rate < 1)


def test_training_mass_is_followed_from_samples_to_the_training_set(made: World) -> None:
    rows = table_of(made)
    # One query in each bin; 25 right samples; one rescued; 4 examples without those of the seed split.
    assert column(rows, "train", "vista-sft", "share_queries") == dict.fromkeys(BINS, "20.00")
    shares = {name: list(column(rows, "train", "vista-sft", name).values()) for name in COLUMNS}
    assert shares["share_samples"] == ["0.00", "12.00", "20.00", "28.00", "40.00"]
    assert shares["share_positives"] == [f"{100 * n / 26:.2f}" for n in (1, 3, 5, 7, 10)]
    assert shares["share_trained"] == ["25.00", "50.00", "25.00", "0.00", "0.00"]
    assert shares["covered"] == ["100.00", "100.00", "100.00", "0.00", "0.00"]
    assert shares["pass_rate"] == ["0.00", "30.00", "50.00", "70.00", "100.00"]
    plain = column(rows, "train", "rest-em", "share_positives")
    assert list(plain.values()) == shares["share_samples"], "without resampling the positives are the samples"


def test_pass_rates_are_those_of_the_sampling_that_most_methods_read(made: World) -> None:
    few = IMPROVE | {"rollouts": {"k": 10, "temperature": 0.7}}
    greedy = IMPROVE | {"rollouts": {"k": 1, "temperature": 0.0}}
    methods = {"greedy": greedy, "few": few, **METHODS}
    suite = make_suite(made.paths.results, train_sets={"one": ["easy"]}, methods=methods)
    suite = suite.model_copy(update={"models": made.suite.models})
    found = Reader(suite, made.paths).pass_rates(Run("m", "one", "dpo", 0, 1))
    assert found is not None
    assert found.right == Counter({query: count for query, count in RIGHT.items() if count})


def test_pairs_count_like_examples(made: World) -> None:
    shares = column(table_of(made), "train", "dpo", "share_trained")
    assert shares == {name: "100.00" if name == BINS[2] else "0.00" for name in BINS}


def test_test_accuracy_is_broken_down_by_template_with_its_pass_rate(made: World) -> None:
    rows = table_of(made)
    groups = ["easy: digit", "easy: sum-all"]
    assert list(column(rows, "test", "rest-em", "pass_rate").items()) == [
        (groups[0], f"{100 * 22 / 30:.2f}"),
        (groups[1], "15.00"),
    ]
    # Right on the two sums alone; SFT-Seed, whose name holds "sft", on all.
    assert list(column(rows, "test", "rest-em", "accuracy").values()) == ["0.00", "100.00"]
    assert list(column(rows, "test", "rest-em", "delta").values()) == ["-100.00", "0.00"]
    assert set(column(rows, "test", "sft-seed", "delta").values()) == {""}
    assert set(column(rows, "test", "zero-shot", "accuracy_sft_seed").values()) == {"100.00"}


def test_kinds_are_pooled_over_models_and_seeds_with_the_error_of_both(tmp_path: Path) -> None:
    suite = make_suite(
        tmp_path,
        models={name: {"kind": "path", "path": "/m"} for name in ("m", "n")},
        train_sets={"one": ["easy"]},
        out_of_domain=[],
        methods={name: METHODS[name] for name in ("zero-shot", "sft-seed")},
        seeds=[0, 1, 2],
    )
    # Seed by seed, SFT-Seed is right on one, two and all of the four queries; the base on none.
    world = World(suite, Paths(tmp_path)).fill(
        lambda run, task, index: float(run.method == "sft-seed" and index <= (0, 1, 3)[run.seed])
    )
    queries(world, "test", {f"easy-{index}": "digit" for index in range(4)})
    rows = table_of(world)
    (pooled,) = [row for row in rows if (row["model"], row["method"]) == ("all models", "sft-seed")]
    assert (pooled["seed"], pooled["queries"], pooled["accuracy"]) == ("", "4", "58.33")
    assert (pooled["models"], pooled["runs"], pooled["missing"]) == ("2", "6", "0")
    (base,) = [row for row in rows if (row["model"], row["method"]) == ("all models", "zero-shot")]
    # Zero-shot has one run for each model, under the first seed: against that seed's SFT-Seed.
    assert (base["delta"], base["accuracy_sft_seed"]) == ("-25.00", "25.00")
    scores = scores_by_run(read_long(world.paths.long))
    seed, other = Run("m", "one", "sft-seed", 0, 0), Run("m", "one", "zero-shot", 0, 0)
    pair = paired_scores(*(scores[run][scores[run]["task"] == "easy"] for run in (other, seed)))
    expected = pooled_difference({("m", 0): pair, ("n", 0): pair})
    assert [base["delta_se"], base["delta_low"], base["delta_high"]] == [
        f"{100 * value:.2f}" for value in (expected.se, expected.low, expected.high)
    ]


def test_without_a_scene_the_kind_is_the_answer_type(made: World) -> None:
    for split, ids in (("train", list(TEMPLATES)), ("test", [f"easy-{n}" for n in range(4)])):
        rows = [
            dict.fromkeys(QUERY.names)
            | {"query_id": q, "task": "easy", "answer_type": "closed", "cluster_id": f"easy-image-{n // 2}"}
            for n, q in enumerate(ids)
        ]
        write_new(made.paths.queries("easy", split), rows, QUERY)
    assert column(table_of(made), "test", "rest-em", "pass_rate") == {"easy: closed": "50.00"}


def test_a_run_without_positives_has_rows_that_say_so(made: World) -> None:
    run = Run("m", "one", "dpo", 0, 1)
    made.no_positives(run)
    train(made, "dpo", Counter(), pairs=True)
    rows = [row for row in table_of(made) if row["method"] == "dpo"]
    assert {row["status"] for row in rows} == {"no-positives"}
    assert {row["share_trained"] for row in rows} == {""}
    own, pooled = (row for row in rows if row["part"] == "test")
    assert (own["model"], own["accuracy"], own["runs"]) == ("m", "", "")
    assert (pooled["model"], pooled["accuracy"]) == ("all models", "")
    assert (pooled["models"], pooled["runs"], pooled["missing"]) == ("0", "0", "1")


@pytest.fixture
def uneven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two seeds of several methods, some without positives; nothing is known about train queries."""
    suite = make_suite(
        tmp_path,
        models={"m": {"kind": "path", "path": "/m"}},
        train_sets={"one": ["easy"]},
        out_of_domain=[],
        methods={name: METHODS[name] for name in ("zero-shot", "sft-seed", "dpo")}
        | {name: IMPROVE | {"rounds": 2} for name in ("rest-em", "full")},
        seeds=[0, 1],
    )
    # By query, the last of four is the only one that SFT-Seed gets wrong; the others, all but the first.
    world = World(suite, Paths(tmp_path)).fill(
        lambda run, task, index: float(index < 3 if run.method == "sft-seed" else index == 0)
    )
    queries(world, "test", {f"easy-{index}": "digit" for index in range(4)})
    for seed, number in ((1, 1), (0, 2), (1, 2)):
        world.no_positives(Run("m", "one", "rest-em", seed, number))
    monkeypatch.setattr(Reader, "pass_rates", lambda reader, run: None)
    return world


def test_pooled_rows_count_the_runs_behind_them_and_those_without_positives(uneven: World) -> None:
    rows = [row for row in table_of(uneven) if row["model"] == "all models"]
    counts = ("status", "models", "runs", "missing", "group")
    found = {(row["method"], row["round"]): tuple(row[name] for name in counts) for row in rows}
    assert found == {
        ("zero-shot", "0"): ("complete", "1", "1", "0", "easy: digit"),
        ("sft-seed", "0"): ("complete", "1", "2", "0", "easy: digit"),
        ("dpo", "1"): ("complete", "1", "2", "0", "easy: digit"),
        ("rest-em", "1"): ("partial", "1", "1", "1", "easy: digit"),
        ("rest-em", "2"): ("no-positives", "0", "0", "2", ""),
        ("full", "1"): ("complete", "1", "2", "0", "easy: digit"),
        ("full", "2"): ("complete", "1", "2", "0", "easy: digit"),
    }
    text = " ".join(uneven.paths.table("difficulty", "md").read_text().split())
    assert "| rest-em | 2 | 0 of 2 | no-positives |" in text, "not round 1 in its place"
    assert "| sft-seed | 0 | 2 | 75.00 |" in text


def test_differences_without_the_error_of_seeds_are_marked_beside_others(uneven: World) -> None:
    rows = [row for row in table_of(uneven) if row["model"] == "all models"]
    errors = {(row["method"], row["round"]): row["error"] for row in rows}
    alone = [key for key, error in errors.items() if error == "queries"]
    assert alone == [("zero-shot", "0"), ("rest-em", "1")]
    assert [key for key, error in errors.items() if error == ""] == [("sft-seed", "0"), ("rest-em", "2")]
    cells = {row["method"]: row for row in rows if row["round"] == "0"}
    assert float(cells["zero-shot"]["delta_high"]) < 0.0, "it would be bold"
    lines = uneven.paths.table("difficulty", "md").read_text().splitlines()
    shown = {line.split()[1]: line for line in lines if line.startswith("| ")}
    assert "-50.00 ±" in shown["zero-shot"]
    assert "†" in shown["zero-shot"]
    assert "**-50.00** ±" in shown["full"]
    assert [name for name, line in shown.items() if "†" in line] == ["zero-shot"]
    assert any(line.startswith("†: the error is over test queries alone") for line in lines)


def test_a_training_set_from_other_rollouts_is_refused() -> None:
    rates = PassRates(Counter(a=2), Counter(a=1))
    with pytest.raises(VistaError, match="'b' was never sampled by SFT-Seed"):
        mass(rates, Counter(a=1), Counter(), Counter(b=1))


def test_the_markdown_shows_both_tables_and_the_columns_are_documented(made: World, root: Path) -> None:
    table_of(made)
    text = made.paths.table("difficulty", "md").read_text()
    assert "| vista-sft | 1 | 0.00 → 3.85 → 25.00 |" in " ".join(text.split())
    assert "easy: sum-all (15)" in text
    assert text.index("easy: sum-all (15)") < text.index("easy: digit (73)"), "the hardest first"
    assert undocumented(root, COLUMNS) == []


def test_a_suite_without_sft_seed_has_no_difficulties_but_a_table(tmp_path: Path) -> None:
    suite: Suite = make_suite(tmp_path, train_sets={"one": ["easy"]}, methods={"zero-shot": {"kind": "base"}})
    world = World(suite, Paths(tmp_path)).fill()
    queries(world, "test", {f"easy-{index}": "digit" for index in range(4)})
    rows = table_of(world)
    assert {row["part"] for row in rows} == {"test"}
    assert {row["pass_rate"] for row in rows} == {""}
