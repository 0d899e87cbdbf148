"""A page of cases: image, question, rationale coloured by visual attention, what was dropped or corrected.

``python -m vista.figures.gallery MODEL=CASES… --to FILE.html`` writes one HTML file that needs no other file.
Cases are chosen and read by ``vista cases``.
"""

from __future__ import annotations

import argparse
import base64
import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from vista.errors import told
from vista.images import open_images
from vista.manifest import Recorder
from vista.planned import start_figure
from vista.records import CASE, Row, read_rows, write_text
from vista.shown import printable
from vista.testbed.audit import audit_query
from vista.testbed.rationales import Kind

COLOURS = mpl.colormaps["viridis"]
TITLES = {
    "dropped": "Right, and dropped by the attention score",
    "rescued": "Wrong, and corrected by prefix resampling",
}
FAULTS: dict[Kind, str] = {
    "read": "it misreads the image",
    "compute": "a step of its computation is wrong",
    "answer": "its answer is wrong",
    "form": "its wording is wrong",
}


@dataclass(frozen=True)
class Token:
    """A token of a rationale, as it is shown."""

    text: str
    share: float | None  # of its attention on the image; None where it was not measured
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
    corrected: list[Token]  # the prefix, the replacement and the continuation of a rescued case
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
    corrected: list[Token] = []
    if row["continuation"] is not None:
        cut = int(row["critical_token"])
        given = [row["replacement"], *row["continuation"]]
        corrected = [*tokens[:cut], *(Token(text, None, "#FFFFFF", "#009E73", given=True) for text in given)]
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
        corrected=corrected,
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
        notes.append("unfaithful: " + FAULTS[fault.kind] if fault.kind else "faithful to the image")
    return notes


def page(cases: list[Case]) -> str:
    """The gallery: one HTML file with everything in it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template("gallery.html.j2").render(cases=cases, titles=TITLES)


def main() -> None:
    """The command line: read cases, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", help="MODEL=cases.parquet")
    parser.add_argument("--to", type=Path, required=True, help="the HTML file to write")
    parser.add_argument("--plan", type=Path, help="what Snakemake planned it with")
    asked = parser.parse_args()
    named = [each.split("=", 1) for each in asked.cases]
    with told():
        start_figure(asked.plan, "gallery")
        make_gallery(named, asked.to)


def make_gallery(named: list[list[str]], to: Path) -> None:
    """Write the page of all cases, then its manifest.

    Args:
        named: Pairs of a model's name and its file of cases.
        to: The HTML file.
    """
    recorder = Recorder("analysis", {"figure": "cases"}, [Path(file) for _, file in named])
    shown = [
        case(row, model, number)
        for model, file in named
        for number, row in enumerate(read_rows(Path(file), CASE), 1)
    ]
    write_text(to, page(shown))
    recorder.write(to, {"cases": len(shown)})


if __name__ == "__main__":
    main()
