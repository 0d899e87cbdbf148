"""The table of what all trainings logged: every step of every run, and a row of each run to read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.conftest import World, make_suite
from tests.documents import undocumented
from vista import grid
from vista.analysis.history import STEP, history_table
from vista.dag import Dag
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Status
from vista.paths import Paths

HEAD = ",".join(STEP)
OF_PAIRS = ",rewards/margins,rewards/accuracies"


@pytest.fixture
def histories(world: World) -> World:
    """Three steps of every training; none of one run."""
    for run in grid.runs(world.suite):
        if grid.is_trained(world.suite, run):
            leave(world, run, 3)
    return world


def leave(world: World, run: Run, steps: int, status: Status = "complete") -> None:
    pairs = run.method == "dpo"
    lines = [HEAD + (OF_PAIRS if pairs else "")]
    lines += [
        f"{n},{n / 3!r},{3.0 / n!r},1e-05,{n}.5,{1000 * n},0.5,2.25" + (f",{n / 7!r},0.75" if pairs else "")
        for n in range(1, steps + 1)
    ]
    file = world.paths.history(run.id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    world.manifest(file, "training", {"steps": float(steps)}, status)


def table(world: World) -> pd.DataFrame:
    history_table(world.suite, world.paths)
    return pd.read_csv(world.paths.table("training", "csv"), dtype=str, keep_default_na=False)


def test_every_step_of_every_training_is_a_row(root: Path, histories: World) -> None:
    found = table(histories)
    trained = [run for run in grid.runs(histories.suite) if grid.is_trained(histories.suite, run)]
    assert len(found) == 3 * len(trained)
    assert list(found)[:7] == ["model", "train_set", "method", "round", "seed", "objective", "status"]
    assert set(found["objective"]) == {"seed", "sft", "dpo"}
    assert undocumented(root, list(found)) == []
    last = found[found["method"] == "dpo"].iloc[2]
    assert (last["learning_rate"], last["num_tokens"], last["rewards/margins"]) == (
        "1e-05",
        "3000",
        "0.428571",
    )
    assert found[found["method"] == "sft-seed"].iloc[0]["rewards/margins"] == ""


def test_a_run_without_positives_is_one_row_without_numbers(histories: World) -> None:
    run = next(run for run in grid.runs(histories.suite) if run.method == "dpo")
    leave(histories, run, 0, "no-positives")
    found = table(histories)
    (row,) = found[(found["model"] == run.model) & (found["method"] == "dpo")].to_dict("records")
    assert (row["status"], row["step"], row["loss"]) == ("no-positives", "", "")
    assert "no-positives" in histories.paths.table("training", "md").read_text()


def test_the_page_has_a_row_for_each_run(histories: World) -> None:
    table(histories)
    page = histories.paths.table("training", "md").read_text()
    (line,) = [line for line in page.splitlines() if "nano-b" in line and "| dpo " in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[-7:] == ["3", "3000", "3", "1", "50.00", "75.00", "0.4286"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("step,loss\n1,2\n", "its columns are step, loss"),
        (HEAD + "\n1,a,2,3,4,5,6,7\n", "could not convert"),
        ("", "No columns"),
        (HEAD + "\n1,1,2,3,4,5,6,7\n", "1 rows, but its manifest counts 3"),
    ],
)
def test_a_damaged_history_is_named(histories: World, text: str, what: str) -> None:
    run = next(run for run in grid.runs(histories.suite) if run.method == "rest-em")
    file = histories.paths.history(run.id)
    file.write_text(text)
    histories.manifest(file, "training", {"steps": 3.0})
    with pytest.raises(VistaError, match=what) as caught:
        history_table(histories.suite, histories.paths)
    assert str(file) in str(caught.value)


def test_a_suite_that_trains_nothing_has_no_such_table(paths: Paths) -> None:
    suite = make_suite(paths.results)
    assert str(paths.table("training", "csv")) in Dag(suite).every_table()
    base = suite.model_copy(update={"methods": {"zero-shot": suite.methods["zero-shot"]}})
    assert str(paths.table("training", "csv")) not in Dag(base).every_table()
