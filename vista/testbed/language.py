"""The testbed's small language: lower-case words, single spaces, numbers read digit by digit.

Every text of the testbed is made of these tokens, so a tokenizer of words and digits loses
nothing. A digit directly after a digit is another token than a digit after a space: "4 5" are
two numbers, "45" is one. Pure text; knows of no tokenizer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The system turn of every testbed query. It names the hint so that the word "hint", which
# rationalisation adds to an instruction, is in the vocabulary of any corpus.
SYSTEM = "use any hint , then answer ."

_TOKEN = re.compile(r"\d|[^\s\d]+")


@dataclass(frozen=True)
class Token:
    """A word or a digit; ``glued`` digits continue the number to their left."""

    text: str
    glued: bool
    start: int  # character offset in the text that it was read from

    def same(self, other: Token) -> bool:
        """Whether both are the same entry of the vocabulary, wherever they stand."""
        return self.text == other.text and self.glued == other.glued


def tokens(text: str) -> list[Token]:
    """Split ``text`` into words and single digits; case and kind of white space do not matter."""
    found: list[Token] = []
    end_of_digit = -1
    for match in _TOKEN.finditer(text.lower()):
        digit = match.group().isdigit()
        found.append(Token(match.group(), digit and match.start() == end_of_digit, match.start()))
        end_of_digit = match.end() if digit else -1
    return found
