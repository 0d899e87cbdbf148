"""How rows of the user's own become splits: by a value, by file, or by a share of the pictures."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from vista.errors import VistaError
from vista.settings import Distinct, Strict
from vista.task_kinds.benchmarks.questions import Question

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Values = Annotated[Distinct[str | int], Field(min_length=1)]
SPLITS = ("seed", "train", "test")


class SplitRule(Strict):
    """Which rows are in which split. A list names parts of the source, or values of the split column."""

    seed: Share | Values | None = Field(
        None, description="Values, or a share of the rows that are taken from train; default: no seed split."
    )
    train: Values | None = Field(None, description="Values; default: `train`, or what the shares leave.")
    test: Share | Values | None = Field(
        None, description="Values, or a share of the rows; default: `test`, or no test split beside a share."
    )
    unused: Distinct[str | int] = Field([], description="Values whose rows are left out, and counted.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse a value in two splits, and shares that leave nothing."""
        values = [str(value) for name in (*SPLITS, "unused") for value in self.values(name)]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is in two splits; take it out of one")
        if sum(self.share(name) for name in SPLITS) >= 1:
            raise ValueError("the shares of seed and test leave no rows to train on; lower them")
        return self

    def share(self, split: str) -> float:
        """The share of a split; 0 if it has none."""
        stated = getattr(self, split)
        return stated if isinstance(stated, float) else 0.0

    def values(self, split: str) -> list[str]:
        """The values that are named for a split."""
        stated = getattr(self, split)
        return [str(value) for value in stated] if isinstance(stated, list) else []

    @property
    def is_stated(self) -> bool:
        """Whether the config says anything."""
        return self != SplitRule()

    @property
    def by_value(self) -> bool:
        """Whether it names values."""
        return any(map(self.values, (*SPLITS, "unused")))

    def of_values(self, known: Sequence[str] | None) -> dict[str, str]:
        """By value, its split (or ``unused``).

        Args:
            known: The names of the parts, where splits go by part.
        """
        found = {value: name for name in (*SPLITS, "unused") for value in self.values(name)}
        for name in SPLITS if not self.is_stated else ("train", "test"):
            if getattr(self, name) is None and (known is None or name in known):
                found.setdefault(name, name)
        return found


def unknown_value(value: str, known: Sequence[str], what: str) -> VistaError:
    """The error about a value, or a part, that is in no split."""
    close = difflib.get_close_matches(value, known, n=1)
    meant = f"did you mean {close[0]!r}? Otherwise " if close else ""
    return VistaError(
        f"{what} {value!r} is in no split; {meant}name it under split.train, split.test, split.seed or "
        f"split.unused (known: {', '.join(known)})"
    )


def grouped(questions: Sequence[Question]) -> list[list[int]]:
    """Indices of questions in groups that share a picture or a cluster, directly or by way of others."""
    root = list(range(len(questions)))

    def top(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    first: dict[str, int] = {}
    for index, question in enumerate(questions):
        own = question.item.cluster
        for tie in [*question.pictures, *([f"cluster {own}"] if own else [])]:
            root[top(index)] = top(first.setdefault(tie, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(questions)):
        groups.setdefault(top(index), []).append(index)
    return list(groups.values())


def shared_out(
    questions: Sequence[Question], shares: dict[str, float], rank: Callable[[str], bytes]
) -> dict[str, list[Question]]:
    """Questions by split: whole groups, in a random order, until each share is met; the rest is ``train``.

    Args:
        questions: All of them, in order.
        shares: Of the splits that get one.
        rank: The place of a group in the order, by the key of its first question.
    """
    groups = sorted(grouped(questions), key=lambda group: rank(questions[group[0]].item.key))
    taken: dict[str, list[int]] = {split: [] for split in shares}
    left: list[int] = []
    for group in groups:
        for split, share in shares.items():
            if len(taken[split]) + len(group) / 2 <= share * len(questions):
                taken[split] += group
                break
        else:
            left += group
    return {
        split: [questions[index] for index in sorted(indices)]
        for split, indices in {**taken, "train": left}.items()
    }
