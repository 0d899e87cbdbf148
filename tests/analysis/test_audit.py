"""``audit.csv`` from hand-made solutions: known detectors, known cuts, and nothing where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.measured_world import (
    GOLD,
    MISREAD,
    PREFIX,
    QUESTIONS,
    SAMPLES,
    SCENE,
    MeasuredWorld,
    gain,
    measured_suite,
    score,
    solution,
)
from tests.documents import undocumented
from vista.analysis.audit import _in_short, audit_table
from vista.errors import VistaError
from vista.filters.vig import VigSettings
from vista.manifest import read_manifest
from vista.records import Row
from vista.testbed.audit import audit_query
from vista.testbed.questions import dump

POLICY = "nano-b/both/sft-seed/seed0/round0"
CUT = "tau=-0.5 scope=positives ddof=0 min_group=2"


def rollouts() -> tuple[list[Row], list[Row], list[Row]]:
    """Samples, resamples and scores: on the middle layer (1) low visual shares are unfaithful on "easy"."""
    samples = [
        solution("easy", 0, 0, GOLD["easy"], logprob=-1.0),
        solution("easy", 0, 1, MISREAD["easy"], logprob=-11.0),  # of 11 tokens with the end
        solution("easy", 1, 0, GOLD["easy"], logprob=-22.0),
        solution("easy", 1, 1, "row 1 : 3 7 1 . answer : yes"),  # wrong, so not in the audit
        solution("easy", 2, 0, MISREAD["easy"], logprob=-5.5),
        solution("easy", 2, 1, GOLD["easy"], logprob=-5.5),
        solution("hard", 0, 0, GOLD["hard"]),
        solution("hard", 0, 1, GOLD["hard"]),
    ]
    resamples = [
        solution("easy", 1, 0, MISREAD["easy"], source="prefix", parent=1, prefix_len=6, logprob=-1.0),
        solution("easy", 1, 1, GOLD["easy"], source="prefix", parent=1, prefix_len=6, logprob=-2.0),
    ]
    visual = [0.8, 0.2, 0.6, None, 0.3, 0.7, 0.5, 0.5, 0.4, 0.9]
    scores = [
        score(row, 0.5, share, 1 - share)
        for row, share in zip([*samples, *resamples], visual, strict=True)
        if share is not None
    ]
    return samples, resamples, scores


@pytest.fixture
def world(tmp_path: Path) -> MeasuredWorld:
    world = MeasuredWorld(measured_suite(tmp_path / "results"))
    samples, resamples, scores = rollouts()
    world.write(POLICY, "samples", SAMPLES, samples)
    world.write(POLICY, "resamples", PREFIX, resamples)
    world.write(POLICY, "scores", f"{PREFIX}+positives", scores)
    return world


def table_of(world: MeasuredWorld) -> pd.DataFrame:
    audit_table(world.suite, world.paths)
    text = dict.fromkeys(("layer", "detector", "setting"), str)
    return pd.read_csv(world.paths.table("audit", "csv"), dtype=text, keep_default_na=False, na_values={
        name: [""] for name in ("value", "low", "high")
    })  # fmt: skip


def one(table: pd.DataFrame, **wanted: str) -> pd.Series:
    wanted = {"policy": "all", "source": "all", "task": "easy", "setting": ""} | wanted
    found = table
    for name, value in wanted.items():
        found = found[found[name] == value]
    assert len(found) == 1, found
    return found.iloc[0]


def test_the_share_of_unfaithful_solutions_is_counted_by_task_and_source(world: MeasuredWorld) -> None:
    table = table_of(world)
    base = one(table, measure="unfaithful-share")
    assert (base["n"], base["unfaithful"], base["queries"]) == (7, 3, 3)
    assert base["value"] == pytest.approx(3 / 7, abs=1e-4)
    assert one(table, measure="unfaithful-share", source="prefix")["value"] == 0.5
    assert one(table, measure="unfaithful-share", task="hard")["value"] == 0.0


def test_low_attention_on_the_middle_layer_detects_them_perfectly(world: MeasuredWorld) -> None:
    table = table_of(world)
    for measure in ("auroc", "auroc-within-query"):
        assert one(table, detector="visual-share", layer="1", measure=measure)["value"] == 1.0
        assert one(table, detector="vas", layer="1", measure=measure)["value"] == 1.0
        assert one(table, detector="vas", layer="2", measure=measure)["value"] == 0.0
        # All the same on layer 0, so ties.
        assert one(table, detector="vas", layer="0", measure=measure)["value"] == 0.5


def test_a_score_within_the_query_differs_from_the_share(world: MeasuredWorld) -> None:
    samples, resamples, scores = rollouts()
    low = [row for row in samples + resamples if row["query_id"] == "easy-1" and row["correct"]]
    moved = [score(row, 0.5, value, 0.5) for row, value in zip(low, (0.15, 0.12, 0.19), strict=True)]
    kept = [row for row in scores if row["query_id"] != "easy-1"]
    world.write(POLICY, "scores", f"{PREFIX}+positives", kept + moved)
    table = table_of(world)
    # Unfaithful 0.2, 0.3 and 0.12; faithful 0.8, 0.7, 0.15 and 0.19.
    assert one(table, detector="visual-share", layer="1", measure="auroc")["value"] == pytest.approx(
        (2 + 2 + 4) / 12, abs=1e-4
    )
    assert one(table, detector="vas", layer="1", measure="auroc")["value"] == 1.0
    assert one(table, detector="visual-share", layer="1", measure="auroc-within-query")["value"] == 1.0


def test_log_probability_is_per_sampled_token(world: MeasuredWorld) -> None:
    # Per token, unfaithful: −1, −0.5 and (of 5 sampled tokens) −0.2; faithful: −1/11, −2, −0.5, −0.4.
    # In order: −1 below all but −2; −0.5 below −1/11 and −0.4, ties with −0.5; −0.2 below −1/11.
    found = one(table_of(world), detector="sampled-logprob", measure="auroc")
    assert found["value"] == pytest.approx((3 + 2.5 + 1) / 12, abs=1e-4)


def test_self_consistency_is_the_pass_rate_and_constant_within_a_query(world: MeasuredWorld) -> None:
    # Pass rates of the unfaithful: 1, 1, 0.5; of the faithful: 1, 0.5, 1, 0.5 (queries 0, 1, 2 and 1 again).
    table = table_of(world)
    found = one(table, detector="self-consistency", measure="auroc")
    assert found["value"] == pytest.approx((1 + 1 + 3) / 12, abs=1e-4)
    assert one(table, detector="self-consistency", measure="auroc-within-query")["value"] == 0.5


def test_the_cut_is_measured_for_the_settings_of_every_method(world: MeasuredWorld) -> None:
    # VAS within easy-0: ±1; easy-1: 0.6, 0.4, 0.9 → −0.16, −1.14, 1.30; easy-2: ±1. hard: no spread.
    table = table_of(world)
    found = {
        measure: one(table, detector="vas", layer="1", setting=CUT, measure=measure)
        for measure in ("dropped-share", "precision", "recall", "precision-at-random", "precision-gain")
    }
    assert found["dropped-share"]["value"] == pytest.approx(3 / 7, abs=1e-4)
    assert found["precision"]["value"] == found["recall"]["value"] == 1.0
    assert (found["precision"]["n"], found["recall"]["n"]) == (3, 3)
    random = (1 / 2 + 1 / 3 + 1 / 2) / 3
    assert found["precision-at-random"]["value"] == pytest.approx(random, abs=1e-4)
    assert found["precision-gain"]["value"] == pytest.approx(1 - random, abs=1e-4)
    wider = CUT.replace("-0.5", "0.0")
    assert one(table, detector="vas", layer="1", setting=wider, measure="precision")["value"] == 0.75


def test_where_all_are_faithful_cells_are_empty_and_counts_say_why(world: MeasuredWorld) -> None:
    table = table_of(world)
    found = one(table, task="hard", detector="vas", layer="1", measure="auroc")
    assert pd.isna(found[["value", "low", "high"]]).all()
    assert (found["n"], found["unfaithful"]) == (0, 0)
    precision = one(table, task="hard", detector="vas", layer="1", setting=CUT, measure="precision")
    assert pd.isna(precision["value"])
    assert precision["n"] == 0
    markdown = world.paths.table("audit", "md").read_text()
    assert "| nano-b | both | hard | 1 | vas |" in " ".join(markdown.split())
    assert " nan" not in markdown.replace(" nano", "")


def test_every_measure_and_column_is_documented(world: MeasuredWorld, root: Path) -> None:
    table = table_of(world)
    assert undocumented(root, [*table["measure"].unique(), *table.columns]) == []


def test_the_bytes_do_not_depend_on_when_or_in_which_order(world: MeasuredWorld) -> None:
    table_of(world)
    files = [world.paths.table("audit", suffix) for suffix in ("csv", "md")]
    before = [file.read_bytes() for file in files]
    world.write(POLICY, "scores", f"{PREFIX}+positives", rollouts()[2][::-1])
    table_of(world)
    assert [file.read_bytes() for file in files] == before
    manifest = read_manifest(files[0])
    assert manifest.counts["policies"] == 1
    assert str(world.paths.rollouts(POLICY, "scores", f"{PREFIX}+positives", 0, 1)) in manifest.inputs


def test_information_gain_is_a_detector_and_a_cut_where_some_method_asks_for_it(tmp_path: Path) -> None:
    suite = measured_suite(tmp_path / "results")
    vig = suite.methods["vista-sft"].model_copy(update={"filter": VigSettings(kind="vig")})
    methods = {"sft-seed": suite.methods["sft-seed"], "vista+vig": vig}
    world = MeasuredWorld(suite.model_copy(update={"methods": methods}))
    samples, resamples, _ = rollouts()
    world.write(POLICY, "samples", SAMPLES, samples)
    world.write(POLICY, "resamples", PREFIX, resamples)
    gains = [
        gain(row, -1.0, -1.0 if row["text"] == MISREAD["easy"] else -2.0)
        for row in samples + resamples
        if row["correct"]
    ]
    world.write(POLICY, "gains", f"{PREFIX}+positives", gains)
    table = table_of(world)
    assert one(table, detector="vig", measure="auroc")["value"] == 1.0
    assert one(table, detector="logprob", measure="auroc")["value"] == 0.5
    assert one(table, detector="vig", setting=CUT, measure="recall")["value"] == 1.0
    assert "vas" not in set(table["detector"])


def test_rounds_of_a_method_are_measured_together_and_compared_apart(tmp_path: Path) -> None:
    suite = measured_suite(tmp_path / "results")
    two = suite.methods["vista-sft"].model_copy(update={"rounds": 3})
    world = MeasuredWorld(suite.model_copy(update={"methods": suite.methods | {"vista-sft": two}}))
    samples, resamples, scores = rollouts()
    policies = [POLICY, *(f"nano-b/both/vista-sft/seed0/round{number}" for number in (1, 2))]
    for policy in policies:
        world.write(policy, "samples", SAMPLES, samples)
        world.write(policy, "resamples", PREFIX, resamples)
        world.write(policy, "scores", f"{PREFIX}+positives", scores)
    table = table_of(world)
    counts = {name: one(table, policy=name, measure="unfaithful-share") for name in table["policy"].unique()}
    assert {name: (row["policies"], row["n"], row["queries"]) for name, row in counts.items()} == {
        "sft-seed": (1, 7, 3),
        "vista-sft": (2, 14, 3),
        "all": (3, 21, 3),
    }
    # The same solutions three times are no more certain than once.
    cells = ["value", "low", "high"]
    for measure in ("unfaithful-share", "auroc", "auroc-within-query", "partial-pearson"):
        name = {} if measure == "unfaithful-share" else {"detector": "sampled-logprob"}
        once, thrice = (one(table, policy=policy, measure=measure, **name) for policy in ("sft-seed", "all"))
        assert once[cells].tolist() == pytest.approx(thrice[cells].tolist(), abs=2e-4, nan_ok=True)


@pytest.fixture
def two_policies(tmp_path: Path) -> MeasuredWorld:
    """SFT-Seed, whose solutions one method filters by VIG, and round 1 of VISTA, of which none does."""
    suite = measured_suite(tmp_path / "results")
    vista = suite.methods["vista-sft"].model_copy(update={"rounds": 2})
    vig = suite.methods["vista-sft"].model_copy(update={"filter": VigSettings(kind="vig")})
    methods = {"sft-seed": suite.methods["sft-seed"], "vista-sft": vista, "vig": vig}
    return MeasuredWorld(suite.model_copy(update={"methods": methods}))


LATER = "nano-b/both/vista-sft/seed0/round1"


def write_pool(world: MeasuredWorld, policy: str, samples: list[Row]) -> None:
    right = [row for row in samples if row["correct"]]
    world.write(policy, "samples", SAMPLES, samples)
    world.write(policy, "resamples", PREFIX, [])
    world.write(policy, "scores", f"{PREFIX}+positives", [score(row, 0.5, 0.5) for row in right])
    if policy == POLICY:
        world.write(policy, "gains", f"{PREFIX}+positives", [gain(row, -1.0, -2.0) for row in right])


def test_counts_are_of_the_policies_whose_solutions_have_the_score(two_policies: MeasuredWorld) -> None:
    write_pool(two_policies, POLICY, rollouts()[0])
    later = [solution("easy", 0, 0, GOLD["easy"]), solution("easy", 0, 1, MISREAD["easy"])]
    write_pool(two_policies, LATER, later)
    table = table_of(two_policies)
    behind = ["policies", "n", "unfaithful", "queries"]
    assert one(table, detector="length", measure="auroc")[behind].tolist() == [2, 7, 3, 3]
    assert one(table, detector="vig", setting="", measure="auroc")[behind].tolist() == [1, 5, 2, 3]
    assert one(table, detector="vig", setting=CUT, measure="dropped-share")[behind].tolist() == [1, 5, 2, 3]
    vas = one(table, detector="vas", layer="1", setting=CUT, measure="dropped-share")
    assert vas[behind].tolist() == [2, 7, 3, 3]
    nobody = one(table, policy="vista-sft", detector="vig", setting="", measure="auroc")
    assert nobody[behind].tolist() == [0, 0, 0, 0]


def test_the_markdown_shows_the_policy_that_has_every_score(two_policies: MeasuredWorld) -> None:
    # Later solutions are the more, yet they have no VIG.
    write_pool(two_policies, LATER, rollouts()[0])
    write_pool(two_policies, POLICY, [solution("easy", 0, 0, GOLD["easy"])])
    table_of(two_policies)
    text = " ".join(two_policies.paths.table("audit", "md").read_text().split())
    assert f"Solutions of `sft-seed`: `{PREFIX}`. `audit.csv` has the others" in text
    assert "| nano-b | both | easy | 1 | 1 | 0 | 0.000 |" in text, "one checkpoint, one solution"
    assert "| nano-b | both | easy | 1 | vig |" in text
    assert "| easy | 2 |" not in text


def test_a_detectors_range_over_models_and_tasks_stands_in_short() -> None:
    """Clearly above chance once, clearly below once, undecided once, and once without an interval."""
    measured = [(0.9, 0.7, 0.95), (0.2, 0.1, 0.4), (0.5, 0.3, 0.7), (1.0, None, None)]
    table = pd.DataFrame(
        [
            {"detector": "vas", "layer": "1", "measure": "auroc", "value": value, "low": low, "high": high}
            for value, low, high in measured
        ],
    ).astype({"low": float, "high": float})
    short = _in_short(table, ["detector", "layer"], {"auroc": 0.5})
    assert short.to_numpy().tolist() == [["vas", "1", "0.200 / 0.700 / 1.000", "1, 1 of 4"]]
    assert _in_short(table, ["detector", "layer"], {"precision-gain": 0.0}).empty


def test_what_is_wrong_first_is_told_for_the_unfaithful(two_policies: MeasuredWorld) -> None:
    skipped = GOLD["easy"].replace(" .", "")
    written = [(GOLD, MISREAD), (skipped, MISREAD), (GOLD, GOLD)]
    samples = [
        solution("easy", query, number, text if isinstance(text, str) else text["easy"])
        for query, texts in enumerate(written)
        for number, text in enumerate(texts)
    ]
    write_pool(two_policies, POLICY, samples)
    write_pool(two_policies, LATER, [])
    table = table_of(two_policies)
    scene = dump(SCENE, QUESTIONS["easy"])
    kinds = [audit_query(scene, row["text"]).kind for row in samples]
    assert kinds.count("read") == 2
    for kind in ("read", "compute", "answer", "form"):
        found = one(table, measure=f"unfaithful-{kind}")
        assert found["value"] == pytest.approx(kinds.count(kind) / 3, abs=1e-4)
        assert found[["n", "queries", "unfaithful"]].tolist() == [3, 2, 3]
    assert "unfaithful-read" in two_policies.paths.table("audit", "md").read_text()


def test_there_is_a_choice_where_one_policy_wrote_two_texts_to_one_query(two_policies: MeasuredWorld) -> None:
    def written(second: str) -> list[Row]:
        texts = [(GOLD["easy"], MISREAD["easy"]), (second, second), (GOLD["easy"], "row answer : yes")]
        return [solution("easy", q, n, text) for q, own in enumerate(texts) for n, text in enumerate(own)]

    write_pool(two_policies, POLICY, written(GOLD["easy"]))
    write_pool(two_policies, LATER, written(MISREAD["easy"]))
    # Query 1 has two texts, but of two policies; query 2 two, but one of them wrong.
    found = one(table_of(two_policies), measure="distinct-share")
    assert (found["value"], found["n"], found["queries"]) == (0.4, 10, 3)


def test_a_solution_without_a_score_stops_the_table(world: MeasuredWorld) -> None:
    world.write(POLICY, "scores", f"{PREFIX}+positives", rollouts()[2][1:])
    with pytest.raises(VistaError, match=r"1 correct solutions have no score, .* 'easy-0'"):
        audit_table(world.suite, world.paths)


def test_a_policy_without_positives_leaves_empty_cells(world: MeasuredWorld) -> None:
    world.write(POLICY, "samples", SAMPLES, [])
    world.write(POLICY, "resamples", PREFIX, [])
    world.write(POLICY, "scores", f"{PREFIX}+positives", [])
    found = one(table_of(world), measure="unfaithful-share")
    assert pd.isna(found["value"])
    assert found["n"] == 0
