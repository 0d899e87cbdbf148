"""The gallery: every case has its picture and its place on the page, and a browser shows it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import needs_chromium, opened
from vista.figures.gallery import case, page, picture
from vista.manifest import read_manifest
from vista.records import CASE, Row, write_rows
from vista.testbed.questions import Question, dump
from vista.testbed.scenes import Scene

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
    assert shown.mended == []
    assert "unfaithful: wrong in what it is to read" in shown.notes
    assert any("-1.25" in note for note in shown.notes)


def test_a_rescued_case_is_cut_at_the_critical_token_and_mended_behind_it() -> None:
    shown = case(RESCUED, "nano", 2)
    assert [token.text for token in shown.tokens if token.critical] == ["2"]
    assert " ".join(token.text for token in shown.mended) == "row 1 : 3 7 1 . answer : 7"
    assert [token.given for token in shown.mended] == [False] * 5 + [True] * 5


def test_the_page_has_an_article_for_each_case_and_escapes_what_models_write() -> None:
    text = page([case(DROPPED | {"tokens": ["<b>"], "visual": [0.1]}, "nano", 1), case(RESCUED, "nano", 2)])
    assert text.count("<article") == 2
    assert 'id="nano-rescued-2"' in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "http" not in text, "it needs no network"


def test_a_picture_is_drawn_for_every_kind() -> None:
    for each in (DROPPED, RESCUED):
        assert len(picture(case(each, "nano", 1)).axes) == 2


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    write_rows(folder / "cases.parquet", [DROPPED, RESCUED], CASE)
    command = [sys.executable, "-m", "vista.figures.gallery", f"nano={folder / 'cases.parquet'}"]
    subprocess.run([*command, "--to", str(folder / "cases")], check=True)
    return folder / "cases"


def test_the_folder_has_a_picture_for_each_case_and_its_manifest(gallery: Path) -> None:
    assert sorted(path.name for path in gallery.glob("*.png")) == ["nano-dropped-1.png", "nano-rescued-2.png"]
    assert read_manifest(gallery).counts["cases"] == 2
    assert read_manifest(gallery.with_suffix(".html")).counts["cases"] == 2
    assert not gallery.with_name("cases.new").exists()


@needs_chromium
def test_a_browser_shows_the_gallery_without_an_error(gallery: Path) -> None:
    document, console = opened(gallery.with_suffix(".html"))
    assert 'id="nano-dropped-1"' in document
    assert console == []


@needs_chromium
def test_a_script_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><title>x</title><script>document.missing.call()</script>")
    assert any("TypeError" in line for line in opened(page)[1])
