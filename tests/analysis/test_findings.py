"""Findings: every question has the answer that the tables give, by one rule for all suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.analysis.conftest import World, make_suite
from vista.analysis.ablation import ablation_table
from vista.analysis.collect import collect
from vista.analysis.distributions import COLUMNS as OF_DISTRIBUTIONS
from vista.analysis.findings import COLUMNS, KINDS, finding_rows, findings_table
from vista.analysis.page import Page, write_table
from vista.analysis.plan import findings_sources
from vista.errors import VistaError
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths

REFERENCES = Path(__file__).parents[2] / "results/reference"


def reference(suite: str) -> dict[str, pd.DataFrame]:
    names = ("ablation", "distributions", "audit", "prefix")
    return {
        name: pd.read_csv(REFERENCES / suite / f"{name}.csv", keep_default_na=False, dtype=str)
        for name in names
    }


@pytest.mark.parametrize("suite", ["testbed", "testbed-full"])
def test_every_comparison_of_a_last_round_has_one_answer(suite: str) -> None:
    tables = reference(suite)
    rows = finding_rows(tables)
    of_methods = rows[rows["from"] == "ablation"].set_index(["about", "question"])
    assert of_methods.index.is_unique
    wanted = 0
    for row in tables["ablation"].to_dict("records"):
        if row["last"] != "True" or row["model"] != "all models" or row["kind"] not in KINDS:
            continue
        wanted += 1
        found = of_methods.loc[(row["kind"], f"Is {row['method']} better than {row['against']}?")]
        assert (found["value"], found["low"], found["high"]) == tuple(
            float(row[name]) for name in ("difference", "low", "high")
        )
        if not row["p_holm"]:
            assert found["answer"] == "open"
            assert found["over"].endswith("one seed")
        elif float(row["p_holm"]) >= 0.05:
            assert found["answer"] == "not found"
        else:
            assert found["answer"] == ("yes" if float(row["difference"]) > 0 else "no: worse")
    assert wanted == len(of_methods) > 10


def test_mechanisms_are_means_over_the_cases_of_the_first_policy() -> None:
    tables = reference("testbed-full")
    rows = finding_rows(tables).set_index("question")
    audit = tables["audit"]
    own = audit[(audit["policy"] == "sft-seed") & (audit["source"] == "all")]
    own = own[own["solutions"] == own["solutions"].iloc[0]]
    areas = own[(own["measure"] == "auroc") & (own["detector"] == "logprob")]
    found = rows.loc["Does logprob tell right solutions that contradict the image from others (AUROC)?"]
    assert found["value"] == pytest.approx(areas["value"].astype(float).mean())
    assert found["answer"] == f"in {(areas['low'].astype(float) > 0.5).sum()} of {len(areas)}"
    shares = own[own["measure"] == "unfaithful-share"]["value"].astype(float) * 100
    found = rows.loc["How many right solutions of sft-seed contradict the image?"]
    assert (found["low"], found["high"]) == pytest.approx((shares.min(), shares.max()))
    gained = rows.loc["Does resampling of sft-seed solve more hard queries than as many plain samples?"]
    assert gained["answer"] == "more in 0 of 3, fewer in 2"


def test_queries_without_a_right_sample_are_counted_over_tasks() -> None:
    tables = {
        "ablation": reference("testbed")["ablation"].head(0),
        "distributions": pd.DataFrame(
            [
                ("imbalance", "a", "t", "one", "0", "3", "30"),
                ("imbalance", "a", "t", "one", "1", "7", "70"),
                ("imbalance", "a", "t", "two", "2", "10", "100"),
                ("imbalance", "b", "t", "one", "0", "5", "100"),
                ("vas", "b", "t", "faithful", "0", "9", "100"),
            ],
            columns=OF_DISTRIBUTIONS,
        ),
    }
    (row,) = finding_rows(tables).to_dict("records")
    assert (row["value"], row["low"], row["high"]) == (57.5, 15.0, 100.0)
    assert row["answer"] == "58 %"


def comparison(**changes: Any) -> dict[str, str]:
    row = dict.fromkeys(reference("testbed")["ablation"].columns, "")
    row |= {"kind": "component", "method": "mine", "against": "yours", "model": "m", "train_set": "t"}
    row |= {"round": "1", "last": "True", "difference": "1.00", "error": "queries, seeds", "p_holm": "0.5"}
    return row | changes


def test_one_model_and_several_train_sets_are_named() -> None:
    table = pd.DataFrame([comparison(), comparison(train_set="u", p_holm="", error="queries")])
    rows = finding_rows({"ablation": table})
    assert list(rows["over"]) == ["m, t, round 1", "m, u, round 1, one seed"]
    assert list(rows["answer"]) == ["not found", "open"]
    assert rows["low"].isna().all()


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"p_holm": "0.049"}, "yes"),
        ({"p_holm": "0.0499", "difference": "-0.10"}, "no: worse"),
        ({"p_holm": "0.0500"}, "not found"),
        # Where no comparison has a second seed there are p-values all the same.
        ({"p_holm": "0.0001", "error": "queries"}, "open"),
    ],
)
def test_nothing_is_called_clear_without_a_second_seed(changes: dict[str, str], answer: str) -> None:
    (row,) = finding_rows({"ablation": pd.DataFrame([comparison(**changes)])}).to_dict("records")
    assert row["answer"] == answer


def test_what_has_no_result_and_earlier_rounds_and_sweeps_have_no_row() -> None:
    left_out = [comparison(difference=""), comparison(last="False"), comparison(kind="sweep")]
    assert finding_rows({"ablation": pd.DataFrame(left_out)}).empty


def test_tables_without_rows_leave_the_comparisons(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results", seeds=[0, 1])
    world = World(suite, Paths(suite.results)).fill()
    collect(suite, world.paths)
    ablation_table(suite, world.paths)
    with pytest.raises(VistaError, match=r"distributions\.csv: cannot be read"):
        findings_table(suite, world.paths)
    for name in findings_sources(suite):
        if name != "ablation":
            empty = reference("testbed")[name].head(0)
            write_table(world.paths, Recorder("analysis", {}, []), empty, Page(name, "none", []), {})
    findings_table(suite, world.paths)
    found = pd.read_csv(world.paths.table("findings", "csv"), keep_default_na=False)
    assert list(found.columns) == COLUMNS
    assert "Is vista-sft better than rest-em?" in set(found["question"])
    assert read_manifest(world.paths.table("findings", "md")).counts["rows"] == len(found)
    page = world.paths.table("findings", "md").read_text()
    assert "## Against SFT-Seed" in page
