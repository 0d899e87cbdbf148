"""Pages of tables: one description, read back from Markdown, from LaTeX and from a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.browser import needs_chromium, opened
from tests.typeset import compiled, needs_pdflatex, overfull
from vista.analysis.marks import SYMBOLS, in_html, in_latex, number_in
from vista.analysis.page import MOST_ROWS, Listing, Page, Table, html, latex, markdown

CELLS = pd.DataFrame(
    [
        {"method": "vista-sft", "overall": "**70.00** ± 0.80", "Δ SFT-Seed": "-3.46"},
        {"method": "rest_em", "overall": "<u>69.00</u> ± 0.80", "Δ SFT-Seed": ""},
    ]
)
PAGE = Page("main", "Main results of `tiny`", ["First a word: 5 % of it.", Table("By method", CELLS, "")])


def test_markdown_has_the_title_the_paragraph_and_the_table_under_its_caption() -> None:
    lines = markdown(PAGE).splitlines()
    assert lines[:5] == ["# Main results of `tiny`", "", "First a word: 5 % of it.", "", "## By method"]
    assert [cell.strip() for cell in lines[6].split("|")[1:-1]] == list(CELLS.columns)
    assert [cell.strip() for cell in lines[8].split("|")[1:-1]] == ["vista-sft", "**70.00** ± 0.80", "-3.46"]


def test_a_table_captioned_as_its_page_has_no_second_heading() -> None:
    text = markdown(Page("main", "Results", [Table("Results", CELLS, "")]))
    assert text.count("Results") == 1


def test_latex_is_a_table_with_rules_a_caption_and_a_label() -> None:
    text = latex(PAGE)
    assert "% First a word: 5 % of it." in text
    body = text[text.index(r"\begin{table}") :]
    assert r"\caption{By method}" in body
    assert r"\label{tab:main}" in body
    assert r"\begin{tabular}{lrr}" in body
    assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"vista-sft & \textbf{70.00} $\pm$ 0.80 & $-$3.46 \\" in body
    assert r"rest\_em & \underline{69.00} $\pm$ 0.80 &  \\" in body
    assert r"method & overall & $\Delta$ SFT-Seed \\" in body


def test_tables_of_one_page_have_labels_of_their_own() -> None:
    page = Page("ablation", "Ablation", [Table("Sweeps", CELLS, "sweep"), Table("Parts", CELLS, "component")])
    assert re.findall(r"\\label\{(.*?)\}", latex(page)) == ["tab:ablation-sweep", "tab:ablation-component"]


def test_an_empty_table_is_named_and_not_drawn() -> None:
    page = Page("ablation", "Ablation", [Table("Sweeps", CELLS.iloc[:0], "sweep")])
    assert "None." in markdown(page)
    assert "% Sweeps: none." in latex(page)
    assert "tabular" not in latex(page)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & c", r"a\_b \& c"),
        ("`filter.tau = -1.5`", r"\texttt{filter.tau = $-$1.5}"),
        ("[-1.20, +3.40]†", r"[$-$1.20, +3.40]$\dagger$"),
        ("nano-qwen2.5-vl", "nano-qwen2.5-vl"),
        ("k10-t1-n80", "k10-t1-n80"),
        ("12.30 → 15.00 → –", r"12.30 $\to$ 15.00 $\to$ --"),
        ("< 0.001", "$<$ 0.001"),
        ("**+2.72**", r"\textbf{+2.72}"),
        ("+2.72\\* ± 0.50", r"+2.72* $\pm$ 0.50"),
    ],
)
def test_cells_are_written_as_latex_reads_them(text: str, expected: str) -> None:
    assert in_latex(text) == expected


def test_a_bracket_that_opens_a_row_is_no_argument_of_the_rule_before_it() -> None:
    cells = pd.DataFrame([{"value": "[0.0]", "difference": "-1.00 [-2.00, +0.00]"}])
    text = latex(Page("sweep", "Sweep", [Table("Sweep", cells, "")]))
    assert "{[}0.0] & $-$1.00 [$-$2.00, +0.00]" in text


@given(st.text(st.sampled_from("ab1.-_&%$#{}~^\\ ±†"), max_size=20))
def test_no_text_leaves_a_bare_command_character(text: str) -> None:
    written = in_latex(text)
    for command in sorted({*SYMBOLS.values(), "$-$"}, key=len, reverse=True):
        written = written.replace(command, "")
    assert not set(written) & set("&%$#_{}~^\\")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**70.00** ± 0.80", 70.0),
        ("<u>-3.46</u>\\* ± 0.50", -3.46),
        ("+1.20 [-2.00, +4.40]†", 1.2),
        ("≥ 1.53", 1.53),
        ("1,024", 1024.0),
        ("2 of 3", 2.0),
        ("12.30 → 15.00 → –", 12.3),
        ("", None),
        ("no-positives", None),
        ("4.56.2", None),
        ("2026-11-26", None),
        ("3x", None),
        ("[0.0]", None),
    ],
)
def test_a_cell_sorts_by_the_number_that_it_begins_with(text: str, expected: float | None) -> None:
    assert number_in(text) == expected


def test_less_than_a_number_sorts_before_it() -> None:
    found = [number_in(text) for text in ("0.0005", "< 0.001", "0.001")]
    assert None not in found
    assert found == sorted(found, key=float)
    assert len(set(found)) == 3


def test_html_has_marks_as_tags_and_all_else_as_it_reads() -> None:
    shown = in_html("**<u>61.2</u>**\\* ± 0.5 in `a<b` & <script>")
    assert shown == ("<strong><u>61.2</u></strong>* ± 0.5 in <code>a&lt;b</code> &amp; &lt;script&gt;")


SORTED = pd.DataFrame(
    {
        "method": ["b10", "b9", "<script>alert(1)</script>", "c", "a"],
        "overall": ["**9.50** ± 0.10", "10.00 ± 0.10", "", "-3.00 ± 0.10", "no-positives"],
    }
)
TOLD = ["Runs of the grid: **5** & more.", Listing("name: tiny\n  <b>deep</b>: 1")]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "main.html"
    parts = [Table("By `method`", SORTED, ""), Table("None here", SORTED.iloc[:0], "none"), *TOLD]
    path.write_text(html(Page("main", "Results of `tiny`", parts)), encoding="utf-8")
    return path


def column(document: str, place: int) -> list[str]:
    """The texts of a column as the browser has it, without tags."""
    rows = re.findall(r"<tr>(.*?)</tr>", document.partition("</tbody>")[0].partition("<tbody>")[2], re.S)
    return [re.sub(r"<[^>]*>", "", re.findall(r"<td.*?</td>", row)[place]) for row in rows]


def clicks(place: int, times: int) -> str:
    return f"for (let i = 0; i < {times}; i++) document.querySelectorAll('th button')[{place}].click();"


@needs_chromium
@pytest.mark.parametrize(
    ("times", "expected", "sort"),
    [
        (0, ["9.50 ± 0.10", "10.00 ± 0.10", "", "-3.00 ± 0.10", "no-positives"], ""),
        (1, ["-3.00 ± 0.10", "9.50 ± 0.10", "10.00 ± 0.10", "no-positives", ""], "ascending"),
        (2, ["10.00 ± 0.10", "9.50 ± 0.10", "-3.00 ± 0.10", "no-positives", ""], "descending"),
        (3, ["9.50 ± 0.10", "10.00 ± 0.10", "", "-3.00 ± 0.10", "no-positives"], ""),
    ],
)
def test_a_click_sorts_numbers_as_numbers_then_words_then_what_is_empty(
    written: Path, times: int, expected: list[str], sort: str
) -> None:
    document, console = opened(written, script=clicks(1, times) if times else "")
    assert column(document, 1) == expected
    assert re.findall(r'aria-sort="(\w+)"', document[document.index("<thead>") :]) == ([sort] if sort else [])
    assert console == []


@needs_chromium
def test_a_browser_shows_names_marks_and_hostile_text(written: Path) -> None:
    document, console = opened(written, script=clicks(0, 1))
    assert column(document, 0) == ["&lt;script&gt;alert(1)&lt;/script&gt;", "a", "b9", "b10", "c"]
    for shown in (
        "<strong>9.50</strong>",
        "<h1>Results of <code>tiny</code></h1>",
        "<title>Results of tiny<",
    ):
        assert shown in document
    for shown in (
        "<p>None.</p>",
        "grid: <strong>5</strong> &amp; more",
        "  &lt;b&gt;deep&lt;/b&gt;: 1</pre>",
    ):
        assert shown in document
    assert console == []


@needs_chromium
def test_a_page_asks_for_nothing_and_lets_no_other_script_in(written: Path, tmp_path: Path) -> None:
    assert not re.search(r"https?:|(src|href)=\"(?!data:,)", written.read_text())
    spoilt = tmp_path / "spoilt.html"
    text = written.read_text().replace("<h1>", '<img src="http://127.0.0.1:9/x.png"><h1>')
    spoilt.write_text(text)
    assert any("Content Security Policy" in line for line in opened(spoilt)[1])


# --- LaTeX that fits a page ---


def wide(rows: int, columns: int, width: int = 6) -> pd.DataFrame:
    named = {f"task{number}": ["0" * width] * rows for number in range(columns)}
    return pd.DataFrame({"method": [f"method-{row}_{row}" for row in range(rows)], **named})


@pytest.mark.parametrize(
    ("cells", "kind", "packages"),
    [
        (wide(5, 3), "table", []),
        (wide(MOST_ROWS, 3), "table", []),
        (wide(5, 8), "table", ["adjustbox"]),
        (wide(5, 14), "sidewaystable", ["adjustbox", "rotating"]),
        (wide(MOST_ROWS + 1, 3), "longtable", ["longtable"]),
        (wide(90, 8), "longtable", ["longtable"]),
        (wide(90, 14), "longtable", ["longtable", "pdflscape"]),
    ],
)
def test_a_table_in_latex_is_of_the_kind_that_holds_it_and_names_its_packages(
    cells: pd.DataFrame, kind: str, packages: list[str]
) -> None:
    text = latex(Page("main", "Results", [Table("Results", cells, "")]))
    assert re.findall(r"% \\usepackage\{(\w+)\}", text) == ["booktabs", *packages]
    assert re.findall(r"\\begin\{(\w*table)\}", text) == [kind]
    assert text.count(r"\label{tab:main}") == 1
    assert ("wider than" in text) == bool(packages)


@needs_pdflatex
@pytest.mark.parametrize("rows", [5, 90])
@pytest.mark.parametrize("columns", [3, 6, 8, 11, 15, 24, 60])
def test_pdflatex_sets_a_table_of_any_size_within_the_page(tmp_path: Path, rows: int, columns: int) -> None:
    text = latex(Page("main", "Results of `a_b`", [Table("By `a_b`", wide(rows, columns), ""), "100 %"]))
    assert overfull(compiled(text, tmp_path)) == []


@needs_pdflatex
@pytest.mark.parametrize("suite", ["testbed", "testbed-base-models"])
def test_pdflatex_sets_every_table_of_a_real_run_within_the_page(
    root: Path, tmp_path: Path, suite: str
) -> None:
    tables = sorted((root / "results/reference" / suite).glob("*.tex"))
    assert len(tables) > 10
    said = compiled("\n\\clearpage\n".join(table.read_text() for table in tables), tmp_path)
    assert overfull(said) == []
    assert "multiply defined" not in said


@pytest.mark.parametrize("rows", [5, 90])
def test_columns_that_no_page_holds_are_set_in_several_tables_with_the_names_of_the_rows(rows: int) -> None:
    cells = wide(rows, 60).assign(**{f"task{number}": f"{number:06}" for number in range(60)})
    cells.insert(1, "round", "3")
    text = latex(
        Page("main", "Results", [Table("Results of `a`", cells, ""), Table("Others", cells, "mine")])
    )
    heads = [line for line in text.splitlines() if line.startswith("method & round & ")]
    once = heads if rows == 5 else heads[::2]  # a longtable repeats its head
    named = [name for line in once for name in line.removesuffix(r" \\").split(" & ")[2:]]
    assert named == 2 * [f"task{number}" for number in range(60)]
    parts = len(once) // 2
    assert parts > 2
    for number in range(60):
        assert text.count(f" {number:06} ") == 2 * rows
    labels = re.findall(r"\\label\{tab:([\w-]+)\}", text)
    assert labels == [
        *("main", *(f"main-{number}" for number in range(2, parts + 1))),
        *("main-mine", *(f"main-mine-{number}" for number in range(2, parts + 1))),
    ]
    assert f"(part {parts} of {parts})" in text
    assert "its columns are set in several tables" in text


@pytest.mark.parametrize("rows", [5, 90])
def test_a_column_that_no_size_fits_says_so(rows: int) -> None:
    text = latex(Page("main", "Results", [Table("Results", wide(rows, 1, width=400), "")]))
    assert "% Wider than a page even so: leave out columns." in text
