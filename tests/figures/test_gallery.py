"""The gallery: every case has its place on the page, with its image, and a browser shows it."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from tests.browser import needs_chromium, opened
from vista.figures.gallery import FAULTS, case, page
from vista.manifest import read_manifest
from vista.records import CASE, Row, write_rows
from vista.testbed.questions import Question, Scene, dump
from vista.testbed.rationales import Kind

SCENE = Scene(((3, 7, 1), (4, 0, 9), (8, 2, 5)), (("red",) * 3,) * 3)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 24), "red").save(file, format="PNG")
    return file.getvalue()


def row(kind: str, **changes: object) -> Row:
    words = ["row", "1", ":", "3", "7", "2", ".", "answer", ":", "7"]
    base: Row = {"kind": kind, "query_id": "q", "task": "t", "images": [{"bytes": png(), "path": None}]}
    base |= {"instruction": "which digit is the largest in row 1 ?", "answer": "7"}
    base |= {"scene": dump(SCENE, Question("largest", row=1)), "tokens": words, "text": " ".join(words)}
    base |= {"visual": [n / 20 for n in range(len(words))], "layer": 1, "vas": None, "kept": None}
    base |= {"critical_token": None, "replacement": None, "continuation": None}
    return base | changes


DROPPED = row("dropped", vas=-1.25, kept="row 1 : 3 7 1 . answer : 7")
RESCUED = row("rescued", critical_token=5, replacement="1", continuation=[".", "answer", ":", "7"])


def test_colours_run_from_the_least_to_the_most_visual_token() -> None:
    shown = case(DROPPED, "nano", 1)
    assert shown.tokens[0].colour != shown.tokens[-1].colour
    assert (shown.tokens[0].share, shown.tokens[-1].share) == (0.0, 0.45)
    assert shown.corrected == []
    assert "unfaithful: it misreads the image" in shown.notes
    assert any("-1.25" in note for note in shown.notes)


def test_a_rescued_case_is_cut_at_the_critical_token_and_corrected_after_it() -> None:
    shown = case(RESCUED, "nano", 2)
    assert [token.text for token in shown.tokens if token.critical] == ["2"]
    assert " ".join(token.text for token in shown.corrected) == "row 1 : 3 7 1 . answer : 7"
    assert [token.given for token in shown.corrected] == [False] * 5 + [True] * 5


def test_the_page_has_an_article_for_each_case_and_escapes_what_models_write() -> None:
    text = page([case(DROPPED | {"tokens": ["<b>"], "visual": [0.1]}, "nano", 1), case(RESCUED, "nano", 2)])
    assert text.count("<article") == 2
    assert 'id="nano-rescued-2"' in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "http" not in text, "it needs no network"


def test_the_page_holds_the_images_themselves() -> None:
    text = page([case(DROPPED, "nano", 1), case(RESCUED, "nano", 2)])
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2
    for source in sources:
        start, data = source.split(",")
        assert start == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (24, 24)


def test_every_kind_of_fault_has_its_words() -> None:
    assert set(FAULTS) == set(get_args(Kind))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    write_rows(folder / "cases.parquet", [DROPPED, RESCUED], CASE)
    command = [sys.executable, "-m", "vista.figures.gallery", f"nano={folder / 'cases.parquet'}"]
    subprocess.run([*command, "--to", str(folder / "cases.html")], check=True)
    return folder / "cases.html"


def test_the_page_and_its_manifest_are_all_that_is_written(gallery: Path) -> None:
    assert read_manifest(gallery).counts["cases"] == 2
    written = {path.name for path in gallery.parent.iterdir()}
    assert written - {"cases.parquet"} == {"cases.html", "cases.html.manifest.json"}


@needs_chromium
def test_a_browser_shows_the_gallery_without_an_error(gallery: Path) -> None:
    document, console = opened(gallery)
    assert 'id="nano-dropped-1"' in document
    assert console == []


@needs_chromium
def test_a_script_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><title>x</title><script>document.missing.call()</script>")
    assert any("TypeError" in line for line in opened(page)[1])
