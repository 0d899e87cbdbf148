"""Differences as the results tables hold them: in points, with error, test and corrected p-value.

Pure functions for the analysis stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from vista.analysis.stats import holm, pooled_difference, unlike

PERCENT = 100.0


def difference_columns(name: str) -> list[str]:
    """The columns of a difference: itself, its error and the ends of its 95 % interval, and their source."""
    stem = name.removesuffix("_sft_seed")
    return [name, f"{stem}_se", f"{stem}_low", f"{stem}_high", "error"]


def difference_numbers(pairs: Mapping[tuple[str, int], pd.DataFrame], name: str) -> dict[str, Any]:
    """``difference_columns`` with ``test`` and ``p``; nothing where no pair of runs is compared.

    Args:
        pairs: By model and seed, the rows of ``stats.paired_scores``.
        name: What the difference is called.
    """
    if not pairs:
        return {}
    found = pooled_difference(pairs)
    numbers = [value * PERCENT for value in (found.mean, found.se, found.low, found.high)]
    row: dict[str, Any] = dict(zip(difference_columns(name), [*numbers, found.error], strict=True))
    return row | {"p": found.p, "test": "t" if found.seeds else "normal"}


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """With Holm's p-values, and ``None`` for what is unknown.

    All comparisons of one model and train set are a family. Where some comparisons have the error over
    seeds, those without are in no family.
    """
    alone = pd.Series(unlike(table["error"].tolist()), table.index, dtype=bool)
    p = table["p"].astype(float).mask(alone)
    families = p.groupby([table["model"], table["train_set"]], sort=False)
    table["p_holm"] = families.transform(lambda values: holm([float(each) for each in values]))
    table = table.astype(object)
    return table.where(table.notna(), None)
