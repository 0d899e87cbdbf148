"""The rows of a training set, looked at before a model is loaded or TRL imported. Serves ``vista train``."""

from __future__ import annotations

from pathlib import Path

from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.manifest import check_count
from vista.records import EXAMPLE, PAIR, Row, read_rows

ANEW = "delete it and curate again"


def read_training_set(path: Path, pairs: bool) -> list[Row]:
    """Examples or pairs of a training set.

    Raises:
        VistaError: there are none, or not as many as its manifest says; a row has no prompt, no response,
            or other images than its prompt shows.
    """
    rows = read_rows(path, PAIR if pairs else EXAMPLE)
    if not rows:
        raise VistaError(f"{path}: no rows, though its manifest says complete; delete it and rerun")
    check_count(path, len(rows), "examples")
    for index, row in enumerate(rows):
        problem = _problem(row, ("chosen", "rejected") if pairs else ("completion",))
        if problem:
            raise VistaError(f"{path}: row {index}: {problem}; {ANEW}")
    return rows


def check_tokens(path: Path, rows: list[Row], checkpoint: Checkpoint) -> None:
    """Refuse tokens that are not of the model's vocabulary, or mark images or turns.

    Raises:
        VistaError: names the row.
    """
    for index, row in enumerate(rows):
        for name in ("completion_ids", "chosen_ids", "rejected_ids"):
            token = checkpoint.unsayable(row.get(name) or [])
            if token is not None:
                raise VistaError(f"{path}: row {index}: column {name!r}: {token}; {ANEW}")


def _problem(row: Row, responses: tuple[str, ...]) -> str | None:
    parts = [part for turn in row["prompt"] for part in turn["content"] or []]
    if not any(turn["role"] == "user" for turn in row["prompt"]) or not parts:
        return "column 'prompt' asks nothing"
    shown = sum(part["type"] == "image" for part in parts)
    if shown != len(row["images"]):
        return f"column 'images' holds {len(row['images'])} images, but the prompt shows {shown}"
    for name in responses:
        turns = row[name]
        if len(turns) != 1 or not turns[0]["content"] or turns[0]["content"][0]["text"] is None:
            return f"column {name!r} is no response of one turn with a text"
    return None
