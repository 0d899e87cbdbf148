"""A model at an endpoint beside one with weights, through Snakemake: to its tables, and not asked twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.checkout import EVERY_JOB, Checkout
from tests.endpoint import Answer, serving

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

KEY, VARIABLE = "sk-the-key-of-this-test", "ENDPOINT_KEY_OF_THIS_TEST"
TABLES = ("results/smoke/tables/main.csv", "results/smoke/tables/cost.csv")
RUN = "results/smoke/evaluation/gpt-x/grids/zero-shot/seed0/round0/predictions.parquet"


def write(checkout: Checkout, url: str, **changes: Any) -> None:
    """The smoke suite, smaller, with a model at an endpoint."""
    suite = yaml.safe_load((checkout.folder / "config/smoke.yaml").read_text())
    suite |= {"models": ["gpt-x", "nano-smoke"], "methods": ["zero-shot", "sft-seed"], "out_of_domain": []}
    suite |= {"train_sets": {"grids": ["grid-closed"]}, "method_overrides": {}, "eval_max_new_tokens": 8}
    suite["tasks"]["grid-closed"]["sizes"] = {"seed": 4, "train": 4, "test": 6}
    suite["tasks"]["printed"]["sizes"] = {"train": 64}
    (checkout.folder / "config/smoke.yaml").write_text(yaml.safe_dump(suite))
    models = yaml.safe_load((checkout.folder / "models.yaml").read_text())
    models["nano-smoke"]["steps"] = 1
    models["gpt-x"] = {
        **{"kind": "endpoint", "endpoint": url, "model": "m", "cache": "cache/gpt-x", "max_requests": 6},
        **{"api_key_variable": VARIABLE, **changes},
    }
    (checkout.folder / "models.yaml").write_text(yaml.safe_dump(models))


def planned(checkout: Checkout) -> set[str]:
    """The rules that a dry run would start."""
    done = checkout.snakemake(*TABLES, *EVERY_JOB)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^(?:local)?rule (\w+):$", done.stdout + done.stderr, flags=re.MULTILINE))


def test_a_model_at_an_endpoint_gets_its_row_and_is_not_asked_twice(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkout").mkdir()
    checkout = Checkout.make(root, tmp_path / "checkout")
    monkeypatch.setenv(VARIABLE, KEY)
    # Refuses, and writes down, whatever leaves this machine.
    monkeypatch.setenv("PYTHONPATH", str(root / "tests/offline"))
    for name in ("NETWORK_ATTEMPTS", "UNPICKLED"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).touch()

    def yes(text: str, before: int) -> Answer:
        return 200, "answer: yes", "stop"

    with serving() as endpoint:
        endpoint.script = yes
        write(checkout, endpoint.url)
        done = checkout.snakemake(*TABLES)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
        assert len(endpoint.requests) == 6
        assert (tmp_path / "NETWORK_ATTEMPTS").read_text() == ""
        assert planned(checkout) == set()
        doctor = checkout.run("vista", "doctor", "--configfile", "config/smoke.yaml")
        assert f"{endpoint.url} answers and has m" in doctor.stdout
        assert "6 requests, 6 of them sent; 6 queries" in doctor.stdout
        assert len(endpoint.requests) == 6

    table = pd.read_csv(checkout.main_csv)
    assert list(zip(table["model"], table["method"], strict=True)) == [
        *(("nano-smoke", "zero-shot"), ("nano-smoke", "sft-seed"), ("gpt-x", "zero-shot"))
    ]
    row = table.iloc[-1]
    queries = pd.read_parquet(checkout.results / "tasks/grid-closed/test.parquet")
    assert row["grid-closed"] == pytest.approx(100 * (queries["answer"] == "yes").mean(), abs=0.01)
    assert not (checkout.results / "models/gpt-x").exists()
    assert not list(checkout.folder.rglob("gpt-x.check*"))
    costs = pd.read_csv(checkout.results / "tables/cost.csv")
    assert list(costs[costs["model"] == "gpt-x"]["stage"]) == ["evaluation"]
    verified = checkout.run("vista", "verify", "results/smoke/suite.json")
    assert verified.returncode == 0, verified.stdout
    shown = checkout.run("vista", "show", str(checkout.main_csv), "model=gpt-x", "overall")
    assert "gpt-x/grids/zero-shot/seed0/round0" in shown.stdout, shown.stderr
    plan = json.loads(checkout.run("vista", "plan", "--configfile", "config/smoke.yaml", "--json").stdout)
    assert plan["requests"] == {"gpt-x": {"endpoint": endpoint.url, "requests": 6, "budget": 6}}

    # What was paid is there, without the endpoint and its key.
    monkeypatch.delenv(VARIABLE)
    first = (checkout.folder / RUN).read_bytes()
    (checkout.folder / RUN).unlink()
    for part in (checkout.folder / RUN).parent.glob(".tasks/*"):
        part.unlink()
    done = checkout.snakemake(RUN)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert (checkout.folder / RUN).read_bytes() == first
    write(checkout, endpoint.url, max_requests=1000, parallel=1, timeout=5, cache="elsewhere")
    assert not planned(checkout) & {"ask", "evaluate", "models", "train"}
    write(checkout, endpoint.url, greedy=False)
    assert "ask" in planned(checkout)
    assert not planned(checkout) & {"evaluate", "models", "train", "tasks"}
    done = checkout.snakemake(RUN)
    assert done.returncode != 0
    assert f"model gpt-x.api_key_variable: the environment variable {VARIABLE} is not set" in done.stderr
    assert not [
        file for file in checkout.folder.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()
    ]
