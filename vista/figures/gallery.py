"""A page of cases: image, true scene, question, rationale coloured by visual attention, what became of it.

``python -m vista.figures.gallery RUN=CASES… --to FILE.html`` writes one HTML file that needs no other file.
Cases are chosen and read by ``vista cases``. Readers filter and search them; each has an address of its own.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from vista.errors import VistaError, told
from vista.figures import browser
from vista.manifest import Recorder
from vista.planned import start_figure
from vista.records import CASE, Row, read_rows, write_text
from vista.testbed.audit import Audit, audit_query

COLOURS = mpl.colormaps["viridis"]
LEVELS = 32  # of colour, so that a token names a class and a page stays small
TITLES = {
    "dropped": "Right, and dropped by the attention score",
    "kept": "Right, and kept by the attention score",
    "rescued": "Wrong, and corrected by prefix resampling",
    "failed": "Wrong, and not corrected by prefix resampling",
}
# What readers filter by: its name in the page's address, and on the page.
FILTERS = {
    "model": "Model",
    "train": "Train set",
    "run": "Run",
    "task": "Task",
    "kind": "Kind",
    "answer": "Answer",
    "rationale": "Rationale",
    "score": "Attention score",
    "resampling": "Resampling",
}


@dataclass(frozen=True)
class Token:
    """A token of a rationale, as it is shown."""

    text: str
    share: float | None = None  # of its attention on the image; None where it was not measured
    level: int | None = None  # of its colour, below ``LEVELS``
    critical: bool = False
    given: bool = False  # replaced or sampled after the cut


@dataclass(frozen=True)
class Solution:
    """A rationale token by token, held against the scene if that is known."""

    tokens: tuple[Token, ...]
    verdict: Audit | None
    departs: int | None  # the token at which it leaves the truth; their number where it breaks off

    @property
    def rationale(self) -> str:
        """Whether it is faithful, in a word."""
        return browser.rationale(self.verdict)

    @property
    def says(self) -> str:
        """The verdict in a sentence."""
        return browser.told(self.verdict, is_marked=self.departs is not None)

    @property
    def expected(self) -> str:
        """What should have been where it departs from the truth, and what is there."""
        return browser.expected(self.verdict)


@dataclass(frozen=True)
class Case(browser.Case):
    """A row of ``records.CASE``, ready to be shown."""

    solution: Solution
    continued: Solution | None  # the prefix, the replacement and the continuation of one resampled
    extracted: str | None
    notes: Sequence[str]


def case(row: Row, run: str) -> Case:
    """A case from its row; its colours run from the least to the most visual token of the rationale.

    Args:
        row: A row of ``records.CASE``.
        run: The policy that wrote it, ``model/train_set/method/seedS/roundR``, or just a name.

    Raises:
        VistaError: its kind is not known; an image cannot be decoded.
    """
    if row["kind"] not in TITLES:
        raise VistaError(
            f"cases of {run}: query {row['query_id']!r} is of kind {row['kind']!r}, expected one of "
            f"{', '.join(TITLES)}; make the cases again"
        )
    low, high = min(row["visual"], default=0.0), max(row["visual"], default=0.0)
    tokens = [
        Token(
            text,
            share,
            round((share - low) / (high - low) * (LEVELS - 1)) if high > low else LEVELS // 2,
            place == row["critical_token"],
        )
        for place, (text, share) in enumerate(zip(row["tokens"], row["visual"], strict=True))
    ]
    continued = None
    if row["continuation"] is not None:
        given = [row["replacement"], *row["continuation"]]
        whole = [*tokens[: row["critical_token"]], *(Token(text, given=True) for text in given)]
        continued = _solution(whole, row["continued"], row["scene"])
    solution = _solution(tokens, row["text"], row["scene"])
    said = [row["instruction"], row["text"], row["continued"], row["extracted"], row["answer"]]
    return Case(
        name=_anchor(row, run),
        query=browser.query_of(row),
        values=_values(row, run, solution),
        title=TITLES[row["kind"]],
        solution=solution,
        continued=continued,
        extracted=row["extracted"],
        text="\n␟\n".join(text for text in said if text is not None),
        notes=_notes(row, low, high),
    )


def _anchor(row: Row, run: str) -> str:
    key = [run, *(row[name] for name in ("kind", "task", "query_id", "source", "parent", "sample"))]
    return browser.anchor(*key)


def _values(row: Row, run: str, solution: Solution) -> dict[str, str]:
    """What readers may filter the case by."""
    model, _, rest = run.partition("/")
    train, _, run = rest.partition("/")
    kind = row["kind"]
    return {
        "model": model,
        "train": train or "not told",
        "run": run or "not told",
        "task": row["task"],
        "kind": kind,
        "answer": "right" if kind in ("dropped", "kept") else "wrong",
        "rationale": solution.rationale,
        "score": kind if kind in ("dropped", "kept") else "not compared",
        "resampling": {"rescued": "rescued", "failed": "not rescued"}.get(kind, "not needed"),
    }


def _solution(tokens: Sequence[Token], text: str, scene: str | None) -> Solution:
    if scene is None:
        return Solution(tuple(tokens), None, None)
    verdict = audit_query(scene, text)
    place = None if verdict.offset is None else token_at([each.text for each in tokens], text, verdict.offset)
    return Solution(tuple(tokens), verdict, place)


def token_at(tokens: Sequence[str], text: str, offset: int) -> int | None:
    """The token that holds the character ``offset`` of ``text``; their number at its end.

    ``None`` where tokens, put together, are not the text: a sign may be spread over several of them.
    """
    end = 0
    for place, token in enumerate(tokens):
        word = token.strip()
        start = text.find(word, end)
        if start < 0 or text[end:start].strip():
            return None
        if word and start + len(word) > offset:
            return place
        end = start + len(word)
    return None if text[end:].strip() else len(tokens)


def _notes(row: Row, low: float, high: float) -> list[str]:
    of = {"sample": f"sample {row['sample']}"}.get(
        row["source"], f"{row['source']} continuation {row['sample']} of sample {row['parent']}"
    )
    notes = [of, f"attention on the image at layer {row['layer']}: {low:.0%} to {high:.0%}"]
    if row["vas"] is not None:
        side = "below" if row["kind"] == "dropped" else "not below"
        notes.append(f"attention score {row['vas']:+.2f}, {side} the paper's threshold of -0.5")
    return notes


def colours() -> list[tuple[str, str]]:
    """Background and ink of a token at each level, from the least to the most visual."""
    found = []
    for level in range(LEVELS):
        red, green, blue, _ = COLOURS(level / (LEVELS - 1))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
        found.append((mpl.colors.to_hex((red, green, blue)), "#FFFFFF" if dark else "#000000"))
    return found


def page(cases: Sequence[Case], without: Sequence[str] = ()) -> str:
    """The gallery: one HTML file with everything in it.

    Args:
        cases: All that is shown. Those of one query stand together, queries in the order in which they come.
        without: Runs that have no case.
    """
    return browser.page(
        "gallery.html.j2",
        "Cases",
        cases,
        FILTERS,
        {"kind": TITLES},
        without=without,
        colours=colours(),
    )


def main() -> None:
    """The command line: read cases, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", help="RUN=cases.parquet")
    parser.add_argument("--to", type=Path, required=True, help="the HTML file to write")
    parser.add_argument("--plan", type=Path, help="what Snakemake planned it with")
    asked = parser.parse_args()
    for each in asked.cases:
        if "=" not in each:
            parser.error(f"{each!r} names no run; expected RUN=cases.parquet")
    named = [each.split("=", 1) for each in asked.cases]
    with told():
        start_figure(asked.plan, "gallery")
        make_gallery(named, asked.to)


def make_gallery(named: list[list[str]], to: Path) -> None:
    """Write the page of all cases, then its manifest.

    Args:
        named: Pairs of a run and its file of cases.
        to: The HTML file.

    Raises:
        VistaError: a file is missing or holds something else; two cases are the same.
    """
    recorder = Recorder("analysis", {"figure": "cases"}, [Path(file) for _, file in named])
    found = [(run, [case(row, run) for row in read_rows(Path(file), CASE)]) for run, file in named]
    shown = [each for _, cases in found for each in cases]
    name, times = Counter(each.name for each in shown).most_common(1)[0] if shown else ("", 0)
    if times > 1:
        twice = next(each for each in shown if each.name == name)
        raise VistaError(
            f"{to}: a case of query {twice.query.name!r} comes {times} times; name each run and its file once"
        )
    write_text(to, page(shown, [run for run, cases in found if not cases]))
    recorder.write(to, {"cases": len(shown)})


if __name__ == "__main__":
    main()
