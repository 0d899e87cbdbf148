"""``keep_checkpoints`` on the smoke suite: the same tables, whatever is released, killed or needed again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.checkout import EVERY_JOB, Checkout

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

NONE = ("--config", "keep_checkpoints=none")
MAIN = "results/smoke/tables/main.csv"
GRID = "nano-smoke/grids"


def snakemake(checkout: Checkout, *words: str) -> str:
    """What Snakemake says; ``--config`` and its values have to come last."""
    done = checkout.run("snakemake", "--cores", "2", *words)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def planned(checkout: Checkout, *config: str) -> set[str]:
    """The jobs that a dry run would start: their rules, with the runs that they are about."""
    said = snakemake(checkout, MAIN, *EVERY_JOB, "--configfile", "config/smoke.yaml", *config)
    found = re.findall(
        r"^(?:local)?rule (\w+):.*?(?=^\[|\Z|^(?:local)?rule )", said, re.MULTILINE | re.DOTALL
    )
    runs = re.findall(rf"^    wildcards: run={GRID}/([^,\n]+)", said, re.MULTILINE)
    return {*found, *runs}


def weights(checkout: Checkout) -> set[str]:
    """The runs whose weights are there."""
    folder = checkout.results / "training" / GRID
    return {str(file.parent.relative_to(folder)) for file in folder.rglob("*.safetensors")}


def test_released_checkpoints_are_missed_by_nothing_but_what_reads_them(copy: Checkout) -> None:
    tables = copy.main_csv.read_bytes()
    everything = weights(copy)
    assert len(everything) == 5

    # What is no longer read goes at the start of the next run: here that of the changed suite's file.
    # First, as if one release had been interrupted.
    first = copy.results / "training" / GRID / "vista-sft/seed0/round1"
    record = copy.results / ".released/training" / GRID / "vista-sft/seed0/round1/manifest.json"
    record.parent.mkdir(parents=True)
    record.write_bytes((first / "manifest.json").read_bytes())
    wanted = copy.results / "evaluation" / GRID / "star/seed0/round1/predictions.parquet"
    kept = {file: file.read_bytes() for file in (wanted, Path(f"{wanted}.manifest.json"))}
    for file in kept:
        file.unlink()
    config = copy.folder / "config/smoke.yaml"
    snakemake(copy, "results/smoke/suite.yaml", "--configfile", "config/smoke.yaml", *NONE)
    # SFT-Seed's has cases to be drawn from it, and STaR's is to be evaluated.
    assert weights(copy) == {"sft-seed/seed0/round0", "star/seed0/round1"}
    for file, content in kept.items():
        file.write_bytes(content)
    copy.main_csv.unlink()
    said = snakemake(copy, MAIN, "--configfile", "config/smoke.yaml", *NONE)
    assert re.search(r"star/seed0/round1: released", said)
    assert weights(copy) == {"sft-seed/seed0/round0"}
    assert copy.main_csv.read_bytes() == tables
    assert planned(copy, *NONE) == set()
    assert planned(copy) == set(), "nor does keeping all again train anything"
    verified = copy.vista("verify", "results/smoke")
    assert verified.returncode == 0, verified.stdout

    # A third round needs the second's weights: it is trained again, with what was made from it.
    config.write_text(config.read_text().replace("vista-sft: {rounds: 2}", "vista-sft: {rounds: 3}"))
    assert {"vista-sft/seed0/round2", "vista-sft/seed0/round3"} == {
        each for each in planned(copy, *NONE) if "seed0" in each
    }
    plan = json.loads(copy.vista("plan", "--configfile", "config/smoke.yaml", "--json").stdout)
    assert plan["again"]["checkpoints"] == [f"{GRID}/vista-sft/seed0/round2"]
    config.write_text(config.read_text().replace("vista-sft: {rounds: 3}", "vista-sft: {rounds: 2}"))

    # Predictions that are gone need STaR's: trained again, evaluated and released, with the same tables.
    for file in (*kept, copy.main_csv, copy.results / "long.csv"):
        file.unlink()
    assert {"train", "evaluate", "star/seed0/round1"} <= planned(copy, *NONE)
    said = snakemake(copy, MAIN, "--configfile", "config/smoke.yaml", *NONE)
    assert "released (keep_checkpoints) and are needed again" in said
    assert weights(copy) == {"sft-seed/seed0/round0"}
    assert copy.main_csv.read_bytes() == tables
