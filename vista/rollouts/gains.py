"""How likely solutions are with their image and without it: the visual information gain.

Stage ``rollouts``; ``vista gains`` runs it, one job for each policy, scope and shard. The difference
log p(r | image) − log p(r | no image), per token, says how much the image helped to write a solution;
log p(r | image) alone says how sure of it the policy is. Curation decides what is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from tqdm import tqdm

from vista.chat import Prompt
from vista.config import Suite
from vista.engines.batching import BatchSize, apply_to_rows
from vista.engines.checkpoints import Checkpoint
from vista.engines.forced import Forced, read_forced
from vista.errors import VistaError
from vista.grid import Run
from vista.images import open_images
from vista.paths import Paths
from vista.records import GAINS, Row
from vista.rollouts.measure import measure_shard, measured_columns
from vista.solutions import asked_by
from vista.withheld import in_mean_colour

Without = Literal["mean", "absent"]
CHUNK = 2**22  # logits held at a time: 32 MB in float64
READING = "reading solutions"


def gains_shard(suite: Suite, paths: Paths, policy: Run, name: str, shard: int) -> None:
    """Write the log-probabilities of one shard's solutions and their manifest.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint reads the solutions.
        name: Name of the gains folder: what is read, and in which scope.
        shard: Which shard, from 0.
    """
    scoring = suite.scoring
    measure_shard(
        suite,
        paths,
        policy,
        shard,
        kind="gains",
        name=name,
        schema=GAINS,
        settings={"without": scoring.without},
        measure=lambda checkpoint, queries, solutions: gains_rows(
            checkpoint, queries, solutions, scoring.without, scoring.batch_size
        ),
    )


def gains_rows(
    checkpoint: Checkpoint,
    queries: Sequence[Row],
    solutions: Sequence[Row],
    without: Without,
    batch_size: int,
) -> list[Row]:
    """Log-probabilities (``records.GAINS``) of solutions (``records.ROLLOUT``), in their order.

    Args:
        checkpoint: The policy.
        queries: The queries that the solutions belong to, and maybe more.
        solutions: What is read.
        without: What takes the place of the image in the second pass.
        batch_size: Solutions per forward pass.

    Raises:
        VistaError: a solution has no tokens, or tokens that the policy cannot say.
    """
    asked = asked_by(queries, solutions)
    responses = [_with_end(checkpoint, row) for row in solutions]
    owner = {query["query_id"]: number for number, query in enumerate(asked)}
    passes: list[list[float]] = []
    batch = BatchSize(batch_size, READING)  # of both passes: what did not fit with images is not tried again
    for shown in (asked, [without_image(query, without) for query in asked]):
        prompts = checkpoint.encode(shown, max(map(len, responses), default=0))
        own = [prompts[owner[row["query_id"]]] for row in solutions]
        passes.append(mean_logprobs(checkpoint, own, responses, batch))
    return [
        _gains_row(row, len(response), logprob, bare)
        for row, response, logprob, bare in zip(solutions, responses, *passes, strict=True)
    ]


def without_image(query: Row, without: Without) -> Row:
    """``query`` without what its images show.

    By default each image is replaced by its mean colour, in its size: the prompt keeps its length
    and its positions, so only the image's content is missing. A policy trained on images has never
    seen a prompt with no image at all; its surprise at that would count as well.
    """
    if without == "absent":
        return {**query, "images": []}
    return {
        **query,
        "images": [{"bytes": in_mean_colour(image), "path": None} for image in open_images(query)],
    }


def _with_end(checkpoint: Checkpoint, solution: Row) -> list[int]:
    """The tokens that the policy said: to end is one of them."""
    tokens = [*solution["token_ids"], *(checkpoint.end_ids[:1] if solution["finished"] else [])]
    if not tokens:
        raise VistaError(f"{_where(solution)} has no tokens; delete the policy's samples and rerun")
    return tokens


def mean_logprobs(
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    batch_size: int | BatchSize,
) -> list[float]:
    """Mean log-probability per token of each response, at temperature 1, as sampling draws.

    Tokens that the policy may not sample have no share of the probability. An end token counts as
    all of the policy's end tokens together: to end is one event, whichever token did it.

    Args:
        checkpoint: The policy.
        prompts: The prompt of each response.
        responses: Token ids, at least one each; ``end_ids[0]`` at the end of those that finished.
        batch_size: Responses per forward pass.

    Raises:
        VistaError: the model changes its logits after the output embedding.
    """
    means = [math.nan] * len(responses)
    batch_of = batch_size if isinstance(batch_size, BatchSize) else BatchSize(batch_size, READING)

    def read(batch: Forced) -> list[float]:
        hidden = _last_hidden(checkpoint, batch.inputs)
        # A token is predicted from the position before it.
        before, tokens = (
            hidden[:, :-1][batch.in_response[:, 1:]],
            batch.inputs["input_ids"][batch.in_response],
        )
        values = _logprobs(checkpoint, before, tokens)
        lengths = [len(responses[row]) for row in batch.rows]
        return [float(part.mean()) for part in torch.split(values, lengths)]

    with (
        torch.inference_mode(),
        tqdm(total=len(responses), desc="log-probabilities", unit=" solutions", mininterval=5) as bar,
    ):
        for rows, found in read_forced(checkpoint, prompts, responses, batch_of, read):
            for row, mean in zip(rows, found, strict=True):
                means[row] = mean
            bar.update(len(rows))
    return means


def _last_hidden(checkpoint: Checkpoint, batch: dict[str, Any]) -> torch.Tensor:
    """[rows, length, width]: what the output embedding is applied to.

    The model's own logits of the last position, which cost next to nothing, prove that the
    output embedding is all there is between the two: some families scale or cap them.
    """
    caught: list[torch.Tensor] = []
    hook = checkpoint.model.base_model.register_forward_hook(
        lambda _module, _inputs, output: caught.append(output.last_hidden_state)
    )
    try:
        own = checkpoint.model(**batch, use_cache=False, logits_to_keep=1).logits
    finally:
        hook.remove()
    (hidden,) = caught
    plain = checkpoint.model.get_output_embeddings()(hidden[:, -1:])
    if not torch.allclose(plain.float(), own.float(), rtol=1e-3, atol=1e-3):
        raise VistaError(
            f"{type(checkpoint.model).__name__} changes its logits after the output embedding, so "
            "log-probabilities cannot be read in chunks; filters 'vig' and 'logprob' do not fit this model"
        )
    return hidden


def _logprobs(checkpoint: Checkpoint, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability [tokens] (float64) of each token from the hidden state [tokens, width] before it.

    The output embedding is applied in chunks, so logits for all positions are never in memory at once.
    """
    head = checkpoint.model.get_output_embeddings()
    forbidden = torch.tensor(checkpoint.forbidden_ids, dtype=torch.long, device=hidden.device)
    ends = torch.tensor(checkpoint.end_ids, dtype=torch.long, device=hidden.device)
    size = max(1, CHUNK // head.weight.shape[0])
    found = []
    for states, wanted in zip(torch.split(hidden, size), torch.split(tokens, size), strict=True):
        masked = apply_to_rows(head, states).double().index_fill_(1, forbidden, -torch.inf)
        logprobs = masked.log_softmax(1)
        own = logprobs.gather(1, wanted[:, None])[:, 0]
        found.append(torch.where(torch.isin(wanted, ends), logprobs[:, ends].logsumexp(1), own))
    return torch.cat(found)


def _gains_row(solution: Row, tokens: int, logprob: float, without: float) -> Row:
    if not (math.isfinite(logprob) and math.isfinite(without)):
        raise VistaError(
            f"{_where(solution)} has log-probability {logprob} with its image and {without} without it, "
            "expected finite numbers: the policy cannot have sampled it, or its weights are damaged; "
            "delete its samples and rerun"
        )
    return {**measured_columns(solution), "tokens": tokens, "logprob": logprob, "logprob_without": without}


def _where(solution: Row) -> str:
    key = (solution["source"], solution["parent"], solution["sample"])
    return f"query {solution['query_id']!r}: solution {key}"
