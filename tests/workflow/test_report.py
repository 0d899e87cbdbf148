"""Tables, figures and the report of a finished smoke run."""

from __future__ import annotations

import base64
import csv
import html
import re
import shutil
from pathlib import Path

import pytest

from tests.browser import needs_chromium, opened
from tests.checkout import EVERY_JOB, Checkout
from tests.typeset import compiled, needs_pdflatex, overfull
from vista.dag import Dag

TARGETS = ("tables", "figures")


@pytest.fixture(scope="module")
def drawn(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy with every table and figure, and the report; tests only read it."""
    checkout = finished.copy(tmp_path_factory.mktemp("drawn"))
    for arguments in (TARGETS, ("--report", "report.html", *TARGETS)):
        done = checkout.snakemake(*arguments)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return checkout


def test_tables_and_figures_are_made_again_without_a_model(
    drawn: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = drawn.copy(tmp_path_factory.mktemp("again"))
    for name in ("tables", "figures"):
        shutil.rmtree(copy.results / name)
    dry = copy.snakemake(*TARGETS, *EVERY_JOB)
    rules = set(re.findall(r"^rule (\w+):", dry.stdout + dry.stderr, re.MULTILINE))
    analysis = (copy.folder / "workflow/rules/analysis.smk").read_text()
    of_stage = {*re.findall(r"^rule (\w+):", analysis, re.MULTILINE), *Dag(copy.suite()).table_commands()}
    assert rules - set(TARGETS) <= of_stage
    assert {"results", "ablation", "figure", "gallery"} <= rules


def test_the_report_holds_every_table_and_figure_with_its_caption(drawn: Checkout) -> None:
    page = (drawn.folder / "report.html").read_text()
    tables = Dag(drawn.suite()).every_table()
    for table in map(Path, tables):
        assert f'/{table.name}"' in page
        assert f'/{table.with_suffix(".html").name}"' in page
    for shown in ("ablation.csv", "rounds.png", "attention.png", "main.csv.manifest.json"):
        assert shown in page
    assert "Accuracy of every method by model and round" in page
    assert "Mean share of the attention of response tokens" in page
    assert "suite.yaml" in page


# What a reader does: open every category, look at the information on each result, then open the main table.
READ = """(async () => {
  const pause = () => new Promise(done => setTimeout(done, 100));
  while (typeof app === "undefined" || !app) await pause(); // the page makes it when all is loaded
  const seen = document.createElement("section");
  for (const category of Object.keys(categories)) {
    app.showCategory(category);
    await pause();
    const shown = document.createElement("p");
    const names = [...document.querySelectorAll("nav tbody tr")].map(row => row.innerText.trim());
    shown.textContent = `${category}: ${names.join(", ")}`;
    seen.append(shown);
    for (const path of Object.values(categories[category]).flat()) {
      app.showResultInfo(path);
      await pause();
    }
  }
  app.setView({ navbarMode: "menu", content: "rulegraph" });
  await pause();
  [...document.querySelectorAll("a")].find(link => link.textContent.startsWith("Main table")).click();
  await pause();
  document.body.append(seen);
})()"""


@pytest.fixture(scope="module")
def read(drawn: Checkout) -> tuple[str, list[str]]:
    """The report after a reader was through it, and what it wrote to the console."""
    document, console = opened(drawn.folder / "report.html", script=READ)
    # Snakemake's own page uses a build of Tailwind that says what it is not meant for.
    return document, [line for line in console if "tailwindcss.com should not be used" not in line]


@needs_chromium
def test_a_browser_shows_the_report_and_every_result_in_it_without_an_error(
    read: tuple[str, list[str]],
) -> None:
    document, console = read
    assert console == []
    # The menu is in the order of the alphabet.
    shown = dict(line.split(": ", 1) for line in sorted(re.findall(r"<p>(\d\. .*?)</p>", document)))
    first, second, *_ = shown.values()
    assert first.startswith("findings, main, ")
    assert second.startswith("ablation, ")
    assert "main, " in shown["7. Tables as CSV"]
    assert shown["8. Provenance"] == "manifest of the main table as JSON, suite, suite as YAML"


@needs_chromium
def test_the_report_opens_the_main_table_beside_its_menu(
    drawn: Checkout, read: tuple[str, list[str]]
) -> None:
    (source,) = re.findall(r'<iframe src="([^"]*)"', read[0])
    kind, data = html.unescape(source).split("base64,")
    assert kind.startswith("data:text/html")
    assert base64.b64decode(data) == drawn.main_csv.with_suffix(".html").read_bytes()


@needs_chromium
def test_the_page_of_the_main_table_has_its_numbers_and_sorts_them(drawn: Checkout) -> None:
    with drawn.main_csv.open(newline="") as file:
        numbers = [float(row["overall"]) for row in csv.DictReader(file)]
    click = (
        "[...document.querySelectorAll('th button')].find(each => each.textContent === 'overall').click();"
    )
    page = drawn.main_csv.with_suffix(".html")
    for clicks, expected in enumerate([numbers, sorted(numbers), sorted(numbers, reverse=True)]):
        document, console = opened(page, script=clicks * click)
        heads = re.findall(r"<button[^>]*>(.*?)</button>", document)
        rows = re.findall(r"<tr>(<td.*?)</tr>", document)
        cells = [re.findall(r"<td.*?</td>", row)[heads.index("overall")] for row in rows[: len(numbers)]]
        assert [float(re.sub("<.*?>", "", cell).split(" ")[0]) for cell in cells] == expected
        assert console == []


@needs_pdflatex
def test_the_tables_in_latex_are_set_within_the_page(drawn: Checkout, tmp_path: Path) -> None:
    for table in Dag(drawn.suite()).every_table():
        text = (drawn.folder / table).with_suffix(".tex").read_text(encoding="utf-8")
        assert overfull(compiled(text, tmp_path)) == [], table


def test_a_number_is_followed_to_the_checkpoint_behind_it(drawn: Checkout) -> None:
    shown = drawn.vista("show", "results/smoke/tables/main.csv", "method=sft-seed", "overall")
    assert shown.returncode == 0, shown.stderr
    assert "evaluation/" in shown.stdout
    assert "training/" in shown.stdout
