"""VISTA's scores: the image's share of the attention, its z-score within a query, and the threshold τ.

The only place that says how scores are computed and compared. Filters, the audit and the gallery use it, so
that a solution that one of them drops is dropped by all. Does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from vista.errors import VistaError
from vista.records import Row

Numbers = TypeVar("Numbers", float, np.ndarray)

TAU = -0.5  # the paper's threshold (Sec. 3, step 3)
MIDDLE = 0.5  # the layer that the paper scores, ⌊L/2⌋, as a fraction of the depth

# Solutions with equal tokens can differ in the last bits of their scores, depending on the batch they were
# scored in. A difference this small, relative to the numbers they are made of, counts as none.
RESOLUTION = 1e-6
# And a spread this small counts as none.
NO_SPREAD = 1e-5
# The size of the numbers that log-probabilities are made of: their rounding errors do not shrink with them.
TYPICAL_LOGIT = 10.0


def layer_indices(layers: Literal["all"] | Sequence[float], num_layers: int) -> list[int]:
    """Layers at these fractions of the depth: ⌊f·L⌋, the last layer for f = 1; each once, ascending."""
    if layers == "all":
        return list(range(num_layers))
    return sorted({min(math.floor(fraction * num_layers), num_layers - 1) for fraction in layers})


# Kinds of layers, by transformers' names, that compute no attention of tokens on tokens.
NO_ATTENTION = ("linear_attention", "conv", "moe")


def layers_read(
    layers: Sequence[int], kinds: Sequence[str] | None, linear: Literal["refuse", "nearest"]
) -> list[int]:
    """The layer whose attention is read for each of ``layers``: itself, or in hybrid models another.

    Args:
        layers: Layers asked for.
        kinds: The kind of every layer, by transformers' names; ``None`` where all have attention.
        linear: What is done about a layer without attention (but linear attention, a convolution): it is
            refused, or the nearest layer with attention is read, of two the earlier one.

    Raises:
        VistaError: a layer is refused; names those that can be read and the key to set.
    """
    attending = [layer for layer, kind in enumerate(kinds or []) if kind not in NO_ATTENTION]
    refused = [layer for layer in layers if kinds and layer not in attending]
    if refused and (linear == "refuse" or not attending):
        count = len(kinds or [])
        nearest = "set scoring.linear_layers: nearest to read the nearest, or "
        raise VistaError(
            f"layers {refused} of {count} have no attention to read, since they are linear or convolutional; "
            + choice_of_layers(attending, count, nearest)
        )
    return [min(attending, key=lambda own: abs(own - layer)) if attending else layer for layer in layers]


def choice_of_layers(readable: Sequence[int], count: int, instead: str = "") -> str:
    """What to do where layers cannot be read: which can, and the keys to set.

    Args:
        readable: Layers that can be read.
        count: Of all layers.
        instead: What else can be done.
    """
    if not readable:
        return "no layer has any that can be read: take methods whose filter reads no attention"
    fractions = ", ".join(f"{fraction_of(layer, count):g}" for layer in readable)
    keys = "scoring.layers and filter.layers to fractions of the depth such as"
    return f"layers {list(readable)} can be read: {instead}set {keys} {fractions}"


def fraction_of(layer: int, count: int) -> float:
    """The fraction of the depth, with few decimals, that ``layer_indices`` takes for a layer of ``count``."""
    rounded: Iterator[float] = (
        (math.ceil(10**digits * layer / count) + more) / 10**digits
        for digits in range(2, 16)
        for more in (0, 1)  # 0.29 · 100 is a little less than 29
    )
    return next(fraction for fraction in rounded if layer_indices([fraction], count) == [layer])


def middle_layer(num_layers: int) -> int:
    """The paper's layer, ⌊L/2⌋."""
    return layer_indices([0.5], num_layers)[0]


def share_of_vision(system: Numbers, vision: Numbers, instruction: Numbers) -> Numbers:
    """S = λ_vis / (λ_sys + λ_vis + λ_ins) (paper: Sec. 3, step 3).

    Args:
        system: Attention of responses to the system tokens: a number, or an array of any shape.
        vision: The same to the image's tokens.
        instruction: The same to the instruction.

    Raises:
        ValueError: a sum is not a positive number.
    """
    total = system + vision + instruction
    if not np.all(np.isfinite(total) & (total > 0.0)):
        raise ValueError(f"attention sums to {total}, expected a positive number")
    share: Numbers = vision / total
    return share


def visual_share(row: Row, fractions: Sequence[float]) -> float:
    """The image's share of a solution's attention, averaged over the layers asked for.

    Args:
        row: A row of ``records.SCORES``.
        fractions: Layers, as fractions of the depth.

    Raises:
        VistaError: a layer was not scored, or its attention does not add up to a positive number.
    """
    where = f"query {row['query_id']!r}: solution {(row['source'], row['parent'], row['sample'])}"
    position = {layer: index for index, layer in enumerate(row["layers"])}
    shares: list[float] = []
    for layer in layer_indices(fractions, row["num_layers"]):
        if layer not in position:
            raise VistaError(
                f"{where}: layer {layer} was not scored, only {sorted(position)}; "
                "add its fraction to scoring.layers, delete the policy's scores files and rerun"
            )
        at = position[layer]
        try:
            shares.append(share_of_vision(row["s_sys"][at], row["s_vis"][at], row["s_ins"][at]))
        except ValueError as error:
            raise VistaError(
                f"{where}: layer {layer}: {error}; delete the policy's scores files and rerun"
            ) from error
    return sum(shares) / len(shares)


@dataclass(frozen=True)
class Standardised:
    """The values of one query's solutions as z-scores.

    ``z`` is (value − mean) / standard deviation, all 0 where there is no spread. Four equal values and a
    larger one have z = −0.5, the paper's threshold. By the formula all four stay, and rounding must not
    decide otherwise, so a value is below a threshold only if it is by more than ``tolerance``.
    """

    z: np.ndarray  # [solutions]
    tolerance: float  # ``RESOLUTION`` as a difference of z-scores; 0 where there is no spread
    has_spread: bool

    def below(self, tau: float) -> np.ndarray:
        """Which are below ``tau``, [solutions]; none where there is no spread, whatever ``tau``."""
        found: np.ndarray = (self.z < tau - self.tolerance) & self.has_spread
        return found


def standardise(values: Sequence[float], ddof: int = 0, size: float | None = None) -> Standardised:
    """z-scores of the values of one query's solutions (paper: Sec. 3, step 3).

    Sums are exact, so the order of the solutions does not matter.

    Args:
        values: One for each solution that is compared.
        ddof: Degrees of freedom of the standard deviation.
        size: The size of the numbers that the values are made of, to which rounding errors are in
            proportion; default: their mean.
    """
    array = np.asarray(values, dtype=float)
    nothing = Standardised(np.zeros(len(values)), 0.0, False)
    if len(values) < 2 or len(values) <= ddof:
        return nothing
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((array - mean) ** 2) / (len(values) - ddof))
    scale = abs(mean) if size is None else size
    if deviation <= NO_SPREAD * scale:
        return nothing
    return Standardised((array - mean) / deviation, RESOLUTION * scale / deviation, True)
