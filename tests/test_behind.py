"""``vista show --cases`` and ``--page``: from a number to the responses behind it."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from tests.analysis.conftest import TASKS, World, make_suite
from tests.figures.test_gallery import png
from tests.test_provenance import FIRST, ROW, SEED, TWO
from vista.analysis.ablation import ablation_table
from vista.analysis.collect import collect
from vista.analysis.tables import results_tables
from vista.behind import cases_of, drawn_cases, page_of, spread
from vista.cli import main
from vista.errors import VistaError
from vista.grid import Run, run_named
from vista.paths import Paths
from vista.records import QUERY, read_rows, write_rows, write_text


class Asked(World):
    """Test queries with a question, and a right answer."""

    def test_split(self, task: str) -> None:
        asked = [
            dict.fromkeys(QUERY.names)
            | self.query(task, number)
            | {"instruction": f"how many [red]cats[/red] in {number} ?", "answer": "7", "split": "test"}
            | {"images": [{"bytes": png(), "path": None}], "answer_type": "open"}
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
    with pytest.raises(VistaError, match="those of main, tasks, runs"):
        cases_of(asked.paths.results / "tables/difficulty.csv", "1", "x")
    alone = tmp_path / "tables/main.csv"
    alone.parent.mkdir()
    alone.write_bytes(asked.paths.table("main", "csv").read_bytes())
    with pytest.raises(VistaError, match="copied without its results"):
        cases_of(alone, ROW, "overall")


def test_a_page_has_so_many_of_each_sort_and_says_how_many_there_are(asked: World, tmp_path: Path) -> None:
    table, to = asked.paths.table("main", "csv"), tmp_path / "new folder/page.html"
    cases = cases_of(table, ROW, "delta_sft_seed")
    counts = Counter(case.what for case in cases)
    said = page_of(table, ROW, "delta_sft_seed", 3, to)
    shown = re.findall(r'data-what="([a-z]+)"', page := to.read_text())
    assert Counter(shown) == {sort: min(3, number) for sort, number in counts.items()}
    assert shown[0] == "gained", "what differs comes first"
    for text in (said, page):
        assert f"{counts['gained']} gained, {counts['lost']} lost, {counts['same']} same" in text
    assert "method vista-sft, round 2" in page
    assert "at most 3 of each sort" in page
    assert "how many [red]cats[/red] in" in page
    page_of(table, ROW, "delta_sft_seed", len(cases), to)
    page = to.read_text()
    assert page.count("data-what=") == len(cases)
    assert "at most" not in page


def test_those_on_a_page_are_of_every_run_and_task(asked: World) -> None:
    cases = cases_of(asked.paths.table("main", "csv"), ROW, "overall")
    sources = {(case.answered["run"], case.query["task"]) for case in cases if case.what == "wrong"}
    few = spread(cases, "wrong", len(sources))
    assert {(case.answered["run"], case.query["task"]) for case in few} == sources
    assert len(few) == len(sources) == 4
    assert len(spread(cases, "wrong", 10**6)) == sum(case.what == "wrong" for case in cases)


def test_the_command_writes_the_page_and_says_so(
    asked: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, to = asked.paths.table("tasks", "csv"), tmp_path / "page.html"
    asking = ["vista", "show", str(table), f"{ROW},task=hard", "accuracy", "--page", str(to)]
    told = []
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*asking, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        told.append(capsys.readouterr().out)
    assert told[0].startswith(f"{to}: ")
    assert json.loads(told[1]) == {"page": str(to), "said": told[0].strip()}
    assert set(re.findall(r'data-task="([a-z]+)"', to.read_text())) == {"hard"}


def test_a_task_that_scores_by_itself_need_not_have_a_right_answer(asked: World, tmp_path: Path) -> None:
    """As those of lmms-eval, which may have no target."""
    file = asked.paths.queries("hard", "test")
    before, to = file.read_bytes(), tmp_path / "page.html"
    write_rows(
        file, [row | {"answer": "", "answer_type": "lmms-eval"} for row in read_rows(file, QUERY)], QUERY
    )
    try:
        cases = cases_of(asked.paths.table("tasks", "csv"), f"{ROW},task=hard", "accuracy")
        page_of(asked.paths.table("tasks", "csv"), f"{ROW},task=hard", "accuracy", 9, to)
    finally:
        file.write_bytes(before)
    assert "  right: as its task scores it" in "\n".join(drawn_cases(cases, 1))
    assert "Right answer: as its task scores it" in to.read_text()
