"""How many queries the published benchmarks have, for plans that are made before any download.

Used by the config and by ``vista plan``; the numbers are of the published files that stage
``tasks`` reads (docs/benchmarks.md names their sources), before queries are chosen or left out.
"""

from __future__ import annotations

from typing import Literal

BenchmarkKind = Literal["slake", "vqa-rad", "geometry3k", "geometry3k-choice", "scienceqa", "chartqa"]
PublishedSplit = Literal["train", "validation", "test"]

# SLAKE: its English questions. ScienceQA: its questions with an image.
PUBLISHED_SIZES: dict[BenchmarkKind, dict[PublishedSplit, int]] = {
    "slake": {"train": 4919, "validation": 1053, "test": 1061},
    "vqa-rad": {"train": 1793, "test": 451},
    "geometry3k": {"train": 2101, "validation": 300, "test": 601},
    "geometry3k-choice": {"train": 2101, "validation": 300, "test": 601},
    "scienceqa": {"train": 6218, "validation": 2097, "test": 2017},
    "chartqa": {"train": 28299, "validation": 1920, "test": 2500},
}
