"""One's own data, checkpoint, adapter, responses and task of lmms-eval in one suite, and in one table."""

from __future__ import annotations

import io
import json
import subprocess
from typing import Any

import datasets
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.checkout import EVERY_JOB, Checkout
from tests.workflow.test_external import SAME, bring
from vista.records import Row, read_queries

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

TASK = """
task: theirs
dataset_path: parquet
dataset_kwargs: {data_files: {test: theirs.parquet}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.pictures
doc_to_text: question
doc_to_target: answer
generation_kwargs: {max_new_tokens: 80}
process_results: !function utils.score
metric_list:
  - {metric: right, aggregation: mean, higher_is_better: true}
"""
UTILS = """
def pictures(doc):
    return [doc["image"].convert("RGB")]


def score(doc, results):
    return {"right": float(results[0].rpartition("answer :")[2].strip() == doc["answer"])}
"""


def bring_data(checkout: Checkout) -> None:
    """The queries of a generated task as somebody's own table, and as a task of lmms-eval."""
    queries = read_queries(checkout.results / "tasks/grid-noisy/test.parquet")
    (checkout.folder / "pictures").mkdir()
    for query in queries:
        (checkout.folder / f"pictures/{query['query_id']}.png").write_bytes(query["images"][0]["bytes"])
    rows = [own_row(query) for query in queries]
    (checkout.folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    theirs = checkout.folder / "theirs"
    theirs.mkdir()
    (theirs / "theirs.yaml").write_text(TASK)
    (theirs / "utils.py").write_text(UTILS)
    documents = [
        {
            "question": query["instruction"],
            "answer": query["answer"],
            "image": Image.open(io.BytesIO(query["images"][0]["bytes"])),
        }
        for query in queries
    ]
    table = datasets.Dataset.from_list(documents).cast_column("image", datasets.Image())
    table.to_parquet(str(theirs / "theirs.parquet"))
    (system,) = {query["system"] for query in queries}
    tasks: dict[str, Any] = {
        "own": {
            "kind": "table",
            "source": "own.jsonl",
            "images": "pictures",
            "columns": {"answer_type": "type"},
            "instruction": "{question}",
            **({} if system is None else {"system": system}),
        },
        "theirs": {"kind": "lmms-eval", "task": "theirs", "include_path": "theirs"},
    }
    file = checkout.folder / "config/smoke.yaml"
    suite = yaml.safe_load(file.read_text())
    suite["tasks"] |= tasks
    suite["out_of_domain"] += list(tasks)
    (told,) = [entry["told"] for entry in suite["methods"] if isinstance(entry, dict) and "told" in entry]
    told["missing"] = "unanswered"  # it has no responses to these
    file.write_text(yaml.safe_dump(suite, sort_keys=False))


def own_row(query: Row) -> Row:
    return {
        "id": query["query_id"],
        "image": f"{query['query_id']}.png",
        "question": query["instruction"],
        "answer": query["answer"],
        "type": query["answer_type"],
    }


def assert_nothing_is_made_again(done: subprocess.CompletedProcess[str]) -> None:
    """Not for the sake of a check that all jobs wait for, since the data may not suit the processor."""
    made = done.stdout + done.stderr
    for rule in ("models", "sample", "resample", "score", "curate", "train"):
        assert f"rule {rule}:" not in made, f"{rule}: made before, and made again"


def test_all_that_is_brought_stands_in_one_table_with_what_was_there(copy: Checkout) -> None:
    before = pd.read_csv(copy.main_csv).set_index(["method", "round"])
    bring(copy)
    config = copy.folder / "config/smoke.yaml"
    without_data = config.read_text()
    bring_data(copy)
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert_nothing_is_made_again(done)

    table = pd.read_csv(copy.main_csv).set_index(["method", "round"])
    tasks = ["grid-closed", "grid-chain", "grid-noisy"]
    # What stood there stays as it was, and the same questions have the same answers by another way in.
    pd.testing.assert_frame_equal(table.loc[before.index, tasks], before[tasks])
    answered = table.drop(index=[("told", 1)])
    pd.testing.assert_series_equal(answered["own"], answered["grid-noisy"], check_names=False)
    assert (table.loc[("told", 1), ["own", "theirs"]] == 0).all()
    assert table["theirs"].between(0, 100).all()
    assert table["theirs"].nunique() > 1
    for own, other in SAME.items():
        columns = [*tasks, "own", "theirs", "overall", "se", "delta_sft_seed", "delta_se", "p"]
        columns = tasks if own[0] == "told" else columns
        pd.testing.assert_series_equal(table.loc[own, columns], table.loc[other, columns], check_names=False)
    long = pd.read_csv(copy.results / "long.csv")
    assert set(long[long["method"] == "copied"]["task"]) == {*tasks, "own", "theirs"}

    config.write_text(without_data)
    gone = copy.snakemake("results/smoke/tables/main.csv", *EVERY_JOB)
    assert gone.returncode == 0, gone.stderr[-4000:]
    assert "rule evaluate:" in gone.stdout + gone.stderr
    assert_nothing_is_made_again(gone)
