"""How the tables of the analysis stage print numbers, as text for a cell.

What is not known is an empty cell, never a zero.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

P_VALUES = ("p", "p_holm")
QUERIES_ALONE = "†"  # an error that leaves out the training seeds, beside others that do not
NOTE_ON_MARK = f"""\
{QUERIES_ALONE}: the error is over test queries alone, as there is no second seed. Beside the others it
looks smaller than it is, so nothing is marked."""


def number(value: float | None) -> str:
    """Two decimals, a rounded zero without a sign; nothing for ``None`` and NaN."""
    known = _known(value)
    return "" if known is None else f"{known:.2f}"


def integer(value: float | None) -> str:
    """A count, or nothing."""
    known = _known(value)
    return "" if known is None else f"{known:.0f}"


def with_error(value: float | None, error: float | None) -> str:
    """``52.21 ± 0.80``; without the error where there is none."""
    return number(value) if _known(error) is None else f"{number(value)} ± {number(error)}"


def _known(value: float | None) -> float | None:
    """The value to two decimals, without the sign of a negative zero; ``None`` if unknown."""
    return None if value is None or math.isnan(value) else round(float(value), 2) + 0.0


def interval(value: float, low: float, high: float) -> str:
    """``0.512 [0.448, 0.572]``; without the interval where there is none, nothing for NaN."""
    if pd.isna(value):
        return ""
    shown = f"{round(value, 3) + 0.0:.3f}"
    return shown if pd.isna(low) else f"{shown} [{low:.3f}, {high:.3f}]"


def signed(value: float | None) -> str:
    """``+1.20``; nothing for ``None`` and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:+.2f}"


def with_interval(value: str, low: str, high: str) -> str:
    """``52.21 [50.90, 53.48]`` of numbers as they are printed; without the interval where there is none."""
    return f"{value} [{low}, {high}]" if value and low else value


def partial(found: int, missing: int) -> str:
    """`` (1 of 2 runs)`` behind a mean that lacks some runs; nothing behind one of all or of none."""
    return f" ({found} of {found + missing} runs)" if found and missing else ""


def probability(value: float | None) -> str:
    """Three decimals, ``< 0.001`` below; nothing for ``None``."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The CSV of a table in numbers: p-values with four decimals, other fractions with two, no NaN."""
    cells = table.astype(object)
    for name in table.columns:
        digits = "{:.4f}".format if name in P_VALUES else number
        cells[name] = [
            "" if _unknown(value) else digits(value) if isinstance(value, float) else str(value)
            for value in table[name]
        ]
    return cells


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
