"""Pictures of cases: image, question, rationale coloured by visual attention, what was dropped or mended.

``python -m vista.figures.gallery MODEL=CASES… --to FOLDER`` writes a PNG of each case, and ``FOLDER.html`` to
browse them, which needs no other file. Cases are chosen and read by ``vista cases``.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from vista.errors import told, writing
from vista.figures.drawing import NO_DATES, PAGE, style
from vista.images import open_images
from vista.manifest import Recorder, withdraw
from vista.records import CASE, Row, read_rows, write_text
from vista.testbed.audit import audit_query

COLOURS = mpl.colormaps["viridis"]
LINE = 62  # characters of a rationale in a line of the picture
TITLES = {
    "dropped": "Right, and dropped by the attention score",
    "rescued": "Wrong, and mended by prefix resampling",
}


@dataclass(frozen=True)
class Token:
    """A token of a rationale, as it is shown."""

    text: str
    share: float | None  # of its attention on the image; None where nobody read it
    colour: str
    ink: str
    critical: bool = False
    given: bool = False  # replaced or sampled after the cut


@dataclass(frozen=True)
class Case:
    """A row of ``records.CASE``, ready to be shown."""

    name: str
    model: str
    kind: str
    title: str
    task: str
    question: str
    answer: str
    image: Image.Image
    tokens: list[Token]
    mended: list[Token]  # the prefix, the replacement and the continuation of a rescued one
    notes: list[str]

    @property
    def png(self) -> str:
        """The image as base64."""
        file = io.BytesIO()
        self.image.save(file, format="PNG")
        return base64.b64encode(file.getvalue()).decode()


def case(row: Row, model: str, number: int) -> Case:
    """A case from its row; its colours run from the least to the most visual token of the rationale."""
    low, high = min(row["visual"], default=0.0), max(row["visual"], default=1.0)
    tokens = [
        Token(
            text,
            share,
            *_colour((share - low) / (high - low) if high > low else 0.5),
            place == row["critical_token"],
        )
        for place, (text, share) in enumerate(zip(row["tokens"], row["visual"], strict=True))
    ]
    mended: list[Token] = []
    if row["continuation"] is not None:
        cut = int(row["critical_token"])
        given = [row["replacement"], *row["continuation"]]
        mended = [*tokens[:cut], *(Token(text, None, "#FFFFFF", "#009E73", given=True) for text in given)]
    return Case(
        name=f"{model}-{row['kind']}-{number}",
        model=model,
        kind=row["kind"],
        title=TITLES[row["kind"]],
        task=row["task"],
        question=row["instruction"],
        answer=row["answer"],
        image=open_images(row)[0],
        tokens=tokens,
        mended=mended,
        notes=_notes(row),
    )


def _colour(place: float) -> tuple[str, str]:
    """Background and ink of a token, from 0 (least visual) to 1."""
    red, green, blue, _ = COLOURS(place)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    return mpl.colors.to_hex((red, green, blue)), "#FFFFFF" if dark else "#000000"


def _notes(row: Row) -> list[str]:
    low, high = min(row["visual"], default=0.0), max(row["visual"], default=0.0)
    notes = [f"attention on the image at layer {row['layer']}: {low:.0%} to {high:.0%}"]
    if row["vas"] is not None:
        notes.append(f"attention score {row['vas']:+.2f}, below the paper's threshold of -0.5")
    if row["kept"] is not None:
        notes.append(f"kept instead: {row['kept']}")
    if row["scene"] is not None:
        fault = audit_query(row["scene"], row["text"])
        notes.append(
            "faithful to the image" if fault.faithful else f"unfaithful: wrong in what it is to {fault.kind}"
        )
    return notes


def picture(shown: Case) -> Figure:
    """The case as a picture: the image to the left, the words to the right."""
    texts = [shown.tokens, *([shown.mended] if shown.mended else [])]
    lines = sum(len(_wrapped(text)) for text in texts) + len(texts) + len(shown.notes)
    figure: Figure = plt.figure(figsize=(PAGE, 0.9 + 0.19 * lines), layout="none")
    left = figure.add_axes((0.01, 0.05, 0.22, 0.82))
    left.imshow(shown.image, cmap="gray")
    left.axis("off")
    right = figure.add_axes((0.25, 0.02, 0.74, 0.96))
    right.axis("off")
    right.set_xlim(0, LINE + 4)
    right.set_ylim(-(lines + 3.5), 0)
    right.text(0, -0.6, shown.title, fontweight="bold", va="center")
    right.text(0, -1.7, f"{shown.question}    [{shown.answer}]", va="center", fontsize=7, parse_math=False)
    row = -3.0
    for text in texts:
        for line in _wrapped(text):
            column = 0.0
            for token in line:
                _write(right, column, row, token)
                column += len(token.text) + 1
            row -= 1.0
        row -= 0.5
    for note in shown.notes:
        note = note if len(note) <= 2 * LINE else f"{note[: 2 * LINE]} …"
        right.text(0, row, note, va="center", fontsize=6.5, color="#555555", parse_math=False)
        row -= 0.9
    return figure


def _wrapped(tokens: list[Token]) -> list[list[Token]]:
    """Tokens in lines that fit the picture."""
    lines: list[list[Token]] = [[]]
    width = 0
    for token in tokens:
        if width + len(token.text) + 1 > LINE and lines[-1]:
            lines.append([])
            width = 0
        lines[-1].append(token)
        width += len(token.text) + 1
    return lines


def _write(axis: Any, column: float, row: float, token: Token) -> None:
    edge = "#D55E00" if token.critical else token.colour
    box = {
        "facecolor": token.colour,
        "edgecolor": edge,
        "linewidth": 1.5 if token.critical else 0.0,
        "pad": 1.2,
    }
    axis.text(
        column,
        row,
        token.text,
        va="center",
        fontsize=6.5,
        family="DejaVu Sans Mono",
        color=token.ink,
        bbox=box,
        parse_math=False,  # a dollar sign is one
    )


def page(cases: list[Case]) -> str:
    """The gallery: one HTML file with everything in it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("gallery.html.j2").render(cases=cases, titles=TITLES)


def main() -> None:
    """The command line: read cases, write the folder whole, then the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", help="MODEL=cases.parquet")
    parser.add_argument("--to", type=Path, required=True)
    asked = parser.parse_args()
    named = [each.split("=", 1) for each in asked.cases]
    with told():
        make_gallery(named, asked.to)


def make_gallery(named: list[list[str]], to: Path) -> None:
    """Write the pictures of all cases into the folder ``to``, and the page beside it.

    Args:
        named: Pairs of a model's name and its file of cases.
        to: The folder.
    """
    recorder = Recorder("analysis", {"figure": "cases"}, [Path(file) for _, file in named])
    style()
    shown = [
        case(row, model, number)
        for model, file in named
        for number, row in enumerate(read_rows(Path(file), CASE), 1)
    ]
    fresh = to.with_name(f".{to.name}.part")
    with writing(to):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for each in shown:
            figure = picture(each)
            figure.savefig(fresh / f"{each.name}.png", metadata=NO_DATES["png"])
            plt.close(figure)
        withdraw(to)
        shutil.rmtree(to, ignore_errors=True)
        fresh.rename(to)
    recorder.write(to, {"cases": len(shown)})
    browsable = to.with_name(f"{to.name}.html")
    write_text(browsable, page(shown))
    recorder.write(browsable, {"cases": len(shown)})


if __name__ == "__main__":
    main()
