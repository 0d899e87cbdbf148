"""Means of test scores and their uncertainty: errors, intervals, paired differences and tests.

Pure functions on data frames for the results tables, the ablation and the table of difficulty. Questions on
one image are not independent, so standard errors are clustered on the image (Miller 2024, arXiv 2411.00640,
Sec. 2.2) with the finite correction C/(C−1), C the number of images, and the bootstrap draws whole images.
Nothing is read here and nothing is rounded; ``docs/tables.md`` has the formulas in full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from vista.analysis.power import LEVEL, Variances, seeds_in_common, smallest_difference
from vista.errors import VistaError

PERCENT = 100.0
RESAMPLES = 2000  # of the bootstrap
KEYS = ["task", "query_id"]
QUERIES, SEEDS = "queries", "queries, seeds"  # what an error may account for


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, both in the unit of the scores."""

    mean: float
    se: float  # NaN where a task has a single cluster: one cluster tells nothing about spread
    n: int
    clusters: int


def overall_mean(scores: pd.DataFrame) -> Estimate:
    """Mean over tasks of the mean over queries, and its clustered standard error.

    With T tasks, task t of n_t queries and C_t clusters, every query has the influence
    ``u = √(C_t/(C_t−1)) · (score − mean_t) / (T · n_t)``; the variance is the sum over clusters
    of the squared sum of their influences. For one task that is the usual cluster-robust
    variance of a mean; tasks without common clusters add as independent ones; a cluster that
    several tasks share (questions on one image) brings in their covariance.

    Args:
        scores: One row per query, columns ``task``, ``cluster_id`` and ``score``.

    Raises:
        VistaError: no rows, an empty cluster id, or a score that is not a finite number.
    """
    task, names = pd.factorize(scores["task"])
    cluster, images = pd.factorize(scores["cluster_id"])
    values = scores["score"].to_numpy(dtype=float)
    _check(scores, values, cluster, images)
    size = np.bincount(task)
    mean = np.array([math.fsum(values[task == number].tolist()) for number in range(len(names))]) / size
    images_of_task = np.unique(task * len(images) + cluster) // len(images)
    clusters = np.bincount(images_of_task).astype(float)
    with np.errstate(divide="ignore"):
        correction = np.where(clusters > 1, np.sqrt(clusters / (clusters - 1)), math.nan)
    influence = (correction / (len(names) * size))[task] * (values - mean[task])
    sums = np.bincount(cluster, influence)
    return Estimate(
        mean=math.fsum(mean) / len(names),
        se=math.sqrt(math.fsum((sums**2).tolist())),
        n=len(scores),
        clusters=len(images),
    )


def paired_scores(scores: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Score minus the reference's score on the same query of the same task.

    Args:
        scores: One row per query, columns ``task``, ``query_id``, ``cluster_id`` and ``score``.
        reference: The same queries, answered by another checkpoint.

    Returns:
        The rows of ``scores`` with ``score`` replaced by the difference.

    Raises:
        VistaError: the two do not hold the same queries, each once, on the same images.
    """
    same = _same_rows(scores, reference)
    for frame in (scores,) if same else (scores, reference):
        if frame.duplicated(KEYS).any():
            task, query_id = frame.loc[frame.duplicated(KEYS), KEYS].iloc[0]
            raise VistaError(f"task {task!r}: query {query_id!r} has two scores; one is expected")
    if same:
        found = scores[[*KEYS, "cluster_id", "score"]].reset_index(drop=True)
        return found.assign(score=found["score"].to_numpy() - reference["score"].to_numpy())
    both = scores.merge(reference, on=KEYS, how="outer", suffixes=("", "_reference"), indicator=True)
    alone = both[both["_merge"] != "both"]
    if len(alone):
        task, query_id = alone[KEYS].iloc[0]
        raise VistaError(
            f"task {task!r}: query {query_id!r} (and {len(alone) - 1} more) is answered by only one of the "
            "two runs compared; evaluate both on the same queries"
        )
    moved = both[both["cluster_id"] != both["cluster_id_reference"]]
    if len(moved):
        task, query_id = moved[KEYS].iloc[0]
        raise VistaError(f"task {task!r}: query {query_id!r} has two cluster ids; evaluate both runs again")
    both["score"] = both["score"] - both["score_reference"]
    return both[[*KEYS, "cluster_id", "score"]]


def _same_rows(scores: pd.DataFrame, reference: pd.DataFrame) -> bool:
    """Whether two runs have the same queries in the same order, as those of one ``long.csv`` have."""
    return len(scores) == len(reference) and all(
        bool((scores[name].array == reference[name].array).all()) for name in [*KEYS, "cluster_id"]
    )


def paired_difference(scores: pd.DataFrame, reference: pd.DataFrame) -> Estimate:
    """``overall_mean`` of the differences, paired on the query and clustered on the image."""
    return overall_mean(paired_scores(scores, reference))


@dataclass(frozen=True)
class Pooled:
    """A mean difference over several pairs of runs, with its error over test queries and seeds."""

    mean: float
    se: float
    low: float  # the 95 % interval
    high: float
    p: float  # two-sided, of no difference; NaN where the error is zero or unknown
    runs: int
    n: int  # test queries
    variances: Variances  # that the error is made of

    @property
    def seeds(self) -> bool:
        """Whether the error accounts for training seeds, not for test queries alone."""
        return self.variances.freedom > 0

    @property
    def error(self) -> str:
        """What the error accounts for, as the tables say it."""
        return SEEDS if self.seeds else QUERIES


def pooled_difference(pairs: Mapping[tuple[str, int], pd.DataFrame]) -> Pooled:
    """Mean over models of the mean over seeds, with test queries and training seeds as sources of error.

    Two variances are added. Over test queries: the differences are averaged per query over seeds
    and models, and the variance of their mean is clustered on the image (``overall_mean``); models are
    taken as they are, not as a sample of models. Over seeds: s² Σ_m 1/S_m / M² for M models with S_m
    seeds, where s² is the variance of a run's mean difference between seeds, within models. What queries
    and seeds do jointly is in both, so the error is on average a little too large. The interval is that
    of a t distribution with Satterthwaite's degrees of freedom (s² rests on few seeds), or of the normal
    distribution where no model has a second seed: the error is then that over test queries alone.

    Args:
        pairs: By model and seed, the rows of ``paired_scores``: the same queries in each.

    Raises:
        VistaError: no pairs, or pairs over different queries.
    """
    if not pairs:
        raise VistaError("no pairs of runs to compare")
    single = {key: overall_mean(frame) for key, frame in pairs.items()}
    means: dict[str, list[float]] = {}
    for (model, _seed), estimate in single.items():
        means.setdefault(model, []).append(estimate.mean)
    queries = overall_mean(averaged(pairs)) if len(pairs) > 1 else next(iter(single.values()))
    freedom = sum(len(each) - 1 for each in means.values())
    spread = math.fsum((x - math.fsum(each) / len(each)) ** 2 for each in means.values() for x in each)
    inverse = math.fsum(1 / len(each) for each in means.values())
    share = inverse / len(means) ** 2
    seeds = 0.0
    if freedom:
        seeds = spread / freedom * inverse / len(means) ** 2
    se, low, high, p = t_test(queries.mean, queries.se**2, seeds, freedom)
    variances = Variances(
        queries=queries.se**2,
        seeds=spread / freedom if freedom else math.nan,
        residual=min(_residual(pairs, single, queries), queries.se**2 / share),
        share=share,
        freedom=freedom,
        known=freedom,
    )
    return Pooled(queries.mean, se, low, high, p, len(pairs), queries.n, variances)


def t_test(mean: float, queries: float, between: float, freedom: int) -> tuple[float, float, float, float]:
    """Standard error, 95 % interval and two-sided p-value of a mean whose error has two sources.

    Args:
        mean: In the unit of the scores, as all that follows.
        queries: Its variance over test queries.
        between: Its variance between repetitions (seeds, models), estimated; 0 where there are none.
        freedom: Degrees of freedom of that estimate.

    Returns:
        The error; the ends of the interval, of a t distribution with Satterthwaite's degrees of freedom, or
        of the normal one where ``between`` is 0; the p-value of no difference, NaN where the error is zero or
        unknown.
    """
    variance = queries + between
    degrees = variance**2 / (between**2 / freedom) if between > 0.0 else math.inf
    se = math.sqrt(variance)
    reach = float(student.ppf(0.975, degrees)) * se
    p = float(2.0 * student.sf(abs(mean) / se, degrees)) if se > 0.0 else math.nan
    return se, mean - reach, mean + reach, p


def _residual(
    pairs: Mapping[tuple[str, int], pd.DataFrame],
    single: Mapping[tuple[str, int], Estimate],
    together: Estimate,
) -> float:
    """The variance over test queries that a mean over seeds averages out, of one pair of runs.

    The variance of a single pair is, on average over seeds, that of what queries do in all of them and that
    of what they do in this one; in the variance of the mean over S seeds the latter counts for 1/S.

    Args:
        pairs: As of ``pooled_difference``.
        single: The mean of each, with its error.
        together: That of the mean over models and seeds.

    Returns:
        Not below 0; 0 where no model has a second seed.
    """
    models = list(dict.fromkeys(model for model, _ in pairs))
    found = []
    for model in models:
        own = {key: frame for key, frame in pairs.items() if key[0] == model}
        if len(own) > 1:
            mean = together if len(models) == 1 else overall_mean(averaged(own))
            alone = math.fsum(single[key].se ** 2 for key in own) / len(own)
            found.append((alone - mean.se**2) * len(own) / (len(own) - 1))
    return max(math.fsum(found) / len(found), 0.0) if found else 0.0


def unlike(errors: Sequence[str | None]) -> list[bool]:
    """Which numbers of a table lack the error over seeds that others of it have; ``None``: no number.

    Their error is over test queries alone, so they look surer than they are next to the others.
    """
    mixed = SEEDS in errors
    return [mixed and error == QUERIES for error in errors]


def averaged(pairs: Mapping[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """Per query, the mean over models of the mean over seeds."""
    keys = [*KEYS, "cluster_id"]
    if len(pairs) == 1:
        return next(iter(pairs.values()))[[*keys, "score"]].reset_index(drop=True)
    first, *others = pairs.values()
    if all(_same_rows(first, other) for other in others) and not first.duplicated(keys).any():
        by_seed: dict[str, list[np.ndarray]] = {}
        for (model, _seed), frame in pairs.items():
            by_seed.setdefault(model, []).append(frame["score"].to_numpy(dtype=float))
        means = [sum(scores) / len(scores) for scores in by_seed.values()]
        return first[keys].assign(score=sum(means) / len(means)).reset_index(drop=True)
    frames = [frame.assign(model=model) for (model, _seed), frame in pairs.items()]
    by_model = pd.concat(frames, ignore_index=True).groupby([*keys, "model"], sort=False)["score"].mean()
    found = by_model.groupby(keys, sort=False).mean().reset_index()
    if any(len(frame) != len(found) for frame in frames):
        raise VistaError("the runs to pool do not answer the same queries; evaluate them again")
    return found


def mcnemar_p(differences: pd.DataFrame) -> float:
    """Exact two-sided p-value of two runs being right equally often (McNemar 1947).

    Only queries that one of the two gets right count. It takes queries as independent.

    Args:
        differences: Rows of ``paired_scores`` between right-or-wrong scores: -1, 0 or 1 each.

    Returns:
        NaN where it does not apply: scores between right and wrong, or several questions about one image.
    """
    values = differences["score"]
    if not values.isin([-1.0, 0.0, 1.0]).all() or differences["cluster_id"].duplicated().any():
        return math.nan
    better, worse = int((values > 0).sum()), int((values < 0).sum())
    return float(mcnemar([[0, better], [worse, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979); NaN ones are not part of the family."""
    known = [p for p in p_values if not math.isnan(p)]
    corrected = iter(multipletests(known, method="holm")[1]) if known else iter(())
    return [math.nan if math.isnan(p) else float(next(corrected)) for p in p_values]


def _check(scores: pd.DataFrame, values: np.ndarray, cluster: np.ndarray, images: pd.Index) -> None:
    """Refuse scores that would give a meaningless number.

    Args:
        scores: As of ``overall_mean``.
        values: Its scores.
        cluster: The number of each row's image, -1 without one.
        images: Their ids.
    """
    if scores.empty:
        raise VistaError("no scores to average; the task has no test queries")
    if (cluster < 0).any() or "" in images:
        without = scores["cluster_id"].isna() | (scores["cluster_id"] == "")
        raise VistaError(
            f"task {scores.loc[without, 'task'].iloc[0]!r}: {int(without.sum())} scores have no cluster_id; "
            "standard errors are clustered on it"
        )
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise VistaError(
            f"task {scores.loc[wrong, 'task'].iloc[0]!r}: {int(wrong.sum())} scores are not finite numbers"
        )


# --- bootstrap ---
#
# How often each image is drawn is one multinomial draw for all runs on the same images, so that an interval
# costs a matrix product; ``scipy.stats.bootstrap``, which draws indices and gathers the scores for every
# interval, is the oracle of the tests (``benchmarks/bootstrap.py``). The seed is fixed, so equal scores have
# equal intervals.


def bootstrap_interval(
    scores: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over tasks of the mean over queries.

    Whole images are drawn with replacement; images that the same tasks ask about form a stratum, of which as
    many are drawn as there are, so that no task is left without queries.

    Args:
        scores: One row per query, columns ``task``, ``cluster_id`` and ``score``.
        resamples: How often the images are drawn again.
        seed: Of the drawing.

    Returns:
        The ends of the interval; NaN where some stratum is a single image, which tells nothing about spread.
    """
    # In the order of their names, so that the order of the rows does not decide which images are drawn.
    (image, images), (task, tasks) = (
        pd.factorize(scores[name], sort=True) for name in ("cluster_id", "task")
    )
    cell, shape = image * len(tasks) + task, (len(images), len(tasks))
    values = scores["score"].to_numpy(dtype=float)
    sums, sizes = (
        np.bincount(cell, weights, len(images) * len(tasks)).reshape(shape) for weights in (values, None)
    )
    _, kind = np.unique(sizes > 0, axis=0, return_inverse=True)
    strata = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]
    if any(len(stratum) < 2 for stratum in strata):
        return float("nan"), float("nan")
    counted = np.hstack([sums, sizes])
    drawn = sum(
        times_drawn(len(stratum), resamples, (seed, number)) @ counted[stratum]
        for number, stratum in enumerate(strata)
    )
    total, count = np.hsplit(drawn, 2)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile((total / count).mean(axis=1), [tail, 1.0 - tail])
    return float(low), float(high)


@lru_cache(maxsize=32)
def times_drawn(images: int, resamples: int, seed: tuple[int, ...]) -> np.ndarray:
    """How often each of ``images`` is among as many drawn with replacement: ``resamples × images``."""
    random = np.random.default_rng(seed)
    drawn: np.ndarray = random.multinomial(images, np.full(images, 1.0 / images), size=resamples)
    return drawn.astype(float)


# --- rows of the tables ---


def difference_columns(name: str) -> list[str]:
    """The columns of a difference: itself, its error and the ends of its 95 % interval, and their source."""
    stem = name.removesuffix("_sft_seed")
    return [name, f"{stem}_se", f"{stem}_low", f"{stem}_high", "error"]


def difference_numbers(pairs: Mapping[tuple[str, int], pd.DataFrame], name: str) -> dict[str, Any]:
    """``difference_columns`` with ``test``, ``p``, ``variances``; nothing where no runs are compared.

    Args:
        pairs: By model and seed, the rows of ``stats.paired_scores``.
        name: What the difference is called.
    """
    if not pairs:
        return {}
    found = pooled_difference(pairs)
    numbers = [value * PERCENT for value in (found.mean, found.se, found.low, found.high)]
    row: dict[str, Any] = dict(zip(difference_columns(name), [*numbers, found.error], strict=True))
    return row | {"p": found.p, "test": "t" if found.seeds else "normal", "variances": found.variances}


def detectable(rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The smallest difference that the test of each row of a table finds, in points.

    Args:
        rows: As of ``power.seeds_in_common``, with the ``variances`` of those that have numbers.
    """
    found = seeds_in_common(rows, [row.get("variances") for row in rows])
    return [None if each is None else smallest_difference(each) * PERCENT for each in found]


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
