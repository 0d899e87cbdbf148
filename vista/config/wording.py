"""What prompts say beside a query's own text: templates of a suite, checked when they are read."""

from __future__ import annotations

import string
from typing import Any

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from vista.answers import extract
from vista.settings import Strict

# What stands for what in each template; all of it must be there, and nothing else.
PLACEHOLDERS: dict[str, frozenset[str]] = {
    "hint": frozenset({"instruction", "answer"}),
    "refine": frozenset({"instruction", "solution"}),
    "select": frozenset({"instruction", "candidates"}),
    "candidate": frozenset({"number", "solution"}),
    "chosen": frozenset({"answer"}),
}


class Wording(Strict):
    """What prompts say beside a query's own text; `{…}` stands for what is filled in."""

    hint: str = Field("{instruction}\nhint : the answer is {answer}", description="STaR's rationalisation.")
    refine: str = Field(
        "{instruction}\nThis solution may be wrong:\n{solution}\nCorrect it.",
        description="R3V's self-refine.",
    )
    select: str = Field(
        "{instruction}\nCandidate solutions:\n{candidates}\nWhich answer is right?",
        description="R3V's self-select.",
    )
    candidate: str = Field("{number} : {solution}", description="One line of `{candidates}`.")
    chosen: str = Field("answer: {answer}", description="The right response to `select`.")

    @field_validator("*")
    @classmethod
    def _has_its_placeholders(cls, template: Any, info: ValidationInfo) -> Any:
        """Refuse a template that lacks a placeholder, or has one that nothing stands for."""
        wanted = PLACEHOLDERS[str(info.field_name)]
        listed = ", ".join(f"{{{name}}}" for name in sorted(wanted))
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"not a template ({error}); write a literal brace twice") from error
        found = [name for _, name, _, _ in parsed if name is not None]
        if set(found) != wanted:
            raise ValueError(f"a template with the placeholders {listed} and no others is expected")
        if any(form or conversion for _, _, form, conversion in parsed):
            raise ValueError(f"placeholders are written plainly, as {listed}")
        return template

    @field_validator("chosen")
    @classmethod
    def _gives_an_answer(cls, template: str) -> str:
        """Refuse a response in which no answer would be found."""
        if extract(template.format(answer="42")) != "42":
            raise ValueError('no answer is found in such a response; write it like "answer: {answer}"')
        return template
