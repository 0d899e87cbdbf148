"""The pairs of runs behind each comparison, query by query.

For the tables that compare methods: ``ablation``, ``across_models``, ``resolution``. ``comparisons`` says
which methods are compared; here their runs are paired on model, seed, round and query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from vista.analysis.collect import in_domain
from vista.analysis.comparisons import ALL_MODELS, Contrast, contrasts
from vista.analysis.stats import overall_mean, paired_scores
from vista.config import SeedMethod, Suite
from vista.grid import Run
from vista.manifest import Status

TITLES = {
    "component": "Without a component",
    "alternative": "With another part in the place of VISTA's",
    "setting": "With another setting",
    "sweep": "Sweeps",
    "decoding": "Decoded otherwise",
    "baseline": "Against the baselines",
    "seed": "Against SFT-Seed",
}


@dataclass(frozen=True)
class Pair:
    """Two runs to compare; ``scores`` are the query-wise differences, if both have a result."""

    run: Run
    against: Run
    scores: pd.DataFrame | None
    means: tuple[float, float] | None  # accuracy of each


def compared(
    suite: Suite, statuses: Mapping[Run, Status], scores: Mapping[Run, pd.DataFrame]
) -> Iterator[tuple[dict[str, Any], list[Pair]]]:
    """What names each row of the ablation table, with the pairs of runs that it is over.

    Args:
        suite: The suite whose grid the runs are.
        statuses: Status of every run of the grid.
        scores: Scores of every run with a result.
    """
    inside = {run: in_domain(suite, run, frame) for run, frame in scores.items()}
    means = {run: overall_mean(frame).mean for run, frame in inside.items()}
    for contrast in contrasts(suite):
        for train_set in suite.train_sets:
            pairs = list(_pairs(suite, contrast, train_set, statuses, inside, means))
            for model in [ALL_MODELS, *dict.fromkeys(pair.run.model for pair in pairs)]:
                yield from _scope(contrast, model, train_set, pairs)


def _pairs(
    suite: Suite,
    contrast: Contrast,
    train_set: str,
    statuses: Mapping[Run, Status],
    scores: Mapping[Run, pd.DataFrame],
    means: Mapping[Run, float],
) -> Iterator[Pair]:
    """Every pair of runs of a contrast, in the order of the grid."""
    to_seed = isinstance(suite.methods[contrast.against], SeedMethod)
    for run in statuses:
        if (run.method, run.train_set) != (contrast.method, train_set):
            continue
        against = replace(run, method=contrast.against, round=0 if to_seed else run.round)
        if against not in statuses:
            continue
        if run in scores and against in scores:
            difference = paired_scores(scores[run], scores[against])
            yield Pair(run, against, difference, (means[run], means[against]))
        else:
            yield Pair(run, against, None, None)


def _scope(
    contrast: Contrast, model: str, train_set: str, pairs: list[Pair]
) -> Iterator[tuple[dict[str, Any], list[Pair]]]:
    """The rows of one contrast over one model or all of them, round by round."""
    own = [pair for pair in pairs if model in (ALL_MODELS, pair.run.model)]
    rounds = sorted({pair.run.round for pair in own})
    for each in rounds:
        names = {
            "kind": contrast.kind,
            "method": contrast.method,
            "against": contrast.against,
            "differs": contrast.differs,
            "model": model,
            "train_set": train_set,
            "round": each,
            "last": each == rounds[-1],
        }
        yield names, [pair for pair in own if pair.run.round == each]


def differences(pairs: list[Pair]) -> dict[tuple[str, int], pd.DataFrame]:
    """By model and seed, the query-wise differences of the pairs that have results."""
    return {(pair.run.model, pair.run.seed): pair.scores for pair in pairs if pair.scores is not None}


def how_many(pairs: list[Pair]) -> dict[str, Any]:
    """The status of a row, and how many models and pairs of runs it is over."""
    found = differences(pairs)
    missing = len(pairs) - len(found)
    return {
        "status": "complete" if not missing else "partial" if found else "no-positives",
        "models": len({model for model, _seed in found}),
        "runs": len(found),
        "missing": missing,
    }
