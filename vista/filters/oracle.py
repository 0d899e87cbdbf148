"""Control: the audit against the scene as a filter (testbed only)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vista.errors import VistaError
from vista.filters import Context, Filter, FilterSettings, Solution
from vista.testbed.audit import audit_query


class OracleSettings(FilterSettings):
    """Control: drop positives that are unfaithful to the image. No filter can know more."""

    needs_scene = True
    kind: Literal["oracle"] = Field(description="Filter by the audit against the scene (testbed only).")


class Oracle(Filter[OracleSettings]):
    """Drop positives that are unfaithful to the scene."""

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Whether the audit finds a solution faithful."""
        if context.scene is None:
            raise VistaError(
                f"query {context.query_id!r} has no scene, which filter {self.settings.kind!r} needs; "
                "make the task's queries again, or use another filter"
            )
        return [audit_query(context.scene, positive.text).faithful for positive in positives]
