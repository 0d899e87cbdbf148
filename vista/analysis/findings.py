"""What the suite says to the paper's claims, question by question (``findings.*``).

Stage ``analysis``; ``vista findings``, from the other tables. Some claims are about mechanisms (Sec. 3:
queries without a right sample, solutions that contradict the image, where a failed one goes wrong), the
others about methods. Rules give the answers, the same for every suite: nobody words them.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vista.analysis.comparisons import ALL_MODELS
from vista.analysis.page import (
    Page,
    Table,
    as_text,
    bold_if,
    is_clear,
    number,
    signed,
    with_interval,
    write_table,
)
from vista.analysis.pairs import TITLES
from vista.analysis.plan import findings_sources
from vista.analysis.stats import QUERIES
from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.paths import Paths

COLUMNS = ["about", "question", "answer", "value", "low", "high", "unit", "over", "from"]
PERCENT, AUROC, POINTS = "%", "AUROC", "points"
CHANCE = 0.5
# Kinds of comparison in the order in which they are told; sweeps have tables of their own.
KINDS = ("baseline", "component", "alternative", "setting", "decoding", "seed")
MECHANISM = "mechanism"
CAPTIONS = {MECHANISM: "What happens on the way", **{kind: TITLES[kind] for kind in KINDS}}
YES, WORSE, NOT_FOUND, OPEN = "yes", "no: worse", "not found", "open"
NOTES = """\
In brackets behind a difference: its 95 % interval; behind a share or an AUROC: the lowest and the highest of
the values that it is a mean of (over models, tasks, and, of scores that have one, layers). `yes` and
`no: worse`: the difference is clear after Holm's correction (p < 0.05). `not found`: it is not, and its
interval says what it may still be. `open`: there is no second seed, and nothing is called clear without one.
Where an answer counts cases, it counts those whose own interval lies above chance (or nothing). `from`: the
table with every number behind an answer, and with what the words mean."""


def findings_table(suite: Suite, paths: Paths) -> None:
    """Write ``findings.csv`` and its pages.

    Raises:
        VistaError: a table that it is made from is missing or damaged.
    """
    files = {name: paths.table(name, "csv") for name in findings_sources(suite)}
    recorder = Recorder("analysis", {"suite": suite.name}, list(files.values()))
    tables = {name: _read(file) for name, file in files.items()}
    rows = finding_rows(tables)
    write_table(paths, recorder, as_text(rows), findings_page(suite, rows), {"rows": len(rows)})


def _read(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file, keep_default_na=False, dtype="str")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise VistaError(f"{file}: cannot be read ({error}); delete it and rerun its rule") from error


def finding_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The table in numbers, ``COLUMNS``; a question that the suite's tables do not answer has no row.

    Args:
        tables: By name the tables that the suite has, as text.
    """
    rows: list[dict[str, Any]] = []
    if "distributions" in tables:
        rows += _imbalance(tables["distributions"])
    if "audit" in tables:
        rows += _unfaithful(tables["audit"])
    if "prefix" in tables:
        rows += _resampling(tables["prefix"])
    if "audit" in tables:
        rows += _detectors(tables["audit"])
    rows += _differences(tables["ablation"])
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def _imbalance(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """How many train queries the first policy never solves."""
    counts = table[table["what"] == "imbalance"].astype({"count": float})
    shares = [
        100 * own[own["x"] == "0"]["count"].sum() / own["count"].sum()
        for _, own in counts.groupby(["model", "train_set"], sort=False)
    ]
    if shares:
        question = "How many train queries have no right sample of the first policy?"
        yield _of_several(question, _share(shares), shares, PERCENT, "distributions")


def _unfaithful(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """How many right solutions contradict the image."""
    found = _first_policy(table[(table["measure"] == "unfaithful-share") & (table["source"] == "all")])
    if len(shares := _numbers(found, "value", 100)):
        question = f"How many right solutions of {found['policy'].iloc[0]} contradict the image?"
        yield _of_several(question, _share(shares), shares, PERCENT, "audit")


def _resampling(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Where critical tokens are, and what continuing there gains over sampling again."""
    for measure, question in (
        ("found-exactly", "How often is the critical token where a failed solution of {} first goes wrong?"),
        ("prefix-error-free", "How many of the continued prefixes of {} are without error?"),
    ):
        found = _first_policy(table[(table["measure"] == measure) & (table["task"] == "all")])
        if len(shares := _numbers(found, "value", 100)):
            told = question.format(found["policy"].iloc[0])
            yield _of_several(told, _share(shares), shares, PERCENT, "prefix")
    for control, what in (("number", "as many plain samples"), ("budget", "plain samples of as many tokens")):
        measure = f"rescued-beyond-{control}-matched"
        found = _first_policy(table[(table["measure"] == measure) & (table["task"] == "all")])
        if len(gains := _numbers(found, "value", 100)):
            above, below = (_numbers(found, end, 1) for end in ("low", "high"))
            answer = f"more in {sum(end > 0 for end in above)} of {len(gains)}"
            answer += f", fewer in {sum(end < 0 for end in below)}"
            question = f"Does resampling of {found['policy'].iloc[0]} solve more hard queries than {what}?"
            yield _of_several(question, answer, gains, POINTS, "prefix")


def _detectors(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Which scores tell unfaithful right solutions from faithful ones, each at all its layers."""
    rows = _first_policy(table[(table["measure"] == "auroc") & (table["source"] == "all")])
    for detector, found in rows.groupby("detector", sort=False):
        areas, above = _numbers(found, "value", 1), _numbers(found, "low", 1)
        if areas:
            answer = f"in {sum(end > CHANCE for end in above)} of {len(areas)}"
            question = f"Does {detector} tell right solutions that contradict the image from others (AUROC)?"
            yield _of_several(question, answer, areas, AUROC, "audit")


def _differences(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Which methods differ, in the last round of each: over all models where there are several."""
    rows = table[(table["last"] == "True") & table["kind"].isin(KINDS) & (table["difference"] != "")]
    several = rows["train_set"].nunique() > 1
    rows = rows.sort_values("kind", key=lambda kinds: kinds.map(KINDS.index), kind="stable")
    for _, found in rows.groupby(["kind", "method", "against", "train_set"], sort=False):
        over_all = found[found["model"] == ALL_MODELS]
        (row,) = (over_all if len(over_all) else found).head(1).to_dict("records")
        over = [row["model"], *([row["train_set"]] if several else []), f"round {row['round']}"]
        yield {
            **{"about": row["kind"], "question": f"Is {row['method']} better than {row['against']}?"},
            **{"answer": _answer(row), "value": float(row["difference"]), "unit": POINTS, "from": "ablation"},
            **{end: float(row[end]) for end in ("low", "high") if row[end] != ""},
            "over": ", ".join([*over, *(["one seed"] if row["error"] == QUERIES else [])]),
        }


def _answer(row: Mapping[Hashable, Any]) -> str:
    if row["error"] == QUERIES or row["p_holm"] == "":
        return OPEN
    if not is_clear(float(row["p_holm"])):
        return NOT_FOUND
    return YES if float(row["difference"]) > 0 else WORSE


def _share(shares: Sequence[float]) -> str:
    return f"{statistics.fmean(shares):.0f} %"


def _first_policy(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a table of rollouts what is about the policy that comes first, and the first way of resampling."""
    for name in ("policy", "solutions", "resamples"):
        if name in rows and len(rows):
            rows = rows[rows[name] == rows[name].iloc[0]]
    return rows


def _numbers(rows: pd.DataFrame, name: str, times: float) -> list[float]:
    return [times * float(value) for value in rows[name] if value != ""]


def _of_several(question: str, answer: str, values: list[float], unit: str, source: str) -> dict[str, Any]:
    """A mean with its range."""
    return {
        **{"about": MECHANISM, "question": question, "answer": answer, "value": statistics.fmean(values)},
        **({"low": min(values), "high": max(values)} if len(values) > 1 else {}),
        **{"unit": unit, "over": f"{len(values)} values" if len(values) > 1 else "one value", "from": source},
    }


def findings_page(suite: Suite, rows: pd.DataFrame) -> Page:
    """A question in a row, with its answer and the number behind it."""
    parts: list[str | Table] = []
    for about, caption in CAPTIONS.items():
        own = rows[rows["about"] == about].to_dict("records")
        cells = [
            [row["question"], _told(row["answer"]), _shown(row), row["over"], row["from"]] for row in own
        ]
        if cells:
            names = ["question", "answer", "number", "over", "from"]
            parts.append(Table(caption, pd.DataFrame(cells, columns=names), about))
    return Page("findings", f"Findings of suite `{suite.name}`", [*(parts or ["None."]), NOTES])


def _told(answer: str) -> str:
    return bold_if(answer in (YES, WORSE), answer)


def _shown(row: Mapping[Hashable, Any]) -> str:
    text = signed if row["unit"] == POINTS else number
    shown = text(row["value"]) + (f" {row['unit']}" if row["unit"] == PERCENT else "")
    return shown if pd.isna(row["low"]) else with_interval(shown, text(row["low"]), text(row["high"]))
