r"""Numbers and formulae that end a solution: their values, their units, and whether two are equal.

A small grammar is read in one pass over at most ``LONGEST`` characters and evaluated in floating
point: LaTeX and the plain forms that models write (``4 4/11``, ``5*sqrt(2)``, ``10 pi``, ``36π``).
No computer algebra, so that no text takes longer than another of its length, and no clock has a
say in a verdict. What the grammar does not know is not a formula; two such texts are equal if they
are the same once notation is.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from vista.characters import compatible

LONGEST = 300  # characters; a longer text is not a final result
RELATIVE_TOLERANCE = 1e-6
_DEEPEST = 40  # nested groups
_POINTS = 3  # assignments of the variables at which two formulae must agree

Value = tuple[float, ...]  # a formula's value at each assignment

# Units of geometry, each by one name. The word "units" alone names none.
_UNITS = {
    "degree": r"\^ ?\{? ?(?:\\circ|o) ?\}?|\\degree|°|degrees?|deg",
    "mm": r"mm|millimet(?:er|re)s?",
    "cm": r"cm|centimet(?:er|re)s?",
    "km": r"km|kilomet(?:er|re)s?",
    "m": r"m|met(?:er|re)s?",
    "in": r"in|inch(?:es)?",
    "ft": r"ft|foot|feet",
    "yd": r"yd|yards?",
    "mi": r"mi|miles?",
    "percent": r"%|percent",
    "": r"units?",
}
_UNIT = re.compile(
    r"(?<=[\d })π])(?P<power>square |sq\.? ?|cubic |cu\.? ?)?(?:"
    + "|".join(f"(?P<u{number}>{pattern})" for number, pattern in enumerate(_UNITS.values()))
    + r")\.?(?P<exponent> ?\^? ?\{? ?[23] ?\}?| squared| cubed)?$",
    re.IGNORECASE,
)
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?([eE][+-]?\d{1,3})?")

# --- one notation ---

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+", strict=True))
_SYMBOLS = {
    **dict.fromkeys((r"\left", r"\right", r"\displaystyle", r"\limits", r"\!", r"\bigl", r"\bigr"), ""),
    **dict.fromkeys((r"\,", r"\;", r"\:", "\\ ", r"\quad", r"\qquad", "~", "\u00a0", "\u2009"), " "),
    **dict.fromkeys(("º", "˚"), "°"),
    **dict.fromkeys(("&", "\\\\"), " "),  # alignment
    **dict.fromkeys((r"\cdot", r"\times", "·", "×", "⋅", "∙", "∗"), "*"),
    **dict.fromkeys((r"\div", "÷", "⁄", "∕"), "/"),
    **dict.fromkeys(("−", "–", "—", "‐", "‑"), "-"),
    **dict.fromkeys((r"\dfrac", r"\tfrac", r"\cfrac"), r"\frac"),
    **dict.fromkeys((r"\ne", r"\neq", r"\not=", "!=", "=/="), "≠"),
    **dict.fromkeys((r"\le", r"\leq", r"\leqslant", "<="), "≤"),
    **dict.fromkeys((r"\ge", r"\geq", r"\geqslant", ">="), "≥"),
    **dict.fromkeys((r"\approx", r"\simeq", r"\thickapprox", "~=", "≃"), "≈"),
    **dict.fromkeys((r"\angle", r"\measuredangle", "∡"), "∠"),
    **{r"\lt": "<", r"\gt": ">", r"\pm": "±", r"\cong": "≅", r"\triangle": "△", r"\odot": "⊙"},
    **{r"\parallel": "∥", r"\perp": "⊥", r"\sim": "∼", r"\infty": "∞", r"\to": "→"},
    **{r"\surd": "√", r"\pi": "π", r"\%": "%", r"\$": "", "$": "", "**": "^"},
    **{r"\(": "", r"\)": "", r"\[": "", r"\]": ""},
}
# A command ends where its letters do: \le is no part of \left.
_SYMBOL = re.compile(
    "|".join(
        re.escape(symbol) + (r"(?![A-Za-z])" if symbol[1:].isalpha() and symbol[0] == "\\" else "")
        for symbol in sorted(_SYMBOLS, key=len, reverse=True)
    )
)
_TEXT = re.compile(
    r"\\(?:text|textbf|textrm|textit|textsf|mathrm|mathbf|mathit|mathsf|mbox|operatorname|bf|rm)\b"
)
_WRAPPED = re.compile(_TEXT.pattern + r"\*?\s?\{([^{}]*)\}")


_ENVIRONMENT = re.compile(r"\\(?:begin|end) ?\{(?:aligned|align|split|gathered|gather|equation)\*?\}")
_THOUSANDS = re.compile(r"(?:^|(?<=[=≈]) )[+-]?\d{1,3}(?: \d{3})+(?=\.\d|$| [A-Za-z\\°%])")  # 1 200


def unwrap(text: str) -> str:
    r"""Without LaTeX's text commands: ``\text{Yes}`` is ``Yes``, ``{\bf B}`` is ``{B}``."""
    return _TEXT.sub("", _WRAPPED.sub(r" \1", text))


@lru_cache(maxsize=4096)
def notation(text: str) -> str:
    """A formula in one notation: no wrappers, symbols for commands, single blanks, ASCII digits."""
    plain = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", _superscript, _ENVIRONMENT.sub(" ", unwrap(text)))
    plain = re.sub(r"(\d{0,9}) ?([¼-¾⅐-⅞↉])", _vulgar_fraction, plain)
    plain = _SYMBOL.sub(lambda found: _SYMBOLS[found.group()], plain)
    plain = compatible(plain).replace("−", "-")
    plain = re.sub(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))", "", plain)
    plain = re.sub(r"\s+", " ", plain)
    plain = _THOUSANDS.sub(lambda found: found.group().replace(" ", ""), plain)
    plain = re.sub(r"(?<=\d) and (?=\d{1,9} ?/ ?\d)", " ", plain)  # four and a half
    plain = re.sub(r"(?<=\d) ?\. ?(?=\d)", ".", plain).strip()
    return plain.removesuffix(".").strip()


def _superscript(found: re.Match[str]) -> str:
    return "^{" + "".join(_SUPERSCRIPTS[digit] for digit in found.group()) + "}"


def _vulgar_fraction(found: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", found.group(2)).partition("⁄")
    return f"({found.group(1) or 0}+{over}/{under})"


def split_unit(text: str) -> tuple[str, str]:
    """A formula in one notation without its unit, and the unit's name (empty if it has none)."""
    if len(text) > 4 * LONGEST:  # blanks and wrappers aside, no result is this long
        return text, ""
    plain = notation(text)
    found = _UNIT.search(plain, max(0, len(plain) - 40))
    if not found:
        return plain, ""
    name = next(name for number, name in enumerate(_UNITS) if found[f"u{number}"])
    exponent = found["exponent"] or ""
    digits = {" squared": "2", " cubed": "3"}.get(exponent) or "".join(filter(str.isdigit, exponent))
    if found["power"]:
        digits = "2" if found["power"].casefold().startswith("sq") else "3"
    return plain[: found.start()].strip(), name + digits if name else ""


# --- equality ---


def equal(given: str, gold: str) -> bool:
    """Whether two results are equal as numbers or formulae; a unit may be missing, but must not differ.

    What is not a formula ("1 : 2 : 3", an inequality) must be the same text in one notation.
    """
    (stated, unit), (truth, gold_unit) = split_unit(given), split_unit(gold)
    if unit and gold_unit and unit != gold_unit:
        return False
    if _letters(stated) == _letters(truth) != "":
        return True
    wanted = values(truth)
    return any(same(value, other) for value in values(stated) for other in wanted)


def _letters(text: str) -> str:
    return re.sub(r"\s+(?!\d)|(?<!\d)\s+|[{}]", "", text).casefold()


def same(value: Value, other: Value) -> bool:
    """Equal within rounding at every assignment; integers must be equal."""
    return all(_close(first, second) for first, second in zip(value, other, strict=True))


def _close(first: float, second: float) -> bool:
    if first.is_integer() and second.is_integer():
        return first == second
    return abs(first - second) <= max(RELATIVE_TOLERANCE * abs(second), 1e-12)


def decimal(text: str) -> Decimal | None:
    """A plain number, perhaps with thousands separators or a currency sign; else ``None``."""
    if len(text) > LONGEST:
        return None
    plain = compatible(text).strip().strip("$").removesuffix(".")
    plain = plain.replace("−", "-")
    if not any(map(str.isdigit, plain)) or not _PLAIN_NUMBER.fullmatch(plain):
        return None
    try:
        return Decimal(plain.replace(",", ""))
    except InvalidOperation:
        return None


_APPROXIMATELY = re.compile(
    r"^(?:approximately|approx\.?|about|around|roughly|nearly|≈|∼|~) ?", re.IGNORECASE
)
_STATED = re.compile(r" (?:is equal to|equals|is) ", re.IGNORECASE)
# "5√2 or approximately 7.07", "5√2 (≈ 7.07)"
_OR_ABOUT = re.compile(
    r",? ?(?:\(|\bor |\bwhich is )(?:approximately|approx\.?|about|roughly|≈) ?([^()]*)\)?$", re.IGNORECASE
)
_NAME_PARTS = re.compile(
    r"\\(?:overline|widehat|overarc|overset|frown|stackrel|theta|alpha|beta|gamma|phi|arc|sin|cos|tan)\b"
    r"|\bangle \d+|_ ?(?:\{ ?\w+ ?\}|\w)|∠ ?\d+|['′∠△⊙°(){}.,]|\s"
)


@lru_cache(maxsize=4096)
def values(text: str) -> tuple[Value, ...]:
    """What a text in one notation (``split_unit``) gives as its result.

    One value, or two of the same result (``5√2 ≈ 7.07``); none if it is not a formula. A name may
    stand before "=" ("x = 5", "m∠1 = 45"); an equation in an unknown ("2x = 10"), an inequality and
    sides that differ give none.
    """
    if len(text) > LONGEST or re.search(r"[≠<>≤≥±]", text):
        return ()
    if text.count(":") > 1:  # 2 : 3 : 4 is not a number
        return ()
    sides = re.split(r"[=≈]", _STATED.sub(" = ", _OR_ABOUT.sub(r" ≈ \1", text)).lstrip("=≈∼ "))
    named = len(sides) > 1 and _is_name(sides[0])
    if named:
        sides = sides[1:]
    elif len(sides) == 2 and _is_name(sides[1]):  # 5 = x
        sides = sides[:1]
    if len(sides) > 6:
        return ()
    found: list[tuple[str, Value]] = []
    for at, side in enumerate(sides):
        plain = split_unit(_APPROXIMATELY.sub("", side.strip()))[0]
        general = named and not found and at < len(sides) - 1  # "A = bh = 12": the formula before its numbers
        try:
            value = _Reader(plain).read()
        except (_NotAFormula, ArithmeticError, ValueError):
            if general and not re.search(r"\d", plain):
                continue
            return ()
        if not (general and len(set(value)) > 1):
            found.append((plain, value))
    if not all(_rounds_to(found[at], found[at + 1]) for at in range(len(found) - 1)):
        return ()
    return tuple(value for _, value in found)


def _is_name(text: str) -> bool:
    """Whether a left-hand side only names what is asked for: a letter, an angle, words."""
    rest = _NAME_PARTS.sub("", text)
    if re.fullmatch(r"\s*[a-z]\s?[a-z]\s*", text):  # a product: a segment's letters are capitals
        return False
    return text.strip() != "" and (rest.isalpha() or rest == "")


def _rounds_to(exact: tuple[str, Value], rounded: tuple[str, Value]) -> bool:
    """Whether the second of two sides is the first, or the first rounded to the second's digits."""
    (_, value), (text, other) = exact, rounded
    if same(value, other):
        return len(set(value)) == 1  # an identity in an unknown states no result
    number = decimal(text)
    if number is None or number.as_tuple().exponent == 0:
        return False
    unit = 10.0 ** int(number.as_tuple().exponent)
    return all(
        abs(first - second) <= 0.5 * unit * (1 + 1e-9) for first, second in zip(value, other, strict=True)
    )


# --- reading and evaluating ---


class _NotAFormula(Exception):
    """The text is not in the grammar."""


_TOKEN = re.compile(
    r"(?P<blank> )|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3}(?![\d.]))?)|(?P<command>\\[A-Za-z]+)"
    r"|(?P<name>(?:arc)?(?:sin|cos|tan)|sqrt|cbrt|exp|log|ln|pi|π|infinity|[^\W\d_])|(?P<sign>[-+*/:^()\[\]{}√!])"
)
_FUNCTIONS = {
    "sqrt": math.sqrt, "√": math.sqrt, "cbrt": math.sqrt, "exp": math.exp, "ln": math.log, "log": math.log10,
    "sin": math.sin, "cos": math.cos, "tan": math.tan,
    "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan,
}  # fmt: skip
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_GREEK = {"theta", "alpha", "beta", "gamma", "phi", "lambda", "mu", "omega"}


def _variable(name: str) -> Value:
    """Numbers to stand for an unknown: always the same for the same name."""
    if name == "e":
        return (math.e,) * _POINTS
    draw = random.Random(name)  # noqa: S311  # not a secret
    return tuple(draw.uniform(0.5, 2.0) for _ in range(_POINTS))


class _Reader:
    """Recursive descent over the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.spaced: list[bool] = []  # whether a blank stands before a token
        position, blank = 0, False
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise _NotAFormula
            position = found.end()
            kind = str(found.lastgroup)
            if kind != "blank":
                known = found.group().lstrip("\\") in _FUNCTIONS or found.group() == "√"
                self.tokens.append(("function" if known else kind, found.group().lstrip("\\")))
                self.spaced.append(blank)
            blank = kind == "blank"
        self.at = 0
        self.depth = 0

    def read(self) -> Value:
        value = self.sum()
        if self.at < len(self.tokens) or not all(map(math.isfinite, value)):
            raise _NotAFormula
        return value

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def take(self, *signs: str) -> str:
        """The next token's text if it is one of ``signs``; else an empty string, and it stays."""
        kind, text = self.peek()
        if kind not in ("sign", "function") or text not in signs:
            return ""
        self.at += 1
        return text

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _NotAFormula
        value = self.product()
        while sign := self.take("+", "-"):
            other = self.product()
            value = tuple(a + b if sign == "+" else a - b for a, b in zip(value, other, strict=True))
        self.depth -= 1
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            sign = self.take("*", "/", ":")
            kind, text = self.peek()
            implicit = kind in ("name", "command", "function") or (kind == "sign" and text in _CLOSING)
            if not sign and not implicit:
                return value
            other = self.signed() if sign else self.power()
            value = tuple(
                a / b if sign in ("/", ":") and sign else a * b for a, b in zip(value, other, strict=True)
            )

    def signed(self) -> Value:
        negative = False
        while sign := self.take("+", "-"):
            negative ^= sign == "-"
        value = self.power()
        return tuple(-a for a in value) if negative else value

    def power(self) -> Value:
        base = self.atom()
        while self.take("!"):
            base = tuple(_factorial(a) for a in base)
        if not self.take("^"):
            return base
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _NotAFormula
        exponent = self.signed()
        self.depth -= 1
        return tuple(_raise(a, b) for a, b in zip(base, exponent, strict=True))

    def atom(self) -> Value:
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            return self.number(text)
        if kind == "sign" and text in _CLOSING:
            value = self.sum()
            if not self.take(_CLOSING[text]):
                raise _NotAFormula
            return value
        if kind == "function":
            return self.function(text)
        if kind == "command" and text == "frac":
            over, under = self.argument(), self.argument()
            return tuple(a / b for a, b in zip(over, under, strict=True))
        if text in ("pi", "π"):
            return (math.pi,) * _POINTS
        if (kind == "name" and len(text) == 1) or (kind == "command" and text in _GREEK):
            return _variable(text)
        raise _NotAFormula

    def number(self, text: str) -> Value:
        """A number, or a mixed one: an integer before a proper fraction of integers."""
        whole = float(text)
        if not text.isdigit():
            return (whole,) * _POINTS
        over = under = ""
        if self.spaced[self.at : self.at + 1] == [True] and self.peek(1) == ("sign", "/"):
            (first, over), (second, under) = self.peek(), self.peek(2)
            length = 3
            if (first, second) != ("number", "number"):
                over = ""
        elif self.peek() == ("command", "frac"):
            shape = [self.peek(ahead) for ahead in range(1, 7)]
            braces = [shape[at] for at in (0, 2, 3, 5)]
            if braces == [("sign", "{"), ("sign", "}")] * 2:
                over, under, length = shape[1][1], shape[4][1], 7
            elif shape[0][0] == "number" and len(shape[0][1]) == 2:  # \frac12
                over, under, length = shape[0][1][0], shape[0][1][1], 2
        if not (over.isdigit() and under.isdigit() and 0 < int(over) < int(under)):
            return (whole,) * _POINTS
        self.at += length
        return (whole + int(over) / int(under),) * _POINTS

    def function(self, name: str) -> Value:
        root = None
        if name == "sqrt" and self.take("["):
            root = self.sum()
            if not self.take("]"):
                raise _NotAFormula
        value = self.atom() if name in ("sqrt", "√", "cbrt") else self.power()
        if name == "cbrt" or root is not None:
            return tuple(_raise(a, 1 / b) for a, b in zip(value, root or (3.0,) * _POINTS, strict=True))
        return tuple(_FUNCTIONS[name](a) for a in value)

    def argument(self) -> Value:
        r"""What a fraction takes: a group, or the next token; of a number its first digit (``\frac12``)."""
        kind, text = self.peek()
        if kind != "number" or not text.isdigit():
            return self.atom()
        self.tokens[self.at : self.at + 1] = [("number", digit) for digit in text]
        self.spaced[self.at : self.at + 1] = [False] * len(text)
        self.at += 1
        return (float(text[0]),) * _POINTS


def _raise(base: float, exponent: float) -> float:
    if abs(exponent) > 64:
        raise _NotAFormula
    return math.pow(base, exponent)


def _factorial(number: float) -> float:
    if not number.is_integer() or not 0 <= number <= 20:
        raise _NotAFormula
    return float(math.factorial(int(number)))
