"""What every training logged at each step, in one table (``training.csv``, ``.md``, ``.tex``).

Part of the analysis stage (``vista history``). The CSV has a row for each step of each run, under TRL's
names; the page has a row for each run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.page import Page, integer, number, with_constants_below, write_table
from vista.config import Suite, training_section
from vista.errors import VistaError
from vista.manifest import Recorder, Status, check_count, read_manifest
from vista.paths import Paths
from vista.reads import Reads

RUN = ["model", "train_set", "method", "round", "seed", "objective", "status"]
STEP = ["step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens", "mean_token_accuracy", "entropy"]
PART = 20  # the last losses of a run are told as their mean over one part in so many of its steps
# Means that the page shows: its column, the CSV's, and what to multiply by.
SHOWN = (
    ("loss", "loss", 1.0),
    ("token_accuracy", "mean_token_accuracy", 100.0),
    ("pair_accuracy", "rewards/accuracies", 100.0),
    ("margin", "rewards/margins", 1.0),
    ("reward", "reward", 1.0),
)
NOTES = """\
What was logged of each training; `training.csv` has every step. `first_loss` is that of the first step;
`loss`, `token_accuracy` (percent of response tokens that were the likeliest, of pairs the chosen ones'),
`pair_accuracy` (percent of pairs whose chosen response has the higher reward), `margin` (the difference of
these rewards) and `reward` (of responses sampled in training) are means over the last twentieth of the steps.
`tokens`: trained on in all, prompts included. Losses of different objectives, or on different training
sets, do not tell which is better."""


def history_table(suite: Suite, paths: Paths) -> None:
    """Write ``training.csv``, ``.md`` and ``.tex``.

    Raises:
        VistaError: a history is missing or malformed.
    """
    files = Reads(suite, paths).histories()
    recorder = Recorder("analysis", {"suite": suite.name}, list(files.values()))
    histories = {run: (read_manifest(file).status, read_history(file)) for run, file in files.items()}
    table = step_rows(suite, histories)
    title = f"Trainings of suite `{suite.name}`"
    page = Page("training", title, [*with_constants_below(title, run_cells(suite, histories), ""), NOTES])
    write_table(paths, recorder, table, page, {"rows": len(table), "runs": len(files)})


def read_history(file: Path) -> pd.DataFrame:
    """The steps of one training, in numbers.

    Raises:
        VistaError: the file is missing or malformed, or has not as many steps as its manifest says.
    """
    try:
        steps = pd.read_csv(file).astype(float)
        if list(steps.columns[: len(STEP)]) != STEP:
            raise ValueError(f"its columns are {', '.join(map(str, steps.columns))}")
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise VistaError(f"{file}: not a history of a training ({error}); train the run again") from error
    check_count(file, len(steps), "steps")
    return steps


def step_rows(suite: Suite, histories: dict[grid.Run, tuple[Status, pd.DataFrame]]) -> pd.DataFrame:
    """A row for each step; of a run without steps, one without numbers. Cells are text, six digits."""
    own = dict.fromkeys(name for _, steps in histories.values() for name in steps)
    frames = []
    for run, (status, steps) in histories.items():
        cells = steps.map(lambda value: "" if math.isnan(value) else f"{value:.6g}")
        cells = cells.assign(step=[integer(each) for each in steps["step"]])
        cells = cells.assign(num_tokens=[integer(each) for each in steps["num_tokens"]])
        cells = cells if len(cells) else pd.DataFrame([{"step": ""}])
        frames.append(cells.assign(**_named(suite, run, status)))
    columns = [*RUN, *own] if frames else [*RUN, *STEP]
    return pd.concat([pd.DataFrame(columns=columns), *frames])[columns].fillna("").reset_index(drop=True)


def _named(suite: Suite, run: grid.Run, status: Status) -> dict[str, Any]:
    names = {name: getattr(run, name) for name in RUN[:5]}
    return names | {"objective": training_section(suite.methods[run.method]), "status": status}


def run_cells(suite: Suite, histories: dict[grid.Run, tuple[Status, pd.DataFrame]]) -> pd.DataFrame:
    """A row for each run, as it is printed."""
    rows = []
    for run, (status, steps) in histories.items():
        row = _named(suite, run, status)
        if len(steps):
            last = steps.tail(math.ceil(len(steps) / PART))
            row |= {"steps": str(len(steps)), "tokens": integer(steps["num_tokens"].iloc[-1])}
            row["first_loss"] = f"{steps['loss'].iloc[0]:.4g}"
            for name, column, scale in SHOWN:
                if column in last:
                    mean = float(last[column].mean()) * scale
                    row[name] = number(mean) if scale != 1 else f"{mean:.4g}"
        rows.append(row)
    known = {name for row in rows for name in row}
    shown = [name for name, _, _ in SHOWN if name in known]
    return pd.DataFrame(rows, columns=[*RUN, "steps", "tokens", "first_loss", *shown]).fillna("")
