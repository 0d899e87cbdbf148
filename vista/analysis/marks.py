"""Text with a few marks, such as the tables' cells and notes, as LaTeX, as HTML, and as what it sorts by.

The marks are ``**bold**``, ``<u>underlined</u>``, `` `code` `` and an escaped ``\\*``. All else is text of
data, models and other people, and is shown as it reads.
"""

from __future__ import annotations

import math
import re
from html import escape

from vista.shown import printable

MARKS = re.compile(r"\*\*(?P<bold>.+?)\*\*|<u>(?P<underline>.+?)</u>|`(?P<code>[^`]+)`|\\(?P<star>\*)")
# What a cell begins with that is a number: not a version, a date or a name.
NUMBER = re.compile(r"(?P<sign>[≥≤<>]?)\s*(?P<number>[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?)(?![\w.,-])")

# Characters that LaTeX reads as commands, or that its fonts need a command for.
SYMBOLS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "−": "$-$", "–": "--", "…": r"\dots{}"},
    **{"†": r"$\dagger$", "≤": r"$\leq$", "≥": r"$\geq$", "<": "$<$", ">": "$>$"},
    **{"Δ": r"$\Delta$", "τ": r"$\tau$", "λ": r"$\lambda$", "α": r"$\alpha$", "β": r"$\beta$"},
    **{"⌊": r"$\lfloor$", "⌋": r"$\rfloor$", "²": "$^2$", "√": r"$\surd$"},
}
MINUS = re.compile(r"(?<![\w.])-(?=\d)")


def plain(text: str) -> str:
    """``text`` without its marks."""
    return MARKS.sub(lambda match: plain(next(filter(None, match.groups()))), text)


def number_in(text: str) -> float | None:
    """The number that a cell begins with; ``< 0.001`` is less than ``0.001``."""
    found = NUMBER.match(plain(text).strip().replace("−", "-"))
    if found is None:
        return None
    value = float(found["number"].replace(",", ""))
    return math.nextafter(value, -math.inf) if found["sign"] == "<" else value


def in_html(text: str) -> str:
    """A cell, caption or note in HTML: its marks as tags, everything else as it reads."""
    found, end = [], 0
    for match in MARKS.finditer(text):
        found.append(escape(printable(text[end : match.start()])))
        end = match.end()
        if (code := match["code"]) is not None:
            found.append(f"<code>{escape(printable(code))}</code>")
        elif match["star"] is not None:
            found.append("*")
        elif (bold := match["bold"]) is not None:
            found.append(f"<strong>{in_html(bold)}</strong>")
        else:
            found.append(f"<u>{in_html(match['underline'])}</u>")
    return "".join([*found, escape(printable(text[end:]))])


def in_latex(text: str) -> str:
    """A cell or caption in LaTeX: its marks as commands, everything else as it reads."""
    found, end = [], 0
    for match in MARKS.finditer(text):
        found.append(_escaped(text[end : match.start()]))
        end = match.end()
        if (code := match["code"]) is not None:
            found.append(rf"\texttt{{{_escaped(code)}}}")
        elif match["star"] is not None:
            found.append("*")
        elif (bold := match["bold"]) is not None:
            found.append(rf"\textbf{{{in_latex(bold)}}}")
        else:
            found.append(rf"\underline{{{in_latex(match['underline'])}}}")
    return "".join([*found, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return "".join(SYMBOLS.get(sign, sign) for sign in MINUS.sub("−", printable(text)))
