"""Checkpoints, adapters and responses from elsewhere are rows like any other: same weights, same numbers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model

from tests.checkout import EVERY_JOB, Checkout
from vista.engines.checkpoints import load_checkpoint
from vista.records import PREDICTION, read_rows

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

RUNS = "nano-smoke/grids"
METHODS: list[dict[str, Any]] = [
    {
        "copied": {
            "kind": "external",
            "rounds": 2,
            "checkpoints": {"nano-smoke": "elsewhere/seed{seed}/round{round}"},
        }
    },
    {"merged": {"kind": "external", "checkpoints": {"nano-smoke": "adapter"}}},
    {"told": {"kind": "external", "predictions": {"nano-smoke": "told.jsonl"}}},
]
SAME = {("copied", 1): ("vista-sft", 1), ("copied", 2): ("vista-sft", 2)}
SAME |= {("told", 1): ("vista-sft", 1), ("merged", 1): ("zero-shot", 0)}
NUMBERS = ["grid-closed", "grid-chain", "grid-noisy", "overall", "se", "delta_sft_seed", "delta_se", "p"]


def bring(checkout: Checkout) -> None:
    """Put copies of the suite's own results beside it, and name them in the suite."""
    for number in (1, 2):
        made = checkout.results / f"training/{RUNS}/vista-sft/seed0/round{number}"
        shutil.copytree(made, checkout.folder / f"elsewhere/seed0/round{number}")
        (checkout.folder / f"elsewhere/seed0/round{number}/manifest.json").unlink()
    base = load_checkpoint(checkout.results / "models/nano-smoke")
    torch.manual_seed(0)
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    get_peft_model(base.model, adapter).save_pretrained(checkout.folder / "adapter")  # changes nothing yet
    rows = read_rows(
        checkout.results / f"evaluation/{RUNS}/vista-sft/seed0/round1/predictions.parquet", PREDICTION
    )
    told = [{name: row[name] for name in ("query_id", "response", "finished")} for row in rows]
    (checkout.folder / "told.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    file = checkout.folder / "config/smoke.yaml"
    suite = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**suite, "methods": [*suite["methods"], *METHODS]}))


def planned(checkout: Checkout) -> dict[str, list[str]]:
    """The jobs of a dry run: by rule, the runs that they are of."""
    done = checkout.snakemake("results/smoke/tables/main.csv", *EVERY_JOB)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[str]] = {}
    for job in re.split(r"\n\n|\n(?=\[)", done.stdout + done.stderr):
        rule, run = re.search(r"^(?:local)?rule (\w+):", job, re.M), re.search(r"wildcards: run=(\S+)", job)
        if rule:
            found.setdefault(rule[1], []).append(run[1] if run else "")
    return {rule: sorted(runs) for rule, runs in found.items()}


def test_the_same_weights_have_the_same_numbers_by_every_way_in_and_nothing_else_runs(copy: Checkout) -> None:
    bring(copy)
    copied = [f"{RUNS}/copied/seed0/round{number}" for number in (1, 2)]
    merged, told = f"{RUNS}/merged/seed0/round1", f"{RUNS}/told/seed0/round1"
    assert planned(copy) == {
        "adopt": [*copied, merged],
        "evaluate": [*copied, merged],
        "grade": [told],
        "collect": [""],
        "results": [""],
    }
    done = copy.snakemake("results/smoke/tables/main.csv")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]

    table = pd.read_csv(copy.main_csv).set_index(["method", "round"])
    for own, other in SAME.items():
        pd.testing.assert_series_equal(table.loc[own, NUMBERS], table.loc[other, NUMBERS], check_names=False)
    given = table.loc[list(SAME)]
    assert given[["train_samples", "samples_drawn_total"]].isna().all(axis=None)
    assert set(given["objective"]) == {"external"}
    assert given["p_holm"].notna().all()

    weights = copy.folder / "adapter/adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    changed = {name: weight + 0.01 for name, weight in load_file(weights).items()}
    save_file(changed, weights)
    again = planned(copy)
    assert (again["adopt"], again["evaluate"], "grade" in again) == ([merged], [merged], False)
    shown = copy.vista("show", str(copy.main_csv), "method=merged", "overall")
    assert "external/nano-smoke/grids/merged" in shown.stdout, shown.stdout + shown.stderr
    assert str(Path("adapter/adapter_model.safetensors")) in shown.stdout
    verified = copy.vista("verify", "results/smoke/suite.json")
    assert "was edited since this was made from it" in verified.stdout, verified.stdout + verified.stderr
