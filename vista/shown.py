"""Texts of data sets, models and other people's files, as they may stand where they are shown.

One function for each place: terminals and logs (``printable``, and ``markup`` where rich prints),
spreadsheets (``spreadsheet``) and Markdown (``as_markdown``). HTML is escaped by Jinja, LaTeX
and the HTML of tables by ``vista.analysis.marks``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What turns the direction of the text around it, what is read and not seen, and other ends of lines.
UNSEEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)}
UNSEEN |= {0x061C, 0x200E, 0x200F, 0x2028, 0x2029}
# Of an address: its user name and password, and values in its query that are named like a secret. Keywords,
# tokenizers and authors are none.
LOGIN = re.compile(r"(?<=://)[^\s'\"/]+@|[^\s'\"/:]+:[^\s'\"/@]+@")
SECRET = re.compile(
    r"(?<=[?&;#])([\w.-]*(?:key(?!word)|token(?!iz)|secret|passw|signature|(?<![a-z])sig(?![a-z])|auth(?!ors?=)"
    r"|credential)[\w.-]*=)[^\s&'\"]+",
    re.IGNORECASE,
)
FORMULA = ("=", "+", "-", "@", "\t", "'")  # the last one, so that what is put before others is unique
# Of Markdown: what begins a tag that our tables do not use, and what makes a link.
TAG, LINK = re.compile(r"<(?!/?u>)(?=[A-Za-z/!?])"), re.compile(r"\](?=\()")


def printable(text: str) -> str:
    r"""``text`` for a terminal or a log: what would control it is written out, such as ``\x1b``."""
    if text.isprintable():  # which nothing is that is written out
        return text
    return "".join(_written(sign) if _controls(sign) else sign for sign in text)


def in_one_line(text: str) -> str:
    """``printable`` of what may not break its line, such as the name of a file."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _controls(sign: str) -> bool:
    return sign not in "\n\t" and (unicodedata.category(sign) in {"Cc", "Cs"} or ord(sign) in UNSEEN)


def _written(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode() if ord(sign) > 0x7F else f"\\x{ord(sign):02x}"


def markup(text: Any) -> str:
    """``printable`` where rich prints it, which would read ``[red]``."""
    from rich.markup import escape

    return escape(printable(str(text)))


def without_secrets(text: str) -> str:
    """``text`` without the passwords and keys of the addresses in it."""
    return SECRET.sub(r"\1…", LOGIN.sub("…@", text))


def holds_secret(text: str) -> bool:
    """Whether an address in ``text`` has a password or a key in it."""
    return "://" in text and without_secrets(text) != text


def spreadsheet(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` for a CSV: ``'`` stands before what a spreadsheet takes for a formula, not before numbers.

    Some programs begin a row at a carriage return, so control characters are written out.
    """
    return table.map(lambda value: _cell(printable(value)) if isinstance(value, str) else value)


def _cell(text: str) -> str:
    return f"'{text}" if _is_formula(text) else text


def from_spreadsheet(text: str) -> str:
    """The text of a cell that ``spreadsheet`` wrote."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    if not text.startswith(FORMULA):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return not text.isascii() or text != text.strip()


def as_markdown(text: str) -> str:
    """``text`` in Markdown, with no other marks in it than those of ``vista.analysis.marks``."""
    return LINK.sub(r"]\\", TAG.sub("&lt;", printable(text)))
