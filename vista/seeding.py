"""Random streams that depend only on what they are for, never on batch size, shard or order.

Every stream is keyed by a run's seed and by the names of what it serves, so that a
resumed, resharded or reordered job draws the same numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*parts: object) -> int:
    """Hash ``parts`` into a 63-bit seed; equal parts give equal seeds on every platform."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A counter-based generator (Philox) for the stream named by ``parts``."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts)))


def uniforms(seed: int, count: int) -> np.ndarray:
    """The first ``count`` uniforms in [0, 1) of stream ``seed``: one for each token position."""
    return np.random.Generator(np.random.Philox(seed)).random(count)
