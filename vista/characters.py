"""Unicode's many ways to write a number, so that none is read as another number."""

from __future__ import annotations

import re
import unicodedata

# Digits that Unicode's compatibility form would put beside others as if they were of the same number:
# powers, indices, fractions, and digits in circles, in brackets or with a full stop.
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_LOWERED = re.compile(r"(?<=[\d⁰¹²³⁴-⁹])[₀-₉]+|[₀-₉]+(?=\d)")
_FRACTION = re.compile(r"(\d?)([¼-¾⅐-⅞↉])")
_FRAMED = re.compile(r"(?<=\d)(?=[①-⒛⓪-⓿❶-➓㉑-㉟㊱-㊿])|(?<=[①-⒛⓪-⓿❶-➓㉑-㉟㊱-㊿])(?=\d)")


def compatible(text: str) -> str:
    """A text in Unicode's compatibility form (NFKC), numbers with the values that they had before.

    ``10⁵`` is ``10^5`` and not 105, ``3½`` is ``3 1/2``, ``10₂`` is ``10_2``; ``H₂O`` is ``H2O``.
    """
    if text.isascii():
        return text
    text = _LOWERED.sub(r"_\g<0>", _RAISED.sub(r"^\g<0>", text))
    text = _FRAMED.sub(" ", _FRACTION.sub(_fraction, text))
    return unicodedata.normalize("NFKC", text)


def _fraction(found: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", found[2]).partition("⁄")
    return f"{found[1]}{' ' if found[1] else ''}{over}/{under}"
