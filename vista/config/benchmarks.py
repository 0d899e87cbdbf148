"""How many queries the published benchmarks have, for plans that are made before any download.

Used by the config and by ``vista plan``; the numbers are of the published files that stage
``tasks`` reads (docs/benchmarks.md names their sources), before duplicates are left out.
"""

from __future__ import annotations

from typing import Literal

BenchmarkKind = Literal["slake", "vqa-rad", "geometry3k", "geometry3k-choice", "scienceqa", "chartqa"]
PublishedSplit = Literal["train", "validation", "test"]
Questions = Literal["all", "yes-no"]

# SLAKE: its English questions. ScienceQA: its questions with an image.
PUBLISHED_SIZES: dict[BenchmarkKind, dict[PublishedSplit, int]] = {
    "slake": {"train": 4919, "validation": 1053, "test": 1061},
    "vqa-rad": {"train": 1793, "test": 451},
    "geometry3k": {"train": 2101, "validation": 300, "test": 601},
    "geometry3k-choice": {"train": 2101, "validation": 300, "test": 601},
    "scienceqa": {"train": 6218, "validation": 2097, "test": 2017},
    "chartqa": {"train": 28299, "validation": 1920, "test": 2500},
}

# Those of them that are answered by yes or no, where that is known.
YES_NO_SIZES: dict[BenchmarkKind, dict[PublishedSplit, int]] = {
    "slake": {"train": 1681, "validation": 358, "test": 355},
    "vqa-rad": {"test": 251},
}


def published_sizes(kind: BenchmarkKind, questions: Questions = "all") -> dict[PublishedSplit, int]:
    """Queries of each published split; an upper bound where the number of yes/no questions is unknown."""
    sizes = PUBLISHED_SIZES[kind]
    return sizes if questions == "all" else sizes | YES_NO_SIZES.get(kind, {})
