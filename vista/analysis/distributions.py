"""What the figures count: more shares than a readable table can show (``distributions.csv``).

Part of the analysis stage (``vista distributions``). Of each model's SFT-Seed, the first policy that samples:

* ``imbalance``: train queries by how many of their samples are right;
* ``attention``: where the attention of solutions goes, by layer;
* ``vas``: attention scores of faithful and of unfaithful right solutions;
* ``distance``: from the first error of a failed sample to its critical token.

The last two need to know what the images show, so they are only for generated tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vista import grid
from vista.analysis.page import Page, Table, as_text, write_table
from vista.analysis.pass_rates import Reader
from vista.analysis.pools import read_solutions, z_scores
from vista.analysis.truth import Truth, read_resamples, read_tokenizer, read_truth
from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.measured import distribution_files, first_policies, first_pools, first_resamples, has_scenes
from vista.paths import Paths
from vista.reads import Reads
from vista.records import SCORES, read_table
from vista.scores import middle_layer

COLUMNS = ["what", "model", "train_set", "group", "x", "count", "share"]
SEGMENTS = {"s_sys": "system", "s_vis": "vision", "s_ins": "instruction"}
# Bins of the attention scores; 0 and ±1, which small groups give exactly, are centres, not edges.
EDGES = np.arange(-3.125, 3.13, 0.25)
FAR = 10  # tokens; what is farther counts as this far
NOTES = """\
`count` is that of queries (`imbalance`), solutions (`vas`) or failed samples (`distance`) at `x`, summed
over seeds; `share` is its percentage of the group, and for `attention` the mean percentage of the
attention. `x` is the number of right samples, the layer, the middle of a bin, or the distance in tokens (at
most 10 to either side)."""


def distributions_table(suite: Suite, paths: Paths) -> None:
    """Write ``distributions.csv``, ``.md`` and ``.tex``.

    Raises:
        VistaError: rollouts or queries are missing or malformed.
    """
    recorder = Recorder("analysis", {"suite": suite.name}, distribution_files(suite, paths))
    rows = [*imbalance(suite, paths), *attention(suite, paths)]
    if has_scenes(suite):
        truth = read_truth(suite, paths)
        rows += [*scores(suite, paths, truth), *distances(suite, paths, truth)]
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    title = f"Distributions in suite `{suite.name}`"
    page = Page("distributions", title, [Table(title, as_text(table), ""), NOTES])
    write_table(paths, recorder, as_text(table), page, {"rows": len(table)})


def imbalance(suite: Suite, paths: Paths) -> Iterator[dict[str, Any]]:
    """Train queries by task and number of right samples."""
    reader = Reader(suite, paths)
    counts: dict[tuple[str, str, str], Counter[int]] = {}
    for policy in dict.fromkeys(policy for policy, _ in first_policies(suite)):
        rates = reader.pass_rates(policy)
        if rates is None:
            continue
        for query, kind in reader.groups(policy.train_set, "train").items():
            if query in rates.samples:
                task = kind.split(": ")[0]
                counts.setdefault((policy.model, policy.train_set, task), Counter())[rates.right[query]] += 1
    for key, found in counts.items():
        yield from _counted("imbalance", *key, {right: found[right] for right in range(max(found) + 1)})


def attention(suite: Suite, paths: Paths) -> Iterator[dict[str, Any]]:
    """The mean share of the attention on each segment, by layer."""
    means: dict[tuple[str, str], list[tuple[list[int], np.ndarray, int]]] = {}
    seen = set()
    for policy, method in first_policies(suite):
        name = grid.rollout_files(method).scores
        if name is None or policy in seen:
            continue
        seen.add(policy)
        files = Reads(suite, paths).shards(policy, "scores", name)
        table = pa.concat_tables([read_table(file, SCORES, SCORES.names) for file in files])
        if not len(table):
            continue
        layers = table["layers"][0].as_py()
        parts = np.stack([_by_layer(table[segment], len(layers), policy) for segment in SEGMENTS], axis=2)
        mean = (parts / parts.sum(axis=2, keepdims=True)).mean(axis=0)
        means.setdefault((policy.model, policy.train_set), []).append((layers, mean, len(table)))
    for (model, train_set), found in means.items():
        layers = found[0][0]
        together = np.mean([mean for _, mean, _ in found], axis=0)
        for number, segment in enumerate(SEGMENTS.values()):
            for layer, share in zip(layers, together[:, number], strict=True):
                yield {
                    "what": "attention",
                    "model": model,
                    "train_set": train_set,
                    "group": segment,
                    "x": layer,
                    "count": sum(count for _, _, count in found),
                    "share": 100 * float(share),
                }


def _by_layer(column: pa.ChunkedArray, layers: int, policy: grid.Run) -> np.ndarray:
    values = column.combine_chunks().flatten().to_numpy().astype(float)
    if len(values) != len(column) * layers:
        raise VistaError(f"{policy.id}: scores: solutions are scored at different layers; delete and rerun")
    matrix: np.ndarray = values.reshape(-1, layers)
    return matrix


def scores(suite: Suite, paths: Paths, truth: Truth) -> Iterator[dict[str, Any]]:
    """Attention scores at the middle layer of right solutions, faithful and unfaithful."""
    values: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {}
    for pool in first_pools(suite):
        solutions = read_solutions(suite, paths, pool, truth)
        middle = middle_layer(solutions.num_layers)
        if middle not in solutions.layers:
            continue
        rows = solutions.rows[solutions.rows["correct"]]
        z = z_scores(rows[f"share{middle}"], rows["query_id"])
        own = values.setdefault((pool.policy.model, pool.policy.train_set), {})
        for group, chosen in (("faithful", ~rows["unfaithful"]), ("unfaithful", rows["unfaithful"])):
            own.setdefault(group, []).append(z[chosen].to_numpy(float))
    for key, groups in values.items():
        for group, parts in groups.items():
            inside = np.clip(np.concatenate(parts), EDGES[0], EDGES[-1] - 1e-9)
            counts, _ = np.histogram(inside, EDGES)
            middles = (EDGES[:-1] + EDGES[1:]) / 2
            yield from _counted("vas", *key, group, dict(zip(middles.tolist(), counts.tolist(), strict=True)))


def distances(suite: Suite, paths: Paths, truth: Truth) -> Iterator[dict[str, Any]]:
    """Critical tokens by their distance from the first error, negative before it."""
    counts: dict[tuple[str, str], Counter[str | int]] = {}
    for item in first_resamples(suite):
        tokenizer = read_tokenizer(paths.base(item.policy.model))
        failed = read_resamples(suite, paths, item, truth, tokenizer).failed
        failed = failed[failed["first_error"].notna()]
        distance = (failed["critical"] - failed["first_error"]).clip(-FAR, FAR)
        own = counts.setdefault((item.policy.model, item.policy.train_set), Counter())
        own.update("none" if np.isnan(each) else int(each) for each in distance)
    for (model, train_set), found in counts.items():
        bins = {x: found[x] for x in [*range(-FAR, FAR + 1), "none"]}
        yield from _counted("distance", model, train_set, "all", bins)


def _counted(
    what: str, model: str, train_set: str, group: str, counts: dict[Any, int]
) -> Iterator[dict[str, Any]]:
    total = sum(counts.values())
    for x, count in counts.items():
        share = 100 * count / total if total else None
        row = {"what": what, "model": model, "train_set": train_set, "group": group}
        yield row | {"x": str(x), "count": count, "share": share}
