r"""Find the answer in a response, and tidy it.

One normaliser stands between any response and its verdict: markdown, LaTeX wrappers, display math,
quotes, answer tags and what follows the answer on its line are none of the answer. Every pattern is
linear in the text, and texts are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from vista.formulae import unwrap

_LONGEST_RESPONSE = 50_000  # characters; of a longer response its end counts
_MOST_MARKS = 1_000  # considered, from the end
LONGEST_ANSWER = 2_000  # characters of what follows a mark

# --- where the answer stands ---

_GAP = r"[ \t]*(?:\([^()\n]{0,40}\)[ \t]*)?[*_`\"'\]]{0,4}\s{0,3}"
_OPTION = r"(?:correct|right|best|final)[ ]+(?:option|choice|letter)"
_MARK = re.compile(
    r"(?P<box>\\(?:boxed|fbox)\s{0,3}\{)"
    r"|(?P<tag><answer>|<\|begin_of_box\|>)"
    rf"|(?<![A-Za-z0-9])(?:answer|ans\.?|{_OPTION}){_GAP}(?P<colon>[-=]>|[:：=]|→)"
    rf"|(?<![A-Za-z0-9])(?:answer(?:[ ](?:to|for)[ ][^.\n:=]{{1,60}}?)?|{_OPTION})"
    r"[*_`\"']{0,4}\s{1,3}"
    r"(?P<prose>(?:is|(?:would|should|must|will|has[ ]to|(?:seem|appear)s[ ]to)[ ]be)(?![A-Za-z])"
    r"(?:[*_`]{0,3}[ ]?(?P<told>[:：]))?)"
    r"|^[ \t]{0,3}(?:\#{1,6}[ \t]*|>[ \t]*)?[*_]{0,3}(?:(?:the|my|final|correct|short)[ ]){0,3}"
    r"(?:(?P<dash>answer[*_]{0,3}[ ]?[-–—]{1,2}[ ](?=\S))|(?P<heading>answer)[ \t*_\#.]{0,8}$)",
    re.IGNORECASE | re.MULTILINE,
)
# "To find the answer: …", "Reasons for the answer: …" lead to no answer.
_ABOUT_ANSWERS = re.compile(
    r"\b(?:find|get|reach|determine|select|choose|pick|identify|give|obtain|compute|calculate|check|verify|explain|justify"
    r"|of|for|in|on|about|to|behind|with|possible|wrong|incorrect|previous|your|an|no|any)[ ]+"
    r"(?:(?:the|this|that|my|our|final|correct|best)[ ]+){0,3}$"
    r"|\b(?:can|could|will|would|should|may|might|must|cannot|you|we|they|i)[ ]+(?:\w{1,12}[ ]+)?$",
    re.IGNORECASE,
)
# "No: the answer is 5" takes back what was marked before.
_TAKEN_BACK = re.compile(r"\b(?:no|wait|actually|sorry|correction|oops)\b[^.\n]{0,20}$", re.IGNORECASE)
# "Wait, …", "Correction: …", at the start of a sentence, doubt what was marked before them.
_DOUBT = re.compile(
    r"(?:^|[.!?…][*_)\"]{0,3}\s{1,3}|\s[-–—]\s|,\s(?=(?:no,?\s)?wait))"
    r"[ \t*_>]{0,4}(?:(?:but|no|oh|hmm+)[,.…\s]{1,3})?"
    r"(?:wait|hold on|oops|hmm+|correction|scratch that|on second thought|sorry|actually)\b"
    r"(?=\s?[,.!:;…–—-]|\s(?:no|that|it|i|the|this)\b|\s\S{1,12}$)",
    re.IGNORECASE | re.MULTILINE,
)
# "If the lung were clear, the answer would be no" answers only if nothing else does.
_IF = re.compile(r"\b(?:if|unless)\b[^.\n]*$", re.IGNORECASE)
_ADVERB = re.compile(
    r"[\s*_]{0,6}(?:therefore|thus|hence|then|indeed|clearly|definitely|certainly|simply|most likely|likely"
    r"|probably|actually|still),?(?=\s)(?!\s(?:yes|no)\b)",
    re.IGNORECASE,
)
# What follows "the answer is" in a sentence about the answer.
_NO_ANSWER = re.compile(
    r"(?:not(?! (?:seen|visible|present|applicable|available|healthy|normal|documented|specified|shown))"
    r"|in|on|as|from|because|since|based|due|that|what|why|how|also)(?![A-Za-z])"
    r"|(?:clear|clearly|correct|incorrect|wrong|obvious|consistent|reasonable|easy|simple|supported|determined"
    r"|found|given|obtained|derived|shown|visible|confirmed)"
    r"(?: (?:by|from|in|to|as|using|with|at|because|since|that|here|below|above)\b|\W*$)"
)
_NESTED = re.compile(
    r"[*_]{0,3}(?:(?:so|thus|hence|therefore),? )?(?:(?:the|my|final|correct) ){0,3}"
    r"answer[*_]{0,3} ?(?:is ?:?|:|=)\s{0,3}",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_JOINED = re.compile(r"[\s$,;.]*(?:(?:or|and)[\s$]*)?(?:\w\s?=\s?)?[\s$]*", re.IGNORECASE)


# Samples of a query often say the same, one after another. Few are kept, since they may be long.
@lru_cache(maxsize=512)
def extract(text: str, mark: str | None = None) -> str | None:
    r"""The answer that a response gives, tidied; ``None`` if it gives none.

    An explicit mark comes before an answer: ``\boxed{X}``, ``<answer>X</answer>``, "Answer: X", a
    heading or a line "Answer", or ``mark``. So does prose: "the answer is X", "the correct option is
    X". Of several explicit marks the last counts, and of prose the last, if no mark is explicit.
    Prose after an explicit mark is none of the answer, unless it takes that back ("no: the answer is
    5"). What a later sentence doubts ("Wait, …", "Correction: …") is no answer; a new mark after that
    is one. After a plain mark the rest of the line counts, or the next line with anything in it, the
    list or the display formula there; of that the first sentence. Boxes side by side ("X or Y") are
    one answer that names two. After ``</think>`` only what follows it counts, if that has a mark.

    Args:
        text: A whole response; the last 50,000 characters count.
        mark: What else comes before an answer; case does not matter.
    """
    text = text[-_LONGEST_RESPONSE:]
    thoughts = [found.end() for found in _THOUGHT.finditer(text)]
    if thoughts and (spans := _marks(text[thoughts[-1] :], mark)):
        return _read(text[thoughts[-1] :], spans)
    return _read(text, _marks(text, mark))


def _marks(text: str, mark: str | None) -> list[re.Match[str]]:
    """The marks up to the one that counts; empty if none does."""
    marks = list(_MARK.finditer(text))
    if mark and (own := list(_own(mark.strip()).finditer(text))):
        newest = own[-1]
        # Of "the answer is" the whole counts, even if the prompt's mark is "answer".
        if not any(usual.start() <= newest.start() and newest.end() <= usual.end() for usual in marks):
            marks = sorted([*marks, newest], key=lambda found: found.end())
    explicit = prose = supposed = None
    for at in range(len(marks) - 1, max(-1, len(marks) - _MOST_MARKS), -1):
        found = marks[at]
        kind = _kind(found)
        if kind in ("colon", "prose", "told") and _ABOUT_ANSWERS.search(
            text, max(0, found.start() - 60), found.start()
        ):
            continue
        if kind != "prose" or _takes_back(text, found):
            explicit = at
            break
        if not _is_about(text, found):
            if found["prose"].startswith("would") and _IF.search(
                text, max(0, found.start() - 160), found.start()
            ):
                supposed = at if supposed is None else supposed
            else:
                prose = at if prose is None else prose
    prose = supposed if prose is None else prose
    for last in (explicit, prose):  # prose after an explicit mark counts if that is doubted
        if last is not None and not _doubted(text, marks[last]):
            return marks[: last + 1]
    return []


def _own(mark: str) -> re.Pattern[str]:
    """A prompt's own mark, where it is no part of a longer word or number."""
    before, after = ("(?<![A-Za-z0-9])", "(?![A-Za-z0-9])")
    first, last = (end.isascii() and end.isalnum() for end in (mark[0], mark[-1]))
    return re.compile(before * first + re.escape(mark) + after * last, re.IGNORECASE)


def _kind(mark: re.Match[str]) -> str:
    """Which alternative of the pattern matched; "own" for the mark of a prompt."""
    if mark.re is not _MARK:
        return "own"
    return "told" if mark["told"] else str(mark.lastgroup)


def _takes_back(text: str, found: re.Match[str]) -> bool:
    before = _TAKEN_BACK.search(text, max(0, found.start() - 40), found.start())
    return before is not None and not _is_about(text, found)


def _doubted(text: str, found: re.Match[str]) -> bool:
    """Whether a sentence after what a mark gives begins like a correction."""
    start = re.compile(r"[\s*_]{0,99}\S").match(text, found.end())
    return start is not None and _DOUBT.search(text, start.end()) is not None


def _is_about(text: str, found: re.Match[str]) -> bool:
    """Whether a sentence says something of the answer instead of giving it."""
    content = text[found.end() : found.end() + 80].lstrip(" \t\n*_`:")
    return not content or _NO_ANSWER.match(content) is not None


def _read(text: str, marks: Sequence[re.Match[str]]) -> str | None:
    """What the last of ``marks`` gives."""
    if not marks:
        return None
    last = marks[-1]
    kind = _kind(last)
    if kind == "box":
        return _boxes(text, marks)
    rest = text[last.end() : last.end() + LONGEST_ANSWER]
    if kind in ("prose", "told") and (adverb := _ADVERB.match(rest)):
        rest = rest[adverb.end() :]
    if kind == "tag":
        content = re.split(r"</answer>|<\|end_of_box\|>", rest, maxsplit=1, flags=re.IGNORECASE)[0]
        return first_sentence(tidy(content)) or None
    if tag := re.fullmatch(r"<(\w+)>", last.group()):  # a prompt's own
        rest = re.split(f"</{tag[1]}>", rest, maxsplit=1, flags=re.IGNORECASE)[0]
    start = text.rfind("\n", 0, last.start()) + 1
    return first_sentence(tidy(_line(rest, text[max(start, last.start() - 200) : last.end()]))) or None


def _boxes(text: str, marks: Sequence[re.Match[str]]) -> str | None:
    """The content of the last box; with those side by side in one sentence, joined by "or"."""
    contents: list[str] = []
    end_of = len(text)
    for found in reversed(marks):
        content = _to_closing_brace(text[found.end() : found.end() + LONGEST_ANSWER])
        if content is None or _kind(found) != "box":
            break
        closed = found.end() + len(content) + 1
        if contents and not (closed <= end_of <= closed + 20 and _JOINED.fullmatch(text[closed:end_of])):
            break
        contents.insert(0, tidy(content))
        end_of = found.start()
        if len(contents) == 9:
            break
    if len(set(contents)) == 1:
        return contents[0] or None
    return " or ".join(contents) or None


def _to_closing_brace(text: str) -> str | None:
    r"""The text before the brace that closes one already open; ``None`` if there is none."""
    depth = 1
    for found in re.finditer(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(found.group(), 0)
        if depth == 0:
            return text[: found.start()]
    return None


_OPENING = re.compile(r"(\$\$|\\\[|```[a-z]*\n|\\begin\{(?:equation|align|gather)\*?\})\s*")
_CLOSING = {"$": "$$", "\\": "\\]", "`": "```"}

# A quoted value before the end of a JSON object or list, or before its next key.
_VALUE = re.compile(
    r"""(?P<quote>["'])(?P<value>(?:(?!(?P=quote)).)*)(?P=quote)\s*(?:[}\]]|,\s*(?:$|["'][^"']{0,60}["']\s*:))"""
)
_BULLET = re.compile(r"(?:[-•+]|\d[.)])\s+(?=[^\d\s])")
_STAR = re.compile(r"\n[ \t]*\*[ \t]+$")


def _items(content: str) -> str:
    """The items of a list whose first begins ``content``, separated by commas."""
    first, *rest = content.split("\n")
    items = [first]
    for line in rest:
        item = re.match(r"\s*(?:[-•+*]|\d[.)])\s+(?=\S)", line)
        if item is None:
            break
        items.append(line[item.end() :])
    return items[0] if len(items) == 1 else ", ".join(item.strip(" .;,") for item in items)


def _line(rest: str, before: str) -> str:
    """The line that gives the answer, or the display formula that opens it.

    Args:
        rest: What follows the mark.
        before: The mark and what stands before it in its line, where emphasis may have been opened.
    """
    lead = re.match(r"(?:[\s*_`:：\"]|(?<=\n)>)*", rest)
    content = rest[lead.end() :] if lead else rest
    before += lead.group() if lead else ""
    if lead and "\n" in lead.group():
        if bullet := _BULLET.match(content):
            content = content[bullet.end() :]
        if bullet or _STAR.search(lead.group()):  # every item of a list is part of the answer
            content = _items(content)
    if opening := _OPENING.match(content):
        closing = _CLOSING[content[0]] if "begin" not in opening.group(1) else "\\end{"
        return content[opening.end() :].split(closing, 1)[0]
    line = content.split("\n", 1)[0]
    quoted = _VALUE.match('"' + line if before.endswith('"') else line)
    if quoted:  # a value in JSON
        return quoted["value"]
    for emphasis in ("***", "**", "__", "`", '"', "*", "_"):  # opened before the mark, closed here
        if before.count(emphasis) % 2 and emphasis in line:
            return line.replace(emphasis, "", 1)
    return line


# --- the normaliser ---

_ENDS = re.compile(r"</s>|<\|[A-Za-z_ ]{1,24}\|>|<(?:eos|end_of_turn|/?answer|/?think)>", re.IGNORECASE)
_HTML = re.compile(
    r"</?(?:b|i|em|strong|u|p|br|span|code|mark|div|h[1-6])(?: [^<>]{0,80})?/?>", re.IGNORECASE
)
_PAIRS = [
    ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("```", "```"), ("`", "`"), ("***", "***"),
    ("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"),
    ("«", "»"), ("{", "}"),
]  # fmt: skip
_WHOLE_TEXT = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt)?|math(?:rm|bf|it|sf)|mbox|operatorname)\*?\s?\{(?=(?P<inner>.*)\}$)"
)
_ABBREVIATION = re.compile(
    r"(?:^|[^A-Za-z])(?:[A-Za-z]|st|mt|ft|dr|mr|mrs|ms|prof|inc|co|corp|ltd|jr|sr|vs|etc|approx"
    r"|fig|e\.g|i\.e|dept|gov|[A-Za-z]\.[A-Za-z])\.$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"\s\.(?=\s|$)|[.!?。][\"')\]*$]{0,3}\s{1,3}(?=[A-Z\"'(*\\$])|(?<=[\d)}$])\.\s{1,3}(?=[a-z])"
    r"|;\s(?!(?:or|and|also|both|if)\s)(?=[A-Za-z]{2,40}\s\S{1,40}\s\S)"
)
_REASON = re.compile(
    r",?\s{1,3}(?:because|since|given that|which (?:is|are|means)|as (?:it|the|this|shown|seen|there))\b"
    r"|\s\((?:since|because|as|i\.e\.|approximately|approx\.?|about|rounded|≈|\\approx)[\s\d)]|\s[—–]\s",
    re.IGNORECASE,
)

# Full-width letters, digits and punctuation, which bilingual models mix in.
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("、"): ","}


@lru_cache(maxsize=4096)
def tidy(text: str) -> str:
    r"""An answer without what wraps it: emphasis, ``$``, ``\text``, quotes, tags, a final full stop."""
    text = text[:LONGEST_ANSWER].translate(_WIDE)
    if "<" in text:
        text = _HTML.sub("", _ENDS.split(text, maxsplit=1)[0])
    if "\n" in text:
        text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"\1", text) if "**" in text else text
    for _ in range(8):
        before, text = text, text.strip()
        if (found := _WHOLE_TEXT.match(text)) and _to_closing_brace(text[found.end() :]) == found["inner"]:
            text = found["inner"]
        for left, right in _PAIRS:
            inner = text[len(left) : len(text) - len(right)]
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                if left not in inner and right not in inner:
                    text = inner
                break
        if text.endswith((".", "。")) and not re.search(r"[A-Za-z]\.[A-Za-z]\.$", text):
            text = text[:-1]
        if nested := _NESTED.match(text):
            text = text[nested.end() :]
        if text == before:
            break
    return text


def first_sentence(text: str) -> str:
    """An answer without the sentence, or the reason, that follows it.

    A full stop after a single letter ends none: what follows may be the text of that choice.
    """
    for pattern in (_SENTENCE, _REASON):
        for found in pattern.finditer(text):
            head = text[: found.start() + 1].rstrip()
            bare = head.strip(" .,()[]*!?$—–")
            if not bare or (len(bare) == 1 and bare.isalpha()):
                continue
            if pattern is _SENTENCE and found.group()[0] == "." and _ABBREVIATION.search(head[-12:]):
                continue
            text = text[: found.start()]
            break
    return tidy(text)


def plain_text(text: str) -> str:
    r"""A tidied answer as text: LaTeX's wrappers, delimiters and escapes gone."""
    plain = unwrap(text)
    plain = re.sub(
        r"\\[()\[\],;!]|(?<!\\)\$(?!\d)|\\(?:left|right|quad|displaystyle)(?![A-Za-z])", " ", plain
    )
    plain = re.sub(r"\\([%&#_$])", r"\1", plain)
    return " ".join(plain.replace("~", " ").split())
