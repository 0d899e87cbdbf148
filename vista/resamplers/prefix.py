"""VISTA's prefix resampling (paper: Sec. 3, step 2), from top to bottom.

The policy reads each failed solution again, teacher-forced, after a prompt in which instruction and image
are swapped. The first token outside its Top-k there is the *critical token*; neither the ground truth
nor another model is asked. The policy's Top-1 prediction replaces it, and J continuations of this corrected
prefix are sampled after the prompt in its original order.

``FromPrefixes`` and ``MatchedSettings`` are also for the controls, which differ only in the prefix.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field

from vista.records import Row
from vista.resamplers import Attempt, Resampler, ResampleSettings
from vista.settings import MOST
from vista.solutions import asked_by

if TYPE_CHECKING:  # the config reads settings, and is free of torch
    import torch

    from vista.chat import Order, Prompt
    from vista.engines.checkpoints import Checkpoint

CHUNK = 2**23  # logits held at a time: 32 MB in float32


class PrefixSettings(ResampleSettings):
    """VISTA's prefix resampling (paper: Sec. 3, step 2)."""

    reads_model = True
    cuts = True
    finds_critical = True
    kind: Literal["prefix"] = Field(description="Resample from the corrected prefix.")
    j: int = Field(3, ge=1, le=MOST, description="Continuations sampled from each corrected prefix.")
    top_k: int = Field(5, ge=1, description="A token outside this many best predictions is critical.")
    order: Literal["swapped", "original"] = Field(
        "swapped", description="Order of instruction and image in the teacher-forced pass."
    )

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"prefix-j{self.j}-top{self.top_k}-{self.order}"


class MatchedSettings(ResampleSettings):
    """A control that is matched to a prefix resampling of the same samples, and reads its rows."""

    j: int = Field(3, ge=1, le=MOST, description="`j` of the prefix resampling to match.")
    top_k: int = Field(5, ge=1, description="Its `top_k`.")
    order: Literal["swapped", "original"] = Field("swapped", description="Its `order`.")

    @property
    def matched(self) -> PrefixSettings:
        """The prefix resampling that it is matched to."""
        return PrefixSettings(kind="prefix", j=self.j, top_k=self.top_k, order=self.order)


Settings = TypeVar("Settings", bound=ResampleSettings)


class FromPrefixes(Resampler[Settings]):
    """Continues a prefix of each failed sample; a subclass says what the prefix is."""

    @abstractmethod
    def prefixes(self, queries: Sequence[Row], failed: Sequence[Row]) -> list[list[int] | None]:
        """The prefix of each failed sample; ``None`` where there is nothing to continue.

        Args:
            queries: The queries of the failed samples.
            failed: The failed samples.
        """

    def run(self, queries: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
        """J continuations of every prefix, in the order of the samples.

        Prefixes come first, since an engine may take the memory of the model that finds them.
        """
        failed = [row for row in samples if not row["correct"]]
        queries = asked_by(queries, failed)
        found = self.prefixes(queries, failed)
        prompts = self.encode(queries)
        by_id = {q["query_id"]: (q, prompt) for q, prompt in zip(queries, prompts, strict=True)}
        return self.sample(
            [
                Attempt(
                    *by_id[row["query_id"]],
                    seeds=[self.seed(row["query_id"], j, row["sample"]) for j in range(self.settings.tries)],
                    prefix=prefix,
                    parent=row["sample"],
                )
                for row, prefix in zip(failed, found, strict=True)
                if prefix is not None
            ]
        )

    def forced(
        self, queries: Sequence[Row], failed: Sequence[Row], order: Order
    ) -> tuple[list[Prompt], list[list[int]]]:
        """What the policy reads, teacher-forced: for each failed solution, its prompt and its tokens."""
        responses = [row["token_ids"] for row in failed]
        longest = max(map(len, responses), default=0)
        prompts = self.job.checkpoint.encode(queries, longest, order)
        by_id = {query["query_id"]: prompt for query, prompt in zip(queries, prompts, strict=True)}
        return [by_id[row["query_id"]] for row in failed], responses

    def corrected(self, row: Row, critical: Critical | None) -> list[int] | None:
        """``corrected_prefix``; ``None`` where the prediction is to end, so there is nothing to continue."""
        if critical is None or critical.replacement in self.job.checkpoint.end_ids:
            return None
        return corrected_prefix(row["token_ids"], critical)


class PrefixResampler(FromPrefixes[PrefixSettings]):
    """VISTA's prefix resampling; keeps the critical tokens that it found."""

    source = "prefix"

    def prefixes(self, queries: Sequence[Row], failed: Sequence[Row]) -> list[list[int] | None]:
        """Each solution up to the first token that the policy would not expect."""
        prompts, responses = self.forced(queries, failed, self.settings.order)
        job, top_k = self.job, self.settings.top_k
        found = critical_tokens(job.checkpoint, prompts, responses, top_k, job.batch_size)
        self.critical = [_critical_row(row, critical) for row, critical in zip(failed, found, strict=True)]
        return [self.corrected(row, critical) for row, critical in zip(failed, found, strict=True)]


@dataclass(frozen=True)
class Critical:
    """The first response token outside the Top-k for its position, and the Top-1 prediction there."""

    position: int  # 0-based, in the response
    replacement: int  # a token id; an end token if the model would have stopped there


def corrected_prefix(token_ids: Sequence[int], critical: Critical) -> list[int]:
    """A solution up to its critical token, which the Top-1 prediction replaces (paper: Sec. 3, step 2)."""
    return [*token_ids[: critical.position], critical.replacement]


def critical_tokens(
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    top_k: int,
    batch_size: int,
) -> list[Critical | None]:
    """The critical token of each response; ``None`` where all tokens are in the Top-k.

    Only the tokens of the response itself can be critical, not the end token after it. Tokens
    that the policy may not sample are not among its predictions here either.

    Args:
        checkpoint: The policy.
        prompts: The prompt before each response.
        responses: Token ids of the failed solutions.
        top_k: How many predictions count as likely.
        batch_size: Responses per forward pass.
    """
    found: list[Critical | None] = []
    for read in read_predictions(checkpoint, prompts, responses, batch_size):
        outside = (position for position, rank in enumerate(read.ranks) if rank >= top_k)
        position = next(outside, None)
        found.append(None if position is None else Critical(position, read.best[position]))
    return found


@dataclass(frozen=True)
class Predictions:
    """What the policy predicts at each token of a response that it reads, teacher-forced."""

    ranks: list[int]  # of the response's own tokens, 0 for the likeliest
    best: list[int]  # the likeliest tokens


def read_predictions(
    checkpoint: Checkpoint, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], batch_size: int
) -> list[Predictions]:
    """Predictions at the tokens of each response, which the policy reads after its prompt.

    Args:
        checkpoint: The policy.
        prompts: The prompt before each response.
        responses: Token ids, without the end token.
        batch_size: Responses per forward pass.
    """
    import torch
    from tqdm import tqdm

    from vista.engines.batching import BatchSize
    from vista.engines.forced import Forced, read_forced

    found = [Predictions([], []) for _ in responses]
    asked = [index for index, response in enumerate(responses) if len(response)]
    own_prompts, own_responses = [prompts[i] for i in asked], [responses[i] for i in asked]

    def read(batch: Forced) -> list[Predictions]:
        hidden = checkpoint.model.base_model(**batch.inputs, use_cache=False).last_hidden_state
        # A token is predicted from the position before it.
        before, tokens = (
            hidden[:, :-1][batch.in_response[:, 1:]],
            batch.inputs["input_ids"][batch.in_response],
        )
        ranks, best = predictions(checkpoint, before, tokens)
        lengths = [len(own_responses[row]) for row in batch.rows]
        parts = zip(torch.split(ranks, lengths), torch.split(best, lengths), strict=True)
        return [Predictions(rank.tolist(), top.tolist()) for rank, top in parts]

    batch_of = BatchSize(batch_size, "reading solutions")
    with (
        torch.inference_mode(),
        tqdm(total=len(asked), desc="read", unit=" solutions", mininterval=5) as bar,
    ):
        for rows, made in read_forced(checkpoint, own_prompts, own_responses, batch_of, read):
            for row, each in zip(rows, made, strict=True):
                found[asked[row]] = each
            bar.update(len(rows))
    return found


def predictions(
    checkpoint: Checkpoint, hidden: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How each token ranks among the predictions from its hidden state, and which is the first.

    The output embedding is applied in chunks, so logits for all positions are never in memory at once.
    What some families do to logits after it (scaling, soft-capping) leaves their order as it is.

    Args:
        checkpoint: The policy.
        hidden: [tokens, width] last hidden states of the positions before the tokens.
        tokens: [tokens] token ids.

    Returns:
        Ranks [tokens], 0 for the likeliest; and the likeliest token ids [tokens].
    """
    import torch

    from vista.engines.batching import apply_to_rows

    head = checkpoint.model.get_output_embeddings()
    forbidden = torch.tensor(checkpoint.forbidden_ids, dtype=torch.long, device=hidden.device)
    size = max(1, CHUNK // head.weight.shape[0])
    ranks, best = [], []
    for states, wanted in zip(torch.split(hidden, size), torch.split(tokens, size), strict=True):
        logits = apply_to_rows(head, states).float().index_fill_(1, forbidden, -torch.inf)
        own = logits.gather(1, wanted[:, None])
        ranks.append((logits > own).sum(1))
        best.append(logits.argmax(1))
    return torch.cat(ranks), torch.cat(best)


def _critical_row(row: Row, critical: Critical | None) -> Row:
    return {
        "query_id": row["query_id"],
        "task": row["task"],
        "sample": row["sample"],
        "critical_token": None if critical is None else critical.position,
        "replacement": None if critical is None else critical.replacement,
    }
