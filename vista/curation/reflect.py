"""Reflection as further examples: to correct a wrong solution, and to choose among several (R3V).

From Cheng et al. 2024 (arXiv 2411.00855) and their code, with one example of each kind per query
and round at most. Pure; it serves ``vista curate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vista.solutions import Solution

Kind = Literal["refine", "select"]

CANDIDATES = 3  # shown in an example of `select`; one or two of them are right


@dataclass(frozen=True)
class Reflection:
    """Solutions to show beside the query, and the right one that the response is made from."""

    kind: Kind
    shown: tuple[Solution, ...]
    right: Solution


def refine(
    right: Sequence[Solution], wrong: Sequence[Solution], random: np.random.Generator
) -> Reflection | None:
    """A wrong solution to show and a right one to answer with, both at random; ``None`` without either.

    Args:
        right: Right solutions of the latest round that has any: what is trained on is new.
        wrong: Wrong ones of all rounds.
        random: A stream of this query's own.
    """
    if not right or not wrong:
        return None
    return Reflection("refine", (_one(wrong, random),), _one(right, random))


def select(
    right: Sequence[Solution], wrong: Sequence[Solution], random: np.random.Generator
) -> Reflection | None:
    """Three candidates at random, in random order, of which one or two are right.

    Where solutions suffice for either, one right or two are equally likely. ``None`` where they
    suffice for neither. Both lists are those of all rounds.
    """
    possible = [count for count in (1, 2) if len(right) >= count and len(wrong) >= CANDIDATES - count]
    if not possible:
        return None
    count = possible[random.integers(len(possible))]
    drawn = [right[index] for index in random.choice(len(right), count, replace=False)]
    candidates = drawn + [
        wrong[index] for index in random.choice(len(wrong), CANDIDATES - count, replace=False)
    ]
    order = random.permutation(CANDIDATES)
    return Reflection("select", tuple(candidates[index] for index in order), drawn[0])


def _one(solutions: Sequence[Solution], random: np.random.Generator) -> Solution:
    return solutions[int(random.integers(len(solutions)))]
