"""From prompts and responses of many lengths to batches of tensors that fit in memory, and their caches.

For every stage that runs a model. If memory runs out, ``BatchSize`` halves the batch.
"""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from tqdm import tqdm
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from vista.chat import Prompt
from vista.errors import MORE_MEMORY, VistaError, is_out_of_memory, lack
from vista.shown import printable

Result = TypeVar("Result")

# With fewer rows the kernels for CPUs add up a matrix product in another order.
MIN_ROWS = 8
# The largest share of a batch's positions that may be padding. A masked key costs a decoding step little
# beside the weights that the step reads; in a pass over whole rows, padding costs what other tokens cost.
PADDED_DECODING = 0.5
PADDED_READING = 0.2
# Layers that keep keys and values of single tokens. What linear attention keeps is of all tokens together.
OF_TOKENS = (DynamicLayer, DynamicSlidingWindowLayer)
FEWER_TOKENS = f"lower the model's max_pixels or the method's max_new_tokens, or {MORE_MEMORY}"


def collate(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    pad_id: int,
    side: Literal["left", "right"] = "right",
) -> dict[str, torch.Tensor]:
    """Stack ``prompts``, each followed by its response tokens, into model inputs.

    Returns:
        ``input_ids`` and ``attention_mask`` [batch, length], ``response_mask`` [batch, length]
        (True on response tokens), per-token features [batch, length] (0 on responses and
        padding), and image features concatenated along their first axis.
    """
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    shape = (len(prompts), max(lengths))
    ids = torch.full(shape, pad_id, dtype=torch.long)
    attention = torch.zeros(shape, dtype=torch.long)
    in_response = torch.zeros(shape, dtype=torch.bool)
    names = dict.fromkeys(name for prompt in prompts for name in prompt.token_features)
    features = {name: torch.zeros(shape, dtype=torch.long) for name in names}
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        start = 0 if side == "right" else shape[1] - lengths[row]
        middle, end = start + len(prompt), start + lengths[row]
        ids[row, start:end] = torch.tensor([*prompt.input_ids, *response], dtype=torch.long)
        attention[row, start:end] = 1
        in_response[row, middle:end] = True
        for name, values in prompt.token_features.items():
            features[name][row, start:middle] = torch.tensor(values)
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "response_mask": in_response,
        **features,
        **image_features(prompts),
    }


def image_features(prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Image features of all prompts, concatenated along their first axis.

    Where the other axes differ (images of one query in more tiles than those of another), zeros
    fill up their ends, as transformers' processors do in their own batches.
    """
    names = {name for prompt in prompts for name in prompt.image_features}
    return {
        name: _concatenated([p.image_features[name] for p in prompts if name in p.image_features])
        for name in sorted(names)
    }


def _concatenated(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """``parts``, filled up to one shape beyond the first axis, along the first axis."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    if any(list(part.shape[1:]) != shape for part in parts):
        grown = [part.new_zeros((part.shape[0], *shape)) for part in parts]
        for large, part in zip(grown, parts, strict=True):
            large[tuple(slice(size) for size in part.shape)] = part
        parts = grown
    return torch.cat(list(parts))


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Every tensor of ``batch`` on ``device``."""
    return {name: value.to(device) for name, value in batch.items()}


def apply_to_rows(layer: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """``layer(rows)``, [rows, …] each, whose last bits do not depend on how few rows there are."""
    missing = MIN_ROWS - len(rows)
    if missing <= 0:
        full: torch.Tensor = layer(rows)
        return full
    padded: torch.Tensor = layer(torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))]))
    return padded[: len(rows)]


def near_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of ``batch_size``, sorted by length, so with little padding."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def packed(
    lengths: Sequence[int],
    batch_size: int,
    padded: float,
    *,
    weights: Sequence[int] | None = None,
    kinds: Sequence[tuple[str, ...]] | None = None,
) -> Iterator[list[int]]:
    """Indices in batches of equal length and kind; those that would not fill one, in batches of near lengths.

    What fills a batch without padding is computed as if there were none.

    Args:
        lengths: Of the rows.
        batch_size: Rows in a batch, at most; more only where a single index has more.
        padded: The largest share of a batch's positions that may be padding; 0: equal lengths only.
        weights: Rows that each index stands for; default: one.
        kinds: What must be equal besides lengths in a batch without padding; default: nothing.
    """
    weights = [1] * len(lengths) if weights is None else weights
    groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault((length, () if kinds is None else kinds[index]), []).append(index)
    rest: list[int] = []
    for key in sorted(groups):
        *full, last = _cut(groups[key], lengths, weights, batch_size, 0.0)
        yield from full
        if padded and sum(weights[index] for index in last) < batch_size:
            rest += last
        else:
            yield last
    yield from _cut(rest, lengths, weights, batch_size, padded)


def _cut(
    order: Sequence[int], lengths: Sequence[int], weights: Sequence[int], batch_size: int, padded: float
) -> Iterator[list[int]]:
    """``order``, by ascending length, cut into batches; see ``packed``."""
    batch: list[int] = []
    rows = tokens = 0
    for index in order:
        rows, tokens = rows + weights[index], tokens + weights[index] * lengths[index]
        if batch and (rows > batch_size or tokens < (1 - padded) * rows * lengths[index]):
            yield batch
            batch, rows, tokens = [], weights[index], weights[index] * lengths[index]
        batch.append(index)
    if batch:
        yield batch


def of_tokens(model: Any) -> bool:
    """Whether all layers of a model's cache keep keys and values of single tokens."""
    return all(type(layer) in OF_TOKENS for layer in DynamicCache(config=model.config).layers)


def repeated(cache: DynamicCache, owners: torch.Tensor) -> DynamicCache:
    """A cache with a row for each of ``owners``, rows of ``cache``, which stays as it is.

    ``reorder_cache`` is what layers of every kind have: full attention, sliding windows, linear attention.
    """
    made = copy.deepcopy(cache)
    made.reorder_cache(owners)
    return made


def joined(caches: Sequence[DynamicCache], rows: Sequence[int]) -> tuple[DynamicCache, torch.Tensor]:
    """Caches of several lengths, each of so many ``rows``, as one, aligned at the end; they are given up.

    So no prompt is padded, only the keys and values that were made of it.

    Returns:
        The cache, and its mask [rows, length], 0 before the shorter ones.
    """
    first = caches[0]
    lengths = [cache.get_seq_length() for cache in caches]
    for number, layer in enumerate(first.layers):
        if not layer.is_initialized:  # it looks at another layer's keys
            continue
        parts = [cache.layers[number] for cache in caches]
        layer.keys = _aligned([part.keys for part in parts])
        layer.values = _aligned([part.values for part in parts])
        for part in parts[1:]:
            part.reset()  # frees its memory
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = max(lengths)
    shapes = zip(rows, lengths, strict=True)
    masks = [torch.ones((*shape, 1), dtype=torch.long, device=first.layers[0].device) for shape in shapes]
    return first, _aligned(masks)[..., 0]


def _aligned(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """``parts``, [rows, …, length, width] each, aligned at the ends of their lengths; zeros before them."""
    longest = max(part.shape[-2] for part in parts)
    rows = sum(map(len, parts))
    whole = parts[0].new_zeros((rows, *parts[0].shape[1:-2], longest, parts[0].shape[-1]))
    start = 0
    for part in parts:
        whole[start : start + len(part), ..., longest - part.shape[-2] :, :] = part
        start += len(part)
    return whole


def _free_memory() -> None:
    """Free memory that is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def names_of(prompts: Iterable[Prompt]) -> list[str]:
    """What errors call prompts: by their queries, where these are known."""
    return [f"query {prompt.query_id!r}" if prompt.query_id else "" for prompt in prompts]


class BatchSize:
    """How many sequences go through a model together; halved for the rest of a job if memory runs out.

    Args:
        size: To begin with.
        doing: What messages say was being done, such as ``sampling``.
        remedies: What a user can do when not even one fits.
        whole: Sizes divide it; default: any size will do.
    """

    def __init__(
        self,
        size: int,
        doing: str,
        remedies: str = FEWER_TOKENS,
        whole: int | None = None,
    ) -> None:
        self.size = size
        self.doing = doing
        self.remedies = remedies
        self.whole = whole
        self.failed: list[int] = []  # sizes that did not fit
        self._names: Sequence[str] = ()

    def trying(self, names: Sequence[str]) -> None:
        """Note what goes through the model next: the name of a query or a run for each sequence."""
        self._names = names

    def until_it_fits(self, work: Callable[[], Result]) -> Result:
        """Call ``work()``; while memory runs out, call it again with half the size.

        Args:
            work: Reads ``size``, calls ``trying`` before each attempt, keeps what is done outside of
                itself, and does only what is not done yet when it is called again.

        Raises:
            VistaError: there is not enough memory even for one.
        """
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                what = lack(error)
            # Only here: as long as the error exists, so does everything that its frames hold.
            _free_memory()
            self.halve(what)

    def halve(self, what: str) -> None:
        """Halve the size that was tried, and print a message.

        Args:
            what: What the error said.

        Raises:
            VistaError: it was already one.
        """
        self.failed.append(self.size)
        whose = f"{self._subject()}: out of memory while {self.doing}"
        if self.size == 1:
            sizes = ", ".join(map(str, self.failed))
            raise VistaError(f"{whose}, even one at a time (tried {sizes} at once; {what}); {self.remedies}")
        tried = len(self._names)
        self.size = self._half(tried if 1 < tried < self.size else self.size)
        tqdm.write(printable(f"{whose} {tried} at once ({what}); going on with {self.size}"), file=sys.stderr)

    def _half(self, size: int) -> int:
        half = size // 2
        while self.whole is not None and self.whole % half:
            half -= 1
        return half

    def _subject(self) -> str:
        named = [name for name in dict.fromkeys(self._names) if name]
        return named[0] if named else "this job"
