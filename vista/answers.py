"""Find the answer in a response and verify it against the ground truth.

Shared by the stages ``rollouts`` (which solutions are positives) and ``evaluation`` (scores), so
that both mean the same by "correct". Free of torch; math-verify is imported only for formulae.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from vista.errors import VistaError

# The marks before an answer. What is written last counts, whichever mark it has.
_MARK = re.compile(r"\\boxed\s*\{|\banswer\s*(?::|=|\bis\b)\s*:?", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?([eE][+-]?\d{1,3})?")
_FORMULA = re.compile(r"\d|\\|[√π∞]|\b(pi|sqrt|infinity)\b", re.IGNORECASE)
_RELATIVE_TOLERANCE = Decimal("1e-6")
_LONGEST_FORMULA = 300  # characters; what is longer is no final result, and may take sympy forever
_NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def extract(text: str) -> str | None:
    r"""The answer that a response gives: after its last "answer : X", "the answer is X" or \boxed{X}.

    Of a plain mark the rest of its line counts (the next line, if it ends its own), up to a full
    stop that stands alone. ``None`` if there is no mark, or nothing behind the last one.
    """
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    last = marks[-1]
    rest = text[last.end() :]
    if last.group().startswith("\\"):
        return _to_closing_brace(rest)
    line = re.split(r"\s\.(?:\s|$)", rest.lstrip(" \t*").split("\n", 1)[0], maxsplit=1)[0]
    found = line.strip(" \t*`$").removesuffix(".").strip(" \t*`$")
    return found or None


def _to_closing_brace(text: str) -> str | None:
    r"""What stands before the brace that closes one already open; ``None`` if none does."""
    depth = 1
    for index, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:index].strip() or None
    return None


def verify(found: str | None, answer: str, answer_type: str, choices: Sequence[str] | None = None) -> bool:
    """Whether ``found``, as extracted from a response, is the right answer.

    Args:
        found: What the response answers; ``None`` or blank is wrong.
        answer: The ground truth.
        answer_type: ``closed``, ``open``, ``number`` or ``choice`` (see the functions below).
        choices: The texts of the choices, in the order of their letters, for type ``choice``.

    Raises:
        VistaError: the ground truth is empty or not of its type, or the type is unknown.
    """
    if not answer or not answer.strip():
        raise VistaError("a query's answer is empty; every query needs a ground truth")
    given = (found or "").strip()
    match answer_type:
        case "closed":
            return _closed(given, answer)
        case "open":
            return bool(given) and _normalise(given) == _normalise(answer)
        case "number":
            return _number(given, answer)
        case "choice":
            return _choice(given, answer, choices)
    raise VistaError(f"unknown answer_type {answer_type!r}; expected closed, open, number or choice")


def _normalise(text: str) -> str:
    """Lower case, single spaces, no articles, no punctuation at the ends, small numbers in digits."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = [word.strip(".,;:!?\"'`*()[]") for word in folded.split()]
    kept = [word for word in words if word not in ("", "a", "an", "the")]
    return " ".join(str(_NUMBER_WORDS.index(w)) if w in _NUMBER_WORDS else w for w in kept)


def _closed(given: str, answer: str) -> bool:
    """Yes or no: the one that ``given`` begins with, unless it says both. Else as ``open``."""
    gold = _normalise(answer)
    words = re.findall(r"\w+", given.casefold())
    if gold not in ("yes", "no"):  # "left or right?" counts as closed in the medical sets
        return bool(words) and _normalise(given) == gold
    return bool(words) and words[0] == gold and not {"yes", "no"} <= set(words)


def _choice(given: str, answer: str, choices: Sequence[str] | None) -> bool:
    """The letter of a choice or its text, or both ("B", "(b)", "B. left lung")."""
    gold = _choice_index(answer, choices)
    if gold is None:
        raise VistaError(f"answer {answer!r} is neither the letter nor the text of a choice in {choices}")
    return _choice_index(given, choices) == gold


def _choice_index(text: str, choices: Sequence[str] | None) -> int | None:
    """Which choice ``text`` names; ``None`` if none. Without ``choices``, any letter does."""
    texts = [_normalise(choice) for choice in choices or []]
    if _normalise(text) in texts:
        return texts.index(_normalise(text))
    lettered = re.fullmatch(r"\(?([A-Za-z])\)?(?:[.:)]\s*(.*)|\s*)", text.strip(), re.DOTALL)
    if lettered is None:
        return None
    index = ord(lettered.group(1).upper()) - ord("A")
    if choices is None:
        return index
    tail = _normalise(lettered.group(2) or "")
    return index if index < len(texts) and tail in ("", texts[index]) else None


def _number(given: str, answer: str) -> bool:
    """Equal as numbers: decimals within a relative 1e-6, formulae as math-verify finds."""
    gold = _decimal(answer)
    if gold is None and not (_FORMULA.search(answer) and _parse_formula(answer)):
        raise VistaError(f"answer {answer!r} is not a number or formula; mend it, or its answer_type")
    value = _decimal(given)
    if gold is not None and value is not None:
        return abs(value - gold) <= _RELATIVE_TOLERANCE * abs(gold)
    # Digits and signs that are no number ("1 1", "3 + 4") state no result, and words alone none.
    if value is None and (re.fullmatch(r"[\d\s.,+=-]*", given) or not _FORMULA.search(given)):
        return False
    return len(given) <= _LONGEST_FORMULA and _equal_formulae(given, answer)


def _decimal(text: str) -> Decimal | None:
    """A plain number, perhaps with thousands separators or a currency sign; else ``None``."""
    plain = unicodedata.normalize("NFKC", text).strip().strip("$").removesuffix(".")
    plain = plain.replace("−", "-")
    if not any(map(str.isdigit, plain)) or not _PLAIN_NUMBER.fullmatch(plain):
        return None
    try:
        return Decimal(plain.replace(",", ""))
    except InvalidOperation:
        return None


@lru_cache(maxsize=4096)
def _parse_formula(text: str) -> tuple[Any, ...]:
    """math-verify's readings of a formula; empty if it finds none."""
    from math_verify import parse

    latex = text if "$" in text or "\\boxed" in text else f"${text}$"
    return tuple(parse(latex, parsing_timeout=_timeout()))


def _equal_formulae(given: str, answer: str) -> bool:
    from math_verify import verify as equal

    return bool(
        equal(
            list(_parse_formula(answer)),
            list(_parse_formula(given)),
            float_rounding=6,
            timeout_seconds=_timeout(),
        )
    )


def _timeout() -> int | None:
    """Seconds for math-verify, whose alarm works only in the main thread."""
    return 5 if threading.current_thread() is threading.main_thread() else None
