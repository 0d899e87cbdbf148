"""What data sets, models and other people's results say is shown as it reads: it is no markup and no code."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from tests.analysis.conftest import World
from tests.figures.test_gallery import DROPPED, RESCUED
from tests.test_provenance import made
from vista.analysis.page import inline
from vista.figures.gallery import case, page
from vista.manifest import read_manifest
from vista.paths import manifest_of
from vista.planning.doctor import show as show_findings
from vista.planning.findings import fail
from vista.provenance import show
from vista.records import write_json

__all__ = ["made"]  # a fixture

SCRIPT = "<script>alert(1)</script>"
EVIL = f"\"'>{SCRIPT}<img src=x onerror=alert(1)> {{{{ 7 * 7 }}}} {{% include '/etc/passwd' %}} $\\frac$"


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
    texts = {"task": EVIL, "instruction": EVIL, "answer": EVIL}
    dropped = DROPPED | texts | {"tokens": [EVIL] * 10, "kept": EVIL}
    rescued = RESCUED | texts | {"replacement": EVIL, "continuation": [EVIL]}
    plain = Tags(page([case(DROPPED, "nano", 1), case(RESCUED, "nano", 2)]))
    shown = Tags(page([case(dropped, "nano", 1), case(rescued, "nano", 2)]))
    assert plain.tags.count("script") == shown.tags.count("script") == 1  # the page's own
    assert shown.handlers == []
    assert shown.tags.count("img") == 2
    assert sum(EVIL in text for text in shown.texts) > 10


@pytest.mark.parametrize("text", [r"\input{/etc/passwd}", r"\write18{id}", "a & b % c $ d # e _ f { } ~ ^"])
def test_tables_in_latex_run_no_commands_of_names(text: str) -> None:
    shown = inline(text)
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
