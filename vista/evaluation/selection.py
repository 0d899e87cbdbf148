"""Test-time selection: sample candidates, show them to the model, let it choose (R3V).

Stage ``evaluation``; used by ``vista.evaluation.chat_model``. From Cheng et al. 2024
(arXiv 2411.00855): the prompt of the choice is the one that self-select trains on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vista.config import SelectMethod, Suite, Wording
from vista.errors import VistaError
from vista.grid import Run, weights
from vista.records import Row
from vista.seeding import derive_seed
from vista.wording import selecting


@dataclass(frozen=True)
class Selection:
    """How candidates are drawn and shown."""

    policy: str  # id of the run whose checkpoint is sampled
    k: int
    temperature: float
    wording: Wording

    @classmethod
    def of(cls, suite: Suite, run: Run) -> Selection | None:
        """The selection that ``run`` is evaluated with; ``None``: it is decoded greedily."""
        method = suite.methods[run.method]
        if not isinstance(method, SelectMethod):
            return None
        return cls(weights(suite, run).id, method.k, method.temperature, suite.wording)

    def seeds(self, query_id: str) -> list[int]:
        """The random streams of a query's candidates; the first ones are the same whatever ``k``."""
        return [derive_seed("candidate", self.policy, query_id, index) for index in range(self.k)]

    def asking(self, doc: Mapping[str, Any], candidates: Sequence[str]) -> Row:
        """The query ``doc``, asked with its candidates in the order in which they were drawn.

        Raises:
            VistaError: it is not a query of a suite.
        """
        if "instruction" not in doc:
            raise VistaError(
                f"a document with the columns {sorted(doc)} has no instruction to add candidates to; "
                "selection evaluates the tasks of a suite only"
            )
        return selecting(doc, candidates, self.wording)
