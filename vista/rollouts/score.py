"""Attention scores of solutions: how much they looked at each prompt segment (paper: Sec. 3, step 3).

Stage ``rollouts``; ``vista score`` runs it, one job for each policy, scope and shard. What is
made of the scores (VAS, the threshold) is curation's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from tqdm import tqdm

from vista.chat import Prompt, messages
from vista.config import Suite
from vista.engines.batching import BatchSize
from vista.engines.checkpoints import Checkpoint
from vista.engines.forced import read_forced
from vista.grid import Run
from vista.paths import Paths
from vista.records import SCORES, Row
from vista.rollouts.attention import reading
from vista.rollouts.measured import measure_shard, measured_columns
from vista.rollouts.policy import encode_queries
from vista.rollouts.shards import asked_by
from vista.scores import layer_indices
from vista.segments import segments

SEGMENTS = 3


def score_shard(suite: Suite, paths: Paths, policy: Run, name: str, shard: int) -> None:
    """Write the attention scores of one shard's solutions and their manifest.

    Args:
        suite: The resolved suite.
        paths: Where everything lies.
        policy: The run whose checkpoint reads the solutions.
        name: Name of the scores folder: what is scored, and in which scope.
        shard: Which shard, from 0.
    """
    scoring = suite.scoring
    measure_shard(
        suite,
        paths,
        policy,
        shard,
        kind="scores",
        name=name,
        schema=SCORES,
        settings={"layers": scoring.layers},
        measure=lambda checkpoint, queries, solutions: score_rows(
            checkpoint, queries, solutions, scoring.layers, scoring.batch_size
        ),
    )


def score_rows(
    checkpoint: Checkpoint,
    queries: Sequence[Row],
    solutions: Sequence[Row],
    layers: Literal["all"] | Sequence[float],
    batch_size: int,
) -> list[Row]:
    """Scores (``records.SCORES``) of solutions (``records.ROLLOUT``), in their order.

    Args:
        checkpoint: The policy.
        queries: The queries that the solutions belong to, and maybe more.
        solutions: What is scored.
        layers: Which layers, as fractions of the depth.
        batch_size: Solutions per forward pass.
    """
    num_layers: int = checkpoint.model.config.get_text_config().num_hidden_layers
    chosen = layer_indices(layers, num_layers)
    asked = asked_by(queries, solutions)
    longest = max((len(row["token_ids"]) for row in solutions), default=0)
    prompts = encode_queries(checkpoint, asked, longest)
    index = {query["query_id"]: number for number, query in enumerate(asked)}
    kinds = [
        segments(checkpoint.processor, messages(query), prompt)
        for query, prompt in zip(asked, prompts, strict=True)
    ]
    owners = [index[row["query_id"]] for row in solutions]
    values = attention_scores(
        checkpoint,
        [prompts[owner] for owner in owners],
        [kinds[owner] for owner in owners],
        [row["token_ids"] for row in solutions],
        chosen,
        batch_size,
    )
    return [_score_row(row, chosen, num_layers, value) for row, value in zip(solutions, values, strict=True)]


def attention_scores(
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    kinds: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    layers: Sequence[int],
    batch_size: int,
) -> list[list[list[float]]]:
    """λ_sys, λ_vis, λ_ins at each layer, for each response (paper: Sec. 3, step 3).

    Attention is averaged over heads, summed over the positions of a segment, and averaged over
    the response tokens: over the rows of the tokens themselves, as queries, not of the positions
    that predict them. A response without tokens has one row, the prompt's last.

    Args:
        checkpoint: The policy.
        prompts: The prompt of each response.
        kinds: The segment of every prompt token (``vista.segments``).
        responses: Token ids of the solutions, without the end token.
        layers: Indices of the layers.
        batch_size: Responses per forward pass.

    Returns:
        [responses][layers][sys, vis, ins].
    """
    values: list[list[list[float]]] = [[] for _ in responses]
    batch_of = BatchSize(batch_size, "reading attention of solutions")
    with (
        torch.inference_mode(),
        reading(checkpoint.model, layers) as reader,
        tqdm(total=len(responses), desc="attention", unit=" solutions", mininterval=5) as bar,
    ):

        def read(
            rows: list[int], batch: dict[str, torch.Tensor], in_response: torch.Tensor
        ) -> list[list[list[float]]]:
            in_response[:, -1] = True  # the prompt's last row, where there is no response
            of_segment = one_hot([kinds[row] for row in rows], in_response.shape[1], in_response.device)
            found: list[list[list[float]]] = reader.read(batch, in_response, of_segment).tolist()
            return found

        for rows, found in read_forced(checkpoint, prompts, responses, batch_of, read):
            for row, value in zip(rows, found, strict=True):
                values[row] = value
            bar.update(len(rows))
    return values


def one_hot(kinds: Sequence[Sequence[int]], length: int, device: torch.device) -> torch.Tensor:
    """[rows, length, segments], 1 where a prompt position belongs to a segment; 0 on responses."""
    marks = torch.zeros((len(kinds), length, SEGMENTS))
    for row, kind in enumerate(kinds):
        marks[row, torch.arange(len(kind)), torch.tensor(kind)] = 1.0
    return marks.to(device)


def _score_row(row: Row, layers: Sequence[int], num_layers: int, value: Sequence[Sequence[float]]) -> Row:
    sys, vis, ins = ([segment[i] for segment in value] for i in range(SEGMENTS))
    return {
        **measured_columns(row),
        "layers": list(layers),
        "num_layers": num_layers,
        "s_sys": sys,
        "s_vis": vis,
        "s_ins": ins,
    }
