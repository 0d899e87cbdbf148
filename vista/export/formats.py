"""A training set in the form that another program reads: files in a folder. For ``vista export``.

* ``trl``: parquet with TRL's own columns, conversations in parts, images as such. Sampled tokens are left
  out: TRL tokenises the texts.
* ``hub-folder``: parquet with every column of ours; both load with ``datasets.load_dataset(FOLDER)``.
* ``llama-factory``: ``dataset_info.json`` and a JSON list in its ``sharegpt`` form, with OpenAI's roles.
* ``ms-swift``: JSON lines with ``messages``, ``images`` and, of pairs, ``rejected_response``.

The last two mark the place of each image in the text by ``<image>``, and name the images' files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from vista.errors import VistaError, fail_if
from vista.export.sources import Source, TrainingSet
from vista.images import BROKEN, image_format
from vista.records import EXAMPLE, PAIR, Row, write_json, write_rows, write_text

Format = Literal["trl", "llama-factory", "ms-swift", "hub-folder"]
PARQUET = "data/train-00000-of-00001.parquet"
# The file of the rows, by format.
FILES: dict[Format, str] = {
    "trl": PARQUET,
    "hub-folder": PARQUET,
    "llama-factory": "train.json",
    "ms-swift": "train.jsonl",
}
IMAGE = "<image>"
# What the programs replace in texts, wherever it stands.
REPLACED: dict[Format, tuple[str, ...]] = {
    "llama-factory": (IMAGE, "<video>", "<audio>"),
    "ms-swift": (IMAGE, "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>"),
}
# Of our columns, what TRL has no use for: it reads texts.
OURS_ALONE = ("_ids", "_finished")
SHOWN = 5  # rows that an error lists


def write(source: TrainingSet, to: Format, folder: Path) -> None:
    """Write the rows of a training set, and their images where these are files.

    Raises:
        VistaError: a text spells what the program would replace, or an image cannot be read.
    """
    writers: dict[Format, Callable[[], None]] = {
        "trl": lambda: _write_parquet(source, folder, for_trl=True),
        "hub-folder": lambda: _write_parquet(source, folder, for_trl=False),
        "llama-factory": lambda: _write_llama_factory(source, folder),
        "ms-swift": lambda: _write_ms_swift(source, folder),
    }
    writers[to]()


def name_of(source: Source) -> str:
    """What a run is called where a name may have no slash."""
    return source.run.id.replace("/", "-")


def _write_parquet(source: TrainingSet, folder: Path, for_trl: bool) -> None:
    schema = PAIR if source.pairs else EXAMPLE
    if for_trl:
        schema = pa.schema([field for field in schema if not field.name.endswith(OURS_ALONE)])
    rows = [{name: row[name] for name in schema.names} for row in source.rows]
    write_rows(folder / PARQUET, rows, schema)


def _write_llama_factory(source: TrainingSet, folder: Path) -> None:
    rows = []
    for messages, replies, images in _conversations(source, "llama-factory", folder):
        row: dict[str, Any] = {"messages": messages, "images": images}
        if source.pairs:
            row |= dict(zip(("chosen", "rejected"), replies, strict=True))
        else:
            messages += replies
        rows.append(row)
    columns = {name: name for name in rows[0]}
    tags = {"role_tag": "role", "content_tag": "content"}
    tags |= {f"{role}_tag": role for role in ("user", "assistant", "system")}
    entry: dict[str, Any] = {
        "file_name": FILES["llama-factory"],
        "formatting": "sharegpt",
        "columns": columns,
        "tags": tags,
    }
    if source.pairs:
        entry["ranking"] = True
    write_json(folder / "dataset_info.json", {name_of(source): entry})
    write_text(folder / FILES["llama-factory"], json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def _write_ms_swift(source: TrainingSet, folder: Path) -> None:
    lines = []
    for messages, replies, images in _conversations(source, "ms-swift", folder):
        row: dict[str, Any] = {"messages": [*messages, replies[0]], "images": images}
        if source.pairs:
            row["rejected_response"] = replies[1]["content"]
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(folder / FILES["ms-swift"], "".join(lines))


Turn = dict[str, str]


def _conversations(
    source: TrainingSet, to: Format, folder: Path
) -> list[tuple[list[Turn], list[Turn], list[str]]]:
    """Of each row the prompt's turns, the replies (of a pair, chosen and rejected), and the images' files.

    Raises:
        VistaError: lists rows with texts that the program would not read as they are.
    """
    sides = ("chosen", "rejected") if source.pairs else ("completion",)
    problems = []
    for index, row in enumerate(source.rows):
        turns = [turn for name in ("prompt", *sides) for turn in row[name]]
        texts = [part["text"] or "" for turn in turns for part in turn["content"]]
        spelled = [mark for mark in REPLACED[to] if any(mark in text for text in texts)]
        if spelled:
            problems.append(f"row {index}: query {row['query_id']!r}: a text spells {', '.join(spelled)}")
    more = [f"and {len(problems) - SHOWN} more rows"] if len(problems) > SHOWN else []
    fail_if(
        problems[:SHOWN] + more,
        f"{source.file}: {to} would take what these texts spell for places of images or the like; export "
        "with --to trl or hub-folder, which keep images and texts apart:",
    )
    names = _write_images(source, folder)
    found = []
    for row in source.rows:
        replies = [_turn(row[name][0]) for name in sides]
        images = [names[image["bytes"]] for image in row["images"]]
        found.append(([_turn(turn) for turn in row["prompt"]], replies, images))
    return found


def _turn(turn: Row) -> Turn:
    """A turn in one text, with a mark in the place of each image."""
    parts = [IMAGE if part["type"] == "image" else part["text"] for part in turn["content"]]
    return {"role": turn["role"], "content": "".join(parts)}


def _write_images(source: TrainingSet, folder: Path) -> dict[bytes, str]:
    """Write each image once, under its SHA-256; where each is, relative to the folder.

    Raises:
        VistaError: an image is of no format that we read.
    """
    names: dict[bytes, str] = {}
    (folder / "images").mkdir()
    for row in source.rows:
        for image in row["images"]:
            data = image["bytes"]
            if data in names:
                continue
            try:
                kind = image_format(data).lower()
            except BROKEN as error:
                raise VistaError(
                    f"{source.file}: query {row['query_id']!r}: corrupt image ({error}); make the task's "
                    "queries again"
                ) from error
            end = {"jpeg": "jpg"}.get(kind, kind)
            names[data] = f"images/{hashlib.sha256(data).hexdigest()}.{end}"
            (folder / names[data]).write_bytes(data)
    return names
