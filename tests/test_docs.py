"""What the documentation shows works as it stands there."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats

from tests.documents import code, dead_links, pages, section
from vista import grid
from vista.analysis.comparisons import contrasts
from vista.analysis.stats import holm
from vista.config import Suite, load_suite
from vista.planning.jobs import job_counts


def blocks(root: Path, page: str, title: str) -> list[dict[str, Any]]:
    """The YAML blocks of a section of a page."""
    return [yaml.safe_load(block) for block in code(section(root, page, title), "yaml")]


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """The three files of configuration; methods.yaml with the documented method at its end."""
    (tmp_path / "config").mkdir()
    (tmp_path / "models.yaml").write_text((root / "models.yaml").read_text())
    (tmp_path / "config/testbed.yaml").write_text((root / "config/testbed.yaml").read_text())
    methods = (root / "config/methods.yaml").read_text()
    (entry, *_) = blocks(root, "adding.md", "A method")
    assert not set(entry) & set(yaml.safe_load(methods)), "the example must be new"
    (tmp_path / "config/methods.yaml").write_text(methods + "\n" + yaml.safe_dump(entry))
    return tmp_path


def load(project: Path, **changes: Any) -> Suite:
    value = yaml.safe_load((project / "config/testbed.yaml").read_text())
    added = changes.pop("added", [])
    return load_suite(Path("testbed.yaml"), value | {"methods": value["methods"] + added} | changes, project)


def test_a_method_of_existing_parts_needs_only_yaml(root: Path, project: Path) -> None:
    (entry, *_) = blocks(root, "adding.md", "A method")
    (name,) = entry
    before, suite = load(project), load(project, added=[name])
    runs = [run for run in grid.runs(suite) if run.method == name]
    trained = len(suite.models) * len(suite.seeds)
    assert len(runs) == entry[name]["rounds"] * trained
    # Its first round reads what VISTA-SFT's has read; only the second samples.
    first = grid.self_improvement(suite, runs[0])
    vista = grid.self_improvement(suite, grid.Run(*("nano-internvl", "grids", "vista-sft"), 0, 1))
    assert grid.rollout_files(first) == grid.rollout_files(vista)
    counts, counts_before = job_counts(suite), job_counts(before)
    added = {rule: count - counts_before[rule] for rule, count in counts.items()}
    new = trained * (entry[name]["rounds"] - 1)
    assert {rule: count for rule, count in added.items() if count} == {
        **dict.fromkeys(("sample", "resample", "score"), new),
        **dict.fromkeys(("curate", "train", "evaluate"), len(runs)),
    }


def test_the_documented_sweep_is_one_method_for_each_value(root: Path, project: Path) -> None:
    (sweeps,) = [block for block in blocks(root, "adding.md", "A method") if "sweeps" in block]
    suite = load(project, **sweeps)
    assert list(suite.swept) == ["vista-sft+tau=-1.5", "vista-sft+tau=0"]
    swept = [run for run in grid.runs(suite) if run.method in suite.swept]
    assert {(run.model, run.seed, run.round) for run in swept} == {("nano-internvl", 0, 1)}
    compared = {each.method: each.against for each in contrasts(suite) if each.kind == "sweep"}
    assert compared == dict.fromkeys(suite.swept, "vista-sft")


def tables_of(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of a page: rows as cells by column."""
    tables: list[list[dict[str, str]]] = []
    lines = [*text.splitlines(), ""]
    for n, line in enumerate(lines):
        if re.fullmatch(r"\|[-:| ]+\|", line):
            header = cells(lines[n - 1])
            rest = lines[n + 1 :]
            end = next(k for k, row in enumerate(rest) if not row.startswith("|"))
            tables.append([dict(zip(header, cells(row), strict=True)) for row in rest[:end]])
    return tables


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def is_excerpt(shown: list[dict[str, str]], table: list[dict[str, str]]) -> bool:
    """Whether rows and columns were left out of a table, and nothing else was done to it."""
    columns = list(shown[0])
    if not set(columns) <= set(table[0]):
        return False
    kept = [{name: row[name] for name in columns} for row in table]
    return all(row in kept for row in shown)


# Sections of findings.md about another suite than the rest.
SECTIONS = {
    "The paper's comparisons with five seeds": "testbed-five-seeds",
    "The same suite with other base models": "testbed",
    "Six more base models": "testbed-base-models",
    "The components alone, with three families": "testbed-components",
    "Reinforcement learning at the same number of tokens": "testbed-online",
    "With a pretrained language model": "testbed-language",
    "Top-k of the critical token, with three seeds": "testbed-top-k",
}


@pytest.mark.parametrize(
    ("page", "suite", "own"), [("README.md", "testbed", 1), ("docs/findings.md", "testbed-full", 1)]
)
def test_results_in_the_documentation_are_those_of_the_reference_run(
    root: Path, page: str, suite: str, own: int
) -> None:
    """``own``: how many of the page's tables say in words what the others show."""
    parts = re.split(r"^## (.*)\n", (root / page).read_text(), flags=re.MULTILINE)
    texts = {suite: parts[0]}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        name = SECTIONS.get(heading, suite)
        texts[name] = texts.get(name, "") + text
    assert len(texts) == (8 if page == "docs/findings.md" else 1)
    for name, text in texts.items():
        shown = tables_of(text)[own if name == suite else 0 :]
        folder = root / "results/reference" / name
        reference = [table for file in folder.glob("*.md") for table in tables_of(file.read_text())]
        assert sum(map(len, shown)) > 10
        for table in shown:
            assert any(is_excerpt(table, whole) for whole in reference), f"{page}: {table[0]}"


TEN = ("testbed", "testbed-other-base-models", "testbed-base-models")


def over_ten(root: Path, method: str, against: str, number: int) -> tuple[list[float], float]:
    """A difference over the ten base models with its interval, and p; as of the table across models."""

    def rows(suite: str, table: str) -> pd.DataFrame:
        found = pd.read_csv(root / f"results/reference/{suite}/{table}.csv")
        named = (found["method"] == method) & (found["against"] == against) & (found["round"] == number)
        return found[named]

    tables = pd.concat(rows(suite, "ablation") for suite in TEN)
    found = tables.loc[tables["model"] != "all models", "difference"]
    assert len(found) == 10
    (six,) = rows("testbed-base-models", "across_models").to_dict("records")
    queries = six["se"] ** 2 - six["models_sd"] ** 2 / 6
    between = float(stats.sem(found)) ** 2
    degrees = (queries + between) ** 2 / (between**2 / 9)
    t = stats.t(degrees, found.mean(), math.sqrt(queries + between))
    return [found.mean(), *t.interval(0.95)], 2 * min(t.cdf(0.0), t.sf(0.0))


@pytest.mark.parametrize(
    ("against", "number", "said"),
    [
        ("rest-em", 1, "0.0 (−0.7 to +0.7) after one round"),
        ("rest-em", 3, "−0.4 (−1.0 to +0.2) after three"),
        ("star", 1, "STaR +1.1 (+0.2 to +2.0)"),
        ("rft", 1, "RFT +0.8 (+0.2 to +1.4)"),
    ],
)
def test_intervals_over_ten_base_models_are_those_of_the_models_differences(
    root: Path, against: str, number: int, said: str
) -> None:
    found, _ = over_ten(root, "vista-sft", against, number)
    words = re.findall(r"[+−]?\d+\.\d", said)
    assert [float(word.replace("−", "-")) for word in words] == pytest.approx(found, abs=0.051)
    assert said in " ".join((root / "docs/findings.md").read_text().split())


def test_what_is_barely_found_over_ten_base_models_is(root: Path) -> None:
    compared = [("star", 1), ("rft", 1), ("rest-em", 3)]
    corrected = holm([over_ten(root, "vista-sft", *each)[1] for each in compared])
    assert corrected[:2] == pytest.approx([0.044, 0.044], abs=0.001)
    assert corrected[2] > 0.05
    for page in ("README.md", "docs/findings.md"):
        assert "p 0.04 after correction" in (root / page).read_text()


def test_the_interval_over_the_four_base_models_beside_grpo_is_that_of_their_differences(root: Path) -> None:
    tables = [
        pd.read_csv(root / f"results/reference/{suite}/ablation.csv")
        .set_index(["method", "against", "round", "model"])
        .sort_index()
        for suite in ("testbed-online", "testbed-online-other-base-models")
    ]
    rows = [table.loc["vista-sft", "grpo", 3].drop("all models")["difference"] for table in tables]
    found = pd.concat(rows)
    assert len(found) == 4
    expected = [found.mean(), *stats.t(3, found.mean(), stats.sem(found)).interval(0.95)]
    assert expected == pytest.approx([-2.7, -6.1, 0.6], abs=0.05)
    assert "over base models, −2.7 (−6.1 to +0.6), contains 0" in (root / "docs/findings.md").read_text()


def test_the_table_of_recipes_is_that_of_the_committed_measurement(root: Path) -> None:
    measured = pd.read_csv(root / "benchmarks/recipes.csv")
    methods = measured["trained on"].str.extract(r"/([a-z-]+)/seed")[0]
    page = (root / "docs/testbed.md").read_text().replace("\n  |", "\n|")
    seen = []
    for table in (each for each in tables_of(page) if "recipe" in each[0]):
        shown = [name.lower() for name in list(table[0])[1:3]]
        expected = {}
        for recipe, rows in measured[methods.isin(shown)].groupby("recipe"):
            assert methods[rows.index].tolist() == [*shown, shown[0]], "two training sets, their difference"
            numbers = list(zip(rows["mean"], rows["deviation"], strict=True))
            spread = [f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in numbers[:2]]
            apart = "{:+.1f} ± {:.1f}".format(*numbers[2]).replace("-", "−")
            expected[recipe] = [*spread, apart, f"{rows['cpu_seconds'].mean():.0f}"]
        assert {row["recipe"]: list(row.values())[1:] for row in table} == expected
        seen += shown
    assert set(seen) == set(methods)


def test_every_picture_page_and_heading_that_the_documentation_links_to_is_there(root: Path) -> None:
    assert len(pages(root)) > 20
    assert [link for page in pages(root) for link in dead_links(page)] == []


def test_a_link_to_nothing_is_found_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A `b.csv`, twice\n\n## A b.csv twice\n\n```\n# no\n```")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n\n[over two\nlines](other.md) [a](other.md#a-bcsv-twice) [b](other.md#a-bcsv-twice-1)\n"
        "[c](#here) [d](https://example.org/no) `[no link](gone.md)`\n\n"
        "[in\ntwo](gone.md) ![picture](gone.png) [e](other.md#no) [f](#gone) [g][later]\n\n"
        "| a |\n|---|\n| [in a table](other.md#a-bcsv-twice-2) |\n\n[later]: gone/later.md\n"
    )
    dead = ["gone.md", "gone.png", "other.md#no", "#gone", "gone/later.md", "other.md#a-bcsv-twice-2"]
    assert dead_links(page) == [f"page.md: {link}" for link in dead]


def test_every_idea_is_where_the_documentation_says(root: Path) -> None:
    (table,) = tables_of(section(root, "methods.md", "Where is …"))
    for row in table:
        paths, names = (re.findall(r"`([^`]+)`", row[column]) for column in ("module", "name"))
        assert paths
        assert all((root / path).is_file() for path in paths), f"{row['idea']}: {paths}"
        trees = [ast.parse((root / path).read_text()).body for path in paths]
        kinds = ast.FunctionDef | ast.ClassDef
        defined = {node.name for tree in trees for node in tree if isinstance(node, kinds)}
        assert names
        assert set(names) <= defined, f"{row['idea']}: {paths} define no {set(names) - defined}"
    ideas = " ".join(row["idea"] for row in table)
    for idea in ("attention score", "filter", "z-score", "critical token", "prefix resampling", "curation"):
        assert idea in ideas
    for idea in ("SFT loss", "DPO loss", "answer verification", "staleness", "audit"):
        assert idea in ideas
