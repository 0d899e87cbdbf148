"""Control: right, and faithful to the scene (testbed only). No reward can know more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vista.errors import VistaError
from vista.records import Row
from vista.rewards import Reward, RewardSettings
from vista.testbed.audit import audit_query


class FaithfulSettings(RewardSettings):
    """Control: 1 for a right solution whose every claim is true of the image, 0 for any other."""

    needs_scene = True
    kind: Literal["faithful"] = Field(
        description="1 for a right solution that the audit finds faithful (testbed only)."
    )


class Faithful(Reward[FaithfulSettings]):
    """The verdict, and the audit against the scene."""

    def of(self, solution: Row, query: Mapping[str, Any]) -> float:
        """Whether a solution is right for reasons that are in the image."""
        if query["scene"] is None:
            raise VistaError(
                f"query {query['query_id']!r} has no scene, which reward {self.settings.kind!r} needs; make "
                "the task's queries again, or use another reward"
            )
        return float(solution["correct"] and audit_query(query["scene"], solution["text"]).faithful)
