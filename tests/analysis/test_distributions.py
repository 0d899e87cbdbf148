"""What the figures count, from hand-made rollouts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.measured_world import (
    GOLD,
    MISREAD,
    PREFIX,
    SAMPLES,
    MeasuredWorld,
    critical,
    measured_suite,
    score,
    solution,
)
from tests.documents import undocumented
from vista.analysis.distributions import COLUMNS, distributions_table
from vista.dag import Dag
from vista.manifest import read_manifest

POLICY = "nano-b/both/sft-seed/seed0/round0"


@pytest.fixture
def world(tmp_path: Path) -> MeasuredWorld:
    """Two right samples to easy-0, one to easy-1, none to hard-0, which fails at its sixth token."""
    made = MeasuredWorld(measured_suite(tmp_path / "results"), queries=2)
    right = [
        *(solution("easy", 0, 0, GOLD["easy"]), solution("easy", 0, 1, MISREAD["easy"])),
        *(solution("easy", 1, 0, GOLD["easy"]), solution("hard", 1, 0, GOLD["hard"])),
        solution("hard", 1, 1, GOLD["hard"]),
    ]
    wrong = [
        solution("easy", 1, 1, "row 1 : 3 7 2 . answer : yes"),
        solution("hard", 0, 0, "row 1 : 3 7 9 . answer : 9"),
        solution("hard", 0, 1, "row 1 : 3 7 9 . answer : 9"),
    ]
    made.write(POLICY, "samples", SAMPLES, [*right, *wrong])
    made.write(POLICY, "resamples", PREFIX, [])
    found = [critical(row, place) for row, place in zip(wrong, (5, 7, None), strict=True)]
    made.write(POLICY, "critical", PREFIX, found)
    shares = (0.6, 0.2, 0.5, 0.5, 0.5)
    made.write(
        POLICY,
        "scores",
        f"{PREFIX}+positives",
        [score(row, 0.1, share) for row, share in zip(right, shares, strict=True)],
    )
    return made


def table_of(world: MeasuredWorld, what: str) -> pd.DataFrame:
    distributions_table(world.suite, world.paths)
    table = pd.read_csv(world.paths.table("distributions", "csv"), dtype={"x": "str"})
    assert list(table.columns) == COLUMNS
    return table[table["what"] == what]


def counts(rows: pd.DataFrame) -> dict[tuple[str, str], int]:
    return {(group, x): count for group, x, count in rows[["group", "x", "count"]].to_numpy() if count}


def test_queries_are_counted_by_their_right_samples(world: MeasuredWorld) -> None:
    found = counts(table_of(world, "imbalance"))
    assert found == {("easy", "1"): 1, ("easy", "2"): 1, ("hard", "0"): 1, ("hard", "2"): 1}


def test_attention_is_the_mean_over_solutions_by_layer(world: MeasuredWorld) -> None:
    rows = table_of(world, "attention").set_index(["group", "x"])["share"]
    assert rows["vision", "0"] == pytest.approx(10.0)
    assert rows["vision", "1"] == pytest.approx(100 * (0.6 + 0.2 + 0.5 * 3) / 5)
    assert rows["instruction", "1"] + rows["vision", "1"] == pytest.approx(100.0)


def test_scores_are_counted_apart_for_faithful_and_unfaithful_solutions(world: MeasuredWorld) -> None:
    found = counts(table_of(world, "vas"))
    # Of easy-0 the two have z = 1 and -1; the others have no spread, and 0.
    assert found == {("faithful", "1.0"): 1, ("faithful", "0.0"): 3, ("unfaithful", "-1.0"): 1}


def test_distances_are_those_of_critical_tokens_from_first_errors(world: MeasuredWorld) -> None:
    found = counts(table_of(world, "distance"))
    assert found == {("all", "0"): 1, ("all", "2"): 1, ("all", "none"): 1}


def test_the_files_read_are_the_rules_inputs(world: MeasuredWorld) -> None:
    distributions_table(world.suite, world.paths)
    read = read_manifest(world.paths.table("distributions", "csv")).inputs
    assert set(read) <= set(Dag(world.suite).table_inputs("distributions"))


def test_the_columns_are_those_documented(root: Path) -> None:
    assert undocumented(root, COLUMNS) == []
