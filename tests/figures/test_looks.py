"""How methods look: the same everywhere, never like another, whoever else is there."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.figures.test_figures import DIFFICULTY, FAITHFULNESS, MAIN, OOD, REPORTED, TRAINING
from vista.errors import VistaError
from vista.figures.looks import LOOKS, OTHERS, SERIES, Look, looks

# Every figure that shows methods, with a table of them.
TABLES = {
    "rounds": MAIN[(MAIN["method"] == "rest-em") & (MAIN["model"] == "nano-b")],
    "cost": MAIN[(MAIN["method"] == "rest-em") & (MAIN["model"] == "nano-b")],
    "difficulty": DIFFICULTY[DIFFICULTY["method"] == "rest-em"],
    "faithfulness": FAITHFULNESS[(FAITHFULNESS["method"] == "rest-em") & (FAITHFULNESS["model"] == "nano-b")],
    "ood": OOD[(OOD["method"] == "rest-em") & (OOD["model"] == "nano-b")],
    "reported": REPORTED,
    "training": TRAINING[(TRAINING["method"] == "vista-sft") & (TRAINING["model"] == "nano-b")],
}
METHODS = ["rest-em", "vista-sft", "vista-prefix-only", "r3v", "oracle-filter", "ours", "theirs"]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def draw(name: str, methods: list[str]) -> Figure:
    table = pd.concat([TABLES[name].assign(method=method) for method in methods], ignore_index=True)
    drawn: Figure = getattr(importlib.import_module(f"vista.figures.{name}"), name)(table)
    return drawn


def marks(artist: Any) -> tuple[object, ...]:
    """Colour, marker and filling of a line."""
    half = artist.get_fillstyle() if artist.get_fillstyle() != "full" else artist.get_markerfacecolor()
    return artist.get_color(), artist.get_marker(), half


def seen(drawn: Figure, methods: list[str]) -> dict[str, tuple[object, ...]]:
    """By method its marks in the legend or, where methods are rows, in their row."""
    found = {}
    for legend in drawn.legends:
        for line, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if text.get_text() in methods:
                found[text.get_text()] = marks(line)
    for axis in drawn.axes:
        rows = dict(enumerate(label.get_text() for label in axis.get_yticklabels()))
        if set(rows.values()) & set(methods):
            found |= {rows[place]: mark for place, mark in points(axis).items() if place in rows}
    return found


def points(axis: Axes) -> dict[float, tuple[object, ...]]:
    single = [line for line in axis.get_lines() if len(line.get_xdata()) == 1]
    return {float(line.get_ydata()[0]): marks(line) for line in single}


@pytest.mark.parametrize("name", TABLES)
def test_a_method_looks_the_same_in_every_figure_whoever_is_beside_it(name: str) -> None:
    rounds = seen(draw("rounds", METHODS), METHODS)
    assert rounds.keys() == set(METHODS)
    assert seen(draw(name, METHODS), METHODS) == rounds
    for method in METHODS:
        assert seen(draw(name, [method]), METHODS) == {method: rounds[method]}


@pytest.mark.parametrize("name", sorted(TABLES.keys() - {"difficulty"}))
def test_no_two_methods_of_a_figure_look_the_same(name: str) -> None:
    methods = [*LOOKS, *(f"mine-{n}" for n in range(30))]
    found = seen(draw(name, methods), methods)
    assert found.keys() == set(methods)
    assert len(set(found.values())) == len(methods)


def test_what_the_legend_shows_is_in_the_panels() -> None:
    drawn = draw("cost", METHODS)
    (axis,) = drawn.axes
    assert set(seen(drawn, METHODS).values()) <= {marks(line) for line in axis.get_lines()}


def test_every_method_of_the_config_has_a_look_of_its_own_without_colour_too(root: Path) -> None:
    assert LOOKS.keys() == yaml.safe_load((root / "config/methods.yaml").read_text()).keys()
    assert len({(look.marker, look.fill) for look in LOOKS.values()}) == len(LOOKS)
    assert len({(look.color, look.dash) for look in LOOKS.values()}) == len(LOOKS)


def test_what_is_no_method_differs_in_grey() -> None:
    assert len({look.marker for look in SERIES}) == len({str(look.dash) for look in SERIES}) == len(SERIES)
    grey = sorted(lightness(look) for look in SERIES[:3])
    assert min(high - low for low, high in itertools.pairwise(grey)) > 0.25


def lightness(look: Look) -> float:
    red, green, blue = (int(look.color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_the_look_of_a_method_of_ones_own_follows_from_its_name() -> None:
    alone = looks(["ours"])["ours"]
    assert looks(["theirs", *LOOKS, "ours"])["ours"] == alone
    assert alone not in LOOKS.values()
    assert looks(["theirs"])["theirs"] != alone


def test_of_two_names_with_one_look_the_first_in_the_alphabet_keeps_it() -> None:
    first: dict[Look, str] = {}
    for number in itertools.count():
        name = f"method-{number:04d}"
        other = first.setdefault(looks([name])[name], name)
        if other != name:
            break
    alone = looks([other])[other]
    for order in ([other, name], [name, other]):
        both = looks(order)
        assert list(both) == order
        assert both[other] == alone
        assert both[name] != alone


def test_a_name_that_has_its_look_to_itself_keeps_it_whoever_else_must_give_way() -> None:
    names = [f"m{number}" for number in range(60)]
    alone = {name: looks([name])[name] for name in names}
    single = [name for name in names if list(alone.values()).count(alone[name]) == 1]
    together = looks(names)
    assert len(single) < len(names), "some hit on the same look"
    assert [name for name in single if together[name] != alone[name]] == []


def test_as_many_methods_as_there_are_looks_all_differ_and_one_more_is_refused() -> None:
    names = [f"m{number}" for number in range(len(OTHERS) + 1)]
    found = looks(names[:-1])
    assert len({(look.color, look.marker, look.fill) for look in found.values()}) == len(OTHERS) >= 400
    with pytest.raises(VistaError, match=f"tell only {len(OTHERS)} apart"):
        looks(names)
