"""What every settings class shares: strictness, and the form of names. Does not import torch."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LARGEST = 2**31 - 1  # of any whole number in a config
MOST = 10_000  # solutions to one query that are asked for at a time


class Strict(BaseModel):
    """Unknown keys are errors, numbers are finite, and a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_plain_numbers(cls, values: Any) -> Any:
        """Refuse unreasonably large numbers, and ``yes`` for a number, which pydantic takes for 1."""
        for name, field in cls.model_fields.items() if isinstance(values, dict) else ():
            value = values.get(name)
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, bool) and not {bool, Any} & _parts(field.annotation):
                    raise ValueError(
                        f"{name}: expected no boolean; YAML reads yes, no, on and off as booleans, "
                        "so quote text"
                    )
                if isinstance(each, int) and abs(each) > LARGEST:
                    raise ValueError(f"{name}: a whole number should be at most {LARGEST}")
        return values


def _parts(annotation: Any) -> set[Any]:
    """The types that an annotation is put together from."""
    inner = get_args(annotation)
    return {annotation} if not inner else {part for each in inner for part in _parts(each)}


def _each_once(values: list[Any]) -> list[Any]:
    """Refuse a list with the same name or number twice: its runs would be the same runs."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} appears twice; remove one of them")
    return values


NAME = r"^[a-z0-9][a-z0-9.+=-]*$"
REPOSITORY = r"^[^/\s]+/[^/\s]+$"
ADDRESS = r"^https?://"
Name = Annotated[str, Field(pattern=NAME, max_length=150)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Member = TypeVar("Member")
Distinct = Annotated[list[Member], AfterValidator(_each_once)]
