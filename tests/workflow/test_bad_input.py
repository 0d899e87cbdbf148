"""A user's mistake is one clear message and a true exit status, and costs nothing that is done."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.checkout import Checkout
from tests.vouched import vouch
from vista.config import load_resolved
from vista.manifest import withdraw
from vista.records import QUERY, ROLLOUT, Row, read_rows, write_rows

RUN = "nano-smoke/grids/sft-seed/seed0/round0"
SAMPLES = "k6-t1-n80"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("config/smoke.yaml", "rounds: 2", "round: 2", "round: unknown key; did you mean 'rounds'?"),
        ("config/smoke.yaml", "[nano-smoke]", "[nano-smok]", "unknown model 'nano-smok'"),
        ("config/smoke.yaml", "vista-dpo]", "vista-dpi]", "unknown method 'vista-dpi'"),
        ("config/smoke.yaml", "[grid-noisy]", "[grid-nosy]", "unknown task 'grid-nosy'"),
        ("config/smoke.yaml", "epochs: 2", "epochs: two", "training.seed.epochs"),
        ("models.yaml", "steps: 80", "steps: -1", "nano-smoke.built.steps"),
    ],
)
def test_a_mistake_in_a_config_file_stops_snakemake_before_any_job(
    root: Path, tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    checkout = Checkout.make(root, tmp_path)
    replace(checkout.folder / file, old, new)
    done = checkout.snakemake("--dry-run")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("written", "said"),
    [("seeds: [017]", "017 is octal or decimal"), ("seeds: [1]\nseeds: [2]", "'seeds' appears twice")],
)
def test_snakemake_reads_a_suite_as_vista_does_or_not_at_all(
    root: Path, tmp_path: Path, written: str, said: str
) -> None:
    checkout = Checkout.make(root, tmp_path)
    replace(checkout.folder / "config/smoke.yaml", "seeds: [0]", written)
    done = checkout.snakemake("--dry-run")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_values_on_the_command_line_win_over_the_file(root: Path, tmp_path: Path) -> None:
    checkout = Checkout.make(root, tmp_path)
    replace(checkout.folder / "config/smoke.yaml", "seeds: [0]", "seeds: [0x1F, 0o17]\nshards: 2\ngpus: 0x1")
    replace(checkout.folder / "config/smoke.yaml", "learning_rate: 5.0e-4", "learning_rate: 5e-4")
    sweep = "sweeps={rare: {method: vista-sft, set: resample.j, values: [1, 2]}}"
    done = checkout.snakemake("--dry-run", "--config", "shards=3", "training={sft: {epochs: 7}}", sweep)
    assert done.returncode == 0, done.stderr
    suite = load_resolved(checkout.results / "suite.json")
    assert (suite.seeds, suite.shards, suite.gpus) == ([31, 15], 3, 1)
    assert (suite.training.sft.epochs, suite.training.sft.learning_rate) == (7, 1e-3)
    assert [swept.value for swept in suite.swept.values()] == [1, 2]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("results/smoke/tables/mian.csv", "did you mean results/smoke/tables/main.csv?"),
        ("results/smoke/figures/atention.png", "did you mean results/smoke/figures/attention.png?"),
        ("results/smoke/figures/nope.pdf", "of that folder it makes attention, cases, cost"),
        (
            "results/smoke/training/nano-smoke/grids/vista-stf/seed0/round1/manifest.json",
            "did you mean results/smoke/training/nano-smoke/grids/vista-sft/seed0/",
        ),
        (
            "results/smoke/evaluation/nano-smoke/grids/vista-sft/seed1/round1/predictions.parquet",
            "did you mean results/smoke/evaluation/nano-smoke/grids/vista-sft/seed0/round1/",
        ),
        (
            "results/smoke/training/nano-smoke/grids/vista-sft/seed0/round7.history.csv",
            "did you mean results/smoke/training/nano-smoke/grids/vista-sft/seed0/round2.history.csv?",
        ),
        ("figurs", "did you mean figures?"),
    ],
)
def test_an_unknown_target_is_refused_with_the_one_that_may_be_meant(
    root: Path, tmp_path: Path, target: str, said: str
) -> None:
    checkout = Checkout.make(root, tmp_path)
    done = checkout.snakemake(target, "--dry-run")
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert f"{target}: " in told
    assert said in told
    assert not any(word in told for word in ("Traceback", "KeyError", "asyncio"))


def test_a_target_of_another_suite_is_refused_with_the_config_that_makes_it(
    root: Path, tmp_path: Path
) -> None:
    checkout = Checkout.make(root, tmp_path)
    done = checkout.run("snakemake", "--cores", "1", "--dry-run", "results/smoke/tables/main.csv")
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert "snakemake results/smoke/tables/main.csv --configfile config/smoke.yaml" in told


@pytest.mark.parametrize(
    "words",
    [
        ["results/smoke/suite.yaml", "--configfile", "config/smoke.yaml"],
        ["--configfile", "config/smoke.yaml", "--cores", "1", "results/smoke/suite.yaml"],
        ["--configfile", "config/smoke.yaml", "--", "results/smoke/suite.yaml"],
    ],
)
def test_the_orders_of_words_that_the_docs_name_work(root: Path, tmp_path: Path, words: list[str]) -> None:
    checkout = Checkout.make(root, tmp_path)
    done = checkout.run("snakemake", "--dry-run", "--cores", "1", *words)
    assert done.returncode == 0, done.stderr
    assert "\nsuite\n" in done.stdout + done.stderr


def test_a_target_that_configfile_takes_is_named(root: Path, tmp_path: Path) -> None:
    checkout = Checkout.make(root, tmp_path)
    target = "results/smoke/suite.yaml"
    made = checkout.run("snakemake", "--cores", "1", target, "--configfile", "config/smoke.yaml")
    assert made.returncode == 0, made.stderr
    done = checkout.run("snakemake", "--cores", "1", "--configfile", "config/smoke.yaml", target)
    assert done.returncode == 1
    assert f"snakemake {target} --configfile config/smoke.yaml" in done.stdout + done.stderr


def test_a_missing_model_path_is_named(root: Path, tmp_path: Path) -> None:
    checkout = Checkout.make(root, tmp_path)
    models = checkout.folder / "models.yaml"
    models.write_text(models.read_text() + "\nmine:\n  kind: path\n  path: /no/such/folder\n")
    replace(checkout.folder / "config/smoke.yaml", "[nano-smoke]", "[mine]")
    assert checkout.snakemake("--dry-run").returncode == 0
    done = checkout.vista("models", "results/smoke/suite.json", "mine")
    assert done.returncode == 2
    assert "/no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.end_to_end
class TestOnAFinishedRun:
    """Faults in files that the DAG made."""

    def fails(self, checkout: Checkout, *arguments: str) -> str:
        done = checkout.vista(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def queries(self, checkout: Checkout) -> Path:
        return checkout.results / "tasks/grid-closed/train.parquet"

    def rewrite(self, path: Path, rows: list[Row]) -> None:
        """Queries of the user's own, as it were: no manifest knows them."""
        write_rows(path, rows, QUERY)
        withdraw(path)

    def test_a_corrupt_image_is_named_with_its_query(self, copy: Checkout) -> None:
        rows = read_rows(self.queries(copy), QUERY)
        rows[3]["images"][0]["bytes"] = b"this is no image"
        self.rewrite(self.queries(copy), rows)
        said = self.fails(copy, "sample", "results/smoke/suite.json", RUN, SAMPLES, "0")
        assert rows[3]["query_id"] in said
        assert "corrupt image" in said

    def test_a_missing_image_is_named_with_its_query(self, copy: Checkout) -> None:
        rows = read_rows(self.queries(copy), QUERY)
        rows[5]["images"][0] = {"bytes": None, "path": "/no/such/image.png"}
        self.rewrite(self.queries(copy), rows)
        said = self.fails(copy, "sample", "results/smoke/suite.json", RUN, SAMPLES, "0")
        assert rows[5]["query_id"] in said
        assert "/no/such/image.png" in said

    def test_duplicate_query_ids_are_named_with_both_rows(self, copy: Checkout) -> None:
        rows = read_rows(self.queries(copy), QUERY)
        rows[7]["query_id"] = rows[2]["query_id"]
        self.rewrite(self.queries(copy), rows)
        said = self.fails(copy, "sample", "results/smoke/suite.json", RUN, SAMPLES, "0")
        assert rows[2]["query_id"] in said
        assert "row 7" in said
        assert "row 2" in said

    def test_a_prompt_longer_than_the_context_is_named_with_its_query(self, copy: Checkout) -> None:
        rows = read_rows(self.queries(copy), QUERY)
        rows[1]["instruction"] = " ".join([rows[1]["instruction"]] * 2000)
        self.rewrite(self.queries(copy), rows)
        said = self.fails(copy, "sample", "results/smoke/suite.json", RUN, SAMPLES, "0")
        assert rows[1]["query_id"] in said
        assert "context" in said

    def test_a_truncated_parquet_file_is_named(self, copy: Checkout) -> None:
        path = self.queries(copy)
        path.write_bytes(path.read_bytes()[:1000])
        withdraw(path)
        said = self.fails(copy, "sample", "results/smoke/suite.json", RUN, SAMPLES, "0")
        assert "train.parquet" in said

    def test_a_nan_loss_stops_the_training_and_keeps_what_is_done(self, copy: Checkout) -> None:
        before = copy.main_csv.read_bytes()
        replace(
            copy.folder / "config/smoke.yaml",
            "sft: {epochs: 1, learning_rate: 1.0e-3",
            "sft: {epochs: 1, learning_rate: 1.0e+30",
        )
        done = copy.snakemake("results/smoke/training/nano-smoke/grids/star/seed0/round1/manifest.json")
        assert done.returncode != 0
        log = copy.results / "logs/training/nano-smoke/grids/star/seed0/round1.log"
        assert "loss" in log.read_text()
        assert "Traceback" not in log.read_text()
        quoted = done.stderr.rsplit(f"{log.relative_to(copy.folder)}:", 1)[-1]
        assert log.read_text().splitlines()[-1] in quoted, "the last lines are shown where one looks first"
        assert copy.main_csv.read_bytes() == before

    def test_a_policy_without_positives_ends_in_a_row_that_says_so(self, copy: Checkout) -> None:
        run = "nano-smoke/grids/star/seed0/round1"
        folder = copy.results / f"rollouts/{RUN}"
        for path in [*folder.glob("samples/k1-*/*.parquet"), *folder.glob("resamples/k1-*/*.parquet")]:
            rows = [{**row, "correct": False} for row in read_rows(path, ROLLOUT)]
            write_rows(path, rows, ROLLOUT)
        vouch(folder)
        suite = "results/smoke/suite.json"
        for command in (["curate", suite, run], ["train", suite, run], ["evaluate", suite, run]):
            done = copy.vista(*command)
            assert done.returncode == 0, done.stderr
        for command in (["collect", suite], ["tables", suite]):
            done = copy.vista(*command)
            assert done.returncode == 0, done.stderr
        table = pd.read_csv(copy.main_csv)
        row = table[table["method"] == "star"].iloc[0]
        assert row["status"] == "no-positives"
        assert pd.isna(row["overall"])
        assert (table.loc[table["method"] != "star", "status"] == "complete").all()
