"""Pages of tables: one description, read back from Markdown and from LaTeX."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vista.analysis.page import SYMBOLS, Page, Table, inline, latex, markdown

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
    assert inline(text) == expected


def test_a_bracket_that_opens_a_row_is_no_argument_of_the_rule_before_it() -> None:
    cells = pd.DataFrame([{"value": "[0.0]", "difference": "-1.00 [-2.00, +0.00]"}])
    text = latex(Page("sweep", "Sweep", [Table("Sweep", cells, "")]))
    assert "{[}0.0] & $-$1.00 [$-$2.00, +0.00]" in text


@given(st.text(st.sampled_from("ab1.-_&%$#{}~^\\ ±†"), max_size=20))
def test_no_text_leaves_a_bare_command_character(text: str) -> None:
    written = inline(text)
    for command in sorted({*SYMBOLS.values(), "$-$"}, key=len, reverse=True):
        written = written.replace(command, "")
    assert not set(written) & set("&%$#_{}~^\\")
