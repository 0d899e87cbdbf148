"""Tables, figures and the report of a finished smoke run."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.browser import needs_chromium, opened
from tests.checkout import EVERY_JOB, Checkout
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
    for shown in ("main.csv", "ablation.csv", "rounds.png", "attention.png", "main.csv.manifest.json"):
        assert shown in page
    assert "Accuracy of every method by model and round" in page
    assert "Mean share of the attention of response tokens" in page
    assert "suite.yaml" in page


@needs_chromium
def test_a_browser_shows_the_report_without_an_error(drawn: Checkout) -> None:
    document, console = opened(drawn.folder / "report.html")
    assert "VISTA-bench, suite" in document
    # Snakemake's own page uses a build of Tailwind that says what it is not meant for.
    assert [line for line in console if "tailwindcss.com should not be used" not in line] == []


def test_a_number_is_followed_to_the_checkpoint_behind_it(drawn: Checkout) -> None:
    shown = drawn.vista("show", "results/smoke/tables/main.csv", "method=sft-seed", "overall")
    assert shown.returncode == 0, shown.stderr
    assert "evaluation/" in shown.stdout
    assert "training/" in shown.stdout
