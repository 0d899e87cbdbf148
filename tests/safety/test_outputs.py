"""What data sets, models and other people's results say is shown as it reads: it is no markup and no code."""

from __future__ import annotations

import csv
import io
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tests.analysis.conftest import World
from tests.figures.test_gallery import DROPPED, RESCUED
from tests.safety.hostile import TEXTS
from tests.test_provenance import made
from vista.analysis.marks import in_latex
from vista.analysis.page import Listing, Page, Table, html, latex, markdown
from vista.config import load_suite
from vista.dag.jobs import last_lines
from vista.engines.batching import BatchSize
from vista.errors import VistaError, told
from vista.figures.gallery import case, page
from vista.manifest import read_manifest
from vista.paths import manifest_of
from vista.planning.findings import fail
from vista.planning.findings import show as show_findings
from vista.provenance import show
from vista.records import write_json
from vista.shown import UNSEEN, as_markdown, from_spreadsheet, markup, printable, spreadsheet
from vista.testbed.questions import Question, Scene, dump
from vista.verify import Report, tell

__all__ = ["made"]  # a fixture

SCRIPT = "<script>alert(1)</script>"
EVIL = f"\"'>{SCRIPT}<img src=x onerror=alert(1)> {{{{ 7 * 7 }}}} {{% include '/etc/passwd' %}} $\\frac$"


CASE_TEXTS = ("task", "query_id", "instruction", "answer", "source", "text", "extracted")


class Tags(HTMLParser):
    """The tags of a page and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_gallery_shows_hostile_texts_as_texts() -> None:
    texts = dict.fromkeys(CASE_TEXTS, EVIL)
    scene = dump(Scene(((1,),), ((EVIL,),)), Question("digit", row=1, column=1))
    dropped = DROPPED | texts | {"tokens": [EVIL] * 10}
    rescued = (
        RESCUED | texts | {"replacement": EVIL, "continuation": [EVIL], "continued": EVIL, "scene": scene}
    )
    plain = Tags(page([case(DROPPED, "nano"), case(RESCUED, "nano")], ["nano2"]))
    shown = Tags(page([case(dropped, f"nano/{EVIL}/a"), case(rescued, EVIL)], [EVIL]))
    assert plain.tags.count("script") == shown.tags.count("script") == 1  # the page's own
    assert shown.handlers == []
    assert (plain.tags.count("img"), shown.tags.count("img")) == (1, 2)
    assert sum(EVIL in text for text in shown.texts) > 10


@pytest.mark.parametrize("text", [r"\input{/etc/passwd}", r"\write18{id}", "a & b % c $ d # e _ f { } ~ ^"])
def test_tables_in_latex_run_no_commands_of_names(text: str) -> None:
    shown = in_latex(text)
    assert r"\input" not in shown
    assert r"\write" not in shown
    for sign in "&%$#_":
        assert shown.count(sign) == shown.count(rf"\{sign}")


def test_vista_show_prints_names_of_a_strangers_manifest_as_they_are(made: World) -> None:
    name = "[/bold] [link=x]secret"
    predictions = made.paths.predictions("nano-b/both/dpo/seed0/round1")
    manifest = read_manifest(predictions).model_dump()
    manifest["inputs"] = {name: "0" * 64}
    write_json(manifest_of(predictions), manifest)
    console = Console(width=300, record=True, file=io.StringIO())
    for part in show(made.paths.table("main", "csv"), "model=nano-b,method=dpo,round=1", "overall"):
        console.print(part)
    assert name in console.export_text()


def test_vista_doctor_prints_brackets_as_they_are() -> None:
    console = Console(width=300, record=True, file=io.StringIO())
    show_findings([fail("model [x]", "[/red] is not there", "pip install 'vista-bench[deepspeed]'")], console)
    text = console.export_text()
    assert "model [x]" in text
    assert "[/red] is not there" in text
    assert "vista-bench[deepspeed]" in text


# --- every hostile text at every place ---


TURNING = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}


def controls(text: str) -> list[str]:
    """Signs that a terminal obeys, or that turn or hide the text around them."""
    kinds = {"Cc", "Cs", "Zl", "Zp"}
    return [
        sign
        for sign in text.replace("\n", "").replace("\t", "")
        if unicodedata.category(sign) in kinds or unicodedata.bidirectional(sign) in TURNING
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_an_error_controls_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), told():
        raise VistaError(f"query {text}: wrong")
    said = capsys.readouterr().err
    assert not controls(said)
    assert said.count("error: ") == 1


@pytest.mark.parametrize("text", TEXTS)
def test_a_log_that_is_quoted_controls_no_terminal(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"before\n{text}\n")
    assert not controls(last_lines([tmp_path / "a.log"]))


@pytest.mark.parametrize("text", TEXTS)
def test_a_message_about_a_query_controls_no_terminal(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    batch = BatchSize(4, "sampling")
    batch.trying([text] * 4)
    batch.halve("no memory")
    assert not controls(capfd.readouterr().err.replace("\r", ""))


@pytest.mark.parametrize("text", TEXTS)
def test_rich_prints_a_text_as_it_is(text: str) -> None:
    console = Console(width=300, record=True, file=io.StringIO(), force_terminal=True)
    console.print(markup(text), highlight=False, soft_wrap=True)
    plain = console.export_text(clear=False)
    assert not controls(plain)
    assert printable(text).split() == plain.split()


@pytest.mark.parametrize("text", TEXTS)
def test_doctor_and_verify_control_no_terminal(text: str, root: Path) -> None:
    console = Console(width=300, record=True, file=io.StringIO())
    show_findings([fail(text, text, text)], console)
    report = Report(files=1, outputs=1, damaged={}, mixed=[text])
    tell(report, load_suite(root / "config/smoke.yaml", root=root), Path("config/smoke.yaml"), console)
    assert not controls(console.export_text())


@pytest.mark.parametrize("text", TEXTS)
def test_the_gallery_shows_it_as_text(text: str) -> None:
    texts = dict.fromkeys(CASE_TEXTS, text)
    shown = page([case(DROPPED | texts | {"tokens": [text] * 10}, f"nano/{text}/a")])
    plain = Tags(page([case(DROPPED, "nano")]))
    found = Tags(shown)
    assert found.tags.count("script") == plain.tags.count("script")
    assert found.tags.count("img") == plain.tags.count("img")
    assert found.handlers == []
    assert not controls(shown)
    assert sum(printable(text).strip() in each for each in found.texts) > 3


@pytest.mark.parametrize("text", TEXTS)
def test_no_spreadsheet_takes_it_for_a_formula(text: str) -> None:
    written = spreadsheet(pd.DataFrame({"a": [text, "x"], "b": [-1.5, 2.0]})).to_csv(index=False)
    ((first, number), (second, _)) = list(csv.reader(io.StringIO(written)))[1:]
    assert first[0] not in "=+-@\t\r"
    assert first.removeprefix("'") == printable(text)
    assert (number, second) == ("-1.5", "x")


def test_numbers_stay_numbers_and_no_two_texts_become_one() -> None:
    texts = ["-1.20", "+1.20", "-3", "-inf", "=x", "'=x", "''=x", "x"]
    shown = list(spreadsheet(pd.DataFrame({"a": texts}))["a"])
    assert shown[:4] == texts[:4]
    assert len(set(shown)) == len(texts)


@pytest.mark.parametrize(
    "text", ["-1.20", "=x", "'=x", "''=x", "'x", "'", "''", "-", "+1", "@x", "x", "", *TEXTS]
)
def test_what_was_written_for_a_spreadsheet_is_read_as_it_was(text: str) -> None:
    (written,) = spreadsheet(pd.DataFrame({"a": [text]}))["a"]
    assert from_spreadsheet(written) == printable(text)


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_in_markdown_shows_it_as_text(text: str) -> None:
    def of(cell: str) -> str:
        table = pd.DataFrame({"method": [cell, "b"], "x": ["1", "2"]})
        return markdown(Page("main", "Title", [Table("Caption", table, ""), f"Reported in: {cell}."]))

    shown = of(text)
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    pipes = [line.replace("\\|", "").count("|") for line in rows[:4]]
    assert pipes == [3, 3, 3, 3]
    assert not controls(shown)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "](" not in shown


def test_what_our_tables_mark_stays_marked() -> None:
    for text in ("**<u>61.2</u>**\\* ± 0.5", "< 0.001", "`star`", "x < y > z"):
        assert as_markdown(text) == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_in_html_shows_it_as_text(text: str) -> None:
    def of(cell: str) -> str:
        table = pd.DataFrame({"method": [cell, "b"], cell or "x": ["1", cell]})
        parts = [Table(f"Caption {cell}", table, ""), f"Reported in: {cell}.", Listing(cell)]
        return html(Page("main", f"Title {cell}", parts))

    def unmarked(tags: list[str]) -> list[str]:
        return [tag for tag in tags if tag not in {"u", "strong", "code"}]

    shown = of(text)
    assert unmarked(Tags(shown).tags) == unmarked(Tags(of("a")).tags)
    assert Tags(shown).handlers == []
    assert not controls(shown)
    assert sum(printable(text).strip() in each for each in Tags(shown).texts) > 0


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_in_latex_shows_it_as_text(text: str) -> None:
    table = pd.DataFrame({"method": [text], "x": ["1"]})
    shown = latex(Page("main", "Title", [Table("Caption", table, ""), f"Reported in: {text}."]))
    assert not controls(shown)
    live = "\n".join(line for line in shown.splitlines() if not line.startswith("%"))
    for command in ("\\input", "\\write", "^^"):
        assert command not in live


def test_of_all_characters_those_that_control_a_terminal_or_are_unseen_are_written_out() -> None:
    changed = {code for code in range(sys.maxunicode + 1) if printable(chr(code)) != chr(code)}
    halves = set(range(0xD800, 0xE000))
    assert changed == ({*range(0x20), *range(0x7F, 0xA0)} - {0x09, 0x0A}) | halves | UNSEEN
