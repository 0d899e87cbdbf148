"""A method that samples as it trains, on a finished suite: the reward of docs/adding.md, up to the tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.checkout import Checkout
from tests.documents import code, section
from tests.workflow.test_plugins import TARGETS, planned
from vista.manifest import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

METHODS = """
brief:
  kind: online
  rounds: 2
  objective: {kind: grpo, reward: {kind: brief, per_token: 0.005}}
"""


def test_it_gets_its_rows_and_reruns_nothing_else(copy: Checkout, root: Path) -> None:
    (module,) = code(section(root, "adding.md", "A reward"), "python")
    (copy.folder / "brief.py").write_text(module)
    with (copy.folder / "config/methods.yaml").open("a") as file:
        file.write(METHODS)
    suite = copy.folder / "config/smoke.yaml"
    value = yaml.safe_load(suite.read_text())
    value["methods"].append("brief")
    value["plugins"] = ["brief"]
    suite.write_text(yaml.safe_dump(value))
    assert planned(copy) == {
        **{"curate": 2, "train": 2, "evaluate": 2},
        **{"collect": 1, "results": 1, "cost": 1},
    }
    done = copy.snakemake(*TARGETS, "results/smoke/tables/training.csv")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert planned(copy) == {}

    table = pd.read_csv(copy.results / "tables/runs.csv").set_index(["method", "round"])
    queries, k = 48, 6
    assert list(table.loc["brief", "samples_drawn"]) == [queries * k] * 2
    assert list(table.loc["brief", "samples_drawn_total"]) == [queries * k, 2 * queries * k]
    assert list(table.loc["brief", "train_samples"]) == [queries] * 2
    folder = copy.results / "training/nano-smoke/grids/brief/seed0/round1"
    manifest = read_manifest(folder)
    (plugin,) = manifest.settings["plugins"]
    assert plugin["module"] == "brief"
    steps = pd.read_csv(copy.results / "tables/training.csv").query("method == 'brief'")
    assert set(steps["objective"]) == {"grpo"}
    assert steps["reward"].between(0, 1).all()
    drawn = steps.groupby("round")["drawn_tokens"].sum().cumsum()
    assert drawn[1] == manifest.counts["drawn_tokens"]
    assert list(table.loc["brief", "tokens_drawn_total"]) == list(drawn)
    assert table.loc[("brief", 1), "tokens_trained_total"] == manifest.counts["tokens"]
