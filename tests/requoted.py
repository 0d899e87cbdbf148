"""Write the numbers of README and docs again after a new reference run: ``python -m tests.requoted``.

Tables that are excerpts of a reference table, and numbers that a comment (``tests.quoted``) says the origin
of. Which number of a sentence is which is found with the tables of the last commit, which the sentence still
quotes. What a number is said to mean is for whoever reads the diff.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.quoted import COMMENT, NUMBER, Quote, looked_up, parsed, places, quotes
from tests.test_docs import cells, is_excerpt, tables_of

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/testbed.md", "docs/findings.md")
KEYS = ("model", "train_set", "method", "against", "round", "task", "policy", "kind")


def written(value: float, like: str) -> str:
    """A value with as many digits, and signed, as the number that it replaces."""
    digits = len(like.partition(".")[2])
    text = f"{abs(value):{',' if ',' in like else ''}.{digits}f}"
    if value < 0 and (text.strip("0.,") or like[0] in "+−-"):
        return f"{'-' if '-' in like else '−'}{text}"
    return f"+{text}" if like[0] in "+−-" else text


def sentences(page: str, new: Path, old: Path) -> tuple[str, list[str]]:
    """The page with the numbers of its sentences, and what has to be done by hand."""
    problems = []
    for quote in reversed(list(quotes(page))):
        match = next(found for found in COMMENT.finditer(page) if _is(found, quote))
        start = match.start() - len(quote.text)
        words = list(NUMBER.finditer(quote.text))
        was = [looked_up(quote, column, old) for column in quote.columns]
        at = places([parsed(word.group()) for word in words], was)
        if at is None:
            problems.append(f"by hand: {quote.text[-70:]!r}, from {quote.table} {quote.row}")
            continue
        text = quote.text
        for place, column, before in reversed(list(zip(at, quote.columns, was, strict=True))):
            word = words[place]
            now = looked_up(quote, column, new)
            if now == before:
                continue  # somebody has rounded it by hand
            number = written(now, word.group())
            text = text[: word.start()] + number + text[word.end() :]
        page = page[:start] + text + page[match.start() :]
    return page, problems


def _is(match: re.Match[str], quote: Quote) -> bool:
    same = match["table"] == quote.table and " ".join(match["row"].split()) == quote.row
    return same and match.string[: match.start()].endswith(quote.text)


def excerpts(page: str, new: Path, old: Path) -> tuple[str, list[str]]:
    """The page with the rows of its tables, and which tables are no excerpts."""
    problems = []
    whole = {
        (file.relative_to(old), place): table
        for file in sorted(old.glob("*/*.md"))
        for place, table in enumerate(tables_of(file.read_text()))
    }
    for shown in tables_of(page):
        source = next((key for key, table in whole.items() if is_excerpt(shown, table)), None)
        if source is None:
            problems.append(f"no excerpt: the table of {', '.join(shown[0])}")
            continue
        file, place = source
        fresh = tables_of((new / file).read_text())[place]
        if fresh == whole[source]:
            continue
        for row in shown:
            keys = {name: row[name] for name in KEYS if name in row}
            alike = [each for each in fresh if all(each.get(k) == v for k, v in keys.items())]
            if len(alike) != 1:
                problems.append(f"by hand: {len(alike)} rows of {file} for {keys}")
                continue
            (found,) = alike
            lines = [line for line in page.splitlines() if line.startswith("|")]
            line = next(line for line in lines if cells(line) == list(row.values()))
            parts = line.strip().strip("|").split("|")
            wide = [len(part) - 2 for part in parts]
            right = [part.startswith("  ") or not part.endswith("  ") for part in parts]
            texts = [
                found[name].rjust(width) if to_right else found[name].ljust(width)
                for name, width, to_right in zip(row, wide, right, strict=True)
            ]
            page = page.replace(line, "| " + " | ".join(texts) + " |", 1)
    return page, problems


def committed(folder: Path) -> Path:
    """The reference tables of the last commit."""
    names = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD", "results/reference"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in names:
        if name.endswith((".csv", ".md")):
            text = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, check=True)
            file = folder / Path(name).relative_to("results/reference")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.stdout)
    return folder


def main() -> None:
    """Write the pages, and say what is left."""
    new = ROOT / "results/reference"
    with tempfile.TemporaryDirectory() as folder:
        old = committed(Path(folder))
        for name in PAGES:
            file = ROOT / name
            page, left = excerpts(file.read_text(), new, old)
            page, more = sentences(page, new, old)
            file.write_text(page)
            for problem in (*left, *more):
                print(f"{name}: {problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
