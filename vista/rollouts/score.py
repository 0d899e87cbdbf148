"""Attention scores of solutions: how much they looked at each prompt segment (paper: Sec. 3, step 3).

Stage ``rollouts``; ``vista score`` runs it, one job for each policy, scope and shard. ``vista.scores`` says
what is made of the scores (VAS, the threshold), and curation applies it.

No attention matrix is ever kept whole. Our own function replaces the text decoder's attention: at the
layers asked for it computes the softmax of only the response rows, sums it over the segments at once, and
goes on with the ordinary fused kernel. The pass stops at the last layer asked for. This works for every
family that calls transformers' attention interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
from tqdm import tqdm
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vista.chat import Prompt, messages
from vista.config import Suite
from vista.engines.batching import BatchSize
from vista.engines.checkpoints import Checkpoint
from vista.engines.forced import Forced, read_forced
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.records import SCORES, Row
from vista.rollouts.measure import measure_shard, measured_columns
from vista.scores import layer_indices, layers_read
from vista.segments import segments
from vista.solutions import asked_by

SEGMENTS = 3
Layers = Literal["all"] | Sequence[float]
IMPLEMENTATION = "vista_rows"
# Registered permanently: transformers makes no mask at all (no sliding window either) for a name that
# is only set on the interface and not registered with its class.
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
CHUNK = 2**22  # attention weights held at a time: 16 MB
# What changes the softmax in a way that is not computed here.
UNKNOWN = ("softcap", "s_aux", "position_bias")

# From query, key, scaling, mask, rows and segments to attention on the segments.
Measure = Callable[
    [torch.Tensor, torch.Tensor, float, torch.Tensor | None, torch.Tensor, torch.Tensor], torch.Tensor
]


def score_shard(suite: Suite, paths: Paths, policy: Run, name: str, shard: int) -> None:
    """Write the attention scores of one shard's solutions and their manifest.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint reads the solutions.
        name: Name of the scores folder: what is scored, and in which scope.
        shard: Which shard, from 0.
    """
    scoring = suite.scoring
    settings: dict[str, Any] = {"layers": scoring.layers, "linear_layers": scoring.linear_layers}

    def measure(checkpoint: Checkpoint, queries: Sequence[Row], solutions: Sequence[Row]) -> list[Row]:
        read = read_for(checkpoint, scoring.layers, scoring.linear_layers)
        settings["read_instead"] = {str(layer): own for layer, own in read.items() if own != layer}
        return score_rows(
            checkpoint, queries, solutions, scoring.layers, scoring.batch_size, scoring.linear_layers
        )

    measure_shard(
        suite,
        paths,
        policy,
        shard,
        kind="scores",
        name=name,
        schema=SCORES,
        settings=settings,
        measure=measure,
    )


def read_for(
    checkpoint: Checkpoint, layers: Layers, linear: Literal["refuse", "nearest"] = "refuse"
) -> dict[int, int]:
    """By layer asked for, ascending, the one whose attention is read: itself, or in hybrid models another.

    Raises:
        VistaError: a layer has no attention, and the settings say to refuse it.
    """
    config = checkpoint.model.config.get_text_config()
    chosen = layer_indices(layers, config.num_hidden_layers)
    try:
        read = layers_read(chosen, getattr(config, "layer_types", None), linear)
    except VistaError as error:
        raise VistaError(f"{checkpoint.name}: {error}") from error
    return dict(zip(chosen, read, strict=True))


def score_rows(
    checkpoint: Checkpoint,
    queries: Sequence[Row],
    solutions: Sequence[Row],
    layers: Layers,
    batch_size: int,
    linear: Literal["refuse", "nearest"] = "refuse",
) -> list[Row]:
    """Scores (``records.SCORES``) of solutions (``records.ROLLOUT``), in their order.

    Args:
        checkpoint: The policy.
        queries: The queries that the solutions belong to, and maybe more.
        solutions: What is scored.
        layers: Which layers, as fractions of the depth.
        batch_size: Solutions per forward pass.
        linear: What is done about a layer that has no attention; see ``vista.scores.layers_read``.
    """
    num_layers: int = checkpoint.model.config.get_text_config().num_hidden_layers
    chosen = read_for(checkpoint, layers, linear)
    read = sorted(set(chosen.values()))
    asked = asked_by(queries, solutions)
    longest = max((len(row["token_ids"]) for row in solutions), default=0)
    prompts = checkpoint.encode(asked, longest)
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
        read,
        batch_size,
    )
    places = [read.index(layer) for layer in chosen.values()]
    return [
        _score_row(row, [*chosen], num_layers, [value[place] for place in places])
        for row, value in zip(solutions, values, strict=True)
    ]


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

        def read(batch: Forced) -> list[list[list[float]]]:
            rows, in_response = batch.rows, batch.in_response
            last = [len(prompts[row]) + len(responses[row]) - 1 - batch.cached for row in rows]
            in_response[range(len(rows)), last] = True  # the prompt's, where there is no response
            length = batch.cached + in_response.shape[1]
            of_segment = one_hot([kinds[row] for row in rows], length, in_response.device)
            found: list[list[list[float]]] = reader.read(batch.inputs, in_response, of_segment).tolist()
            return found

        for rows, found in read_forced(checkpoint, prompts, responses, batch_of, read, reader.prefill):
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


class _LastLayerReached(Exception):
    """Ends a forward pass whose remaining layers are not needed."""


def segment_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None,
    rows: torch.Tensor,
    segments: torch.Tensor,
) -> torch.Tensor:
    """Attention of some rows on each segment: summed over it, mean over heads and rows.

    Args:
        query: [batch, heads, length, width].
        key: [batch, key-value heads, keys, width]: as many, or those of a cache before them.
        scaling: Factor of the scores before the softmax.
        mask: What may be attended to, beyond causality: [batch or 1, heads or 1, length, keys],
            True where it may or added to the scores; ``None`` for causality alone.
        rows: [batch, length], True on the rows to average over; at least one in each batch row.
        segments: [batch, keys, segments], 1 where a position belongs to a segment.

    Returns:
        [batch, segments] float32.
    """
    summed = query.new_zeros((*query.shape[:2], key.shape[2]), dtype=torch.float32)
    for start, end, weights in _chunks(query, key, scaling, mask, int(rows.any(0).nonzero()[0])):
        chosen = rows[:, None, None, start:end].float()
        summed[:, :, : weights.shape[-1]] += (chosen @ weights)[:, :, 0]
    mean = summed.mean(1) / rows.sum(1, keepdim=True)
    return (mean[:, None] @ segments.float())[:, 0]


def row_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None,
    rows: torch.Tensor,
    segments: torch.Tensor,
) -> torch.Tensor:
    """The same row by row: attention on each segment, mean over heads.

    Takes the arguments of ``segment_attention``.

    Returns:
        [batch, length, segments] float32; zero on rows that are not asked for.
    """
    batch, _, length, _ = query.shape
    found = query.new_zeros((batch, length, segments.shape[-1]), dtype=torch.float32)
    for start, end, weights in _chunks(query, key, scaling, mask, int(rows.any(0).nonzero()[0])):
        found[:, start:end] = weights.mean(1) @ segments[:, : weights.shape[-1]].float()
    return found * rows[:, :, None]


def _chunks(
    query: torch.Tensor, key: torch.Tensor, scaling: float, mask: torch.Tensor | None, first: int
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """From row ``first`` on, a few rows at a time: where they start and end, and their attention weights.

    The weights are [batch, heads, end - start, keys]: keys that no row of the chunk may see are left out.
    """
    batch, heads, length, width = query.shape
    groups, before = heads // key.shape[1], key.shape[2] - length
    size = max(1, CHUNK // (batch * heads * key.shape[2]))
    for start in range(first, length, size):
        end = min(start + size, length)
        keys = before + end
        seen = key[:, :, None, :keys].expand(-1, -1, groups, -1, -1).reshape(batch, heads, keys, width)
        scores = (query[:, :, start:end] @ seen.transpose(-1, -2)).float() * scaling
        if mask is None:
            last_seen = torch.arange(before + start, keys, device=query.device)[:, None]
            hidden = torch.arange(keys, device=query.device)[None] > last_seen
            scores.masked_fill_(hidden, -torch.inf)
        elif mask.dtype == torch.bool:
            scores.masked_fill_(~mask[:, :, start:end, :keys], -torch.inf)
        else:
            scores += mask[:, :, start:end, :keys]
        yield start, end, scores.softmax(-1)


class AttentionReader:
    """Reads the segment attention of a model's text decoder at some layers, batch by batch.

    Args:
        model: The model; made ready by ``reading``.
        layers: Indices of the layers to read, ascending.
        measure: What is computed at each: ``segment_attention`` or ``row_attention``.
    """

    def __init__(self, model: Any, layers: Sequence[int], measure: Measure) -> None:
        self.model = model
        self.measure = measure
        self.layers = list(layers)
        self._decoder_parts = {id(part) for part in model.get_decoder().modules()}
        self._rows: torch.Tensor | None = None
        self._segments = torch.empty(0)
        self._found: dict[int, torch.Tensor] = {}

    def read(self, batch: dict[str, Any], rows: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """Segment attention [batch, layers, segments] of one batch, or [batch, layers, length, segments].

        Args:
            batch: The model's inputs.
            rows: [batch, length], True on the rows to average over.
            segments: [batch, keys, segments], 1 where a position belongs to a segment.

        Raises:
            VistaError: the model's attention does not pass through transformers' interface.
        """
        self._rows, self._segments, self._found = rows, segments, {}
        with suppress(_LastLayerReached):
            self.model.base_model(**batch, use_cache=False)
        missing = [layer for layer in self.layers if layer not in self._found]
        if missing:
            raise VistaError(
                f"{type(self.model).__name__}: attention at layers {missing} cannot be read, because "
                "these layers do not call transformers' attention interface"
            )
        return torch.stack([self._found[layer] for layer in self.layers], dim=1)

    def prefill(self, **inputs: Any) -> None:
        """Fill the cache among the model's inputs, as far as it is needed; nothing is measured."""
        self._rows = None
        with suppress(_LastLayerReached):
            self.model.base_model(**inputs)

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """The attention function: transformers calls it in every attention layer."""
        layer = getattr(module, "layer_idx", None)
        if layer in self.layers and id(module) in self._decoder_parts:
            unknown = [name for name in UNKNOWN if kwargs.get(name) is not None]
            if unknown:
                raise VistaError(
                    f"{type(module).__name__}: attention with {', '.join(unknown)} cannot be scored"
                )
            factor = query.shape[-1] ** -0.5 if scaling is None else scaling
            if self._rows is not None:
                self._found[layer] = self.measure(
                    query, key, factor, attention_mask, self._rows, self._segments
                )
            if layer == self.layers[-1]:
                raise _LastLayerReached
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output


@contextmanager
def reading(
    model: Any, layers: Sequence[int], measure: Measure = segment_attention
) -> Iterator[AttentionReader]:
    """Put the reader in place of the text decoder's attention; restore it afterwards."""
    reader = AttentionReader(model, sorted(layers), measure)
    decoder = model.get_decoder()
    before = decoder.config._attn_implementation
    ALL_ATTENTION_FUNCTIONS[IMPLEMENTATION] = reader.attend
    try:
        decoder.set_attn_implementation(IMPLEMENTATION)
        yield reader
    finally:
        decoder.set_attn_implementation(before)
        del ALL_ATTENTION_FUNCTIONS[IMPLEMENTATION]
