"""``vista compare``: the numbers of our tables and of independent oracles, and what it refuses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from tests.analysis.conftest import World, make_suite
from vista.analysis.collect import LONG_COLUMNS, collect
from vista.analysis.main import KEYS
from vista.analysis.page import number
from vista.analysis.scored import MOST
from vista.analysis.tables import results_tables
from vista.cli import app
from vista.paths import Paths
from vista.records import write_text
from vista.shown import spreadsheet

Rows = Sequence[Mapping[str, Any]]


def write_csv(path: Path, rows: Rows) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def compared(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["compare", *map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def refused(*words: object) -> str:
    command = [sys.executable, "-m", "vista.cli", "compare", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def scores(
    stream: int, n: int = 60, size: int = 1, share: float = 0.6, **columns: Any
) -> list[dict[str, Any]]:
    """Right-or-wrong scores, ``size`` items on each image, alike within an image."""
    draw = np.random.default_rng(stream)
    image = draw.normal(size=n) * (size > 1)
    return [
        {"id": f"q{i}", "score": int(draw.normal() + image[i // size] < scipy_stats.norm.ppf(share))}
        | ({"cluster": f"image{i // size}"} if size > 1 else {})
        | columns
        for i in range(n)
    ]


# --- our tables ---


@pytest.fixture(scope="module", params=[[0], [0, 1, 2]], ids=["one seed", "three seeds"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    suite = make_suite(tmp_path_factory.mktemp("results"), seeds=request.param)
    world = World(suite, Paths(suite.results)).fill()
    write_text(world.paths.suite, suite.model_dump_json())
    collect(suite, world.paths)
    results_tables(suite, world.paths)
    return world


def read_table(made: World, name: str) -> pd.DataFrame:
    table = pd.read_csv(made.paths.table(name, "csv"), dtype="str", keep_default_na=False)
    return table[table["model"] == "nano-a"]


def named(row: Mapping[str, str]) -> str:
    return "{model}/{train_set}/{method}/round{round}".format(**row)


def systems_of(made: World) -> list[str]:
    rows = read_table(made, "main")[KEYS].to_dict("records")
    rows.sort(key=lambda row: row["method"] != "sft-seed")
    return [f"{named(row)}={made.paths.long}:{named(row)}" for row in rows]


def assert_is_row(
    row: Mapping[str, str], mean: Mapping[str, Any], difference: Mapping[str, Any] | None, name: str
) -> None:
    for column, key in (
        (name, "mean"),
        ("se", "se"),
        ("low", "low"),
        ("high", "high"),
        ("seed_sd", "seed_sd"),
    ):
        assert number(None if mean[key] is None else 100 * mean[key]) == row[column], (row, column)
    if difference is None:
        assert row["delta_sft_seed"] == ""
        return
    for column, key in (("sft_seed", "difference"), ("se", "se"), ("low", "low"), ("high", "high")):
        value = difference[key]
        assert number(None if value is None else 100 * value) == row[f"delta_{column}"], (row, column)
    assert difference["error"] == row["error"]
    assert ("" if difference["p_holm"] is None else f"{difference['p_holm']:.4f}") == row["p_holm"], row


def test_the_numbers_are_those_of_the_main_table(made: World) -> None:
    found = compared(*systems_of(made), "--task", "easy", "--task", "hard")
    differences = {each["name"]: each for each in found["comparisons"]}
    means = {each["name"]: each for each in found["systems"]}
    assert found["tasks"] == ["easy", "hard"]
    for row in read_table(made, "main").to_dict("records"):
        assert_is_row(row, means[named(row)], differences.get(named(row)), "overall")
        p = differences[named(row)]["p"] if named(row) in differences else None
        assert ("" if p is None else f"{p:.4f}") == row["p"]


def test_the_numbers_are_those_of_the_table_by_task(made: World) -> None:
    found = compared(*systems_of(made))
    differences = {each["name"]: each for each in found["comparisons"]}
    means = {each["name"]: each for each in found["systems"]}
    for row in read_table(made, "tasks").to_dict("records"):
        difference = differences[named(row)]["tasks"][row["task"]] if named(row) in differences else None
        assert_is_row(row, means[named(row)]["tasks"][row["task"]], difference, "accuracy")


def test_predictions_of_several_seeds_are_those_of_long_csv(made: World) -> None:
    seeds = made.suite.seeds
    patterns = [
        f"{method}={made.paths.predictions(f'nano-a/both/{method}/seed*/round{number}')}"
        for method, number in (("sft-seed", 0), ("dpo", 1))
    ]
    long = made.paths.long
    one = compared(*patterns)
    other = compared(f"sft-seed={long}:nano-a/both/sft-seed", f"dpo={long}:nano-a/both/dpo")
    assert one["comparisons"] == other["comparisons"]
    assert [each["seeds"] for each in one["systems"]] == [list(map(str, seeds)) if len(seeds) > 1 else []] * 2


def test_a_run_of_long_csv_must_be_chosen(made: World) -> None:
    told = refused(made.paths.long, f"{made.paths.long}:nano-a/both/rest-em")
    assert "it has nano-a/both/dpo, nano-a/both/rest-em" in told
    assert "has the rounds 1, 2; choose one" in told


def test_ids_of_long_csv_are_those_of_files_that_do_not_escape_them(tmp_path: Path) -> None:
    """In ``long.csv`` a quote stands before what a spreadsheet would calculate."""
    ids = ["=1+1", "+a", "-a", "@a", "'a", "'=a", "-5", "a"]
    rows = [["m", "t", "x", 0, 0, "all", each, f"{each}!", 0, 0, n % 2] for n, each in enumerate(ids)]
    long = tmp_path / "long.csv"
    spreadsheet(pd.DataFrame(rows, columns=LONG_COLUMNS)).to_csv(long, index=False)
    plain = [{"id": each, "cluster": f"{each}!", "score": 1} for each in ids]
    found = compared(f"ours={long}:m/t/x", f"theirs={write_csv(tmp_path / 'theirs.csv', plain)}")
    assert [each["n"] for each in found["systems"]] == [len(ids)] * 2
    assert [each["mean"] for each in found["systems"]] == [0.5, 1.0]


# --- oracles ---


def test_errors_and_p_values_are_those_of_a_clustered_regression(tmp_path: Path) -> None:
    files = [write_csv(tmp_path / f"{name}.csv", scores(name, size=3)) for name in (1, 2)]
    (found,) = compared(*files)["comparisons"]
    one, other = (pd.read_csv(file) for file in files)
    clusters = pd.factorize(one["cluster"])[0]
    fit = sm.OLS(other["score"] - one["score"], np.ones(len(one))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}
    )
    expected = [fit.params.iloc[0], fit.bse.iloc[0], *fit.conf_int().iloc[0], fit.pvalues.iloc[0]]
    assert [found[key] for key in ("difference", "se", "low", "high", "p")] == pytest.approx(expected)
    assert found["p_mcnemar"] is None  # three items on each image are not independent


def test_mcnemar_is_the_binomial_test_and_the_permutation_of_signs(tmp_path: Path) -> None:
    rows = [scores(seed, n=14) for seed in (3, 4)]
    (found,) = compared(*(write_csv(tmp_path / f"{i}.csv", each) for i, each in enumerate(rows)))[
        "comparisons"
    ]
    differences = [two["score"] - one["score"] for one, two in zip(*rows, strict=True)]
    changed = [value for value in differences if value]
    assert found["p_mcnemar"] == pytest.approx(scipy_stats.binomtest(changed.count(1), len(changed)).pvalue)
    signs = list(itertools.product((-1, 1), repeat=len(changed)))
    as_far = sum(abs(sum(each)) >= abs(sum(changed)) for each in signs)
    assert found["p_mcnemar"] == pytest.approx(as_far / len(signs))


@pytest.mark.parametrize("score", [0.5, 2])
def test_mcnemar_is_left_out_where_a_score_is_neither_right_nor_wrong(tmp_path: Path, score: float) -> None:
    files = []
    for name in "ab":
        rows = scores(3, n=14)
        rows[0]["score"] = score  # the same in both: no difference shows it
        files.append(write_csv(tmp_path / f"{name}.csv", rows))
    assert compared(*files)["comparisons"][0]["p_mcnemar"] is None


def test_holms_correction_is_over_all_comparisons(tmp_path: Path) -> None:
    files = [write_csv(tmp_path / f"{i}.csv", scores(i, share=0.5 + i / 20)) for i in range(5)]
    found = compared(*files, "--against", files[2])
    assert {each["against"] for each in found["comparisons"]} == {str(files[2])}
    p = sorted(found["comparisons"], key=lambda each: each["p"])
    least = 0.0
    for rank, each in enumerate(p):
        least = max(least, min(1.0, each["p"] * (len(p) - rank)))
        assert each["p_holm"] == pytest.approx(least)


def test_each_task_has_the_same_weight(tmp_path: Path) -> None:
    one = [{"id": i, "task": "few", "score": 1} for i in range(4)]
    one += [{"id": i, "task": "many", "score": 0} for i in range(40)]
    other = [row | {"score": row["id"] % 2} for row in one]
    found = compared(write_csv(tmp_path / "a.csv", one), write_csv(tmp_path / "b.csv", other))
    assert [each["mean"] for each in found["systems"]] == [0.5, 0.5]
    assert found["comparisons"][0]["difference"] == 0.0
    assert [found["comparisons"][0]["tasks"][task]["difference"] for task in ("few", "many")] == [-0.5, 0.5]


def test_the_detectable_difference_is_that_of_the_test_and_its_variances(tmp_path: Path) -> None:
    one = [{"id": i, "score": i % 3 == 0} for i in range(60)]
    other = [{"id": i, "score": i % 5 == 0} for i in range(60)]
    (row,) = compared(write_csv(tmp_path / "a.csv", one), write_csv(tmp_path / "b.csv", other))["comparisons"]
    quantiles = scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)
    assert row["detectable"] == pytest.approx(quantiles * row["se"], rel=1e-4)


# --- files ---


def log_of(rows: Rows, metric: str, wrap: bool) -> str:
    """Lines as lmms-eval's ``save_results_samples`` writes them."""
    lines = []
    for index, row in enumerate(rows):
        value = float(row["score"])
        metrics = {metric: {"question_id": index, "score": value} if wrap else value}
        about = {"doc_id": index, "target": "a", "filtered_resps": ["b"], "token_counts": [None]}
        lines.append(json.dumps(about | {"doc_hash": "0", "input": "c"} | metrics))
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_log_of_lmms_eval_is_read_with_its_only_metric(tmp_path: Path, wrap: bool) -> None:
    rows = [[row | {"id": i} for i, row in enumerate(scores(seed))] for seed in (1, 2)]
    logs = []
    for name, each in zip(("a", "b"), rows, strict=True):
        logs.append(tmp_path / name / "20250101_101010_samples_gqa.jsonl")
        logs[-1].parent.mkdir()
        logs[-1].write_text(log_of(each, "exact_match", wrap))
    plain = [write_csv(tmp_path / f"{i}.csv", each) for i, each in enumerate(rows)]
    one, other = compared(logs[0].parent, f"B={logs[1]}"), compared(plain[0], f"B={plain[1]}")
    assert one["tasks"] == ["gqa"]
    assert one["comparisons"][0]["tasks"]["gqa"] == other["comparisons"][0]["tasks"]["all"]
    mixed = compared(logs[0], plain[1])  # a file without tasks has the task of the other
    assert mixed["comparisons"][0]["p"] == one["comparisons"][0]["p"]


def test_a_log_with_several_metrics_needs_one_named(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    lines = [{"doc_id": i, "target": "", "em": i % 2, "iou": {"box": i / 9, "mask": 0.5}} for i in range(9)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "several metrics: em, iou.box, iou.mask; choose one with --metric" in refused(
        f"A={log}", f"B={log}"
    )
    found = compared(f"A={log}", f"B={log}", "--metric", "iou.box")
    assert found["systems"][0]["mean"] == pytest.approx(sum(range(9)) / 81)


def test_jsonl_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    one, other = scores(1, size=2), scores(2, size=2)
    csv = [write_csv(tmp_path / f"{name}.csv", rows) for name, rows in (("a", one), ("b", other))]
    pd.DataFrame(other).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    expected = compared(csv[0], f"B={csv[1]}")["comparisons"]
    for name in ("b.parquet", "b.jsonl"):
        assert compared(csv[0], f"B={tmp_path / name}")["comparisons"] == expected


def test_clusters_that_one_file_names_hold_for_all(tmp_path: Path) -> None:
    one, other = scores(1, size=2), scores(2, size=2)
    files = [write_csv(tmp_path / f"{name}.csv", rows) for name, rows in (("a", one), ("b", other))]
    bare = write_csv(tmp_path / "bare.csv", [{"id": row["id"], "score": row["score"]} for row in other])
    named, found = (compared(files[0], f"B={each}")["comparisons"] for each in (files[1], bare))
    assert named == found


ROWS = [{"id": "q1", "score": 1, "cluster": "x"}, {"id": "q2", "score": 0, "cluster": "y"}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ([*ROWS, ROWS[0]], "b.csv: row 3: 'q1' has a score already, at"),
        ([ROWS[0], ROWS[1] | {"score": "good"}], "b.csv: row 2: score is 'good'"),
        ([ROWS[0], ROWS[1] | {"score": "nan"}], "b.csv: row 2: score is nan"),
        ([ROWS[0], ROWS[1] | {"score": ""}], "b.csv: row 2: score is ''"),
        ([ROWS[0], ROWS[1] | {"cluster": "z"}], "b.csv: row 2: 'q2' is in cluster 'z', but in 'y' at"),
        ([ROWS[0], ROWS[1] | {"cluster": ""}], "b.csv: row 2: cluster is empty"),
        ([ROWS[0], ROWS[1] | {"id": ""}], "b.csv: row 2: id is empty"),
        ([ROWS[0]], "'q2' is in A and not in all"),
        ([*ROWS, {"id": "q3", "score": 1, "cluster": "y"}], "'q3' is in B and not in all"),
        ([{"id": row["id"]} for row in ROWS], "no column 'score'; it has id"),
        ([row | {"seed": seed} for seed in (0, 1) for row in ROWS][:3], "'q2' is in A and not in all"),
    ],
)
def test_what_cannot_be_compared_is_one_error_that_names_file_and_row(
    tmp_path: Path, changed: Rows, said: str
) -> None:
    files = write_csv(tmp_path / "a.csv", ROWS), write_csv(tmp_path / "b.csv", changed)
    told = refused(f"A={files[0]}", f"B={files[1]}")
    assert said in told
    assert told.count("error:") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 1, "score": 1, "cluster": "x"}\n{"id": 2, "score": 1}\n', "row 2: cluster is empty"),
        ('{"id": 1, "score": 1}\n[1]\n', "row 2: not a JSON object on one line"),
        ('{"id": 1, "score": NaN}\n', "row 1: score is nan"),
        ('{"id": 1, "score": 1e999}\n', "row 1: score is inf"),
        ('{"id": 1, "score": [1]}\n', "row 1: score is [1]"),
        ('{"id": 1, "score": null}\n', "row 1: score is missing"),
        ("[" * 100_000 + "\n", "row 1: not a JSON object on one line"),
        ("", "no scores"),
        ("\x00\xff", "row 1: not a JSON object"),
    ],
)
def test_what_is_wrong_with_jsonl_is_named(tmp_path: Path, text: str, said: str) -> None:
    good, bad = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    good.write_text('{"id": 1, "score": 1}\n{"id": 2, "score": 0}\n')
    bad.write_text(text)
    assert said in refused(good, bad)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.csv", b"id,score,score\n1,1,0\n2,0,0\n", "two columns 'score'"),
        ("b.csv", b"id,score\n1\n", "row 1: not as many cells as columns"),
        ("b.csv", b"id,score\n\xff\xfe,1\n", "cannot be read"),
        ("b.parquet", b"PAR1", "cannot be read"),
        ("b.txt", b"1", "the name should end in .csv, .tsv, .jsonl or .parquet"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(write_csv(tmp_path / "a.csv", ROWS), tmp_path / name)


def test_names_and_tasks_of_strangers_control_no_terminal(tmp_path: Path) -> None:
    rows = [row | {"task": task} for row in scores(1) for task in ("\x1b[31mred", "<script>|a\nb")]
    file = write_csv(tmp_path / "a.csv", rows)
    for how in ([], ["--markdown"], ["--json"]):
        output = CliRunner().invoke(app, ["compare", f"A={file}", f"B={file}", *how]).output
        assert "\x1b" not in output
        assert how == ["--json"] or "\\x1b[31mred" in output
        assert how != ["--markdown"] or "<script>" not in output


def test_all_that_is_wrong_in_all_files_is_told_at_once_but_not_a_thousand_lines(tmp_path: Path) -> None:
    wrong = [{"id": i, "score": "x"} for i in range(30)]
    files = [write_csv(tmp_path / f"{name}.csv", wrong) for name in "ab"]
    told = refused(*files)
    assert told.count("\n  - ") == MOST + 1
    assert "and 40 more" in told


def test_with_common_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = scores(1)
    files = [write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.csv", scores(2)[3:])]
    words = ["compare", *map(str, files), "--common"]
    assert (
        f"Left out, as they are not in all: 3 items of {files[0]}." in CliRunner().invoke(app, words).output
    )
    found = compared(*files, "--common")
    assert found["left_out"]["items"] == {str(files[0]): 3, str(files[1]): 0}
    cut = compared(write_csv(tmp_path / "c.csv", rows[3:]), files[1])
    assert cut["comparisons"][0]["p"] == found["comparisons"][0]["p"]


def test_seeds_are_the_second_level_and_must_be_the_same(tmp_path: Path) -> None:
    one = [row for seed in range(3) for row in scores(seed, seed=seed)]
    other = [row for seed in range(1, 4) for row in scores(seed + 9, share=0.8, seed=seed)]
    files = [write_csv(tmp_path / f"{name}.csv", rows) for name, rows in (("a", one), ("b", other))]
    assert f"seed 0 is in {files[0]}, and not in all" in refused(*files)
    found = compared(*files, "--common")
    assert found["left_out"]["seeds"] == {str(files[0]): ["0"], str(files[1]): ["3"]}
    (difference,) = found["comparisons"]
    assert (difference["pairs"], difference["test"], difference["error"]) == (2, "t", "queries, seeds")
    bare = write_csv(tmp_path / "bare.csv", scores(5))  # one checkpoint, against each seed
    assert compared(bare, files[1])["comparisons"][0]["pairs"] == 3


def test_markdown_and_text_have_the_numbers_and_no_markup_of_names(tmp_path: Path) -> None:
    files = [write_csv(tmp_path / f"{name}.csv", scores(i)) for i, name in enumerate("ab")]
    words = ["compare", f"[red]A={files[0]}", f"B|b={files[1]}"]
    text = CliRunner().invoke(app, words).output
    page = CliRunner().invoke(app, [*words, "--markdown"]).output
    (difference,) = compared(*words[1:])["comparisons"]
    for output in (text, page):
        assert f"{100 * difference['difference']:+.2f}" in output
        assert "[red]A" in output
    assert "| B\\|b " in page


# --- how fast it starts ---


def loaded(*words: str) -> set[str]:
    code = "import sys\nfrom vista.cli import app\ntry:\n    app(sys.argv[1:])\nfinally:\n    "
    code += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


HEAVY = {"torch", "transformers", "trl", "datasets", "lmms_eval", "sklearn", "matplotlib", "snakemake"}


def test_comparing_needs_no_suite_and_nothing_heavy(tmp_path: Path) -> None:
    files = [str(write_csv(tmp_path / f"{name}.csv", scores(i))) for i, name in enumerate("ab")]
    needless = HEAVY | {"vista.config", "vista.records", "vista.manifest"}
    assert not loaded("compare", *files) & needless


def test_help_and_version_wait_for_no_library(tmp_path: Path) -> None:
    assert not loaded("--help") & (HEAVY | {"numpy", "pandas", "pydantic", "pyarrow", "scipy"})
    assert not loaded("--version") & HEAVY
