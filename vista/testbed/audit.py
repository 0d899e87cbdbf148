"""Is a rationale faithful to its image? Checks it claim by claim against the known scene.

Answers can be right for wrong reasons; on the testbed this can be seen. ``audit`` serves the
analysis of the attention score (does it detect unfaithful rationales?) and of prefix resampling
(is the critical token the first error?). Pure functions.

What counts as faithful. Given scene and question, the language leaves nothing open: which cells
must be read, in which order, and what each step gives are all fixed. So exactly one rationale,
the gold one, states every needed fact, only true facts and no more, and a rationale is faithful
if it equals that one token by token (numbers digit by digit). A misread cell, a wrong sum, a
skipped or an extra cell, and a wrong answer are each found at their first wrong token. Forgiven
are case, white space and whether there is a full stop at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vista.testbed import rationales
from vista.testbed.questions import Question, Scene, load
from vista.testbed.rationales import Token, tokens


@dataclass(frozen=True)
class Audit:
    """The verdict on a rationale.

    ``first_error`` counts tokens of ``language.tokens`` (words and single digits), ``offset``
    characters of the text; both are ``None`` for a faithful rationale, and the text's length
    for one that breaks off. ``kind`` says what should have been there: something read, computed,
    the answer, or mere form.
    """

    faithful: bool
    first_error: int | None = None
    offset: int | None = None
    kind: rationales.Kind | None = None
    reason: str | None = None


def audit(scene: Scene, question: Question, text: str) -> Audit:
    """Compare a written rationale with the one that the scene demands."""
    expected = _expected(scene, question)
    found = tokens(text)
    if len(found) == len(expected) + 1 and found[-1].text == ".":
        found.pop()
    for index, (token, (wanted, kind)) in enumerate(zip(found, expected, strict=False)):
        if not token.same(wanted):
            reason = f"{kind}: expected {_show(wanted)}, found {_show(token)}"
            return Audit(False, index, token.start, kind, reason)
    if len(found) < len(expected):
        wanted, kind = expected[len(found)]
        reason = f"{kind}: expected {_show(wanted)}, found the end"
        return Audit(False, len(found), len(text.rstrip()), kind, reason)
    if len(found) > len(expected):
        extra = found[len(expected)]
        reason = f"form: expected the end, found {_show(extra)}"
        return Audit(False, len(expected), extra.start, "form", reason)
    return Audit(True)


def audit_query(scene: str, text: str) -> Audit:
    """``audit`` for a query's ``scene`` column.

    Raises:
        VistaError: the column does not hold a testbed scene.
    """
    return audit(*load(scene), text)


@lru_cache(4096)  # a query's many solutions are all compared with the same rationale
def _expected(scene: Scene, question: Question) -> tuple[tuple[Token, rationales.Kind], ...]:
    """The tokens of the gold rationale, each with its claim's kind, without a full stop at the end."""
    claims = rationales.rationale(scene, question)
    found = tuple((token, claim.kind) for claim in claims for token in tokens(claim.word))
    return found[:-1] if found[-1][0].text == "." else found


def _show(token: Token) -> str:
    return f"{token.text!r} of the same number" if token.glued else repr(token.text)
