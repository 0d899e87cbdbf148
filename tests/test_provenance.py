"""``vista show``: from a number to its run, predictions, training set and commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.analysis.conftest import World, make_suite
from vista.analysis.ablation import ablation_table
from vista.analysis.collect import collect
from vista.analysis.tables import results_tables
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.provenance import about_policy, find, runs_of, show
from vista.records import write_text


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
