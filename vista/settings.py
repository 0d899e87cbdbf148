"""What every settings class shares: strictness, and the form of names. Does not import torch."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

LARGEST = 2**31 - 1  # of any whole number in a config
MOST = 10_000  # solutions to one query that are asked for at a time
# Logits are divided by the temperature in float32; vLLM takes anything between 0 and this for this.
COLDEST, HOTTEST = 0.01, 100.0
LONGEST = 255  # bytes of a file's name, on common file systems


class Strict(BaseModel):
    """Unknown keys are errors, numbers are finite, and a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _has_plain_numbers(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse unreasonably large numbers, and ``yes`` for a number, which pydantic takes for 1.

        With all else that is wrong with the section, which pydantic looks for in what is left of it.
        """
        found = dict(_no_plain_numbers(cls, values)) if isinstance(values, dict) else {}
        if not found:
            return handler(values)
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError("plain_number", "{said}", {"said": said}),
                loc=(name,),
                input=values[name],
            )
            for name, said in found.items()
        ]
        try:
            handler({name: value for name, value in values.items() if name not in found})
        except ValidationError as error:
            for each in error.errors():
                if not (each["type"] == "missing" and each["loc"][:1] and each["loc"][0] in found):
                    wrong.append(_again(each))
        raise ValidationError.from_exception_data(cls.__name__, wrong)


def _again(error: ErrorDetails) -> InitErrorDetails:
    """The same error, to be raised with others."""
    context = {**error.get("ctx", {}), "said": error["msg"]}
    kind = PydanticCustomError(error["type"], "{said}", context)
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"])


def _no_plain_numbers(model: type[BaseModel], values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a section with a number that is none, or too large a one, each with what is wrong."""
    for name, field in model.model_fields.items():
        parts = _parts(field.annotation)
        for each in _plain(values.get(name), get_origin(field.annotation) is dict):
            if isinstance(each, bool) and not {bool, Any} & parts:
                yield name, "expected no boolean; write a number, or quote text"
            elif isinstance(each, int) and abs(each) > LARGEST and {int, float, Any} & parts:
                yield name, f"a whole number should be at most {LARGEST}"
            elif isinstance(each, float) and int in parts and not {float, Any} & parts:
                yield name, f"expected a whole number, not {each}; write it without a dot"


def _parts(annotation: Any) -> set[Any]:
    """The types that an annotation is put together from; a literal counts as its type."""
    inner = get_args(annotation)
    if inner:
        return {part for each in inner for part in _parts(each)}
    return {annotation if isinstance(annotation, type) or annotation is Any else type(annotation)}


def _plain(value: Any, is_mapping: bool) -> Iterable[Any]:
    """The values of a list, or of a mapping that is no section; else the value itself."""
    if isinstance(value, dict) and is_mapping:
        return value.values()
    return value if isinstance(value, list) else [value]


def _each_once(values: list[Any]) -> list[Any]:
    """Refuse a list with the same name or number twice: its runs would be the same runs."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} appears twice; remove one of them")
    return values


def spelled(number: float) -> str:
    """A number as a part of a name: 1, 0.7, 1e-05. Different numbers differ, equal ones do not."""
    short = f"{number + 0.0:g}"  # −0 is 0
    if float(short) == number:
        return short
    return str(number) if isinstance(number, int) else repr(number).removesuffix(".0")


def text_problems(value: Any, where: str) -> Iterator[str]:
    """Texts, keys among them, that cannot be written or shown as they are; each with its key.

    Args:
        value: As read from YAML.
        where: The file, then the keys that lead to ``value``.
    """
    if isinstance(value, str):
        odd = next((sign for sign in value if _is_odd(sign)), None)
        if odd is not None:
            half = unicodedata.category(odd) == "Cs"
            what = "half of a character" if half else "a control character"
            yield f"{where}: {what} (U+{ord(odd):04X}); remove it from the text"
    elif isinstance(value, dict):
        for key, each in value.items():
            spoilt = list(text_problems(key, f"{where}: key {key!r}"))
            yield from spoilt or text_problems(each, f"{where}{'.' if ': ' in where else ': '}{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from text_problems(each, f"{where}.{number}")


def _is_odd(sign: str) -> bool:
    """Whether a character is half of one, or controls something other than a line's end or a tab."""
    return unicodedata.category(sign) in ("Cs", "Cc") and sign not in "\n\t"


def _is_usable(path: Path) -> Path:
    """Replace ``~``, as a shell does, and refuse a path that no file can have."""
    if any(_is_odd(sign) or sign in "\n\t\u2028\u2029" for sign in str(path)):
        raise ValueError(
            "a path with control characters or half a character cannot be used; choose another name"
        )
    if any(len(os.fsencode(part)) > LONGEST for part in path.parts):
        raise ValueError(f"a name in this path has more than {LONGEST} bytes; choose a shorter one")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"~ cannot be replaced ({error}); set HOME, or write the path out") from error


def _is_warm(value: float) -> float:
    """Refuse a temperature so low that dividing by it leaves no numbers."""
    if 0 < value < COLDEST:
        raise ValueError(f"a temperature should be 0, which is greedy, or at least {COLDEST}")
    return value


NAME = r"^[a-z0-9][a-z0-9.+=-]*$"
REPOSITORY = r"^[^/\s]+/[^/\s]+$"
ADDRESS = r"^https?://"
Name = Annotated[str, Field(pattern=NAME, max_length=150)]
UserPath = Annotated[Path, AfterValidator(_is_usable)]  # of a config: `~` is the home folder
Temperature = Annotated[float, Field(ge=0.0, le=HOTTEST), AfterValidator(_is_warm)]
# A factor that float32 can hold: what is smaller has no effect, or makes zeros and infinities.
Factor = Annotated[float, Field(ge=1e-10)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Member = TypeVar("Member")
Distinct = Annotated[list[Member], AfterValidator(_each_once)]
