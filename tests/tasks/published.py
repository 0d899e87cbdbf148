"""Small files in the schemas in which the benchmarks are published, with pictures drawn here.

``WRITERS[kind](folder)`` writes the train and test split of a benchmark. Every data set has one train
question that also stands in the test split, and more train questions on a picture of it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import TypeAdapter

from vista.config import Task
from vista.task_kinds import TaskSettings

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Row = dict[str, Any]


def benchmark(**entry: Any) -> TaskSettings:
    """A benchmark, from an entry of a suite's ``tasks``."""
    found: TaskSettings = TypeAdapter(Task).validate_python(entry)
    return found


def picture(number: int, kind: str = "PNG") -> bytes:
    """An encoded image of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 255, (20 + number % 3, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def cell(number: int) -> Row:
    """An image as the hub's parquet files hold it."""
    return {"bytes": picture(number), "path": f"{number}.png"}


def write_parquet(path: Path, rows: Sequence[Row], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


# --- SLAKE ---


def slake_row(qid: int, image: int, question: str, answer: str, kind: str, language: str = "en") -> Row:
    return {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": question,
        "answer": answer,
        "q_lang": language,
        "location": "Lung",
        "modality": "CT",
        "answer_type": kind,
        "base_type": "vqa",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
        "content_type": "Organ",
    }


def slake_rows(split: str) -> list[Row]:
    if split == "test":
        return [
            slake_row(90, 1, "Does the picture contain lung?", "Yes", "CLOSED"),
            slake_row(91, 1, "图中有肺吗?", "有", "CLOSED", "zh"),
            slake_row(92, 1, "What is the main organ in the image?", "Lung, Spinal Cord", "OPEN"),
            slake_row(93, 2, "Which is bigger, liver or heart?", "Liver", "CLOSED"),
            slake_row(94, 2, "Is the lung healthy?", "No", "CLOSED"),
        ]
    rows = [slake_row(10 + n, 3 + n // 2, f"Is there finding {n}?", "No", "CLOSED") for n in range(8)]
    return [
        *rows,
        slake_row(30, 1, "Does  the picture contain LUNG?", "Yes", "CLOSED"),
        slake_row(31, 1, "What modality is used?", "CT", "OPEN"),
        slake_row(32, 2, "图中有肺吗?", "有", "CLOSED", "zh"),
        slake_row(33, 3, "How many kidneys?", " ", "OPEN"),
    ]


def write_slake(folder: Path, zipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        (folder / f"{split}.json").write_text(json.dumps(slake_rows(split)), encoding="utf-8")
    names = sorted({row["img_name"] for split in ("train", "test") for row in slake_rows(split)})
    for number, name in enumerate(names):
        if zipped:
            with zipfile.ZipFile(folder / "imgs.zip", "a") as archive:
                archive.writestr(f"imgs/{name}", picture(number, "JPEG"))
        else:
            path = folder / "imgs" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(picture(number, "JPEG"))


# --- VQA-RAD ---

VQA_RAD = pa.schema([("image", IMAGE), ("question", pa.string()), ("answer", pa.string())])


def vqa_rad_rows(split: str) -> list[Row]:
    if split == "test":
        return [
            {"image": cell(1), "question": "is there a fracture?", "answer": "no"},
            {"image": cell(1), "question": "where is the mass?", "answer": "right upper lobe"},
            {"image": cell(2), "question": "is this a ct?", "answer": "yes"},
        ]
    rows = [{"image": cell(3 + n), "question": f"is there sign {n}?", "answer": "yes"} for n in range(6)]
    return [*rows, {"image": cell(1), "question": "Is there a fracture? ", "answer": "no"}, dict(rows[0])]


def write_vqa_rad(folder: Path) -> None:
    for split in ("train", "test"):
        path = folder / "data" / f"{split}-00000-of-00001-eb8844602202be60.parquet"
        write_parquet(path, vqa_rad_rows(split), VQA_RAD)


# --- Geometry3K ---

GEOMETRY3K = pa.schema([("images", pa.list_(IMAGE)), ("problem", pa.string()), ("answer", pa.string())])
GEOMETRY3K_CHOICE = pa.schema(
    [
        ("images", pa.list_(IMAGE)),
        ("problem", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("ground_truth", pa.string()),
    ]
)
ANSWERS = [r"5 \sqrt { 2 }", "60", r"\frac { 9 } { 2 }", r"36 \pi", "6.4", "2 : 3 : 4"]


def geometry3k_rows(split: str) -> list[Row]:
    first = 0 if split == "test" else 3
    return [
        {"images": [cell(n)], "problem": f"<image>Find $x$ in figure {n}.", "answer": ANSWERS[n % 6]}
        for n in range(first, first + 6)
    ]


def write_geometry3k(folder: Path) -> None:
    for split in ("train", "test"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, geometry3k_rows(split), GEOMETRY3K)


def geometry3k_choice_rows(split: str) -> list[Row]:
    return [
        {
            "images": row["images"],
            "problem": row["problem"],
            "choices": ["1", row["answer"], "3", "4"],
            "ground_truth": "B",
        }
        for row in geometry3k_rows(split)
    ]


def write_geometry3k_choice(folder: Path) -> None:
    for split in ("train", "test"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, geometry3k_choice_rows(split), GEOMETRY3K_CHOICE)


def write_authors_geometry3k(folder: Path) -> None:
    """The authors' own layout: a folder for each problem."""
    for split, first in (("train", 8), ("test", 2401)):
        for number, row in enumerate(geometry3k_choice_rows(split)):
            problem = folder / split / str(first + number)
            problem.mkdir(parents=True)
            (problem / "img_diagram.png").write_bytes(row["images"][0]["bytes"])
            data = {
                "problem_text": "Find x.",
                "annotat_text": row["problem"].replace("<image>", ""),
                "choices": row["choices"],
                "answer": row["ground_truth"],
                "id": first + number,
                "data_type": split,
            }
            (problem / "data.json").write_text(json.dumps(data), encoding="utf-8")


# --- ScienceQA ---

SCIENCEQA = pa.schema(
    [
        ("image", IMAGE),
        ("question", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.int8()),
        ("hint", pa.string()),
        *[(name, pa.string()) for name in ("task", "grade", "subject", "topic", "category", "skill")],
        ("lecture", pa.string()),
        ("solution", pa.string()),
    ]
)


def scienceqa_row(image: int | None, question: str, answer: int, hint: str = "") -> Row:
    given = {
        "image": None if image is None else cell(image),
        "question": question,
        "choices": ["West Virginia", "Louisiana", "Arizona"],
        "answer": answer,
        "hint": hint,
    }
    return {**dict.fromkeys(SCIENCEQA.names, ""), **given}


def scienceqa_rows(split: str) -> list[Row]:
    if split == "test":
        return [
            scienceqa_row(1, "Which state is farthest north?", 0),
            scienceqa_row(None, "Which word comes first?", 1),
            scienceqa_row(2, "What can it do?", 2, "Look at the table."),
        ]
    rows = [scienceqa_row(3 + n, f"Which is state {n}?", n % 3) for n in range(5)]
    return [*rows, scienceqa_row(None, "Which?", 1), scienceqa_row(1, "Which state is farthest north?", 0)]


def write_scienceqa(folder: Path) -> None:
    for split in ("train", "test"):
        path = folder / "data" / f"{split}-00000-of-00001-1028f23e353fbe3e.parquet"
        write_parquet(path, scienceqa_rows(split), SCIENCEQA)


# --- ChartQA ---

CHARTQA = pa.schema(
    [
        ("image", IMAGE),
        ("query", pa.string()),
        ("label", pa.list_(pa.string())),
        ("human_or_machine", pa.int64()),
    ]
)


def chartqa_rows(split: str) -> list[Row]:
    def row(image: int, question: str, answer: str) -> Row:
        return {"image": cell(image), "query": question, "label": [answer], "human_or_machine": image % 2}

    if split == "test":
        return [row(1, "How many bars?", "14"), row(2, "Is it more?", "No"), row(3, "The ratio?", "0.57")]
    return [*[row(4 + n, f"Value {n}?", str(n)) for n in range(6)], row(1, "how many bars?", "14")]


def write_chartqa(folder: Path) -> None:
    for split, shards in (("train", 2), ("test", 1)):
        rows = chartqa_rows(split)
        for shard in range(shards):
            path = folder / "data" / f"{split}-{shard:05d}-of-{shards:05d}-49492f364babfa44.parquet"
            write_parquet(path, rows[shard * 4 : shard * 4 + 4], CHARTQA)


WRITERS: dict[str, Callable[[Path], None]] = {
    "slake": write_slake,
    "vqa-rad": write_vqa_rad,
    "geometry3k": write_geometry3k,
    "geometry3k-choice": write_geometry3k_choice,
    "scienceqa": write_scienceqa,
    "chartqa": write_chartqa,
}
