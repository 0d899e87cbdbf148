"""From rows that earlier stages wrote to rows of a training set. For ``vista curate``.

First what curation reads: queries, solutions and scores. Then training rows, each a query with the responses
to train on: from solutions, and from the seed split. Annotated rationales and a teacher's come with the
queries; the base model's own are taken from its rollouts on the seed queries.

A solution's prompt is always the original-order one without a hint, whatever prompt it was
sampled from: that is the prompt of the evaluation. Examples of reflection show solutions as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from vista.chat import messages, prompted, reply
from vista.config import Prompts, SelfRationales, Suite, TeacherRationales, Wording
from vista.curation.select import Choice, Reflection
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import check_count
from vista.reads import SeedFiles
from vista.records import ASKED, QUERY, ROLLOUT, Row, Split, read_queries, read_rows
from vista.solutions import Key, Solution, capped, in_order, key_of, positives
from vista.wording import chosen, refining, selecting


def gold_example(query: Row) -> Row:
    """An SFT example from an annotated query; its text has no tokens yet.

    Raises:
        VistaError: the query has no rationale.
    """
    if not query["rationale"]:
        raise VistaError(
            f"seed query {query['query_id']!r} (task {query['task']!r}): no rationale; "
            "every query of a seed split must have a gold one"
        )
    return {
        "query_id": query["query_id"],
        "source": "seed",
        "images": query["images"],
        "prompt": messages(query),
        "completion": reply(query["rationale"]),
        "completion_ids": None,
    }


def own_example(query: Row, solution: Solution) -> Row:
    """An SFT example of the seed split from the base model's own solution, with its tokens."""
    return {**example(query, Choice(solution)), "source": "seed"}


def example(query: Row, choice: Choice) -> Row:
    """An SFT example from a positive, with the tokens that were sampled."""
    return {
        "query_id": query["query_id"],
        "source": choice.positive.source,
        "images": query["images"],
        "prompt": messages(query),
        "completion": reply(choice.positive.text),
        "completion_ids": choice.positive.token_ids,
    }


def reflection_example(query: Row, reflection: Reflection, wording: Wording) -> Row:
    """An SFT example that corrects a wrong solution, or chooses the answer among candidates.

    Correcting gives a whole solution, with the tokens that were sampled. Choosing gives the
    answer alone, as in R3V's code; that text has no tokens yet.
    """
    shown, right = [solution.text for solution in reflection.shown], reflection.right
    if reflection.kind == "refine":
        prompt, text, ids = refining(query, shown[0], wording), right.text, right.token_ids
    else:
        if right.answer is None:
            raise VistaError(
                f"query {query['query_id']!r}: solution {right.key} is right, but has no answer; "
                "delete the policy's rollouts and rerun"
            )
        prompt, text, ids = selecting(query, shown, wording), chosen(right.answer, wording), None
    return {
        "query_id": query["query_id"],
        "source": reflection.kind,
        "images": query["images"],
        "prompt": messages(prompt),
        "completion": reply(text),
        "completion_ids": ids,
    }


def asked(query: Row) -> Row:
    """A query that the policy is asked as it trains (``records.ASKED``)."""
    kept = {name: query.get(name) for name in ASKED.names if name != "prompt"}
    return {**kept, "prompt": messages(query)}


def pair(query: Row, choice: Choice) -> Row:
    """A preference pair from a positive and its negative."""
    if choice.negative is None:
        raise ValueError(f"query {query['query_id']!r}: a pair needs a negative")
    return {
        "query_id": query["query_id"],
        "source": choice.positive.source,
        "images": query["images"],
        "prompt": messages(query),
        "chosen": reply(choice.positive.text),
        "rejected": reply(choice.negative.text),
        "chosen_ids": choice.positive.token_ids,
        "rejected_ids": choice.negative.token_ids,
        "chosen_finished": choice.positive.finished,
        "rejected_finished": choice.negative.finished,
    }


ANY_ROUND = 0  # a run's seed rows are the same in all of its rounds, and those of its SFT-Seed


def seed_rows(suite: Suite, run: Run, files: SeedFiles | None, counts: Counter[str]) -> list[Row]:
    """Training rows (``records.EXAMPLE``) in the order of the seed queries.

    Args:
        suite: The resolved suite.
        run: The run that is trained.
        files: The seed split; ``None``: it is not trained on.
        counts: Gets the number of queries that have no right rationale, and so no row.

    Raises:
        VistaError: a query of an annotated split has no rationale, or an input is stale.
    """
    if files is None:
        return []
    queries = read_split(files.queries, suite.models[run.model].prompts)
    settings = suite.seed_rationales
    if not isinstance(settings, SelfRationales):
        # A teacher may not have found a right rationale; an annotated split must have one for every query.
        may_lack = isinstance(settings, TeacherRationales)
        kept = [query for query in queries.values() if query["rationale"] or not may_lack]
        counts["seed_without_rationale"] += len(queries) - len(kept)
        return [gold_example(query) for query in kept]
    solutions = read_solutions(files.samples, queries, "seed")
    rows: list[Row] = []
    for query_id, query in queries.items():
        right = positives(in_order(list(solutions[query_id].values())))
        counts["seed_without_rationale"] += not right
        chosen = capped(right, settings.max_per_query, run.seed, ANY_ROUND)
        rows += [own_example(query, solution) for solution in chosen]
    return rows


PROMPT_COLUMNS = ["query_id", "task", "images", "system", "instruction", "rationale"]


JUDGED_COLUMNS = ["answer", "answer_type", "choices"]


def read_split(
    files: Sequence[Path], prompts: Prompts, scene: bool = False, judged: bool = False
) -> dict[str, Row]:
    """Queries of all ``files`` by id, in order, as a model with these ``prompts`` is asked.

    With their scenes, and with what their responses are judged by, if asked for.

    Raises:
        VistaError: two files share a query id, so rollouts could not be told apart.
    """
    wanted = [*PROMPT_COLUMNS, *(["scene"] if scene else []), *(JUDGED_COLUMNS if judged else [])]
    found: dict[str, Row] = {}
    for path in files:
        read = read_queries(path, [name for name in QUERY.names if name in wanted])
        check_count(path, len(read), "queries", required=False)
        for row in read:
            if row["query_id"] in found:
                raise VistaError(
                    f"{path}: query_id {row['query_id']!r} also belongs to task "
                    f"{found[row['query_id']]['task']!r}; ids must be unique across a train set"
                )
            found[row["query_id"]] = prompted(row, prompts)
    return found


def read_solutions(
    files: Sequence[Path], queries: Mapping[str, Row], split: Split = "train", age: int = 0
) -> dict[str, dict[Key, Solution]]:
    """Every solution by query and key.

    Args:
        files: One policy's samples and resamples.
        queries: By id.
        split: Theirs; named in errors.
        age: Rounds since the policy was the latest one.

    Raises:
        VistaError: a solution of an unknown query, or two with one key: the rollouts are stale.
    """
    found: dict[str, dict[Key, Solution]] = defaultdict(dict)
    for path in files:
        rows = read_rows(path, ROLLOUT)
        check_count(path, len(rows), "solutions")
        for index, row in enumerate(rows):
            solution = Solution.of(row, age)
            known = found[solution.query_id]
            if solution.query_id not in queries:
                raise VistaError(
                    f"{path}: row {index}: query {solution.query_id!r} is not among the {split} queries; "
                    "delete the policy's rollouts and rerun"
                )
            if solution.key in known:
                raise VistaError(
                    f"{path}: row {index}: a second solution {solution.key} of query {solution.query_id!r}; "
                    "delete the policy's rollouts and rerun"
                )
            known[solution.key] = solution
    return found


def read_scores(files: Sequence[Path], schema: pa.Schema, known: Container[str]) -> dict[str, dict[Key, Row]]:
    """Attention scores or log-probabilities, by query and key.

    Args:
        files: One policy's scores or gains.
        schema: Theirs.
        known: Ids of the queries.

    Raises:
        VistaError: they are of an unknown query, or two of one solution: the rollouts are stale.
    """
    found: dict[str, dict[Key, Row]] = defaultdict(dict)
    for path in files:
        rows = read_rows(path, schema)
        check_count(path, len(rows), "solutions")
        for index, row in enumerate(rows):
            name, key = row["query_id"], key_of(row)
            if name not in known or key in found[name]:
                what = f"a second row of solution {key} of" if name in known else "an unknown"
                raise VistaError(
                    f"{path}: row {index}: {what} query {name!r}; delete the policy's rollouts and rerun"
                )
            found[name][key] = row
    return found
