"""``prefix.csv`` from hand-made failures: known distances, known prefixes and known rescues."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.measured_world import (
    BUDGET,
    GOLD,
    MISREAD,
    PREFIX,
    SAMPLES,
    MeasuredWorld,
    critical,
    measured_suite,
    solution,
)
from tests.documents import undocumented
from vista import grid
from vista.analysis.intervals import most_shared
from vista.analysis.prefix import prefix_table
from vista.errors import VistaError
from vista.records import Row

POLICY = "nano-b/both/sft-seed/seed0/round0"

# Failed solutions to "hard": the first error at token 5, 9 and 4, and one that is cut at the limit.
MISREAD_CELL = "row 1 : 3 7 9 . answer : 9"
WRONG_ANSWER = "row 1 : 3 7 1 . answer : 3"
MISREAD_EARLY = "row 1 : 3 2 1 . answer : 3"


def samples() -> list[Row]:
    return [
        solution("hard", 0, 0, MISREAD_CELL),
        solution("hard", 0, 1, WRONG_ANSWER),
        solution("hard", 1, 0, MISREAD_EARLY),
        solution("hard", 1, 1, GOLD["hard"] + " . answer :", finished=False, correct=False),
        solution("hard", 2, 0, GOLD["hard"]),
        solution("hard", 2, 1, MISREAD_EARLY),
        solution("easy", 0, 0, GOLD["easy"]),
    ]


CRITICAL = [5, 7, None, 12, 6]  # at the error; two before; none; after (10 is the first too many); two after


def resamples() -> list[Row]:
    made = []
    for parent, query, length, texts in (
        (0, 0, 6, [GOLD["hard"], MISREAD["hard"], WRONG_ANSWER]),  # an error-free prefix: row 1 : 3 7 1
        (1, 0, 8, ["row 1 : 3 7 1 . row : 9"] * 3),  # one of 8 tokens with an error in the last
        (1, 2, 7, [MISREAD_EARLY] * 3),  # an error at 4 of 7
    ):
        for index, text in enumerate(texts):
            changes = {"source": "prefix", "parent": parent, "prefix_len": length}
            made.append(solution("hard", query, index, text, **changes))
    return made


@pytest.fixture
def world(tmp_path: Path) -> MeasuredWorld:
    world = MeasuredWorld(measured_suite(tmp_path / "results"))
    failed = [row for row in samples() if not row["correct"]]
    found = [critical(row, at) for row, at in zip(failed, CRITICAL, strict=True)]
    world.write(POLICY, "samples", SAMPLES, samples())
    world.write(POLICY, "resamples", PREFIX, resamples())
    world.write(POLICY, "critical", PREFIX, found)
    plain = [
        solution("hard", 1, 0, MISREAD["hard"], source="plain"),
        solution("hard", 0, 0, WRONG_ANSWER, source="plain"),
    ]
    world.write(POLICY, "resamples", BUDGET, plain)
    return world


def table_of(world: MeasuredWorld) -> pd.DataFrame:
    prefix_table(world.suite, world.paths)
    return pd.read_csv(world.paths.table("prefix", "csv"))


def one(table: pd.DataFrame, measure: str, task: str = "hard", resamples: str = PREFIX) -> pd.Series:
    wanted = {"policy": "all", "task": task, "resamples": resamples, "measure": measure}
    found = table
    for name, value in wanted.items():
        found = found[found[name] == value]
    assert len(found) == 1, found
    return found.iloc[0]


def test_the_critical_token_is_held_against_the_first_error(world: MeasuredWorld) -> None:
    table = table_of(world)
    shares = {name: one(table, f"found-{name}")["value"] for name in ("exactly", "before", "after", "none")}
    assert shares == {"exactly": 0.2, "before": 0.2, "after": 0.4, "none": 0.2}
    assert one(table, "found-exactly")[["n", "queries"]].tolist() == [5, 3]
    assert one(table, "distance-mean")["value"] == (0 - 2 + 2 + 2) / 4
    assert one(table, "distance-absolute")["value"] == 1.5
    assert one(table, "distance-median")["value"] == 1.0


def test_a_prefix_is_error_free_if_all_its_tokens_are_gold(world: MeasuredWorld) -> None:
    found = one(table_of(world), "prefix-error-free")
    assert found["n"] == 3
    assert found["value"] == pytest.approx(1 / 3, abs=1e-4)


def test_continuations_may_be_correct_without_being_faithful(world: MeasuredWorld) -> None:
    table = table_of(world)
    assert one(table, "correct")["value"] == pytest.approx(2 / 9, abs=1e-4)
    assert one(table, "correct-and-faithful")["value"] == pytest.approx(1 / 9, abs=1e-4)
    assert one(table, "faithful-of-correct")["value"] == 0.5


def test_a_cut_sample_that_is_faithful_so_far_has_no_first_error(world: MeasuredWorld) -> None:
    cut = solution("hard", 1, 2, "row 1 : 3 7", finished=False)
    found = [
        critical(row, at)
        for row, at in zip([r for r in samples() if not r["correct"]], CRITICAL, strict=True)
    ]
    world.write(POLICY, "samples", SAMPLES, [*samples(), cut])
    world.write(POLICY, "critical", PREFIX, [*found, critical(cut, 5)])
    table = table_of(world)
    assert one(table, "found-exactly")[["value", "n"]].tolist() == [0.2, 5]
    assert one(table, "distance-absolute")["n"] == 4


def test_continuations_that_sample_nothing_are_counted_apart(world: MeasuredWorld) -> None:
    # The critical token of hard-1's sample was its last: with another answer there the prefix is all.
    whole = len(solution("hard", 1, 0, GOLD["hard"])["token_ids"])
    changes = {"source": "prefix", "parent": 0, "prefix_len": whole}
    made = [*resamples(), *(solution("hard", 1, n, GOLD["hard"], **changes) for n in range(3))]
    world.write(POLICY, "resamples", PREFIX, made)
    table = table_of(world)
    drawn = [(row, len(row["token_ids"]) - row["prefix_len"]) for row in made]
    some = [(row, count) for row, count in drawn if count]
    right = [row for row, _ in some if row["correct"]]
    assert len(made) - len(some) == 3
    assert one(table, "nothing-sampled")[["value", "n"]].tolist() == [3 / 12, 12]
    assert one(table, "correct")["value"] == pytest.approx((len(right) + 3) / 12, abs=1e-4)
    assert one(table, "correct-if-sampled")["value"] == pytest.approx(len(right) / len(some), abs=1e-4)
    per_token = 1000 * len(right) / sum(count + 1 for _, count in some)
    assert one(table, "correct-if-sampled-per-1000-tokens")["value"] == pytest.approx(per_token, abs=1e-4)
    assert one(table, "rescued")["value"] == 1.0
    assert one(table, "rescued-by-sampling")[["value", "n"]].tolist() == [0.5, 2]
    text = world.paths.table("prefix", "md").read_text()
    assert all(
        f" {name} " in text for name in ("nothing-sampled", "correct-if-sampled", "rescued-by-sampling")
    )


def test_rationalisation_is_measured_as_far_as_it_has_no_prefix(tmp_path: Path, world: MeasuredWorld) -> None:
    greedy = {"kind": "self-improvement", "rollouts": {"k": 1, "temperature": 0.0}}
    star = measured_suite(tmp_path, methods={"star": greedy | {"resample": {"kind": "rationalize"}}}).methods[
        "star"
    ]
    world.suite = world.suite.model_copy(update={"methods": world.suite.methods | {"star": star}})
    files = grid.rollout_files(star)
    world.write(POLICY, "samples", files.samples, [solution("hard", n, 0, WRONG_ANSWER) for n in range(3)])
    hinted = [MISREAD["hard"], GOLD["hard"], WRONG_ANSWER]
    made = [solution("hard", n, 0, text, source="rationalize") for n, text in enumerate(hinted)]
    world.write(POLICY, "resamples", files.resamples, made)
    table = table_of(world)
    own = table[
        (table["resamples"] == files.resamples) & (table["policy"] == "all") & (table["task"] == "hard")
    ]
    tokens = sum(len(row["token_ids"]) + 1 for row in made)
    expected = {
        "correct": 2 / 3,
        "correct-and-faithful": 1 / 3,
        "faithful-of-correct": 1 / 2,
        "correct-per-1000-tokens": 2000 / tokens,
        "zero-positive-queries": 1.0,
        "rescued": 2 / 3,
        "tokens-per-zero-positive-query": tokens / 3,
        "rescued-per-1000-tokens": 2000 / tokens,
    }
    assert dict(zip(own["measure"], own["value"], strict=True)) == pytest.approx(expected, abs=1e-4)


def test_the_markdown_shows_the_policy_that_most_ways_of_resampling_share(tmp_path: Path) -> None:
    suite = measured_suite(tmp_path / "results")
    two = suite.methods["vista-sft"].model_copy(update={"rounds": 2})
    world = MeasuredWorld(suite.model_copy(update={"methods": suite.methods | {"vista-sft": two}}))
    later = "nano-b/both/vista-sft/seed0/round1"
    for policy, own in ((POLICY, samples()[:1]), (later, samples()[:3])):
        world.write(policy, "samples", SAMPLES, own)
        world.write(policy, "resamples", PREFIX, [])
        world.write(policy, "critical", PREFIX, [critical(row, 5) for row in own])
    world.write(POLICY, "resamples", BUDGET, [])
    table_of(world)
    text = " ".join(world.paths.table("prefix", "md").read_text().split())
    assert "Failed samples of `sft-seed`. `prefix.csv` has the other policies" in text
    assert f"| nano-b | both | hard | {PREFIX} | 1 | 1.000 |" in text, "its one sample, and none of the later"
    first, second = (
        {"policy": name, "policies": 1, "resamples": way} for name, way in (("a", "x"), ("b", "x"))
    )
    assert most_shared(pd.DataFrame([first, second]), ["resamples"]) == "a", "the first of several"
    more = second | {"resamples": "y"}
    assert most_shared(pd.DataFrame([first, second, more]), ["resamples"]) == "b"
    assert most_shared(pd.DataFrame([first, first | {"policy": "all"}]), ["resamples"]) == "a"


def test_rescues_are_of_queries_without_a_correct_sample(world: MeasuredWorld) -> None:
    table = table_of(world)
    assert one(table, "zero-positive-queries")["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert one(table, "rescued")[["value", "n"]].tolist() == [0.5, 2]
    # hard-0: three continuations of 10 − 6 tokens and an end token each, and three of 10 − 8; hard-1: none.
    assert one(table, "tokens-per-zero-positive-query")["value"] == (3 * 5 + 3 * 3) / 2
    assert one(table, "rescued-per-1000-tokens")["value"] == pytest.approx(1000 / 24, abs=1e-3)


def test_prefixes_are_set_against_plain_samples_query_by_query(world: MeasuredWorld) -> None:
    table = table_of(world)
    plain = one(table, "rescued", resamples=BUDGET)
    assert plain["value"] == 0.5
    assert one(table, "tokens-per-zero-positive-query", resamples=BUDGET)["value"] == 11
    # Prefixes rescue hard-0, plain samples hard-1: no difference on average, but a wide interval.
    beyond = one(table, "rescued-beyond-budget-matched")
    assert beyond["value"] == 0.0
    assert beyond["low"] < -1.0
    kinds = set(table.loc[table["resamples"] == BUDGET, "measure"])
    assert not kinds & {
        "found-exactly",
        "distance-mean",
        "prefix-error-free",
        "rescued-beyond-budget-matched",
        "rescued-beyond-number-matched",
    }
    # Nobody was sampled as often, token count aside.
    assert "rescued-beyond-number-matched" not in set(table["measure"])


def test_tasks_without_failures_have_empty_cells(world: MeasuredWorld) -> None:
    found = one(table_of(world), "found-exactly", task="easy")
    assert pd.isna(found["value"])
    assert found["n"] == 0
    assert " nan" not in world.paths.table("prefix", "md").read_text().replace(" nano", "")


def test_every_measure_and_column_is_documented(world: MeasuredWorld, root: Path) -> None:
    table = table_of(world)
    assert undocumented(root, [*table["measure"].unique(), *table.columns]) == []


def test_equal_rollouts_give_equal_bytes(world: MeasuredWorld) -> None:
    table_of(world)
    files = [world.paths.table("prefix", suffix) for suffix in ("csv", "md")]
    before = [file.read_bytes() for file in files]
    table_of(world)
    assert [file.read_bytes() for file in files] == before


def test_critical_tokens_of_other_samples_stop_the_table(world: MeasuredWorld) -> None:
    world.write(POLICY, "critical", PREFIX, [critical(samples()[0], 5)])
    with pytest.raises(VistaError, match="1 rows for 5 failed samples"):
        prefix_table(world.suite, world.paths)
