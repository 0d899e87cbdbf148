"""``vista show``: from a number to its run, predictions, training set and commit."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from tests.analysis.conftest import TASKS, World, make_suite
from vista.analysis.ablation import ablation_table
from vista.analysis.collect import collect
from vista.analysis.tables import results_tables
from vista.behind import cases_of, drawn_cases
from vista.cli import main
from vista.errors import VistaError
from vista.grid import Run, run_named
from vista.paths import Paths
from vista.provenance import about_policy, find, runs_of, show
from vista.records import QUERY, write_rows, write_text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Every table of a tiny suite of two seeds."""
    suite = make_suite(tmp_path_factory.mktemp("results"), seeds=[0, 1])
    world = World(suite, Paths(suite.results)).fill()
    write_text(world.paths.suite, suite.model_dump_json())
    collect(suite, world.paths)
    results_tables(suite, world.paths)
    ablation_table(suite, world.paths)
    return world


def told(table: Path, row: str, column: str) -> str:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in show(table, row, column):
        console.print(part)
    return console.export_text()


def test_a_number_is_followed_to_the_predictions_of_every_seed(made: World) -> None:
    table = made.paths.table("main", "csv")
    text = told(table, "model=nano-b,method=dpo,round=1", "overall")
    cell = find(table, "model=nano-b,method=dpo,round=1", "overall")
    assert f"overall = {cell.value}" in text
    for seed in (0, 1):
        assert f"run nano-b/both/dpo/seed{seed}/round1" in text
        assert str(made.paths.predictions(f"nano-b/both/dpo/seed{seed}/round1")) in text
    assert "commit " in text
    assert "nano-a" not in text


def test_a_row_may_be_named_by_its_number(made: World) -> None:
    table = made.paths.table("runs", "csv")
    assert find(table, "1", "method").value == "zero-shot"
    with pytest.raises(VistaError, match="no row 999"):
        find(table, "999", "method")


TWO = [Run("nano-a", "both", "vista-sft", seed, 2) for seed in (0, 1)]
FIRST = [Run("nano-a", "both", "vista-sft", seed, 1) for seed in (0, 1)]
SEED = [Run("nano-a", "both", "sft-seed", seed, 0) for seed in (0, 1)]
ROW = "method=vista-sft,model=nano-a,round=2"


@pytest.mark.parametrize(
    ("table", "row", "column", "runs"),
    [
        ("main", ROW, "overall", TWO),
        ("main", ROW, "delta_sft_seed", [*TWO, *SEED]),
        ("main", ROW, "p_holm", [*TWO, *SEED]),
        ("tasks", f"{ROW},task=far", "accuracy", TWO),
        ("tasks", f"{ROW},task=far", "delta_low", [*TWO, *SEED]),
        ("runs", f"{ROW},seed=1", "delta_se", [TWO[1], SEED[1]]),
        ("rounds", ROW, "overall", TWO),
        ("rounds", ROW, "gain", [*TWO, *FIRST]),
        ("rounds", ROW.replace("2", "1"), "p", [*FIRST, *SEED]),
        ("ood", ROW, "delta_high", [*TWO, *SEED]),
        ("ablation", f"kind=seed,{ROW}", "difference", [*TWO, *SEED]),
    ],
)
def test_a_number_is_made_of_the_runs_of_both_sides_of_a_difference(
    made: World, table: str, row: str, column: str, runs: list[Run]
) -> None:
    cell = find(made.paths.table(table, "csv"), row, column)
    assert runs_of(made.suite, cell) == runs


def test_a_mean_over_train_sets_is_made_of_the_runs_of_all(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results", train_sets={"first": ["easy"], "second": ["hard"]})
    world = World(suite, Paths(suite.results)).fill()
    write_text(world.paths.suite, suite.model_dump_json())
    collect(suite, world.paths)
    results_tables(suite, world.paths)
    table, row = world.paths.table("benchmarks", "csv"), "method=vista-sft,model=nano-a,train_set={}"
    both = [Run("nano-a", name, "vista-sft", 0, 2) for name in ("first", "second")]
    assert runs_of(suite, find(table, row.format("first + second"), "overall")) == both
    assert runs_of(suite, find(table, row.format("second"), "overall")) == both[1:]


def test_what_was_changed_since_is_marked(made: World) -> None:
    table, row = made.paths.table("main", "csv"), "model=nano-a,method=dpo,round=1"
    assert "changed since" not in told(table, row, "overall")
    for file in (made.paths.predictions("nano-a/both/dpo/seed1/round1"), table):
        whole = file.read_bytes()
        file.write_bytes(whole + b"\n")
        try:
            (line,) = [line for line in told(table, row, "overall").splitlines() if "changed since" in line]
        finally:
            file.write_bytes(whole)
        assert str(file) in line


def test_rows_about_a_policy_have_its_rollouts_and_no_others(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "results")
    names = {
        what: str(paths.rollouts(f"{model}/both/{policy}/seed0/round0", what, "k2", 0, 1))
        for what, model, policy in (
            ("samples", "nano-a", "sft-seed"),
            ("scores", "nano-a", "vista-sft"),
            ("gains", "nano-b", "sft-seed"),
        )
    }
    inputs = dict.fromkeys([*names.values(), str(paths.queries("easy", "train"))], "0")
    row = {"model": "nano-a", "train_set": "both", "policy": "sft-seed", "task": "easy"}
    assert list(about_policy(paths, row, inputs)) == [names["samples"], str(paths.queries("easy", "train"))]
    every = about_policy(paths, row | {"policy": "all"}, inputs)
    assert names["scores"] in every
    assert names["gains"] not in every


class Asked(World):
    """Test queries with a question, and a right answer."""

    def test_split(self, task: str) -> None:
        asked = [
            dict.fromkeys(QUERY.names)
            | self.query(task, number)
            | {"instruction": f"how many [red]cats[/red] in {number} ?", "answer": "7", "split": "test"}
            | {"images": [], "answer_type": "open"}
            for number in range(TASKS[task])
        ]
        write_rows(self.paths.queries(task, "test"), asked, QUERY)


def score(run: Run, task: str, number: int) -> float:
    return float(Random(f"{run.id}/{task}/{number}").random() < 0.5)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> World:
    suite = make_suite(tmp_path_factory.mktemp("asked"), seeds=[0, 1])
    world = Asked(suite, Paths(suite.results)).fill(score)
    write_text(world.paths.suite, suite.model_dump_json())
    collect(suite, world.paths)
    results_tables(suite, world.paths)
    ablation_table(suite, world.paths)
    return world


def counted(world: World, table: str, row: str, column: str) -> Counter[str]:
    return Counter(case.what for case in cases_of(world.paths.table(table, "csv"), row, column))


@pytest.mark.parametrize(
    ("table", "row", "column", "tasks", "runs"),
    [
        ("main", ROW, "overall", ["easy", "hard"], TWO),
        ("main", ROW, "far", ["far"], TWO),
        ("tasks", f"{ROW},task=hard", "accuracy", ["hard"], TWO),
        ("runs", f"{ROW},seed=1", "overall", ["easy", "hard"], TWO[1:]),
    ],
)
def test_the_cases_of_an_accuracy_are_all_responses_that_it_is_the_mean_of(
    asked: World, table: str, row: str, column: str, tasks: list[str], runs: list[Run]
) -> None:
    scores = [score(run, task, number) for run in runs for task in tasks for number in range(TASKS[task])]
    expected = Counter({"right": scores.count(1.0), "wrong": scores.count(0.0)})
    assert counted(asked, table, row, column) == expected


@pytest.mark.parametrize(
    ("table", "row", "column", "against"),
    [
        ("main", ROW, "delta_sft_seed", SEED),
        ("rounds", ROW, "gain", FIRST),
        (
            "ablation",
            "method=vista-sft,against=rest-em,model=nano-a,round=2",
            "difference",
            [replace(run, method="rest-em") for run in TWO],
        ),
    ],
)
def test_the_cases_of_a_difference_stand_beside_the_other_sides_response_to_the_same_query(
    asked: World, table: str, row: str, column: str, against: list[Run]
) -> None:
    expected: Counter[str] = Counter()
    for run, other in zip(TWO, against, strict=True):
        for task in ("easy", "hard"):
            for number in range(TASKS[task]):
                gain = score(run, task, number) - score(other, task, number)
                expected["gained" if gain > 0 else "lost" if gain < 0 else "same"] += 1
    assert counted(asked, table, row, column) == expected
    for case in cases_of(asked.paths.table(table, "csv"), row, column):
        assert case.against is not None
        assert case.against["query_id"] == case.answered["query_id"] == case.query["query_id"]
        assert (
            run_named(asked.suite, case.against["run"]).seed
            == run_named(asked.suite, case.answered["run"]).seed
        )


def test_cases_are_printed_as_they_read_and_all_of_them_given_as_json(
    asked: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = asked.paths.table("main", "csv")
    cases = cases_of(table, ROW, "overall")
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for line in drawn_cases(cases, 2):
        console.print(line)
    text = console.export_text()
    wrong = sum(case.what == "wrong" for case in cases)
    assert f"wrong, the first 2 of {wrong}:" in text
    assert text.count("how many [red]cats[/red] in") == 2, "no markup of other people's is followed"
    monkeypatch.setattr(sys, "argv", ["vista", "show", str(table), ROW, "overall", "--cases", "1", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told_cases = json.loads(capsys.readouterr().out)["cases"]
    assert [case["what"] for case in told_cases] == [case.what for case in cases]
    assert told_cases[0]["right_answer"] == "7"


def test_cases_that_are_not_there_are_refused(asked: World, tmp_path: Path) -> None:
    (asked.paths.results / "tables/difficulty.csv").write_text("model,x\nnano-a,1\n")
    with pytest.raises(VistaError, match="not made of responses alone"):
        cases_of(asked.paths.results / "tables/difficulty.csv", "1", "x")
    alone = tmp_path / "tables/main.csv"
    alone.parent.mkdir()
    alone.write_bytes(asked.paths.table("main", "csv").read_bytes())
    with pytest.raises(VistaError, match="copied without its results"):
        cases_of(alone, ROW, "overall")
