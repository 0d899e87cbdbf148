"""Find the answer in a response and verify it against the ground truth.

Shared by the stages ``rollouts`` (which solutions are positives) and ``evaluation`` (scores), so
that both mean the same by "correct". Does not import torch; math-verify is imported only for formulae.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, get_args

from vista.errors import VistaError
from vista.records import AnswerType

# The marks before an answer. What is written last counts, whichever mark it has.
_MARK = re.compile(r"\\boxed\s*\{|\banswer\s*(?::|=|\bis\b)\s*:?", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?([eE][+-]?\d{1,3})?")
_FORMULA = re.compile(r"\d|\\|[√π∞]|\b(pi|sqrt|infinity)\b", re.IGNORECASE)
_RELATIVE_TOLERANCE = Decimal("1e-6")
_LONGEST_FORMULA = 300  # characters; what is longer is not a final result, and may take sympy forever
_NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMERALS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS)}
_ARTICLES = ("a", "an", "the")

# Units of geometry, each by one name. The word "units" alone names none.
_UNITS = {
    "degree": r"\^?\s*\{?\s*\\circ\s*\}?|\\degree|°|degrees?|deg",
    "mm": r"mm|millimet(?:er|re)s?",
    "cm": r"cm|centimet(?:er|re)s?",
    "km": r"km|kilomet(?:er|re)s?",
    "m": r"m|met(?:er|re)s?",
    "in": r"in|inch(?:es)?",
    "ft": r"ft|foot|feet",
    "yd": r"yd|yards?",
    "mi": r"mi|miles?",
    "": r"units?",
}
_UNIT = re.compile(
    r"(?<=[\d\s})π])(?P<power>square\s+|sq\.?\s*|cubic\s+|cu\.?\s*)?(?:"
    + "|".join(f"(?P<u{number}>{pattern})" for number, pattern in enumerate(_UNITS.values()))
    + r")\.?(?P<exponent>\s*\^?\s*\{?\s*[23]\s*\}?)?$",
    re.IGNORECASE,
)


def extract(text: str, mark: str | None = None) -> str | None:
    r"""The answer that a response gives: after its last "answer : X", "the answer is X" or \boxed{X}.

    Of a plain mark the rest of its line counts (the next line, if it ends its own), up to a full
    stop that is set apart by blanks. ``None`` if there is no mark, or nothing after the last one.

    Args:
        text: A response.
        mark: Another plain mark before an answer, as it is written.
    """
    own = rf"{_MARK.pattern}|{re.escape(mark)}" if mark else _MARK.pattern
    marks = list(re.finditer(own, text, re.IGNORECASE))
    if not marks:
        return None
    last = marks[-1]
    rest = text[last.end() :]
    if last.group().startswith("\\boxed"):
        return _to_closing_brace(rest)
    line = re.split(r"\s\.(?:\s|$)", rest.lstrip(" \t*").split("\n", 1)[0], maxsplit=1)[0]
    found = line.strip(" \t*`$").removesuffix(".").strip(" \t*`$")
    return found or None


def _to_closing_brace(text: str) -> str | None:
    r"""The text before the brace that closes one already open; ``None`` if there is none."""
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
        answer_type: An ``AnswerType`` (see the functions below).
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
        case "term":
            return bool(given) and _term(given) == _term(answer)
        case "math":
            return bool(given) and _math(given, answer)
        case "relaxed":
            return relaxed_correctness(given, answer.strip())
    raise VistaError(
        f"unknown answer_type {answer_type!r}; expected one of {', '.join(get_args(AnswerType))}"
    )


def solves(query: Mapping[str, Any], found: str | None) -> bool:
    """``verify`` against a query's ground truth (``records.QUERY``); errors name the query."""
    try:
        return verify(found, query["answer"], query["answer_type"], query["choices"])
    except VistaError as error:
        raise VistaError(f"query {query['query_id']!r}: {error}") from error


def _normalise(text: str) -> str:
    """Lower case, single spaces, no articles, no punctuation at the ends, small numbers in digits."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = [word.strip(".,;:!?\"'`*()[]") for word in folded.split()]
    kept = [word for word in words if word not in ("", "a", "an", "the")]
    return " ".join(str(_NUMBER_WORDS.index(w)) if w in _NUMBER_WORDS else w for w in kept)


def _term(text: str) -> list[str]:
    """A medical term or a list of them, for comparison: its parts in alphabetical order.

    Case, punctuation, hyphens, articles, number words, plural endings and remarks in brackets do
    not matter, nor does the order of what commas or "and" separate. Synonyms do: "chest" is not
    "thorax".
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = re.sub(r"\([^()]*\)", " ", folded)
    parts = [_term_words(part) for part in re.split(r"[,;&]|\band\b", bare)]
    return sorted(part for part in parts if part) or [folded.strip()]


def _term_words(text: str) -> str:
    words = re.findall(r"\w+", text.replace("x-ray", "xray").replace("x ray", "xray"))
    return " ".join(_singular(_NUMERALS.get(word, word)) for word in words if word not in _ARTICLES)


def _singular(word: str) -> str:
    """Without an English plural ending; Latin and Greek words in -us, -is and -ss stay."""
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "shes", "ches")):
        return word[:-2]
    return word.removesuffix("s")


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
    lettered = re.fullmatch(r"\(?([A-Za-z])\)?(?:[.:)]\s*(.*)|\s*)", text.strip(), re.DOTALL)
    index = ord(lettered.group(1).upper()) - ord("A") if lettered else 0
    # A lone letter is one even if another choice's text is that letter, as on a map with A, B and C.
    if lettered and not lettered.group(2) and index < len(texts):
        return index
    if _normalise(text) in texts:
        return texts.index(_normalise(text))
    if lettered is None:
        return None
    if choices is None:
        return index
    tail = _normalise(lettered.group(2) or "")
    return index if index < len(texts) and tail in ("", texts[index]) else None


def _number(given: str, answer: str) -> bool:
    """Equal as numbers: decimals within a relative 1e-6, formulae as math-verify finds."""
    gold = _decimal(answer)
    if gold is None and not (_FORMULA.search(answer) and _parse_formula(answer)):
        raise VistaError(f"answer {answer!r} is not a number or formula; correct it, or its answer_type")
    value = _decimal(given)
    if gold is not None and value is not None:
        return abs(value - gold) <= _RELATIVE_TOLERANCE * abs(gold)
    # Digits and signs that are not a number ("1 1", "3 + 4") state no result, and words alone none.
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


def _math(given: str, answer: str) -> bool:
    r"""Equal as numbers or formulae, in LaTeX or plain; a unit may be missing, but not another one.

    What is not a number ("1 : 2 : 3") must be the same text, blanks aside.
    """
    (value, unit), (gold, gold_unit) = _split_unit(given), _split_unit(answer)
    if unit and gold_unit and unit != gold_unit:
        return False
    if re.sub(r"\s", "", value).casefold() == re.sub(r"\s", "", gold).casefold():
        return True
    if max(value.count(":"), gold.count(":")) > 1:  # 2 : 3 : 4 is not a number
        return False
    if _decimal(gold) is None and not (_FORMULA.search(gold) and _parse_formula(gold)):
        return False
    return _number(value, gold)


def _split_unit(text: str) -> tuple[str, str]:
    """A formula without its unit, in LaTeX that math-verify reads, and the unit's name (or nothing)."""
    plain = text.strip().strip("$").replace("−", "-").replace("²", "^2").replace("³", "^3")
    plain = re.sub(r"\\(?:text|textrm|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", plain)
    plain = re.sub(r"\\[,;:!\s]|~", " ", plain)
    plain = re.sub(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[a-z]))", r"\\sqrt{\1\2}", plain)
    plain = re.sub(r"(?<=\d) ?\. ?(?=\d)", ".", plain).strip().removesuffix(".").strip()
    found = _UNIT.search(plain)
    if not found:
        return plain, ""
    name = next(name for number, name in enumerate(_UNITS) if found[f"u{number}"])
    digits = "".join(filter(str.isdigit, found["exponent"] or ""))
    if found["power"]:
        digits = "2" if found["power"].casefold().startswith("sq") else "3"
    return plain[: found.start()].strip(" $"), name + digits if name else ""


def relaxed_correctness(given: str, answer: str) -> bool:
    """ChartQA's measure (arXiv 2203.10244, Sec. 5.1): a number within 5 %, else the same text.

    As published and as lmms-eval has it: "5%" is 0.05, "1,000" is a text, not a number, case
    does not matter, and an answer of zero must be met as a text.
    """
    value, gold = _float(given), _float(answer)
    if value is not None and gold:
        return abs(value - gold) / abs(gold) <= 0.05
    return given.lower() == answer.lower()


def _float(text: str) -> float | None:
    """A number as ChartQA reads it, percentages as fractions."""
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
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
