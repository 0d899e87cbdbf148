r"""Verify the answer of a response against the ground truth.

Shared by the stages ``rollouts`` (which solutions are positives) and ``evaluation`` (scores), so
that both mean the same by "correct". Does not import torch. Every pattern is linear in the text,
texts are bounded, and no clock has a say: a verdict is the same on any machine, however slow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args

from vista import formulae
from vista.characters import compatible
from vista.errors import VistaError
from vista.records import SCORED_BY_TASK, AnswerType
from vista.responses import LONGEST_ANSWER, extract, first_sentence, plain_text, tidy

__all__ = ["extract", "relaxed_correctness", "solves", "verify"]


def verify(found: str | None, answer: str, answer_type: str, choices: Sequence[str] | None = None) -> bool:
    """Whether ``found``, as extracted from a response, is the right answer.

    An answer that names two results ("B or C", "5 or 6", "yes or no") is wrong for every type.

    Args:
        found: What the response answers; ``None`` or blank is wrong.
        answer: The ground truth.
        answer_type: An ``AnswerType`` (see the functions below).
        choices: The texts of the choices, in the order of their letters, for type ``choice``.

    Raises:
        VistaError: the ground truth is empty or not of its type, or the type is unknown.
    """
    if answer_type == SCORED_BY_TASK:
        raise VistaError("lmms-eval's own task scores responses to this query; there is no verifier for it")
    if not answer or not answer.strip():
        raise VistaError("a query's answer is empty; every query needs a ground truth")
    given = (found or "").strip()
    if len(given) > LONGEST_ANSWER:
        given = ""  # no result is this long
    match answer_type:
        case "closed":
            return _closed(tidy(given), answer)
        case "open":
            return bool(given) and _normalise(_bare(given)) == _normalise(_bare(answer))
        case "number":
            return _number(given, answer)
        case "choice":
            return _choice(tidy(given), answer, choices)
        case "term":
            return bool(given) and _term(given, answer)
        case "math":
            return bool(given) and _math(given, answer)
        case "relaxed":
            return _relaxed(given, answer.strip())
    raise VistaError(
        f"unknown answer_type {answer_type!r}; expected one of {', '.join(get_args(AnswerType))}"
    )


def solves(query: Mapping[str, Any], found: str | None) -> bool:
    """``verify`` against a query's ground truth (``records.QUERY``); errors name the query."""
    try:
        return verify(found, query["answer"], query["answer_type"], query["choices"])
    except VistaError as error:
        raise VistaError(f"query {query['query_id']!r}: {error}") from error


@lru_cache(maxsize=4096)
def _bare(text: str) -> str:
    """A response's answer or a ground truth without what wraps it, if anything is left."""
    text = text.strip()
    return plain_text(tidy(text)) or text


_NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMERALS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS)}
_ARTICLES = ("a", "an", "the")


def _normalise(text: str) -> str:
    """Lower case, single spaces, no articles, no punctuation at the ends, small numbers in digits."""
    words = [word.strip(".,;:!?\"'`*()[]") for word in compatible(text).split()]
    words = [word.casefold() if at == 0 else word for at, word in enumerate(words) if word]
    folded = [word.casefold() for word in _without_articles(words)]
    return " ".join(_NUMERALS.get(word, word) for word in folded)


def _without_articles(words: list[str]) -> list[str]:
    """A capital or the last word is a name: "sample A (B)", "hepatitis A"."""
    kept = [word for word in words[:-1] if word not in _ARTICLES]
    return kept + [word for word in words[-1:] if word not in _ARTICLES or kept]


# Medical terms.


def _term(given: str, answer: str) -> bool:
    """The same term, or list of terms; of "computed tomography (CT)" either."""
    gold = _term_parts(_bare(answer))
    stated = _bare(given)
    if _term_parts(stated) == gold:
        return True
    short = re.fullmatch(r"([^()]*)\(([^()]*)\)", stated)
    if short is None:
        return False
    outside, inside = (part.strip() for part in short.groups())
    # Else the brackets hold a remark, which names no second term.
    is_short = _abbreviates(outside, inside) or _abbreviates(inside, outside)
    return is_short and gold in (_term_parts(outside), _term_parts(inside))


def _abbreviates(short: str, term: str) -> bool:
    """Whether ``short`` is made of letters of ``term``, in their order, from its first."""
    if not re.fullmatch(r"[A-Z][A-Z0-9-]{1,5}", short) or len(term) <= len(short):
        return False
    letters = iter(term.casefold())
    return term[0].casefold() == short[0].casefold() and all(
        letter in letters for letter in short.casefold() if letter.isalpha()
    )


@lru_cache(maxsize=4096)
def _term_parts(text: str) -> tuple[str, ...]:
    """A medical term or a list of them, for comparison: its parts in alphabetical order.

    Case, punctuation, hyphens, articles, number words, plural endings and remarks in brackets do
    not matter, nor does the order of what commas or "and" separate. Synonyms do: "chest" is not
    "thorax".
    """
    folded = compatible(text).casefold()
    bare = re.sub(r"\((?!\s*(?:or|and)\b)[^()]*\)", " ", folded)
    parts = [_term_words(part) for part in re.split(r"[,;&]|\band\b", bare)]
    return tuple(sorted(part for part in parts if part)) or (folded.strip(),)


def _term_words(text: str) -> str:
    words = re.findall(
        r"(?<![\w.])-?\d+(?:\.\d+)+|(?<![\w.-])-\d+|\w+|%",
        text.replace("−", "-").replace("x-ray", "xray").replace("x ray", "xray"),
    )
    return " ".join(_singular(_NUMERALS.get(word, word)) for word in _without_articles(words))


def _singular(word: str) -> str:
    """Without an English plural ending; Latin and Greek words in -us, -is and -ss stay."""
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "shes", "ches")):
        return word[:-2]
    return word.removesuffix("s")


# Yes or no.

_POLAR = re.compile(
    r"[^\w]*(?:\(?[a-z][.):]+\s*)?"
    r"(?:(?:(?:it|that|this) is|it's|definitely|certainly|clearly|probably|likely|most likely|an?)\s+)?"
    r"(?P<word>yes|no)\b(?P<rest>.*)",
    re.DOTALL,
)
# After a word that answers alone: punctuation, or the start of a clause ("yes there is").
_ALONE = re.compile(
    r"\s*$|\s*[^\w\s]|\s+(?:there|it|its|this|that|the|these|those|they|he|she|we|you|i|because|since|as|based|according|from"
    r"|in|on|for|due|however|but|is|are|was|were)\b"
)


def _closed(given: str, answer: str) -> bool:
    """Yes or no: the word that ``given`` begins with and that stands alone there. Else as ``open``.

    The same rule for both words: "yes, there is no fracture" says yes, "no, there is one" no;
    "no fracture" and "fracture" say neither, nor does "yes or no".
    """
    gold = _normalise(_bare(answer))
    if gold not in ("yes", "no"):  # "left or right?" counts as closed in the medical sets
        return bool(given) and _normalise(plain_text(given)) == gold
    return _says(given) == gold


def _says(given: str) -> str | None:
    """Which of yes and no a text begins with, if it stands alone and is not followed by the other."""
    found = _POLAR.match(compatible(plain_text(given)).casefold())
    if found is None or not _ALONE.match(found["rest"]):
        return None
    other = "no" if found["word"] == "yes" else "yes"
    apart = r"[\s,;:'\"’”()\[\]→>-]*"
    joined = rf"(?:or|and|/|\||&|also|but also|then|maybe|perhaps|possibly){apart}"
    either = rf"{apart}(?:(?:{joined})+{other}\b|/?{other}\W*$)"
    return None if re.match(either, found["rest"]) else found["word"]


# A choice.

_OPTION = re.compile(
    r"(?:(?:so|it is|it's|the|my|correct|right|best|final|answer|option|choice|letter|is|would be)"
    r"[\s:]+){1,6}(?=\S)",
    re.IGNORECASE,
)
_LETTERED = re.compile(
    r"(?P<open>[(\[{<])?\s?(?P<letter>[A-Za-z])\s?(?:(?P<close>[)\]}>])[\s.:,;]*|(?P<stop>[.:,;]+|\s[-–—=]+>?(?=\s)|(?=\())\s*"
    r"|(?P<blank>\s+)|(?=$))(?P<tail>.*)",
    re.DOTALL,
)
_TRAILING_LETTER = re.compile(
    r"(?P<text>.*?)[,;:.-]?\s?(?:[(\[](?:option |choice )?(?P<letter>[A-Za-z])[)\]]"
    r"|\b(?:(?:so|which is) )?(?:option|choice|letter) [(\[]?(?P<named>[A-Za-z])[)\]]?)",
    re.DOTALL | re.IGNORECASE,
)
_JOINED = re.compile(r"(?:or|and|and/or|nor)\b|[/+&]")
_SEPARATORS = re.compile(
    r"[\s,;:.()\[\]/+&|-]*(?:(?:or|and|nor|also|as well as|along with|plus|then|but|possibly|maybe|perhaps"
    r"|probably|no|wait|actually|rather|option|choice|both|either)\b[\s,;:.()\[\]/-]*)*",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?P<letter>[A-Z])(?:[)\].:,;/]|\s(?![a-z])|$)")
_DENIED = re.compile(
    r"(?:is|was)(?: not|n't)\b|(?:is|was) (?:also |clearly )?(?:incorrect|wrong|false)\b"
    r"|(?:cannot|can't|could not) be (?:right|correct|true|the)\b"
)


def _choice(given: str, answer: str, choices: Sequence[str] | None) -> bool:
    """The letter of a choice or its text, or both ("B", "(b)", "B. left lung", "left lung (B)").

    The letter comes first; what follows may be anything but another letter or another choice's
    text. Choices with equal texts are equally right.
    """
    options = _Choices(tuple(choices)) if choices is not None else None
    gold = _choice_index(answer, options)
    if gold is None:
        raise VistaError(f"answer {answer!r} is neither the letter nor the text of a choice in {choices}")
    named = _choice_index(given, options)
    if named is None or options is None:
        return named == gold
    return options.keys[named] == options.keys[gold]


class _Choices:
    """The choices of a question, and how texts are compared with them."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts
        different = len({_exact_key(text) for text in texts})
        # What is forgiven may be all that two choices differ by: "Aa" and "aa", "(1, 2)" and "[1, 2)".
        self.key = _choice_key if len({_choice_key(text) for text in texts}) == different else _exact_key
        self.keys = [self.key(text) for text in texts]

    def index(self, text: str) -> int | None:
        """The first choice with this text."""
        key = self.key(text)
        return self.keys.index(key) if key and key in self.keys else None

    def same(self, one: int | None, two: int) -> bool:
        """Whether two are one choice, or equal."""
        return one is not None and one < len(self.keys) and self.keys[one] == self.keys[two]

    def begun_by(self, text: str) -> int | None:
        """The choice with the longest text that ``text`` begins with, at the end of a word."""
        key = self.key(text)
        begun = [
            (len(start), -at)
            for at, start in enumerate(self.keys)
            if start and key.startswith(start) and not key[len(start) : len(start) + 1].isalnum()
        ]
        return -max(begun)[1] if begun else None


def _choice_index(text: str, options: _Choices | None) -> int | None:
    """Which choice ``text`` names; ``None`` if none, or two. Without ``options``, any letter does."""
    text = plain_text(text).strip(' .*"')
    if options and len(text) > 1:
        exact = [choice.strip(" .") for choice in options.texts]
        if text in exact:
            return exact.index(text)
        if text[0] + text[-1] == "[]":
            text = text[1:-1].strip()
    text = _OPTION.sub("", text, count=1) if _OPTION.match(text) else text
    found = _LETTERED.fullmatch(text)
    index = ord(found["letter"].upper()) - ord("A") if found else -1
    if found is None or (options and index >= len(options.texts)):
        return _named_by_text(text, options) if options else None
    tail = found["tail"].lstrip(' .,:;!*"').rstrip(' .,:;!-–—*"')
    if not re.match(r"-(?:[\d.(\\√]|[A-Za-z](?![A-Za-z]))", tail):  # a minus belongs to the choice
        tail = tail.lstrip(' .,:;!-–—*"')
    if found["open"] and not found["close"]:
        return None
    if not tail:
        return index  # a lone letter is one even if another choice's text is that letter
    if options is None:
        return None if _names_another(tail, index, None) or _is_word(found) else index
    return _lettered_index(found, tail, index, options)


def _lettered_index(found: re.Match[str], tail: str, index: int, options: _Choices) -> int | None:
    """The choice that a letter with something after it names."""
    named = _named_by_text(tail, options)
    if options.same(named, index):
        return index
    if _is_word(found):  # "a dog", "A dog": an article, unless a name follows
        proper = named is not None and options.texts[named][:1].isupper()
        if named is None:
            return _named_by_text(found.string, options)
        return None if proper else named
    if named is not None or _names_another(tail, index, options):
        return None
    begun = options.begun_by(tail)
    return index if begun is None or options.same(begun, index) else None


def _is_word(found: re.Match[str]) -> bool:
    """Whether the letter is rather a word of a sentence: an article, "I", or one in lower case."""
    if not found["blank"] or found["open"]:
        return False
    if re.match(r"(?:because|since|is (?:the )?(?:correct|right)|as)\b", found["tail"]):
        return found["letter"].islower()
    return found["letter"].islower() or found["letter"] in "AI"


def _names_another(tail: str, index: int, options: _Choices | None) -> bool:
    """Whether what follows a letter takes it back or joins another letter or choice to it."""
    own = options.texts[index] if options else ""
    bare = tail.lstrip("([ ")
    if own and bare.casefold().startswith(own.casefold()):
        tail = bare[len(own) :]
    elif _JOINED.match(tail) or _DENIED.match(tail):
        return True
    elif options and options.begun_by(tail) is not None:
        own = ""
    start = _SEPARATORS.match(tail)
    rest = tail[start.end() :] if start else tail
    letter = _LETTER.match(rest)
    if letter and 0 <= (other := ord(letter["letter"]) - ord("A")) < (len(options.texts) if options else 26):
        return other != index
    if not own or options is None or not start or not start.group().strip():
        return False
    ends = [rest, *(rest[: found.start()] for found in re.finditer(r"[,;.)/]|\s(?:or|and)\b", rest[:200]))]
    return any(at is not None and not options.same(at, index) for at in map(options.index, ends))


def _named_by_text(text: str, options: _Choices) -> int | None:
    """The first choice whose text ``text`` is, perhaps with its letter in brackets after it."""
    if (index := options.index(text)) is not None:
        return index
    if found := _TRAILING_LETTER.fullmatch(text):
        index = options.index(found["text"])
        letter = ord((found["letter"] or found["named"]).upper()) - ord("A")
        return index if index is not None and options.same(letter, index) else None
    # Extraction leaves out what it takes for a reason or a second sentence, even if the choice has it.
    cut = [
        at
        for at, choice in enumerate(options.texts)
        if options.key(first_sentence(choice)) == options.key(text)
    ]
    if len(cut) == 1 and text:
        return cut[0]
    if said := _says(text):  # "No, there is none"
        return options.index(said)
    if not re.search(r"\d", text):
        return None
    equal = [at for at, choice in enumerate(options.texts) if formulae.equal(text, choice)]
    return equal[0] if equal and len({options.keys[at] for at in equal}) == 1 else None


def _exact_key(text: str) -> str:
    """The text of a choice but for its blanks and LaTeX's wrappers."""
    return re.sub(r"\s", "", plain_text(text[:LONGEST_ANSWER])).strip(".")


@lru_cache(maxsize=4096)
def _choice_key(text: str) -> str:
    """The text of a choice for comparison: as ``_normalise``, formulae in one notation."""
    plain = formulae.notation(plain_text(text[:LONGEST_ANSWER])).replace("\\sqrt", "√").replace("sqrt", "√")
    plain = re.sub(r"\*? ?(?:\^ ?\{? ?\\circ ?\}?|\\degree)", "°", plain)
    plain = re.sub(r"√ ?[({] ?(\w+) ?[)}]", r"√\1", plain)
    return re.sub(r" ?([^\w\s]) ?", r"\1", _normalise(plain)) or re.sub(r"\s", "", plain)


# Numbers and formulae.

_FORMULA = re.compile(r"\d|\\|[√π∞]|\b(pi|sqrt|infinity)\b", re.IGNORECASE)


def _number(given: str, answer: str) -> bool:
    """Equal as numbers: decimals within a relative 1e-6, formulae by their values."""
    gold = formulae.decimal(answer)
    if gold is None and not (_FORMULA.search(answer) and formulae.values(formulae.split_unit(answer)[0])):
        raise VistaError(f"answer {answer!r} is not a number or formula; correct it, or its answer_type")
    value = formulae.decimal(given)
    if gold is not None and value is not None:
        return formulae.same((float(value),), (float(gold),)) if value != gold else True
    # Digits and signs that are not a number ("1 1", "3 + 4") state no result, and words alone none.
    plain = compatible(given)
    if value is None and (re.fullmatch(r"[\d\s.,+=-]*", plain) or not _FORMULA.search(plain)):
        return False
    return formulae.equal(given, answer)


def _math(given: str, answer: str) -> bool:
    r"""Equal as numbers or formulae, in LaTeX or plain; a unit may be missing, but not another one.

    What is not a formula ("1 : 2 : 3") must be the same text, notation aside.
    """
    return formulae.equal(tidy(given), tidy(answer))


# ChartQA.


def _relaxed(given: str, answer: str) -> bool:
    """Relaxed correctness of the answer, as it is or without its LaTeX.

    Extraction takes a full stop for the end of a sentence, so that of a truth ("Inc.") may be missing.
    """
    stated = {given, plain_text(tidy(given))} if re.search(r"[\\$*_`\"'{]", given) else {given}
    truths = {answer, answer.removesuffix(".")}
    return any(relaxed_correctness(found, truth) for found in stated for truth in truths)


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
