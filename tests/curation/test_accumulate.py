"""R3V's training sets on files: two rounds' rollouts, hand-made, and what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.curation.conftest import Folder, rollout
from vista import grid
from vista.config import SelfImprovement, Suite, Wording
from vista.curation.curate import curate
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import EXAMPLE, Row, read_rows

Maker = Callable[..., Run]
SAID = Wording(refine="{instruction} no : {solution}", select="{instruction}\n{candidates}\nwhich ?")


@pytest.fixture
def r3v(suite: Suite) -> Suite:
    method = SelfImprovement(
        kind="self-improvement",
        rounds=2,
        rollouts={"k": 4, "max_new_tokens": 80},
        accumulate=True,
        reflect=["refine", "select"],
        mix_seed=False,
    )
    return suite.model_copy(update={"methods": {**suite.methods, "r3v": method}, "wording": SAID})


def solutions(name: str, words: str, first_token: int) -> list[Row]:
    """``+4 -5``: a right solution "so 4 . answer : 4" and a wrong one "so 5 . answer : 5"."""
    return [
        rollout(
            name,
            n,
            word[0] == "+",
            text=f"so {word[1:]} . answer : {word[1:]}",
            answer=word[1:],
            token_ids=[first_token + n],
        )
        for n, word in enumerate(words.split())
    ]


def write_rollouts(suite: Suite, paths: Paths, run_of: Maker) -> Folder:
    """Round 1: open-0 is right once, chain-0 never. Round 2: open-0 never, chain-0 right twice."""
    made = Folder(suite, paths)
    first, second = run_of("r3v", 1), run_of("r3v", 2)
    made.rollouts(first, solutions("grid-open-0", "+4 -5", 10) + solutions("grid-chain-0", "-1", 10))
    made.rollouts(second, solutions("grid-open-0", "-6", 20) + solutions("grid-chain-0", "+4 +4", 20))
    return made


@pytest.fixture
def folders(r3v: Suite, paths: Paths, folder: Folder, run_of: Maker) -> Folder:
    return write_rollouts(r3v, paths, run_of)


def curated(suite: Suite, paths: Paths, run: Run) -> list[Row]:
    curate(suite, paths, run)
    return read_rows(paths.training_set(run.id), EXAMPLE)


def prompt(row: Row) -> str:
    text: str = row["prompt"][-1]["content"][-1]["text"]
    return text


def answer(row: Row) -> str:
    text: str = row["completion"][0]["content"][0]["text"]
    return text


def test_the_second_round_is_selected_from_both_rounds_rollouts(
    r3v: Suite, paths: Paths, folders: Folder, run_of: Maker
):
    rows = curated(r3v, paths, run_of("r3v", 2))
    kinds = [(row["query_id"], row["source"]) for row in rows]
    assert kinds == [
        ("grid-open-0", "sample"),
        ("grid-open-0", "refine"),
        ("grid-open-0", "select"),
        ("grid-chain-0", "sample"),
        ("grid-chain-0", "sample"),
        ("grid-chain-0", "refine"),
        ("grid-chain-0", "select"),
    ]
    solved, refined, chosen = rows[:3]
    # The one right solution is of round 1: trained on as sampled, to correct either wrong one.
    assert (prompt(solved), solved["completion_ids"]) == ("question grid-open-0 ?", [10])
    assert (answer(refined), refined["completion_ids"]) == ("so 4 . answer : 4", [10])
    assert prompt(refined) in {f"question grid-open-0 ? no : so {n} . answer : {n}" for n in (5, 6)}
    # One is right and two are wrong: all three are shown, whoever wrote them.
    head, *candidates, tail = prompt(chosen).split("\n")
    assert (head, tail) == ("question grid-open-0 ?", "which ?")
    assert [line[:4] for line in candidates] == ["1 : ", "2 : ", "3 : "]
    assert sorted(line[4:] for line in candidates) == [f"so {n} . answer : {n}" for n in (4, 5, 6)]
    assert (answer(chosen), chosen["completion_ids"]) == ("answer: 4", None)
    # Right in round 2, wrong in round 1.
    assert [row["completion_ids"] for row in rows[3:5]] == [[20], [21]]
    assert prompt(rows[5]) == "question grid-chain-0 ? no : so 1 . answer : 1"
    assert rows[5]["completion_ids"] in ([20], [21])


def test_the_numbers_say_where_the_examples_are_from(
    r3v: Suite, paths: Paths, folders: Folder, run_of: Maker
):
    run = run_of("r3v", 2)
    curate(r3v, paths, run)
    manifest = read_manifest(paths.training_set(run.id))
    found = {name: int(count) for name, count in manifest.counts.items() if count}
    assert found == {
        **{"examples": 7, "queries": 6, "positives": 3, "negatives": 3, "queries_without_positives": 4},
        **{"from_samples": 3, "from_refine": 2, "from_select": 2},
    }
    assert manifest.settings["wording"]["refine"] == SAID.refine
    assert sum("/r3v/seed0/round1/" in path for path in manifest.inputs) == r3v.shards
    assert sum("/sft-seed/seed0/round0/" in path for path in manifest.inputs) == r3v.shards


def test_the_first_round_knows_its_own_rollouts_alone(
    r3v: Suite, paths: Paths, folders: Folder, run_of: Maker
):
    rows = curated(r3v, paths, run_of("r3v", 1))
    assert [(row["query_id"], row["source"]) for row in rows] == [
        ("grid-open-0", "sample"),
        ("grid-open-0", "refine"),
    ]


def test_without_accumulation_the_last_round_alone_counts(
    r3v: Suite, paths: Paths, folders: Folder, run_of: Maker
):
    method = r3v.methods["r3v"].model_copy(update={"accumulate": False})
    alone = r3v.model_copy(update={"methods": {**r3v.methods, "r3v": method}})
    rows = curated(alone, paths, run_of("r3v", 2))
    assert [(row["query_id"], row["source"]) for row in rows] == [("grid-chain-0", "sample")] * 2


def test_older_rounds_serve_a_policy_that_was_never_trained(
    r3v: Suite, paths: Paths, folders: Folder, run_of: Maker
):
    run = run_of("r3v", 2)
    folders.rollouts(run, [], status="no-positives")
    rows = curated(r3v, paths, run)
    assert [(row["query_id"], row["source"]) for row in rows] == [
        ("grid-open-0", "sample"),
        ("grid-open-0", "refine"),
    ]


def test_the_number_of_shards_does_not_change_a_byte(
    r3v: Suite, paths: Paths, folders: Folder, run_of: Maker
):
    run = run_of("r3v", 2)
    curate(r3v, paths, run)
    before = paths.training_set(run.id).read_bytes()
    resharded = r3v.model_copy(update={"shards": 3})
    write_rollouts(resharded, paths, run_of)
    curate(resharded, paths, run)
    assert paths.training_set(run.id).read_bytes() == before


def test_policies_are_those_of_the_run_so_far_the_latest_first(r3v: Suite, run_of: Maker):
    second = run_of("r3v", 2)
    assert grid.policies(r3v, second) == [replace(second, round=1), run_of("sft-seed", 0)]
    assert grid.policies(r3v, run_of("rest-em", 2)) == [run_of("rest-em", 1)]
