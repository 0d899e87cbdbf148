"""The gallery: every case has its place, with image and truth; a browser filters, searches and links."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import pytest
from PIL import Image

from tests.browser import answered, needs_chromium, opened
from tests.safety.hostile import TEXTS
from vista.errors import VistaError
from vista.figures.browser import FAULTS
from vista.figures.gallery import FILTERS, LEVELS, case, make_gallery, page, token_at
from vista.manifest import read_manifest
from vista.records import CASE, Row, write_rows
from vista.shown import printable
from vista.testbed.questions import Question, Scene, dump
from vista.testbed.rationales import Kind

SCENE = Scene(((3, 7, 1), (4, 0, 9), (8, 2, 5)), (("red",) * 3, ("green",) * 3, ("blue",) * 3))
RUN = "nano/testbed/sft-seed/seed0/round0"


def png(colour: str = "red", side: int = 24) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, format="PNG")
    return file.getvalue()


def row(kind: str, **changes: object) -> Row:
    words = ["row", "1", ":", "3", "7", "2", ".", "answer", ":", "7"]
    base: Row = {"kind": kind, "query_id": "q", "task": "t", "images": [{"bytes": png(), "path": None}]}
    base |= {"instruction": "which digit is the largest in row 1 ?", "answer": "7"}
    base |= {"scene": dump(SCENE, Question("largest", row=1)), "tokens": words, "text": " ".join(words)}
    base |= {"source": "sample", "parent": None, "sample": 0, "extracted": "7"}
    base |= {"visual": [n / 20 for n in range(len(words))], "layer": 1, "vas": None}
    base |= {"critical_token": None, "replacement": None, "continuation": None, "continued": None}
    return base | changes


RIGHT = "row 1 : 3 7 1 . answer : 7"
DROPPED = row("dropped", vas=-1.25)
KEPT = row("kept", vas=0.75, sample=1, tokens=RIGHT.split(), text=RIGHT)
CUT = {"critical_token": 5, "replacement": "1", "continuation": [".", "answer", ":", "7"]}
RESCUED = row("rescued", **CUT, continued=RIGHT)
FAILED = row("failed", **CUT | {"continuation": [".", "answer", ":", "3"]}, continued=RIGHT[:-1] + "3")


def test_colours_run_from_the_least_to_the_most_visual_token() -> None:
    tokens = case(DROPPED, "nano").solution.tokens
    assert (tokens[0].level, tokens[-1].level) == (0, LEVELS - 1)
    assert (tokens[0].share, tokens[-1].share) == (0.0, 0.45)


def test_a_rescued_case_is_cut_at_the_critical_token_and_corrected_after_it() -> None:
    shown = case(RESCUED, "nano")
    assert shown.continued is not None
    assert [token.text for token in shown.solution.tokens if token.critical] == ["2"]
    assert " ".join(token.text for token in shown.continued.tokens) == RIGHT
    assert [token.given for token in shown.continued.tokens] == [False] * 5 + [True] * 5


def test_a_rationale_is_marked_where_it_departs_from_the_truth_before_the_resampling_and_after_it() -> None:
    shown = case(FAILED, "nano")
    assert shown.continued is not None
    assert shown.solution.departs == 5
    assert shown.solution.says == "unfaithful, it misreads the image: expected '1', found '2'"
    assert shown.continued.departs == 9
    assert shown.continued.says == "unfaithful, its answer is wrong: expected '7', found '3'"
    assert case(KEPT, "nano").solution.says == "faithful to the image"
    assert page([case(KEPT, "nano")]).count('title="departs') == 0
    assert page([shown]).count('title="departs') == 2


def test_a_rationale_that_breaks_off_is_marked_at_its_end() -> None:
    shown = case(row("dropped", tokens=["row", "1"], visual=[0.1, 0.2], text="row 1"), "nano")
    assert shown.solution.departs == 2
    assert "found the end" in page([shown])


@pytest.mark.parametrize(
    ("tokens", "text", "offset", "place"),
    [
        (["row", "1", ":"], "row 1 :", 4, 1),
        (["ro", "w", "1", "1"], "row 11", 5, 3),
        (["row", "", "1"], "row\n1", 4, 2),
        (["a", "a"], "a a", 3, 2),
        (["�", "�", "1"], "é 1", 2, None),
        (["row"], "row 1", 4, None),
        (["row", "1"], "a row 1", 6, None),
    ],
)
def test_the_token_at_a_character_is_found_or_not_guessed(
    tokens: list[str], text: str, offset: int, place: int | None
) -> None:
    assert token_at(tokens, text, offset) == place


def test_a_departure_that_no_token_holds_is_told_by_its_character() -> None:
    assert "(character 12 of the response)" in case(DROPPED | {"tokens": ["�"] * 10}, "nano").solution.says


def test_what_the_image_shows_stands_beside_it_with_the_only_faithful_rationale() -> None:
    text = page([case(DROPPED, "nano")])
    cells = re.findall(r'<td( class="asked")?><b class="ink-\w+">(\d)</b> <small>(\w+)</small>', text)
    expected = [
        (' class="asked"' if line == 0 else "", str(SCENE.digits[line][column]), SCENE.inks[line][column])
        for line, column in product(range(3), range(3))
    ]
    assert cells == expected
    assert f"<code>{RIGHT}</code>" in text
    assert "Right answer: <strong>7</strong>" in text


def test_a_truth_that_is_not_known_is_said_to_be() -> None:
    shown = case(DROPPED | {"scene": None}, "nano")
    assert shown.values["rationale"] == "truth not known"
    text = page([shown])
    assert "does not say what the image shows" in text
    assert "<table" not in text
    assert "so that every word can be checked" not in text


def test_cases_of_one_query_stand_together_and_share_its_image() -> None:
    other = DROPPED | {"query_id": "q2", "images": [{"bytes": png("blue"), "path": None}]}
    text = page([case(each, RUN) for each in (DROPPED, other, KEPT)])
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2
    for source, colour in zip(sources, ((255, 0, 0), (0, 0, 255)), strict=True):
        start, data = source.split(",")
        assert start == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (image.size, image.getpixel((0, 0))) == ((24, 24), colour)
    anchors = re.findall(r'<article id="([^"]*)"', text)
    assert anchors == [case(each, RUN).name for each in (DROPPED, KEPT, other)]


def test_two_questions_with_one_name_are_not_taken_for_one() -> None:
    other = DROPPED | {"images": [{"bytes": png("blue"), "path": None}]}
    assert page([case(DROPPED, "a"), case(other, "b")]).count("<section") == 2


def test_every_image_of_a_question_is_shown_and_a_large_one_smaller() -> None:
    images = [{"bytes": png(), "path": None}, {"bytes": png(side=2000), "path": None}]
    text = page([case(DROPPED | {"images": images}, "nano")])
    small, large = re.findall(r'src="data:image/(\w+);base64,([^"]*)"', text)
    assert (small[0], large[0]) == ("png", "jpeg")
    assert Image.open(io.BytesIO(base64.b64decode(large[1]))).size == (512, 512)
    assert "2000 × 2000 pixels, shown smaller" in text
    assert "The question has no image." in page([case(DROPPED | {"images": []}, "nano")])


def test_the_page_has_an_article_for_each_case_and_escapes_what_models_write() -> None:
    text = page([case(DROPPED | {"tokens": ["<b>"], "visual": [0.1]}, "nano"), case(RESCUED, "nano")])
    assert text.count("<article") == 2
    assert "&lt;b&gt;</span>" in text
    assert "<b></span>" not in text
    assert not re.search(r"https?:", text), "it needs no network"


def test_a_token_of_which_nothing_is_seen_still_has_its_place() -> None:
    assert ">␣</span>" in page([case(DROPPED | {"tokens": ["", *DROPPED["tokens"][1:]]}, "nano")])


def test_an_anchor_is_that_of_the_same_case_on_any_page() -> None:
    cases = [case(each, RUN) for each in (DROPPED, KEPT, RESCUED, FAILED)]
    names = {each.name for each in cases} | {case(DROPPED, RUN.replace("nano", "nano2")).name}
    assert len(names) == 5
    assert all(re.fullmatch("case-[0-9a-f]{12}", name) for name in names)
    assert case(DROPPED, RUN).name == cases[0].name


def test_every_kind_of_fault_has_its_words() -> None:
    assert set(FAULTS) == set(get_args(Kind))


def test_every_case_has_a_value_for_every_filter() -> None:
    for each in (DROPPED, KEPT, RESCUED, FAILED):
        for run in (RUN, "nano"):
            values = case(each, run).values
            assert values.keys() == FILTERS.keys()
            assert all(values.values())


def test_a_kind_that_no_stage_writes_is_refused() -> None:
    with pytest.raises(VistaError, match="cases of nano: query 'q' is of kind 'odd', expected one of dro"):
        case(row("odd"), "nano")


def write(folder: Path, **files: list[Row]) -> list[list[str]]:
    """Pairs of run and file; two underscores in a name are a slash."""
    named = []
    for name, rows in files.items():
        write_rows(folder / f"{name}.parquet", rows, CASE)
        named.append([name.replace("__", "/"), str(folder / f"{name}.parquet")])
    return named


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    named = write(tmp_path, nano=[DROPPED])
    with pytest.raises(VistaError, match="of query 'q' comes 2 times; name each run and its file once"):
        make_gallery(named * 2, tmp_path / "cases.html")


def test_a_run_without_cases_is_named(tmp_path: Path) -> None:
    make_gallery(write(tmp_path, nano=[DROPPED], blind=[]), tmp_path / "cases.html")
    assert "blind has no case" in (tmp_path / "cases.html").read_text()


def test_an_argument_without_a_run_is_refused_in_words(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vista.figures.gallery", "a.parquet", "--to", str(tmp_path / "a.html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'a.parquet' names no run; expected RUN=cases.parquet" in done.stderr


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    other = FAILED | {"task": "hard", "query_id": "other", "answer": "<i>"}
    first, second = (f"{model}__grid__sft-seed__seed0__round0" for model in "ba")
    rows = {first: [DROPPED, KEPT], second: [RESCUED, other]}
    command = [sys.executable, "-m", "vista.figures.gallery"]
    command += ["=".join(each) for each in write(folder, **rows)]
    subprocess.run([*command, "--to", str(folder / "cases.html")], check=True)
    return folder / "cases.html"


def test_the_page_and_its_manifest_are_all_that_is_written(gallery: Path) -> None:
    assert read_manifest(gallery).counts["cases"] == 4
    written = {path.name for path in gallery.parent.iterdir() if path.suffix != ".parquet"}
    assert written == {"cases.html", "cases.html.manifest.json"}


# What a reader sees: the kinds of the cases that have a place on the screen, and what is said.
SEEN = """
const seen = () => ({
  kinds: [...document.querySelectorAll("article")].filter(each => each.getClientRects().length)
    .map(each => each.dataset.kind),
  queries: [...document.querySelectorAll("section")].filter(each => each.getClientRects().length).length,
  filters: [...document.querySelectorAll("select")].filter(each => each.getClientRects().length)
    .map(each => each.name),
  said: ["count", "none", "unknown"].map(name => document.getElementById(name))
    .filter(each => each.getClientRects().length).map(each => each.textContent.trim()),
  hash: location.hash.slice(1),
});
const wait = time => new Promise(done => setTimeout(done, time));
const set = async (name, value) => {
  const field = document.querySelector(`[name="${name}"]`);
  field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  await wait(400);
  return seen();
};
"""


@needs_chromium
def test_filters_hide_what_does_not_match_and_combine_and_are_in_the_address(gallery: Path) -> None:
    script = """
      const all = seen(), found = [];
      for (const select of document.querySelectorAll("select"))
        for (const option of [...select.options].slice(1)) {
          found.push([select.name, option.value, await set(select.name, option.value)]);
          await set(select.name, "");
        }
      const two = [await set("model", "a"), await set("answer", "wrong"), await set("task", "hard")];
      const nothing = await set("kind", "dropped");
      document.querySelector("form button").click();
      await wait(100);
      return {all, found, two, nothing, after: seen()};
    """
    answer = answered(gallery, SEEN + script)
    kinds = ["dropped", "kept", "rescued", "failed"]
    assert answer["all"]["kinds"] == kinds
    assert answer["all"]["said"] == ["4 of 4 cases are shown."]
    assert answer["all"]["filters"] == ["model", "task", "kind", "answer", "rationale", "score", "resampling"]
    rows = [(DROPPED, "b"), (KEPT, "b"), (RESCUED, "a"), (FAILED | {"task": "hard"}, "a")]
    values = {each["kind"]: case(each, model).values for each, model in rows}
    tried = set()
    for name, value, seen in answer["found"]:
        if name in answer["all"]["filters"]:
            expected = [kind for kind in kinds if values[kind][name] == value]
            assert 0 < len(expected) < 4
            assert seen["kinds"] == expected, (name, value)
            assert seen["said"] == [f"{len(expected)} of 4 cases are shown."]
            assert seen["hash"] == urlencode({name: value})
            tried.add(name)
    assert tried == set(answer["all"]["filters"])
    assert [each["kinds"] for each in answer["two"]] == [["rescued", "failed"]] * 2 + [["failed"]]
    assert answer["two"][2]["hash"] == "model=a&task=hard&answer=wrong"
    assert answer["two"][2]["queries"] == 1, "a question without a case has no place either"
    assert answer["nothing"]["kinds"] == []
    assert answer["nothing"]["said"][0] == "0 of 4 cases are shown."
    assert "No case matches" in answer["nothing"]["said"][1]
    assert (answer["after"]["kinds"], answer["after"]["hash"]) == (kinds, "")


@needs_chromium
def test_the_search_looks_in_question_response_and_answer(gallery: Path) -> None:
    words = ["LARGEST in", "3  7 1 .", "3 7 2", "answer : 3", "<i>", "largest in row 1 ? row 1", "never said"]
    script = f"const found = []; for (const word of {words}) found.push(await set('q', word)); return found;"
    found = answered(gallery, SEEN + script)
    kinds = [each["kinds"] for each in found]
    assert kinds[0] == ["dropped", "kept", "rescued", "failed"]
    assert kinds[1] == ["kept", "rescued", "failed"], "what was resampled is searched too"
    assert kinds[2] == ["dropped", "rescued", "failed"]
    assert kinds[3] == kinds[4] == ["failed"]
    assert kinds[5] == [], "the end of the question and the start of the response are two texts"
    assert "No case matches" in found[6]["said"][1]
    assert found[3]["hash"] == urlencode({"q": "answer : 3"})


@needs_chromium
def test_a_link_brings_back_filters_and_search(gallery: Path) -> None:
    state = urlencode({"model": "a", "q": "3 7 2", "answer": "wrong", "kind": "failed"})
    script = """
      const values = [...document.querySelectorAll("select, input")].map(each => each.value).filter(Boolean);
      const first = seen();
      location.hash = "#kind=kept";
      await wait(100);
      return {first, values, then: seen()};
    """
    answer = answered(gallery, SEEN + script, state)
    assert answer["first"]["kinds"] == ["failed"]
    assert answer["first"]["hash"] == state
    assert answer["values"] == ["a", "failed", "wrong", "3 7 2"]
    assert answer["then"]["kinds"] == ["kept"]


@needs_chromium
def test_a_link_to_a_case_shows_it_whatever_was_filtered(gallery: Path) -> None:
    name = case(KEPT, "b/grid/sft-seed/seed0/round0").name
    script = f"""
      const target = () => document.querySelector(":target")?.dataset.kind;
      const first = [target(), seen()];
      await set("kind", "kept");
      document.querySelector('#{name} h3 a').click();
      await wait(100);
      const clicked = [target(), seen()];
      await set("kind", "dropped");
      location.hash = "#{name}";
      await wait(100);
      const place = document.getElementById("{name}").getBoundingClientRect();
      return {{first, clicked, then: [target(), seen()], top: place.top, high: innerHeight}};
    """
    answer = answered(gallery, SEEN + script, name)
    assert answer["first"][0] == answer["clicked"][0] == answer["then"][0] == "kept"
    assert len(answer["first"][1]["kinds"]) == 4
    assert answer["clicked"][1]["kinds"] == ["kept"], "what is shown already stays filtered"
    assert len(answer["then"][1]["kinds"]) == 4
    assert 0 <= answer["top"] < answer["high"]


@needs_chromium
@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("case-0123", "This page has no case case-0123."),
        ("kind=odd&model=a", "kind=odd"),
        ("colour=<img src=x onerror=alert(1)>", "colour=<img src=x onerror=alert(1)>"),
        ("model=%E0%A4%A", "model=\ufffd%A"),
    ],
)
def test_a_link_to_what_the_page_does_not_have_is_told(gallery: Path, fragment: str, said: str) -> None:
    answer = answered(gallery, SEEN + "return {...seen(), images: document.images.length};", fragment)
    assert said in answer["said"][-1]
    assert len(answer["kinds"]) == (2 if "model=a" in fragment else 4)
    assert answer["images"] == 2


@needs_chromium
def test_hostile_texts_are_filtered_and_searched_as_texts(tmp_path: Path) -> None:
    rows = [DROPPED | {"task": text, "text": text, "sample": n} for n, text in enumerate(TEXTS)]
    make_gallery(write(tmp_path, nano=rows), tmp_path / "cases.html")
    script = """
      const found = [];
      for (const option of [...document.querySelector("[name=task]").options].slice(1))
        found.push([option.value, (await set("task", option.value)).kinds.length]);
      await set("task", "");
      return [found, (await set("q", "<script>alert(1)")).kinds.length];
    """
    found, searched = answered(tmp_path / "cases.html", SEEN + script)
    assert [tuple(each) for each in found] == [(printable(text), 1) for text in TEXTS]
    assert searched == 1


@needs_chromium
def test_a_browser_shows_the_gallery_without_an_error(gallery: Path) -> None:
    document, console = opened(gallery)
    assert document.count("<article") == 4
    assert console == []


@needs_chromium
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen(gallery: Path, width: int) -> None:
    frame = gallery.with_name("frame.html")
    frame.write_text(f"<!doctype html><body><iframe width={width} height=800 src=cases.html></iframe></body>")
    script = """
      const inner = document.querySelector("iframe").contentDocument.documentElement;
      return [inner.clientWidth, inner.scrollWidth, inner.querySelectorAll("article").length];
    """
    shown, needed, cases = answered(frame, script, "", "--allow-file-access-from-files")
    assert cases == 4
    assert needed <= shown <= width
    frame.unlink()


@needs_chromium
def test_a_page_of_no_cases_says_so(tmp_path: Path) -> None:
    make_gallery(write(tmp_path, nano=[]), tmp_path / "cases.html")
    document, console = opened(tmp_path / "cases.html")
    assert "There are no cases." in document
    assert console == []


@needs_chromium
def test_a_thousand_cases_are_a_page_of_a_few_megabytes_that_opens_at_once(tmp_path: Path) -> None:
    rows = [
        row(kind, query_id=f"q{n}", sample=n, images=[{"bytes": png(f"#{n:06x}"), "path": None}])
        for n in range(250)
        for kind in ("dropped", "kept")
    ]
    named = write(tmp_path, a=rows, b=rows)
    page = tmp_path / "cases.html"
    make_gallery(named, page)
    assert page.stat().st_size < 4_000_000
    assert page.read_text().count("src=") == 250
    far = case(rows[-5], "b").name
    script = f"""
      const inView = () => {{
        const {{top, bottom}} = document.getElementById("{far}").getBoundingClientRect();
        return bottom > top && top >= 0 && top < innerHeight;
      }};
      const first = inView(), filtered = await set("model", "a"), searched = await set("q", "row 9");
      location.hash = "{far}";
      await wait(100);
      return [first, filtered.kinds.length, searched.kinds.length, inView(), seen().kinds.length];
    """
    assert answered(page, SEEN + script, far) == [True, 500, 0, True, 1000]


@needs_chromium
def test_a_script_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><title>x</title><script>document.missing.call()</script>")
    assert any("TypeError" in line for line in opened(page)[1])


def test_two_pages_of_the_same_cases_are_the_same_bytes() -> None:
    cases: list[Any] = [DROPPED, KEPT, RESCUED, FAILED]
    assert page([case(each, RUN) for each in cases]) == page([case(each, RUN) for each in cases])
