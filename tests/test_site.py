"""The documentation as a site: `make docs` assembles every page, and builds it without a warning."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.browser import needs_chromium, opened
from tests.documents import dead_links, pages, section, tokens
from tests.test_docs import tables_of
from vista.plugins import Plugin

FAMILIES = ("filters", "resamplers", "objectives", "task_kinds")
MKDOCS = Path(__file__).parents[1] / ".venv-docs/bin/mkdocs"


@pytest.fixture(scope="module")
def assembled(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `build/docs` as `make docs` assembles it, and what mkdocs reads besides."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "docs/site")
        importlib.import_module("assemble").assemble(root, folder / "build/docs")
    shutil.copy(root / "mkdocs.yml", folder)
    for name in ("vista", "docs"):
        (folder / name).symlink_to(root / name)
    return folder


def schemas(root: Path) -> dict[str, dict[str, Any]]:
    """Every schema by name."""
    files = sorted((root / "workflow/schemas").glob("*.schema.json"))
    return {file.name.partition(".")[0]: json.loads(file.read_text()) for file in files}


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Everything in a schema that has keys of its own, definitions among it."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


def test_every_page_picture_and_schema_is_in_the_site(root: Path, assembled: Path) -> None:
    there = assembled / "build/docs"
    assert len(pages(root)) > 20
    for page in pages(root):
        assert (there / page.relative_to(root)).is_file()
        for token in tokens(page.read_text()):
            if token.type == "image":
                shown = (page.parent / str(token.attrs["src"])).resolve().relative_to(root)
                assert (there / shown).read_bytes() == (root / shown).read_bytes()
    assert {"suite", "models", "methods"} == set(schemas(root))
    assert all((there / f"reference/{name}.md").is_file() for name in schemas(root))


def test_no_link_of_the_site_leads_nowhere(root: Path, assembled: Path) -> None:
    """What the repository has and the site has not, such as the licence, is named without a link."""
    assert "(LICENSE)" in (root / "README.md").read_text()
    assert "Licence: LICENSE." in (assembled / "build/docs/README.md").read_text()
    found = sorted((assembled / "build/docs").rglob("*.md"))
    assert [link for page in found for link in dead_links(page)] == []


def test_links_and_lists_in_code_stay_as_they_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root / "docs/site")
    linked = importlib.import_module("assemble").linked
    code = "```yaml\n  - [a](gone.md)\n```\n\n`[b](gone.md)` and `![c](gone.png)`\n"
    text = "[d](../gone.py), [e](../README.md#f) ![g](h/i.png) [j](#k)\n\n- l\n  - m\n"
    found, pictures = linked(code + text, Path("docs/n.md"), [Path("README.md"), Path("docs/n.md")])
    assert found == code + "d, [e](../README.md#f) ![g](h/i.png) [j](#k)\n\n- l\n    - m\n"
    assert pictures == [Path("docs/h/i.png")]


def test_the_tables_of_keys_list_every_key_of_every_section(root: Path, assembled: Path) -> None:
    """With its default and description, however deep; and nothing twice."""
    texts = {name: (assembled / f"build/docs/reference/{name}.md").read_text() for name in schemas(root)}
    shown = [table for text in texts.values() for table in tables_of(text.replace("\\|", "∣"))]
    every = [each for schema in schemas(root).values() for each in objects(schema)]
    sections = {json.dumps(each, sort_keys=True): each for each in every}
    assert len(sections) == len(shown) > 50
    for each in sections.values():
        required = each.get("required", [])
        wanted = {
            f"`{name}`": "*required*" if name in required else f"`{json.dumps(found['default'])}`"
            for name, found in each["properties"].items()
            if name in required or "default" in found
        }
        (table, *_) = [
            table
            for table in shown
            if {row["key"] for row in table} == {f"`{name}`" for name in each["properties"]}
            and wanted.items() <= {row["key"]: row["default"] for row in table}.items()
            and said(each) <= {re.sub(r"\\(.)", r"\1", row["description"]) for row in table}
        ]
        assert all(row["type"] for row in table)


def said(section: dict[str, Any]) -> set[str]:
    """The descriptions of a section's keys, as a cell shows them."""
    texts = (found.get("description", "") for found in section["properties"].values())
    return {re.sub(r"&(?!\w+;)", "&amp;", text).replace("|", "∣") for text in texts}


def test_sections_have_headings_and_anchors_of_their_own(root: Path, assembled: Path) -> None:
    for name in schemas(root):
        text = (assembled / f"build/docs/reference/{name}.md").read_text()
        headings = re.findall(r"^## (.+) \{ #(\S+) \}$", text, re.MULTILINE)
        assert len(headings) > 5
        for column in zip(*headings, strict=True):
            assert len(set(column)) == len(column), name


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_a_place_for_every_plug_in_and_what_it_derives_from(
    root: Path, assembled: Path, family: str
) -> None:
    text = (assembled / f"build/docs/reference/{family}.md").read_text()
    (table, *_) = tables_of(section(root, "adding.md", "Plug-ins"))
    (row,) = [row for row in table if f"`vista.{family}." in row["settings derive from"]]
    bases = [name.rpartition(".")[2] for cell in row.values() for name in re.findall(r"`(\w[\w.]*)`", cell)]
    plugin = Plugin(family, getattr(importlib.import_module(f"vista.{family}"), bases[0]), "no entry points")
    assert plugin.kinds()
    assert dict(re.findall(r"^## `kind: (.+)`\n\n::: (.+)$", text, re.MULTILINE)) == {
        kind: plugin.settings(kind).__module__ for kind in plugin.kinds()
    }
    modules = [importlib.import_module(name) for name in re.findall(r"^::: (.+)$", text, re.MULTILINE)]
    for base in re.findall(r"`(\w+)`", row["the work derives from"]) + bases[:1]:
        assert any(hasattr(module, base) for module in modules), base


@pytest.fixture(scope="module")
def built(assembled: Path) -> Path:
    """The site, built twice: without a warning, to the same bytes."""
    if not MKDOCS.exists():
        pytest.skip("mkdocs is not installed here: `make docs` installs it")
    copies = []
    for copy in ("first", "site"):
        done = subprocess.run(
            [MKDOCS, "build", "--strict", "--site-dir", copy],
            cwd=assembled,
            env=os.environ | {"SOURCE_DATE_EPOCH": "0", "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
        files = sorted(path for path in (assembled / copy).rglob("*") if path.is_file())
        copies.append({str(path.relative_to(assembled / copy)): path.read_bytes() for path in files})
    assert len(copies[0]) > 50
    assert copies[0] == copies[1]
    return assembled / "site"


class Page(HTMLParser):
    """What a page is made of and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.ids.add(found.get("id", ""))
        if tag != "a":
            self.loaded += [found[name] for name in ("src", "href", "srcset", "data") if name in found]


@pytest.mark.slow
def test_pages_ask_nothing_of_anybody(built: Path) -> None:
    found = sorted(set(built.rglob("*.html")) - {built / "404.html"})  # which only a server shows
    assert len(found) > 25
    for path in found:
        for address in Page(path).loaded:
            assert not re.match(r"\w+:|//", address) or address.startswith("data:"), f"{path}: {address}"
            assert address.startswith("data:") or (path.parent / address.partition("#")[0]).exists()
    for path in built.rglob("*.css"):
        assert not re.search(r"@import|url\(.?(https?:)?//", path.read_text()), path


@pytest.mark.slow
def test_a_page_says_what_the_forges_show(root: Path, built: Path) -> None:
    """Lists, tables, headings and code are told apart as they are there."""
    names = {"li": "list_item_open", "ul": "bullet_list_open", "ol": "ordered_list_open"}
    names |= {"table": "table_open", "tr": "tr_open", "strong": "strong_open", "img": "image"}
    for page in pages(root):
        html = built / page.relative_to(root).with_suffix(".html")
        text = (html if page.name != "README.md" else built / "index.html").read_text()
        (article,) = re.findall(r"<article.*?</article>", text, re.DOTALL)
        counts = Counter(token.type for token in tokens(page.read_text()))
        for tag, name in names.items():
            assert len(re.findall(f"<{tag}[ >]", article)) == counts[name], f"{page.name}: <{tag}>"
        assert article.count('<div class="highlight">') == counts["fence"], page.name


@pytest.mark.slow
def test_the_pages_of_plug_ins_show_docstrings_comments_and_descriptions(built: Path) -> None:
    filters, tasks = (Page(built / f"reference/{name}.html") for name in ("filters", "task_kinds"))
    assert {"vista.filters.ScoreFilter.value", "vista.filters.vas.VasSettings.kind"} <= filters.ids
    assert {"vista.task_kinds.TaskSettings.has_scene", "vista.task_kinds.benchmarks.Benchmark"} <= tasks.ids
    text = (built / "reference/filters.html").read_text()
    for said in (
        "What is compared; the lowest are dropped.",  # a docstring
        "Only generated tasks have one.",  # a comment beside
        "DAG makes what is read, and nothing else.",  # a comment above, on two lines
        "Filter by the vision-aware attention score.",  # a field's description
    ):
        assert said in text


@needs_chromium
@pytest.mark.slow
def test_a_page_that_is_opened_from_a_folder_can_be_searched(built: Path) -> None:
    document, logged = opened(built / "index.html", "?q=prefix")
    assert logged == []
    assert re.search(r"\d+ matching documents", document)
    assert "reference/resamplers.html" in document
