"""Tasks in lmms-eval's own format, as users write them: a YAML file, a module, and documents in parquet."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import datasets
import numpy as np
from PIL import Image

DIGITS = 6  # documents of a task

UTILS = '''
import os


def doc_to_visual(doc):
    return [doc[name].convert("RGB") for name in ("image", "second") if doc.get(name) is not None]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return "which digit in row " + doc["row"] + " ?"


def scored(doc, results):
    return {"exact": float(results[0].strip() == doc["answer"])}


def parsed(doc, results):
    said = ["", *results[0].split()][-1]
    return {"parsed_acc": {"id": doc["row"], "answer": doc["answer"], "parsed_pred": said}}


def parsed_acc(items):
    print("a table of results")
    return sum(item["parsed_pred"] == item["answer"] for item in items) / len(items)


def by_row(items):
    """No mean over responses: every row weighs the same."""
    rows = {}
    for item in items:
        rows.setdefault(item["id"] == "0", []).append(item["parsed_pred"] == item["answer"])
    return sum(sum(found) / len(found) for found in rows.values()) / len(rows)


def total(items):
    return sum(items)


def judged(doc, results):
    from openai import OpenAI

    client = OpenAI(api_key=os.getenv("OPENAI_API_KEY", ""), base_url=os.getenv("OPENAI_API_URL"))
    return {"exact": float(client.chat.completions.create(model="judge", messages=[]).id == "1")}


def called(doc, results):
    import urllib.request

    try:
        urllib.request.urlopen("http://judge.example/")
    except Exception:
        pass
    return {"exact": 0.0}
'''

BASE = """
dataset_path: parquet
dataset_kwargs:
  data_files: {{test: {data}}}
task: {name}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: answer
"""
SCORED = """
generation_kwargs: {max_new_tokens: 4}
process_results: !function utils.scored
metric_list:
  - metric: exact
    aggregation: mean
    higher_is_better: true
"""


def documents(pictures: int = 1, count: int = DIGITS) -> datasets.Dataset:
    """Documents with a picture or two, or none; two ask about each first picture."""
    rows = []
    for number in range(count):
        row: dict[str, object] = {"row": str(number), "answer": str(number)}
        for place, name in enumerate(("image", "second")[:pictures]):
            pixels = np.random.default_rng(number // 2 + 100 * place).integers(
                0, 255, (24, 24, 3), dtype=np.uint8
            )
            row[name] = Image.fromarray(pixels)
        rows.append(row)
    features = {"row": datasets.Value("string"), "answer": datasets.Value("string")}
    pictured = {name: datasets.Image() for name in ("image", "second")[:pictures]}
    return datasets.Dataset.from_list(rows, features=datasets.Features({**features, **pictured}))


def write_task(folder: Path, name: str, text: str = SCORED, pictures: int = 1, base: str = BASE) -> Path:
    """Write a task file with its module and documents to a folder, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    documents(pictures).to_parquet(folder / f"{name}.parquet")
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")
    stated = base.format(data=f"{name}.parquet", name=name) + dedent(text)
    (folder / f"{name}.yaml").write_text(stated, encoding="utf-8")
    return folder
