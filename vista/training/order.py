"""The order in which examples are trained on: random, with neighbours of similar length.

It serves ``vista train``. Torch's samplers draw from the global random state, which any other
use of it shifts; this one depends on the seed and the epoch alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from vista.seeding import generator

POOL = 4  # batches that are sorted by length together


def shuffled(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    """Every index once, so that batches of ``batch_size`` hold similar lengths.

    Indices are shuffled, cut into pools of a few batches, sorted by length within a pool and cut
    into batches, and the batches shuffled. Small pools keep the batches mixed: with large ones
    a batch would hold one kind of question only. A smaller last batch stays the last.
    """
    random = generator("training order", seed, epoch)
    order = random.permutation(len(lengths))
    by_length = np.asarray(lengths)
    batches: list[np.ndarray] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(by_length[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    full = [batch for batch in batches if len(batch) == batch_size]
    rest = [batch for batch in batches if len(batch) < batch_size]
    mixed = [full[index] for index in random.permutation(len(full))] + rest
    return [int(index) for batch in mixed for index in batch]


class LengthMixedSampler(Sampler[int]):
    """``shuffled``, anew in every epoch, and at its end fillers that the loss does not count.

    Processes that share a forward pass must all have a part in it. Where the last one would be
    smaller, accelerate repeats examples; here it is filled up with index ``len(lengths)``, so
    that the step is the same on any number of processes.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, together: int = 1) -> None:
        """Args are those of ``shuffled``.

        together: Examples in one forward pass of all processes; 1 fills nothing up.
        """
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.fillers = -len(lengths) % together
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

    def __iter__(self) -> Iterator[int]:
        yield from shuffled(self.lengths, self.batch_size, self.seed, self.epoch)
        yield from [len(self.lengths)] * self.fillers

    def set_epoch(self, epoch: int) -> None:
        """Go on to the order of ``epoch``."""
        self.epoch = epoch
